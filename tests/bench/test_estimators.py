"""Estimators against closed forms, other libraries, and laws whose effects are known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import numpy as np
import pytest
from scipy import stats

from sdscm_jax.bench.estimators.baselines import Constant, OracleCate, OracleIte, Zero
from sdscm_jax.bench.estimators.boosted import DomainAdaptation, RLearner, XLearner
from sdscm_jax.bench.estimators.crossfitted import one_pass
from sdscm_jax.bench.estimators.forests import ForestS, ForestT, RandomForest
from sdscm_jax.bench.estimators.linear import DifferenceInMeans, LinearRegression, LinearS, LinearT, least_squares
from sdscm_jax.bench.estimators.orthogonal import CausalForest, CausalForestDML, ForestDR, LinearDML, LinearDR
from sdscm_jax.bench.estimators.protocol import Estimator
from sdscm_jax.bench.estimators.weighting import AIPW, IPW, TMLE
from sdscm_jax.errors import EstimatorError

from ..needs import needs

KEY = jax.random.key(7)


class Law(NamedTuple):
    """Units of a confounded law: ``x`` one-hot, effects linear in it."""

    x: np.ndarray
    t: np.ndarray
    y: np.ndarray
    effect: np.ndarray


def law(units: int = 400, seed: int = 0) -> Law:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, (units, 3))
    x = np.concatenate([codes == 1, codes == 2], axis=1).astype(np.float64)
    t = (rng.random(units) < 1 / (1 + np.exp(0.7 - 2 * x[:, 0]))).astype(np.int8)
    effect = 2.0 + x[:, 1]
    return Law(x, t, 3 * x[:, 0] - x[:, 4] + t * effect + 0.3 * rng.normal(size=units), effect)


DATA = law()

# Cheap versions of all; how far their average effect and the root of their mean squared error may lie from the truth.
CHEAP: dict[str, tuple[Callable[[], Any], float, float]] = {
    "linear_regression": (LinearRegression, 0.1, 0.6),
    "linear_s": (LinearS, 0.1, 0.6),
    "linear_t": (LinearT, 0.1, 0.2),
    "random_forest": (lambda: RandomForest(trees=20), 0.25, 0.6),
    "forest_s": (lambda: ForestS(trees=20), 0.25, 0.6),
    "forest_t": (lambda: ForestT(trees=20), 0.25, 0.6),
    "causal_forest": (lambda: CausalForest(trees=40), 0.5, 0.8),
    "causal_forest_dml": (lambda: CausalForestDML(trees=40, nuisance="linear"), 0.1, 0.3),
    # Its propensity, chosen by accuracy, is at times the same for all: it is then biased, being no doubly robust one.
    "linear_dml": (lambda: LinearDML(nuisance="linear"), 0.3, 0.4),
    "linear_dr": (lambda: LinearDR(nuisance="linear"), 0.1, 0.2),
    "forest_dr": (lambda: ForestDR(trees=40, nuisance="linear"), 0.1, 0.3),
    "x_learner": (lambda: XLearner(trees=30), 0.25, 0.4),
    "r_learner": (lambda: RLearner(trees=30), 0.25, 0.5),
    "domain_adaptation": (lambda: DomainAdaptation(trees=30), 0.25, 0.4),
    "ipw": (IPW, 0.15, 0.6),
    "aipw": (AIPW, 0.1, 0.6),
    "tmle": (TMLE, 0.1, 0.6),
}
LIMITS_OF_UNITS = {"linear_t", "causal_forest", "causal_forest_dml", "linear_dml", "linear_dr", "forest_dr"}
LIMITS_OF_AVERAGE = {"linear_regression", "ipw", "aipw", "tmle", *LIMITS_OF_UNITS} - {"causal_forest"}


@pytest.fixture(scope="module", params=CHEAP)
def fitted(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """Every estimator that learns from covariates, fitted once."""
    return request.param, CHEAP[request.param][0]().fit(KEY, DATA.x, DATA.t, DATA.y)


def test_known_effects_are_found(fitted: tuple[str, Any]) -> None:
    name, estimator = fitted
    _, of_average, of_units = CHEAP[name]
    naive = DATA.y[DATA.t == 1].mean() - DATA.y[DATA.t == 0].mean() - DATA.effect.mean()
    assert abs(naive) > 2 * of_average  # what follows is more than a comparison of the arms
    assert abs(estimator.ate() - DATA.effect.mean()) < of_average
    assert np.sqrt(np.mean((estimator.effect(DATA.x) - DATA.effect) ** 2)) < of_units


def test_the_protocol_is_kept(fitted: tuple[str, Any]) -> None:
    name, estimator = fitted
    assert isinstance(estimator, Estimator)
    effect = estimator.effect(DATA.x)
    chex.assert_shape(effect, DATA.y.shape)
    assert effect.dtype == np.float64
    chex.assert_tree_all_finite(effect)
    assert estimator.ate() == pytest.approx(effect.mean(), abs=1e-9)

    limits = estimator.interval(DATA.x, 0.9)
    assert (limits is not None) == (name in LIMITS_OF_UNITS)
    if limits is not None:
        lower, upper = limits
        assert lower.dtype == upper.dtype == np.float64
        chex.assert_tree_all_finite(limits)
        assert (lower < effect).all()
        assert (effect < upper).all()
        wide = estimator.interval(DATA.x, 0.99)
        assert (wide[0] < lower).all()
        assert (upper < wide[1]).all()

    average = getattr(estimator, "ate_interval", lambda level: None)(0.9)
    assert (average is not None) == (name in LIMITS_OF_AVERAGE)
    if average is not None:
        assert average[0] < estimator.ate() < average[1]


def test_other_units_get_their_own_effects(fitted: tuple[str, Any]) -> None:
    _, estimator = fitted
    own = estimator.effect(DATA.x)
    np.testing.assert_allclose(estimator.effect(DATA.x[:7]), own[:7], atol=1e-9)
    np.testing.assert_allclose(estimator.effect(DATA.x[::-1]), own[::-1], atol=1e-9)
    limits = estimator.interval(DATA.x, 0.9)
    if limits is not None:
        np.testing.assert_allclose(estimator.interval(DATA.x[::-1], 0.9), np.stack(limits)[:, ::-1], atol=1e-9)


def test_results_do_not_share_memory(fitted: tuple[str, Any]) -> None:
    _, estimator = fitted
    before = estimator.effect(DATA.x)
    estimator.effect(DATA.x)[:] = 0
    np.testing.assert_array_equal(estimator.effect(DATA.x), before)


# Where nothing is drawn, the key plays no part.
NOTHING_DRAWN = {"linear_regression", "linear_s", "linear_t", "linear_dr", "ipw", "aipw", "tmle"}


@pytest.mark.parametrize("name", [name for name in CHEAP if name not in NOTHING_DRAWN])
def test_the_key_decides(name: str) -> None:
    few = law(80, seed=1)

    def run(key: jax.Array) -> np.ndarray:
        estimator = CHEAP[name][0]().fit(key, few.x, few.t, few.y)
        limits = estimator.interval(few.x, 0.9)
        return np.stack([estimator.effect(few.x), *(() if limits is None else limits)])

    assert run(KEY).tobytes() == run(KEY).tobytes()
    assert run(KEY).tobytes() != run(jax.random.key(8)).tobytes()


@pytest.mark.parametrize("name", CHEAP)
def test_without_covariates_everyone_has_the_difference_in_means(name: str) -> None:
    few = law(80, seed=2)
    x = few.x[:, :0]
    estimator = CHEAP[name][0]().fit(KEY, x, few.t, few.y)
    effect = estimator.effect(x)
    chex.assert_shape(effect, (80,))
    assert np.ptp(effect) < 1e-9
    difference = DifferenceInMeans().fit(KEY, x, few.t, few.y)
    lower, upper = difference.ate_interval(0.95)
    # Splitting and bootstrapping leave noise, which the interval measures.
    assert abs(effect[0] - difference.ate()) < (upper - lower) / 2
    limits = estimator.interval(x, 0.9)
    assert limits is None or np.isfinite(limits).all()


@pytest.mark.parametrize("name", ["difference_in_means", *CHEAP])
def test_too_few_units(name: str) -> None:
    make: Callable[[], Any] = DifferenceInMeans if name == "difference_in_means" else CHEAP[name][0]
    t = np.zeros(40, np.int8)
    t[0] = 1
    with pytest.raises(
        EstimatorError, match=rf"{name} needs \d+ units in each arm; there are 39 controls and 1 treated"
    ):
        make().fit(KEY, DATA.x[:40], t, DATA.y[:40])


@pytest.mark.parametrize("make", [LinearDML, LinearDR])
def test_more_coefficients_than_units(make: Callable[[], Any]) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(EstimatorError, match="units for 11 independent columns; there are 12"):
        make().fit(KEY, rng.normal(size=(12, 30)), np.arange(12) % 2, rng.normal(size=12))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "econml.dml", None)
    with pytest.raises(EstimatorError, match=r"linear_dml needs econml: pip install '.\[estimators\]'"):
        LinearDML().fit(KEY, DATA.x, DATA.t, DATA.y)


# Least squares


def test_difference_in_means_is_welch() -> None:
    treated, controls = DATA.y[DATA.t == 1][:9], DATA.y[DATA.t == 0][:30]
    t = np.r_[np.ones(9, int), np.zeros(30, int)]
    estimator = DifferenceInMeans().fit(KEY, np.zeros((39, 0)), t, np.r_[treated, controls])
    expected = stats.ttest_ind(treated, controls, equal_var=False).confidence_interval(0.9)
    np.testing.assert_allclose(estimator.ate_interval(0.9), (expected.low, expected.high), rtol=1e-12)
    np.testing.assert_allclose(estimator.effect(np.zeros((3, 2))), treated.mean() - controls.mean(), rtol=1e-12)
    assert estimator.interval(np.zeros((3, 2)), 0.9) is None


def test_regression_is_statsmodels_hc2() -> None:
    api = needs("statsmodels.api")
    design = api.add_constant(np.column_stack([DATA.x, DATA.t]))
    reference = api.OLS(DATA.y, design).fit().get_robustcov_results("HC2", use_t=True)
    estimator = LinearRegression().fit(KEY, DATA.x, DATA.t, DATA.y)
    assert estimator.ate() == pytest.approx(reference.params[-1], rel=1e-9)
    np.testing.assert_allclose(estimator.ate_interval(0.9), reference.conf_int(0.1)[-1], rtol=1e-9)
    fit = least_squares(np.column_stack([DATA.x, DATA.t]), DATA.y)
    np.testing.assert_allclose(fit.cov, reference.cov_params(), rtol=1e-7, atol=1e-12)


def test_hc2_by_hand() -> None:
    # Three units at 0 and two at 1: the variance of the slope is Neyman's, the sum of var / n of either group.
    x, y = np.array([0.0, 0, 0, 1, 1]), np.array([1.0, 2, 6, 4, 10])
    fit = least_squares(x[:, None], y)
    np.testing.assert_allclose(fit.coef, [3.0, 4.0])
    np.testing.assert_allclose(np.diag(fit.cov), [7 / 3, 7 / 3 + 18 / 2])
    assert fit.dof == 3


def test_s_learner_is_the_regression_and_t_learner_is_the_saturated_one() -> None:
    regression, s, t = (make().fit(KEY, DATA.x, DATA.t, DATA.y) for make in (LinearRegression, LinearS, LinearT))
    np.testing.assert_allclose(s.effect(DATA.x), regression.effect(DATA.x), rtol=1e-9)

    arm = DATA.t[:, None].astype(float)
    saturated = least_squares(np.concatenate([DATA.x, arm, arm * DATA.x], axis=1), DATA.y)
    row = np.concatenate([np.ones((len(DATA.x), 1)), DATA.x], axis=1)
    coef, cov = saturated.coef[7:], saturated.cov[7:, 7:]
    np.testing.assert_allclose(t.effect(DATA.x), row @ coef, atol=1e-9)
    reach = stats.t.ppf(0.95, saturated.dof) * np.sqrt(np.einsum("ij,jk,ik->i", row, cov, row))
    np.testing.assert_allclose(t.interval(DATA.x, 0.9)[1], row @ coef + reach, atol=1e-9)
    mean = row.mean(0)
    np.testing.assert_allclose(
        t.ate_interval(0.9)[0], mean @ coef - stats.t.ppf(0.95, saturated.dof) * np.sqrt(mean @ cov @ mean), atol=1e-9
    )


@pytest.mark.parametrize("name", ["linear_regression", "linear_s", "linear_t", "linear_dml", "linear_dr"])
def test_constant_and_collinear_columns_change_nothing(name: str) -> None:
    few = law(120, seed=3)
    more = np.column_stack([np.full(120, 3.0), few.x, few.x[:, 0] - 2 * few.x[:, 1] + 5])
    plain = CHEAP[name][0]().fit(KEY, few.x, few.t, few.y)
    padded = CHEAP[name][0]().fit(KEY, more, few.t, few.y)
    # econml's penalised nuisances do see the other columns; this is within a standard error.
    near = 0.12 if name in ("linear_dml", "linear_dr") else 1e-9
    np.testing.assert_allclose(padded.effect(more), plain.effect(few.x), atol=near)
    np.testing.assert_allclose(
        padded.ate_interval(0.9), plain.ate_interval(0.9), atol=near
    ) if name != "linear_s" else None
    limits = padded.interval(more, 0.9)
    if limits is not None:
        np.testing.assert_allclose(limits, plain.interval(few.x, 0.9), atol=near)
    if name != "linear_s":
        np.testing.assert_allclose(padded.ate_interval(0.9), plain.ate_interval(0.9), atol=near)


def test_a_treatment_that_covariates_decide() -> None:
    x = DATA.t[:, None].astype(float)
    with pytest.raises(EstimatorError, match="the treatment is a linear function of the covariates"):
        LinearRegression().fit(KEY, x, DATA.t, DATA.y)
    with pytest.raises(EstimatorError, match="linear_s: the treatment is a linear function of the covariates"):
        LinearS().fit(KEY, np.column_stack([DATA.x, 1 - 2 * x]), DATA.t, DATA.y)
    with pytest.raises(EstimatorError, match="linear_dml: nothing is left of the treatment"):
        LinearDML(nuisance="forest").fit(KEY, x[:60], DATA.t[:60], DATA.y[:60])


def test_a_stratum_of_one_arm_has_no_estimate() -> None:
    """Its effect is open. The regression of the arm that lacks it took a coefficient of 0 for it, as if known."""
    few = law(120, seed=5)
    rare = (few.t == 1) & (np.cumsum(few.t) <= 9)  # nine treated units of an option that no control has
    x = np.column_stack([few.x, rare])
    with pytest.raises(EstimatorError, match=r"linear_t: 9 of 120 units .* that the controls say nothing of"):
        LinearT().fit(KEY, x, few.t, few.y)
    np.testing.assert_allclose(
        LinearS().fit(KEY, x, few.t, few.y).ate(), LinearRegression().fit(KEY, x, few.t, few.y).ate(), rtol=1e-9
    )
    # Without them the others' effects are estimated as before; theirs are refused when asked for.
    kept = ~rare
    fitted = LinearT().fit(KEY, x[kept], few.t[kept], few.y[kept])
    plain = LinearT().fit(KEY, few.x[kept], few.t[kept], few.y[kept])
    np.testing.assert_allclose(fitted.effect(x[kept]), plain.effect(few.x[kept]), atol=1e-9)
    for ask in (fitted.effect, lambda rows: fitted.interval(rows, 0.9)):
        with pytest.raises(EstimatorError, match="linear_t: 9 of 120 units"):
            ask(x)


def test_what_rows_determine_is_what_least_norm_does_not_choose() -> None:
    """Fitted values of combinations of the rows are those of every solution; of others there is a solution with any."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, (12, 9)).astype(float)
    x[:, 3], x[:, 5] = x[:, 1] + x[:, 2], 1.0
    fit = least_squares(x, rng.normal(size=12))
    asked = np.concatenate([x, rng.integers(0, 3, (200, 9))])
    design = np.column_stack([np.ones(12), x])
    null = np.linalg.svd(design)[2][np.linalg.matrix_rank(design) :]
    free = np.abs(np.column_stack([np.ones(212), asked]) @ null.T).max(1)
    np.testing.assert_array_equal(fit.determines(asked), free < 1e-8)
    assert 0 < fit.determines(asked).sum() < 212
    assert fit.determines(1e6 * x[:1] + (1 - 1e6) * x[1:2]).all()


def test_no_limits_where_a_forest_is_sure_of_an_option() -> None:
    # All units of an option are treated, so a forest predicts their treatment without error and their effect has
    # nothing to go by; the others' remains.
    rng = np.random.default_rng(0)
    x = (np.arange(60) < 16)[:, None].astype(float)
    t = np.where(x[:, 0] == 1, 1, np.arange(60) % 2)
    learner = LinearDML(nuisance="forest").fit(KEY, x, t, 2.0 * t + 0.1 * rng.normal(size=60))
    assert learner.effect(np.zeros((1, 1)))[0] == pytest.approx(2.0, abs=0.2)
    assert learner.interval(x, 0.9) is None
    assert learner.ate_interval(0.9) is None


def test_no_limits_where_no_residual_is_left() -> None:
    x = np.random.default_rng(0).normal(size=(12, 5))
    t, y = np.arange(12) % 2, np.arange(12.0)
    t_learner = LinearT().fit(KEY, x, t, y)
    assert t_learner.interval(x, 0.9) is None
    assert t_learner.ate_interval(0.9) is None
    assert LinearRegression().fit(KEY, np.c_[x, x**2], t, y).ate_interval(0.9) is None


# Against the libraries themselves


@pytest.mark.slow
def test_nuisances_and_inference_are_those_of_econml() -> None:
    import warnings

    from econml.dml import LinearDML as Linear
    from econml.dr import ForestDRLearner

    from sdscm_jax.bench.estimators.protocol import seed_of

    few = law(60, seed=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linear = Linear(discrete_treatment=True, random_state=seed_of(KEY)).fit(few.y, few.t, X=few.x)
        forest = ForestDRLearner(
            model_propensity="linear",
            model_regression="linear",
            min_propensity=0.01,
            n_estimators=40,
            n_jobs=1,
            random_state=seed_of(KEY),
        ).fit(few.y, few.t, X=few.x)
        for estimator, reference in ((LinearDML(), linear), (ForestDR(trees=40, nuisance="linear"), forest)):
            ours = estimator.fit(KEY, few.x, few.t, few.y)
            np.testing.assert_allclose(ours.effect(few.x), reference.effect(few.x), rtol=1e-12)
            np.testing.assert_allclose(
                ours.interval(few.x, 0.9), reference.effect_interval(few.x, alpha=0.1), rtol=1e-9
            )
            np.testing.assert_allclose(
                ours.ate_interval(0.9), np.ravel(reference.ate_interval(few.x, alpha=0.1)), rtol=1e-9
            )


def test_causal_forests_are_those_of_econml() -> None:
    from econml.grf import CausalForest as Forest

    from sdscm_jax.bench.estimators.protocol import seed_of

    few = law(60, seed=4)
    reference = Forest(40, n_jobs=1, random_state=seed_of(KEY)).fit(few.x, few.t, few.y)
    effect, lower, upper = (a.ravel() for a in reference.predict(few.x, interval=True, alpha=0.1))
    ours = CausalForest(trees=40).fit(KEY, few.x, few.t, few.y)
    np.testing.assert_array_equal(ours.effect(few.x), effect)
    np.testing.assert_allclose(ours.interval(few.x, 0.9), (lower, upper), rtol=1e-9)

    double = CausalForestDML(trees=40, nuisance="linear").fit(KEY, few.x, few.t, few.y)
    own = double._model.effect_inference(few.x)
    np.testing.assert_allclose(double.effect(few.x), own.point_estimate, rtol=1e-12)
    np.testing.assert_allclose(double.interval(few.x, 0.9), own.conf_int(alpha=0.1), rtol=1e-9)
    of_mean = own.population_summary().conf_int_mean(alpha=0.1)
    np.testing.assert_allclose(double.ate_interval(0.9), np.ravel(of_mean), rtol=1e-9)


def test_variances_that_round_to_less_than_nothing_are_nothing() -> None:
    # An outcome that its covariate determines: all subsamples agree, and econml takes a variance of 1e-33 from a
    # larger one. The limits of such units, and with them the whole row of the estimator, used to be NaN.
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (800, 2)).astype(np.float64)
    t = (rng.random(800) < 0.3 + 0.4 * x[:, 1]).astype(np.int8)
    y = 0.1 + 0.7 * x[:, 0]
    linear = partial(CausalForestDML, trees=40, nuisance="linear")
    for make, units in ((partial(CausalForest, trees=40), 800), (linear, 400)):
        model = make().fit(KEY, x[:units], t[:units], y[:units])
        chex.assert_tree_all_finite(model.interval(x[:units], 0.95))

    class Forest:
        def predict_and_var(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return x[:, :1], np.array([4.0, -1e-33, 0.0])[:, None, None]

    found = one_pass(Forest(), np.array([[1.0], [2.0], [3.0]]))
    np.testing.assert_array_equal(found.effect, [1, 2, 3])
    np.testing.assert_array_equal(found.stderr, [2, 0, 0])
    assert found.stderr_of_mean == pytest.approx(np.sqrt(4 / 3))


def test_s_and_t_forests_are_those_of_sklearn() -> None:
    from sklearn.ensemble import RandomForestRegressor

    from sdscm_jax.bench.estimators.protocol import seed_of

    few = law(60, seed=4)
    ones = np.ones((60, 1))
    forest = RandomForestRegressor(20, random_state=seed_of(KEY)).fit(np.c_[few.x, few.t], few.y)
    expected = forest.predict(np.c_[few.x, ones]) - forest.predict(np.c_[few.x, 0 * ones])
    np.testing.assert_allclose(RandomForest(trees=20).fit(KEY, few.x, few.t, few.y).effect(few.x), expected, rtol=1e-12)

    # With as many splits as it likes and no noise, each tree of the T-learner interpolates its own arm.
    noiseless = few.x[:, 0] + 2.0 * few.t
    t_learner = ForestT(trees=20).fit(KEY, few.x, few.t, noiseless)
    np.testing.assert_allclose(t_learner.effect(few.x), 2.0, atol=0.5)
    assert np.median(np.abs(t_learner.effect(few.x) - 2.0)) < 0.1


def test_clipped_propensities_bound_the_weights() -> None:
    # A few units have the treatment that their option all but rules out. A forest that has not seen them says that it
    # is impossible, which without a floor gives their residuals weights of a million.
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (120, 1)).astype(float)
    t = x[:, 0].astype(int)
    t[:3] = 1 - t[:3]
    y = rng.normal(size=120)
    key = jax.random.key(9)
    assert abs(LinearDR(nuisance="forest").fit(key, x, t, y).ate()) < 2
    assert abs(LinearDR(nuisance="forest", min_propensity=1e-6).fit(key, x, t, y).ate()) > 100


# Baselines


def test_baselines() -> None:
    truth = np.array([1.0, 2.0, 6.0])
    x, t, y = np.zeros((3, 1)), np.array([0, 1, 1]), np.ones(3)
    zero = Zero().fit(KEY, x, t, y)
    assert zero.ate() == 0
    assert zero.interval(x, 0.9) is None
    np.testing.assert_array_equal(zero.effect(x), np.zeros(3))

    expected = np.array([2.0, 2.0, 3.0])
    constant, individual, conditional = Constant(), OracleIte(), OracleCate()
    for baseline, average in ((constant, 3.0), (individual, 3.0), (conditional, 7 / 3)):
        baseline.reveal(truth, expected)
        baseline.fit(KEY, x, t, y)
        assert isinstance(baseline, Estimator)
        assert baseline.ate() == pytest.approx(average)
    # The constant's error relative to the spread of the effects is one.
    assert np.sqrt(np.mean((constant.effect(x) - truth) ** 2)) / truth.std() == pytest.approx(1.0)
    for oracle, of, effects in ((individual, "ite", truth), (conditional, "cate", expected)):
        np.testing.assert_array_equal(oracle.effect(x), effects)
        np.testing.assert_array_equal(oracle.interval(x, 0.9), (effects, effects))
        assert oracle.interval_of == of
        assert oracle.ate_interval(0.9) == (oracle.ate(), oracle.ate())
    conditional.reveal(truth, np.full(3, np.nan))
    with pytest.raises(EstimatorError, match="oracle_cate: the true effects of these units are not known"):
        conditional.fit(KEY, x, t, y)


@pytest.mark.parametrize("make", [Constant, OracleCate, OracleIte])
def test_baselines_must_be_shown_the_truth(make: Callable[[], Any]) -> None:
    with pytest.raises(EstimatorError, match=r"needs the true effects: call reveal\(ite, cate\) before fit"):
        make().fit(KEY, DATA.x, DATA.t, DATA.y)
    shown = make()
    shown.reveal(DATA.effect[:3], DATA.effect[:3])
    with pytest.raises(EstimatorError, match="was shown the true effects of 3 units, and is asked about 400"):
        shown.fit(KEY, DATA.x, DATA.t, DATA.y)

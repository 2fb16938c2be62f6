"""Posteriors of effects by trees, on laws whose effects are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sdscm_jax.bench.estimators import bart, bcf
from sdscm_jax.bench.estimators.bart import Bart, BartIte, Options, fit_propensity, posterior, problem
from sdscm_jax.bench.estimators.bcf import Bcf
from sdscm_jax.bench.estimators.protocol import Estimator
from sdscm_jax.errors import EstimatorError

from ...needs import needs

needs("bartz")
# one shape and one set of options, hence one compilation, for most tests
FEW = Options(trees=30, chains=2, burn=100, draws=60)
FEW_BCF = bcf.Options(outcome_trees=30, effect_trees=15, chains=2, burn=100, draws=60)
N = 300


def linear(seed: int, n: int = N, p: int = 3, noise: float = 0.1) -> tuple[np.ndarray, ...]:
    """Covariates, treatment, outcome, and expected effects 1 + x0; treatment is likelier where outcomes are high."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (n, p)).astype(float)
    t = (rng.random(n) < 0.2 + 0.6 * x[:, 1]).astype(int)
    effect = 1 + x[:, 0]
    return x, t, 2 * x[:, 1] + t * effect + noise * rng.normal(size=n), effect


def test_least_squares_leave_the_upper_tenth_of_the_errors_prior() -> None:
    """The variance is nu / gamma, and its 0.9 quantile is what least squares leave (Chipman et al. 2010)."""
    nu, rate, first = (float(a) for a in bart.error_prior(jnp.float32(0.25)))
    assert stats.invgamma(nu / 2, scale=rate / 2).cdf(0.25) == pytest.approx(0.9, abs=1e-6)
    assert first == 4
    x, t, y, _ = linear(0)
    design = np.column_stack([np.ones(N), x, t])
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    assert bart.error_variance(x, t, y) == pytest.approx(left @ left / (N - 5), rel=1e-9)
    assert bart.error_variance(x, t, 3.0 * t + x[:, 0]) == bart.LEAST_ERROR * (3.0 * t + x[:, 0]).var()
    few = np.random.default_rng(0).normal(size=(5, 3))
    assert bart.error_variance(few, t[:5], y[:5]) == pytest.approx(y[:5].var()), "no unit to spare"


def test_scales_of_both_forests_have_the_medians_of_the_paper() -> None:
    """Without data, Gibbs' steps of a half-Cauchy scale have its median; effects are half-normal in theirs."""
    median, keys = jnp.float32(2.0), jax.random.split(jax.random.key(0), 60)

    def step(precision: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        one, two = jax.random.split(key)
        rate = jax.vmap(bcf.half_cauchy, (0, 0, None))(jax.random.split(one, 4000), precision, median)
        return 2 * jax.random.gamma(two, 0.5, (4000,)) / rate, None  # the Wishart with nu = 1 is such a gamma

    precision, _ = jax.lax.scan(step, jnp.ones(4000), keys)
    scale = np.asarray(precision) ** -0.5
    for q in (0.25, 0.5, 0.75):
        assert np.mean(scale < 2 * np.tan(np.pi * q / 2)) == pytest.approx(q, abs=0.03)
    factor = np.random.default_rng(0).normal(0, 0.5**0.5, (2, 200_000))
    assert np.median(np.abs(np.diff(factor, axis=0))) * bcf.EFFECT_SD / bcf.HALF_NORMAL == pytest.approx(1, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: Bart(FEW), lambda: Bcf(FEW_BCF)], ids=["bart", "bcf"])
def test_where_covariates_decide_the_treatment_intervals_say_that_its_effect_is_open(make: object) -> None:
    x, _, _, _ = linear(5)
    t = x[:, 0].astype(int)
    y = 0.5 * x[:, 0] + x[:, 1] + t + 0.5 * np.random.default_rng(5).normal(size=N)
    lower, upper = make().fit(jax.random.key(0), x, t, y).ate_interval(0.95)  # type: ignore[operator]
    assert lower < 1 < upper
    assert upper - lower > 1, "0.25 with overlap; both 0 and all of the difference of 1.5 are possible"


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: Bart(FEW), lambda: Bcf(FEW_BCF)], ids=["bart", "bcf"])
@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_recovers_a_linear_effect_on_any_scale(make: object, scale: float) -> None:
    x, t, y, effect = linear(0)
    model = make().fit(jax.random.key(0), x, t, 5 * scale + scale * y)  # type: ignore[operator]
    assert isinstance(model, Estimator)
    assert model.interval_of == "cate"
    found = model.effect(x) / scale
    assert np.sqrt(np.mean((found - effect) ** 2)) < 0.2, "effects differ by 1, and naive differences by 2 more"
    assert model.ate() / scale == pytest.approx(effect.mean(), abs=0.1)
    lower, upper = model.ate_interval(0.99)
    assert lower <= scale * effect.mean() <= upper
    assert lower < model.ate() < upper
    lower, upper = model.interval(x, 0.95)
    assert (lower < upper).all()
    assert np.mean((lower <= scale * effect) & (scale * effect <= upper)) > 0.7


def test_the_walked_trees_give_the_difference_of_whole_forests() -> None:
    """bartz's own evaluation of all trees, and its running residuals, agree with ours of a few."""
    from bartz.mcmcloop import evaluate_trace

    x, t, y, _ = linear(0)
    fit = posterior(problem(jax.random.key(0), x, t, y), FEW)
    points = bart.predictors(x, fit.propensity(x), N)
    arms = []
    for arm in (0, 1):
        both = jnp.asarray(np.concatenate([points, np.full((1, N), arm, np.float32)]))
        binned = fit.trace.binner.bin(both)
        chains = [evaluate_trace(binned, jax.tree.map(lambda a, c=c: a[c], fit.trace.trees)) for c in (0, 1)]
        arms.append(np.concatenate(chains) * fit.scale + y.mean())
    np.testing.assert_allclose(arms[1] - arms[0], fit.effect, atol=1e-4)
    np.testing.assert_allclose(np.where(t == 1, arms[1], arms[0]), fit.fitted, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [lambda: Bart(FEW), pytest.param(lambda: Bcf(FEW_BCF), marks=pytest.mark.slow)],
    ids=["bart", "bcf"],
)
def test_other_units_of_the_same_covariates_have_the_same_effects(make: object) -> None:
    x, t, y, _ = linear(0)
    model = make().fit(jax.random.key(0), x, t, y)  # type: ignore[operator]
    np.testing.assert_allclose(model.effect(x[:40]), model.effect(x)[:40], atol=1e-4)
    np.testing.assert_allclose(model.interval(x[:40], 0.9), np.array(model.interval(x, 0.9))[:, :40], atol=1e-4)


def test_individual_effects_are_less_certain_than_expected_ones() -> None:
    x, t, y, effect = linear(0, noise=0.5)
    expected = Bart(FEW).fit(jax.random.key(0), x, t, y)
    individual = BartIte(FEW).fit(jax.random.key(0), x, t, y)
    assert individual.interval_of == "ite"
    np.testing.assert_array_equal(individual.effect(x[:50]), expected.effect(x[:50]))
    # of known units the observed outcome is kept, with its noise of 0.5
    assert 0.35 < (individual.effect(x) - expected.effect(x)).std() < 0.65
    for units in (x, x[:50]):
        (low, high), (lower, upper) = expected.interval(units, 0.95), individual.interval(units, 0.95)
        assert np.mean(upper - lower) > np.mean(high - low)
    # two draws of noise instead of one
    known, others = (np.diff(individual.interval(units, 0.95), axis=0).mean() for units in (x, x[:-1]))
    assert 1.2 < others / known < 1.6
    # the missing outcomes, drawn anew from the law
    fresh = 2 * x[:, 1] + (1 - t) * effect + 0.5 * np.random.default_rng(1).normal(size=N)
    lower, upper = individual.interval(x, 0.95)
    truth = np.where(t == 1, y - fresh, fresh - y)
    assert np.mean((lower <= truth) & (truth <= upper)) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / N) - 0.02
    np.testing.assert_array_equal(individual.interval(x, 0.95), (lower, upper), err_msg="asked twice")


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: Bart(FEW), lambda: BartIte(FEW), lambda: Bcf(FEW_BCF)])
def test_same_key_same_bytes(make: object) -> None:
    x, t, y, _ = linear(1)
    one = make().fit(jax.random.key(3), x, t, y)  # type: ignore[operator]
    posterior.cache_clear()
    two, other = (make().fit(jax.random.key(k), x, t, y) for k in (3, 4))  # type: ignore[operator]
    assert one.effect(x).tobytes() == two.effect(x).tobytes()
    assert np.array(one.interval(x, 0.9)).tobytes() == np.array(two.interval(x, 0.9)).tobytes()
    assert one.effect(x).tobytes() != other.effect(x).tobytes()


def test_bart_and_bart_ite_share_a_fit_of_the_same_data_only() -> None:
    x, t, y, _ = linear(1)
    one = Bart(FEW).fit(jax.random.key(0), x, t, y)
    assert BartIte(FEW).fit(jax.random.key(0), x.copy(), t.astype(float), y)._fitted is one._fitted
    assert BartIte(FEW).fit(jax.random.key(0), x, t, y + 1)._fitted is not one._fitted
    x[:] = 0
    assert one._fitted.data.x.any(), "a fit keeps copies"


@pytest.mark.slow
def test_one_compilation_for_data_sets_of_about_one_shape() -> None:
    before = bart.sample._cache_size(), bcf.sample._cache_size()
    for p in (2, 5):
        x, t, y, _ = linear(2, p=p)
        Bart(FEW).fit(jax.random.key(0), x, t, y)
        Bcf(FEW_BCF).fit(jax.random.key(0), x, t, y)
    after = bart.sample._cache_size(), bcf.sample._cache_size()
    assert all(b - a <= 1 for a, b in zip(before, after, strict=True))


@pytest.mark.slow
def test_padded_units_count_for_nothing() -> None:
    x, t, y, effect = linear(0, n=N - 10)
    model = Bart(FEW).fit(jax.random.key(0), x, t, y)
    assert model.effect(x).shape == (N - 10,)
    assert np.sqrt(np.mean((model.effect(x) - effect) ** 2)) < 0.2
    assert model._fitted.effect.shape == (120, N - 10)


@pytest.mark.slow
def test_no_covariates() -> None:
    _, t, _, _ = linear(0)
    y = 2.0 * t + 0.1 * np.random.default_rng(0).normal(size=N)
    x = np.zeros((N, 0))
    for model in (Bart(FEW), BartIte(FEW), Bcf(FEW_BCF)):
        model.fit(jax.random.key(0), x, t, y)
        assert model.ate() == pytest.approx(2, abs=0.1)
        assert model.interval(np.zeros((3, 0)), 0.9)[0].shape == (3,)


def test_propensity_is_the_law_it_was_drawn_from() -> None:
    x, t, _, _ = linear(0, n=5000)
    np.testing.assert_allclose(fit_propensity(x, t)(x), 0.2 + 0.6 * x[:, 1], atol=0.05)
    separated = fit_propensity(x, (x[:, 0] == 1).astype(int))(x)
    assert np.isfinite(separated).all()
    assert ((separated > 0.5) == (x[:, 0] == 1)).all()


@pytest.mark.parametrize("make", [Bart, BartIte, Bcf])
def test_refuses_too_few_units_wrong_shapes_and_use_before_fit(make: type) -> None:
    x, t, y, _ = linear(0)
    with pytest.raises(EstimatorError, match=f"{make.name} needs 5 units in each arm; there are 296 controls and 4"):
        make().fit(jax.random.key(0), x, np.arange(N) < 4, y)
    with pytest.raises(EstimatorError, match=f"{make.name} is not fitted"):
        make().effect(x)
    model = make(FEW_BCF if make is Bcf else FEW).fit(jax.random.key(0), x, t, y)
    with pytest.raises(EstimatorError, match="fitted to 3 covariates"):
        model.effect(x[:, :2])

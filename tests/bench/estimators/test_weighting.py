"""Averages by weighting against closed forms, and in simulation; boosted learners against econml itself."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import pytest

from sdscm_jax.bench.estimators.boosted import DomainAdaptation, RLearner, XLearner
from sdscm_jax.bench.estimators.protocol import seed_of
from sdscm_jax.bench.estimators.weighting import AIPW, IPW, TMLE
from sdscm_jax.errors import EstimatorError

KEY = jax.random.key(3)


def strata(seed: int, units: int = 300) -> tuple[np.ndarray, ...]:
    """Three strata, one-hot; treatment depends on them, and outcomes on both."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 3, units)
    t = (rng.random(units) < np.array([0.3, 0.5, 0.7])[which]).astype(int)
    effect = np.array([1.0, 2.0, 0.0])[which]
    x = (which[:, None] == [1, 2]).astype(float)
    return which, x, t, 2.0 * which + t * effect + rng.normal(size=units), effect


@pytest.mark.parametrize("make", [IPW, AIPW, TMLE])
def test_of_strata_all_are_the_average_of_their_differences(make: type) -> None:
    """Where regressions and propensities have a parameter for each stratum, the three are standardisation."""
    which, x, t, y, _ = strata(0)
    size = np.bincount(which) / len(y)
    arms = [[y[(which == s) & (t == arm)] for s in range(3)] for arm in (0, 1)]
    difference = np.array([treated.mean() - control.mean() for control, treated in zip(*arms, strict=True)])
    fitted = make().fit(KEY, x, t, y)
    assert fitted.ate() == pytest.approx(size @ difference, abs=2e-4)
    np.testing.assert_array_equal(fitted.effect(x[:4]), np.full(4, fitted.ate()))
    # The efficient variance: within strata, and of the strata's effects.
    within = sum(size**2 * [arm[s].var() / len(arm[s]) for s in range(3)] for arm in arms)
    between = size @ (difference - size @ difference) ** 2 / len(y)
    lower, upper = fitted.ate_interval(0.95)
    assert (upper - lower) / 2 / 1.959964 == pytest.approx((within.sum() + between) ** 0.5, rel=0.01)


def test_weights_by_hand() -> None:
    t, y = np.array([0, 0, 1, 1, 1]), np.array([1.0, 3.0, 4.0, 8.0, 9.0])
    for make in (IPW, AIPW, TMLE):
        fitted = make().fit(KEY, np.zeros((5, 0)), t, y)
        assert fitted.ate() == pytest.approx(7 - 2, abs=1e-6), "without covariates, the difference in means"


@pytest.mark.parametrize("make", [AIPW, TMLE])
def test_a_wrong_regression_is_repaired_by_the_right_propensity(make: type) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 1))
    t = (rng.random(20_000) < 1 / (1 + np.exp(-x[:, 0]))).astype(int)
    y = 3 * np.exp(0.7 * x[:, 0]) + t * (1 + x[:, 0] ** 2) + rng.normal(size=20_000)
    arms = [np.polynomial.Polynomial.fit(x[t == arm, 0], y[t == arm], 1)(x[:, 0]) for arm in (0, 1)]
    wrong = float((arms[1] - arms[0]).mean())
    assert abs(wrong - 2) > 0.2
    fitted = make().fit(KEY, x, t, y)
    assert abs(fitted.ate() - 2) < 0.1
    lower, upper = fitted.ate_interval(0.95)
    assert lower < 2 < upper


@pytest.mark.slow
@pytest.mark.parametrize("make", [IPW, AIPW, TMLE])
def test_limits_cover_what_they_say(make: type) -> None:
    hits = []
    for seed in range(400):
        _, x, t, y, _ = strata(seed, 200)
        lower, upper = make().fit(KEY, x, t, y).ate_interval(0.95)
        hits.append(lower <= 1.0 <= upper)  # of the population: the mean of 1, 2 and 0
    assert np.mean(hits) == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 400) ** 0.5)


@pytest.mark.parametrize("make", [IPW, AIPW, TMLE])
def test_a_stratum_of_one_arm_is_refused(make: type) -> None:
    which, x, t, y, _ = strata(2)
    t[which == 2] = 1
    with pytest.raises(EstimatorError, match=rf"{make.name}: {(which == 2).sum()} of 300 units .* the controls say"):
        make().fit(KEY, x, t, y)


def test_boosted_learners_are_those_of_econml() -> None:
    from econml.dml import NonParamDML
    from econml.metalearners import DomainAdaptationLearner
    from econml.metalearners import XLearner as Reference
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    _, x, t, y, _ = strata(3, 120)
    how = {"n_estimators": 15, "random_state": seed_of(KEY)}
    line, odds = GradientBoostingRegressor(**how), GradientBoostingClassifier(**how)
    references = (
        (XLearner, Reference(models=line, propensity_model=odds)),
        (DomainAdaptation, DomainAdaptationLearner(models=line, final_models=line, propensity_model=odds)),
        (
            RLearner,
            NonParamDML(
                model_y=line, model_t=odds, model_final=line, discrete_treatment=True, random_state=seed_of(KEY)
            ),
        ),
    )
    for make, reference in references:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = reference.fit(y, t, X=x).effect(x)
        np.testing.assert_allclose(make(trees=15).fit(KEY, x, t, y).effect(x), np.ravel(expected), rtol=1e-9)

"""Conformal intervals of individual effects, on laws whose effects are known."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from sdscm_jax.bench.estimators.conformal import Arm, Cqr, Options, QuantileForest, weighted_quantile
from sdscm_jax.bench.estimators.protocol import Estimator
from sdscm_jax.errors import EstimatorError

FEW = Options(trees=30, leaf=10)


def shifted(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Treatment is frequent where outcomes are quiet and rare where they are noisy."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (n, 2)).astype(float)
    t = (rng.random(n) < np.where(x[:, 0] == 1, 0.1, 0.9)).astype(int)
    noise = np.where(x[:, 0] == 1, 3.0, 0.3)[:, None] * rng.normal(size=(n, 2))
    return x, t, x[:, [0]] + np.array([0.0, 2.0]) + noise


def observed(t: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    return outcomes[np.arange(len(t)), t]


def coverage(interval: tuple[np.ndarray, np.ndarray], truth: np.ndarray) -> float:
    return float(np.mean((interval[0] <= truth) & (truth <= interval[1])))


@pytest.fixture(scope="module")
def fitted() -> tuple[Cqr, np.ndarray, np.ndarray, np.ndarray]:
    x, t, outcomes = shifted(0, 2000)
    return Cqr(FEW).fit(jax.random.key(1), x, t, observed(t, outcomes)), x, t, outcomes


def test_weighted_quantile_is_the_plain_one_for_equal_weights() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=37))
    for q in (0.01, 0.5, 0.95):
        assert weighted_quantile(values, np.full(37, 1 / 37), q) == np.quantile(values, q, method="inverted_cdf")


def test_forest_weights_sum_to_one_and_average_to_its_prediction() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    forest = QuantileForest(x, x[:, 0] + rng.normal(size=200), 10, 5, 0)
    weights = forest.weights(x[:20])
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    # scikit-learn's leaves average bootstrapped units, ours all of them: about the same
    assert np.corrcoef(weights @ forest.y, forest.forest.predict(x[:20]))[0, 1] > 0.95


def test_covers_individual_effects(fitted: tuple[Cqr, np.ndarray, np.ndarray, np.ndarray]) -> None:
    model, x, _, outcomes = fitted
    assert isinstance(model, Estimator)
    ite = outcomes[:, 1] - outcomes[:, 0]
    interval = model.interval(x, 0.9)
    # calibrated by about 250 units an arm, tested on 2000: 3 standard errors
    assert coverage(interval, ite) >= 0.9 - 3 * np.sqrt(0.09 / 250)
    width = interval[1] - interval[0]
    assert np.isfinite(width).all()
    assert width.mean() < 3 * np.ptp(observed(fitted[2], outcomes))
    assert width[x[:, 0] == 0].mean() < width[x[:, 0] == 1].mean() / 2, "quiet units have short intervals"


def test_covers_effects_of_other_units(fitted: tuple[Cqr, np.ndarray, np.ndarray, np.ndarray]) -> None:
    model, *_ = fitted
    x, _, outcomes = shifted(7, 1000)
    lower, upper = model.interval(x, 0.9)
    assert coverage((lower, upper), outcomes[:, 1] - outcomes[:, 0]) >= 0.9 - 3 * np.sqrt(0.09 / 250)
    assert np.isfinite(upper - lower).all()


def test_any_level_after_one_fit(fitted: tuple[Cqr, np.ndarray, np.ndarray, np.ndarray]) -> None:
    model, x, _, outcomes = fitted
    intervals = [model.interval(x, level) for level in (0.5, 0.8, 0.9, 0.99)]
    widths = [(upper - lower).mean() for lower, upper in intervals]
    covered = [coverage(interval, outcomes[:, 1] - outcomes[:, 0]) for interval in intervals]
    assert widths == sorted(widths)
    assert covered == sorted(covered)
    assert covered[0] < 0.7
    assert covered[-1] > 0.95


def test_weights_restore_the_coverage_that_a_shift_of_covariates_breaks() -> None:
    """Of treated outcomes, the calibrating units are quiet and the predicted ones noisy, with known odds.

    The forest knows nothing here (one leaf), so that all rests on the weights.
    """
    rng = np.random.default_rng(3)
    n = 4000
    noisy = rng.random(n) < 0.1
    y = np.where(noisy, 3.0, 0.3) * rng.normal(size=n)
    ignorant = QuantileForest(np.zeros((200, 1)), y[:200], 5, 200, 0)
    odds = np.where(noisy, 9.0, 1 / 9)
    calibration = ignorant.weights(np.zeros((n - 200, 1)))
    weighted = Arm(ignorant, calibration, y[200:], odds[200:], (-1e3, 1e3))
    plain = weighted._replace(ratio=np.ones(n - 200))
    other = rng.random(n) < 0.9  # noisy with the other arm's frequency
    outcome = np.where(other, 3.0, 0.3) * rng.normal(size=n)
    at = ignorant.weights(np.zeros((n, 1)))
    good = coverage(weighted.interval(at, np.where(other, 9.0, 1 / 9), 0.9), outcome)
    bad = coverage(plain.interval(at, np.ones(n), 0.9), outcome)
    assert abs(good - 0.9) < 0.03
    assert bad < 0.7


def test_infinite_intervals_are_cut_to_more_than_any_finite_one() -> None:
    x, t, outcomes = shifted(1, 300)
    model = Cqr(FEW).fit(jax.random.key(0), x, t, observed(t, outcomes))
    arm = model._arms[0]
    forest, odds = model._known[0]
    heavy = np.full(len(odds), 1e9)
    lower, upper = arm.interval(forest, heavy, 0.9)
    finite = arm.interval(forest, np.zeros(len(odds)), 0.9)
    assert (lower <= np.minimum(finite[0], arm.reach[0])).all()
    assert (upper >= np.maximum(finite[1], arm.reach[1])).all()
    assert np.isfinite(upper - lower).all()


def test_effect_and_scale() -> None:
    x, *_ = shifted(2, 400)
    t = np.random.default_rng(2).integers(0, 2, 400)
    y = 0.01 * (x[:, 0] + 2 * t)
    model = Cqr(FEW).fit(jax.random.key(0), x, t, y)
    np.testing.assert_allclose(model.effect(x), 0.02, atol=1e-9)
    np.testing.assert_allclose(model.effect(x[:7]), 0.02, atol=1e-9)
    assert model.ate() == pytest.approx(0.02)
    lower, upper = model.interval(x, 0.5)
    assert (lower <= 0.02 + 1e-9).all()
    assert (upper >= 0.02 - 1e-9).all()


def test_same_key_same_bytes_and_no_covariates() -> None:
    _, t, outcomes = shifted(3, 200)
    x = np.zeros((200, 0))
    one, two, other = (Cqr(FEW).fit(jax.random.key(k), x, t, observed(t, outcomes)) for k in (0, 0, 1))
    assert one.effect(x).tobytes() == two.effect(x).tobytes()
    assert one.interval(x, 0.9)[0].tobytes() == two.interval(x, 0.9)[0].tobytes()
    assert one.interval(x, 0.9)[0].tobytes() != other.interval(x, 0.9)[0].tobytes()
    assert one.interval(np.zeros((3, 0)), 0.9)[0].shape == (3,)


def test_refuses_too_few_units_wrong_shapes_and_use_before_fit() -> None:
    x, t, outcomes = shifted(4, 60)
    t[:] = 0
    t[:10] = 1
    with pytest.raises(EstimatorError, match="cqr needs 20 units in each arm; there are 50 controls and 10 treated"):
        Cqr().fit(jax.random.key(0), x, t, observed(t, outcomes))
    with pytest.raises(EstimatorError, match="not fitted"):
        Cqr().effect(x)
    t[:30] = 1
    model = Cqr(dataclasses.replace(FEW, trees=5)).fit(jax.random.key(0), x, t, observed(t, outcomes))
    with pytest.raises(EstimatorError, match="fitted to 2 covariates"):
        model.effect(x[:, :1])

"""Metrics of one data set: numbers worked out on paper, and how they change with the outcome's scale."""

from dataclasses import replace
from itertools import permutations
from math import inf, isnan, nan, sqrt

import chex
import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from sdscm_jax.bench.dataset import Dataset
from sdscm_jax.bench.difficulty import difficulty, signal_to_noise
from sdscm_jax.bench.metrics import (
    METRICS,
    interval_score,
    mean_width,
    qini,
    r2,
    r2_reference,
    rank_correlation,
    score,
    sd,
    uplift_area,
)
from sdscm_jax.errors import EstimatorError

FEW = settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate])

# Individual effects 1, -1, 3, 1: mean 1, variance (0 + 4 + 4 + 0) / 4 = 2. Outcomes 0, 4, 0, 4: sd 2.
# The expected effects 1, -1, 1, 3 differ from the individual ones, as where outcomes are drawn; mean 1, variance 2.
DATA = Dataset(
    name="four",
    wording="w0",
    covariates=pd.DataFrame({"w": pd.Categorical(["sun", "rain", "sun", "rain"])}),
    hidden=(),
    t=np.array([0, 1, 0, 1], np.int8),
    y=np.array([0.0, 4.0, 0.0, 4.0]),
    outcomes=np.array([[0.0, 1.0], [5.0, 4.0], [0.0, 3.0], [3.0, 4.0]]),
    cate=np.array([1.0, -1.0, 1.0, 3.0]),
    propensity=np.array([0.05, 0.5, 0.9, 0.95]),
    unit=np.array([10, 11, 12, 13]),
)
EFFECT = np.array([2.0, 1.0, 1.0, -1.0])
INTERVAL = (np.array([0.0, -1.0, 1.0, 0.0]), np.array([2.0, 2.0, 1.0, 2.0]))


def drawn(seed: int, n: int = 50) -> Dataset:
    """Effects that vary; the expected effect is the individual one."""
    rng = np.random.default_rng(seed)
    outcomes = rng.normal(size=(n, 2)) + np.array([0.0, 0.3])
    t = rng.permutation(np.arange(n) % 2)
    levels = pd.DataFrame({"w": pd.Categorical(rng.choice(["a", "b", "c"], n))})
    y, ite = outcomes[np.arange(n), t], outcomes[:, 1] - outcomes[:, 0]
    return Dataset("drawn", "0", levels, (), t, y, outcomes, ite, np.full(n, 0.5), np.arange(n))


def test_each_metric_is_the_number_worked_out_on_paper():
    found = score(DATA, EFFECT, INTERVAL, 1.5, (0.5, 2.5), level=0.9)
    expected = {
        "ate": 1.5,
        "ate_true": 1.0,
        "ate_lower": 0.5,
        "ate_upper": 2.5,
        "sd_y": 2.0,
        "sd_ite": sqrt(2),
        "pehe": sqrt(13 / 4),  # Errors 1, 2, -2, -2.
        "pehe_sd_y": sqrt(13 / 4) / 2,
        "pehe_sd_ite": sqrt(13 / 8),
        "pehe_floor_sd_y": sqrt(2) / 2,  # Of the expected effects: errors 0, 0, -2, 2.
        "cate_rmse": sqrt(21 / 4),  # Errors 1, 2, 0, -4.
        "cate_r2": 1 - 21 / 4 / 2,
        "cate_r2_reference": 1 - 21 / 4 / (19 / 16),  # Var(estimate) = 7/4 - (3/4)² = 19/16.
        "cate_coverage": 3 / 4,  # The last is missed by 1.
        "cate_width": 7 / 4 / 2,  # Widths 2, 3, 0, 2.
        "cate_score": (7 / 4 + 2 / 0.1 * 1 / 4) / 2,
        "ite_coverage": nan,
        "ite_width": nan,
        "ite_score": nan,
        "regret": (0 + 1 + 0 + 3) / 4 / 2,  # Treats the second wrongly, and not the last.
        "rank_correlation": -0.5,  # Ranks 2.5, 1, 2.5, 4 and 4, 2.5, 2.5, 1: -2.25 / 4.5.
        # In the order of the estimates 1, then -1 and 1 in either order, then 3 are gained: at 0, 1/4, ..., 1 of the
        # units 0, 1, 1, 1, 4 quarters. Random order: 2/4 in the middle; the best: 0, 3, 4, 5, 4.
        "auuc": (0.5 + 1 + 1 + 2.5) / 16 / 2,
        "qini": (5 / 16 - 8 / 16) / (14 / 16 - 8 / 16),
        "beats_zero": 0.0,  # 13/4 against (1 + 1 + 9 + 1) / 4 = 3.
        "beats_constant": 0.0,  # 13/4 against 2.
    }
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name


def test_intervals_of_individual_effects_are_scored_against_those():
    found = score(DATA, EFFECT, INTERVAL, interval_of="ite", level=0.9)
    assert found["ite_coverage"] == 3 / 4  # The third is missed by 2.
    assert found["ite_width"] == 7 / 4 / 2
    assert found["ite_score"] == pytest.approx((7 / 4 + 2 / 0.1 * 2 / 4) / 2)
    assert all(isnan(found[f"cate_{name}"]) for name in ("coverage", "width", "score"))
    assert found["ate"] == EFFECT.mean()


def test_the_truth_is_perfect_and_noise_is_not():
    data = drawn(0)
    perfect = score(data, data.ite, (data.ite, data.ite))
    one = dict.fromkeys(["qini", "cate_r2", "cate_r2_reference", "cate_coverage", "beats_zero", "beats_constant"], 1.0)
    zero = dict.fromkeys(
        ["pehe", "pehe_sd_y", "pehe_sd_ite", "pehe_floor_sd_y", "cate_rmse", "cate_width", "cate_score", "regret"], 0.0
    )
    assert {name: perfect[name] for name in one | zero} == one | zero
    assert perfect["rank_correlation"] == pytest.approx(1.0)
    assert perfect["ate"] == perfect["ate_true"]

    noise = np.random.default_rng(1).normal(size=len(data))
    found = score(data, noise, (noise, noise))
    assert found["pehe"] > 1
    assert found["regret"] > 0.1
    assert found["cate_coverage"] == found["beats_constant"] == 0.0
    assert found["cate_r2"] < 0


def test_expected_effects_are_the_best_rule_where_outcomes_are_drawn():
    assert score(DATA, DATA.cate)["regret"] == 0.0
    assert score(DATA, DATA.cate)["cate_rmse"] == 0.0
    assert score(DATA, DATA.cate)["pehe"] == sqrt(2)  # Errors 0, 0, -2, 2.


def test_the_uplift_curve_is_what_treating_in_random_order_among_ties_gains_on_average():
    rng = np.random.default_rng(0)
    truth, effect = rng.normal(size=7), np.array([0.0, 2.0, 0.0, 1.0, 2.0, 2.0, 0.0])
    areas = []
    for order in map(list, permutations(range(7))):
        if (np.diff(effect[order]) <= 0).all():
            curve = np.concatenate([[0], np.cumsum(truth[order])]) / 7
            areas.append(np.trapezoid(curve, dx=1 / 7))
    assert len(areas) == 6 * 6
    assert uplift_area(truth, effect) == pytest.approx(np.mean(areas))
    assert uplift_area(truth, np.ones(7)) == pytest.approx(truth.mean() / 2)
    assert uplift_area(truth, truth) >= max(areas)
    assert qini(truth, -truth) == pytest.approx(-1)
    assert isnan(qini(np.ones(7), effect))


@FEW
@given(st.integers(0, 99), st.floats(0.01, 100), st.floats(-100, 100))
def test_scaling_and_shifting_the_outcome_changes_only_what_is_in_its_units(seed, scale, shift):
    data, rng = drawn(seed), np.random.default_rng(seed + 100)
    effect = data.ite + rng.normal(size=len(data))
    limits = (effect - 1.0, effect + rng.exponential(size=len(data)))
    other = replace(data, y=shift + scale * data.y, outcomes=shift + scale * data.outcomes, cate=scale * data.cate)
    first = score(data, effect, limits, ate_interval=(0.0, 1.0))
    second = score(other, scale * effect, (scale * limits[0], scale * limits[1]), ate_interval=(0.0, scale))
    in_units = {"ate", "ate_true", "ate_lower", "ate_upper", "sd_y", "sd_ite", "pehe", "cate_rmse"}
    for name, value in first.items():
        expected = scale * value if name in in_units else value
        assert second[name] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), name


@FEW
@given(st.integers(0, 99), st.floats(0, 2), st.floats(0, 3))
def test_a_constant_at_the_true_average_has_a_pehe_of_one_sd_of_the_effects(seed, noise, bias):
    data = drawn(seed)
    constant = score(data, np.full(len(data), data.ate))
    assert constant["pehe_sd_ite"] == pytest.approx(1.0)
    assert constant["beats_constant"] == 0.0
    assert isnan(constant["rank_correlation"])
    assert constant["cate_r2"] == pytest.approx(0.0)
    # A bias alone may lose to the constant, which knows the average.
    assert score(data, data.ite + 1.1 * sd(data.ite))["beats_constant"] == 0.0
    assert score(data, data.ite + 0.9 * sd(data.ite))["beats_constant"] == 1.0
    found = score(data, data.ite + bias + noise * np.random.default_rng(seed).normal(size=len(data)))
    assert found["beats_constant"] == float(found["pehe_sd_ite"] < 1)
    # R² is of the same error: 1 - (PEHE / sd(ITE))².
    assert found["cate_r2"] == pytest.approx(1 - found["pehe_sd_ite"] ** 2)


@FEW
@given(st.integers(0, 99))
def test_rank_correlation_is_that_of_scipy(seed):
    first, second = np.random.default_rng(seed).integers(0, 6, size=(2, 40)).astype(float)  # With ties.
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_rounding_is_no_heterogeneity():
    # What a linear model's predictions differ by, treated and not, at outcomes down to -11.
    base = np.linspace(-11, 1, 50)
    effect = (base + 0.01) - base
    assert np.ptp(effect) > 0
    assert sd(effect) == 0.0
    assert isnan(rank_correlation(base, effect))
    assert isnan(r2(effect, base))


def test_the_references_r2_exchanges_its_arguments():
    rng = np.random.default_rng(0)
    truth, effect = rng.normal(size=(2, 30))
    assert r2_reference(truth, effect) == r2(effect, truth) != r2(truth, effect)
    assert r2_reference(truth, np.zeros(30)) == 0.0
    assert r2_reference(np.ones(30), np.ones(30)) == 1.0


def test_the_interval_score_is_best_at_the_true_quantiles():
    truth = (np.arange(1000) + 0.5) / 1000
    grid = [(low, high) for low in (0.02, 0.05, 0.1) for high in (0.9, 0.95, 0.98)]
    scores = {pair: interval_score(truth, (np.full(1000, pair[0]), np.full(1000, pair[1])), 0.9) for pair in grid}
    assert min(scores, key=lambda pair: scores[pair]) == (0.05, 0.95)


def test_unbounded_intervals_hold_everything_and_crossed_ones_nothing():
    wide = score(DATA, EFFECT, (np.full(4, -inf), np.full(4, inf)))
    assert (wide["cate_coverage"], wide["cate_width"], wide["cate_score"]) == (1.0, inf, inf)
    crossed = (DATA.cate + 1, DATA.cate - 1)
    assert mean_width(crossed) == 0.0
    found = score(DATA, EFFECT, crossed, level=0.9)
    assert found["cate_coverage"] == 0.0
    assert found["cate_score"] == pytest.approx((-2 + 20 * 2) / 2)  # Width -2, missed by 1 on both sides.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"effect": EFFECT[:3]}, r"four: effects have shape \(3,\), expected \(4,\)"),
        ({"effect": np.array([1, nan, inf, 1])}, "four: 2 of 4 effects are not finite numbers; .* unit 11"),
        ({"interval": (INTERVAL[0], np.array([1, 1, nan, 1]))}, "1 of 4 upper limits are not numbers; .* unit 12"),
        ({"ate": nan}, "four: the estimated average effect is a finite number, got nan"),
        ({"interval_of": "ate"}, "unknown target of intervals 'ate'"),
    ],
)
def test_what_is_no_estimate_is_refused(given, message):
    with pytest.raises(EstimatorError, match=message):
        score(DATA, **{"effect": EFFECT, **given})


def test_an_estimate_that_exploded_is_scored():
    found = score(DATA, EFFECT * 1e200)
    assert (found["pehe"], found["pehe_sd_y"], found["cate_r2"], found["beats_zero"]) == (inf, inf, -inf, 0.0)
    assert found["regret"] == 0.5


def test_all_metrics_are_columns():
    assert set(METRICS) <= set(score(DATA, EFFECT))


def test_difficulty_is_the_numbers_worked_out_on_paper():
    found = difficulty(DATA)
    assert (found.pop("dataset"), found.pop("wording")) == ("four", "w0")
    assert found == pytest.approx(
        {
            "units": 4,
            "treated": 0.5,
            "ate": 1.0,
            "sd_y": 2.0,
            "sd_ite": sqrt(2),
            "sd_ite_sd_y": sqrt(2) / 2,
            "naive": 4.0,  # (4 + 4) / 2 - (0 + 0) / 2.
            # Treated by chance: (0.05 * 1 + 0.5 * 4 + 0.9 * 3 + 0.95 * 4) / 2.4 - (0.5 * 5 + 0.05 * 3) / 1.6 - 1.
            "confounding": 0.90625,
            "confounding_sd_y": 0.453125,
            "imbalance": 2.09375,
            "overlap_min": 0.05,
            "overlap_max": 0.95,
            "overlap_outside": 0.5,  # 0.05 and 0.95; 0.9 is inside.
            "signal_to_noise": inf,  # y = 4 t.
        }
    )


def test_a_randomised_data_set_is_not_confounded_however_its_arms_fell_out():
    for seed in range(20):
        data = drawn(seed)
        found = difficulty(data)
        assert found["confounding"] == 0
        assert found["imbalance"] == pytest.approx(found["naive"] - found["ate"]) != 0
    # With propensities that follow the outcomes it is what the arms of very many redraws differ by.
    data = drawn(0, 20_000)
    chance = 1 / (1 + np.exp(-data.outcomes.sum(1)))
    rng, naive = np.random.default_rng(1), []
    for _ in range(50):
        t = rng.random(len(data)) < chance
        naive.append(data.outcomes[t, 1].mean() - data.outcomes[~t, 0].mean())
    bias = np.array(naive) - data.ate
    found = difficulty(replace(data, propensity=chance))["confounding"]
    assert abs(found - bias.mean()) < 4 * bias.std() / np.sqrt(len(bias))
    assert found > 0.5


def test_what_is_not_known_is_nan_and_so_is_what_is_made_of_it():
    unknown = replace(DATA, outcomes=np.full((4, 2), nan), cate=np.full(4, nan), propensity=np.full(4, nan))
    found = score(unknown, EFFECT, INTERVAL, 1.5, (0.5, 2.5))
    told = {name for name, value in found.items() if not isnan(value)}
    assert told == {"ate", "ate_lower", "ate_upper", "sd_y", "cate_width"}
    assert found["cate_width"] == pytest.approx(mean_width(INTERVAL) / 2)
    hard = difficulty(unknown)
    known = {"dataset", "wording", "units", "treated", "sd_y", "naive", "signal_to_noise"}
    assert {name for name, value in hard.items() if isinstance(value, str) or not isnan(value)} == known
    # Individual effects are known, and expected ones are not.
    of_units = score(replace(DATA, cate=np.full(4, nan)), EFFECT, INTERVAL)
    assert of_units["pehe"] == score(DATA, EFFECT)["pehe"]
    assert all(isnan(of_units[name]) for name in ("cate_coverage", "cate_score", "cate_r2", "regret"))


def test_signal_to_noise_of_a_balanced_design():
    t, x = np.tile([0, 1, 0, 1], 3), np.tile([0, 0, 1, 1], 3)
    levels = pd.DataFrame({"x": pd.Categorical(x)})
    # Main effects 1 and 2 have variance (1 + 4) / 4; the interaction, which is not linear, has (1/2)².
    y = -11 + t + 2.0 * x + 0.5 * (2 * t - 1) * (2 * x - 1)
    data = Dataset("b", "0", levels, (), t, y, np.stack([y, y], 1), 0 * y, 0 * y + 0.5, np.arange(12))
    assert signal_to_noise(data) == pytest.approx(5.0)
    chex.assert_equal(signal_to_noise(replace(data, hidden=("x",))), signal_to_noise(data))
    # As many coefficients as units: nothing is left to compare with.
    own = pd.DataFrame({"x": pd.Categorical([str(i) for i in range(12)])})
    assert isnan(signal_to_noise(replace(data, covariates=own)))

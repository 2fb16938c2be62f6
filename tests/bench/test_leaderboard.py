"""Summing scores up over data sets: closed forms, clusters, failures and infinite values."""

from math import exp, inf, isnan, nan, pi, sqrt, tan

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import stats

from sdscm_jax.bench.leaderboard import (
    COLUMNS,
    clustered_interval,
    clustered_rms_interval,
    clustered_share_interval,
    effective_size,
    leaderboard,
)
from sdscm_jax.bench.metrics import METRICS
from sdscm_jax.errors import DataError

FEW = settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate])
# With two clusters the t quantile is that of the Cauchy distribution: 12.706.
CAUCHY = tan(0.475 * pi)
WORDINGS = np.array(["a", "a", "b", "b"])


def cells(estimator: str, covariates: str = "all", **columns: list) -> pd.DataFrame:
    """Scores of four data sets of two wordings; what is not given is 0."""
    rest = dict.fromkeys(["ate", "ate_true", "ate_lower", "ate_upper", "sd_ite", "seconds", *METRICS], [0.0] * 4)
    named = {"dataset": list("stuv"), "wording": list(WORDINGS), "failure": [None] * 4, "sd_y": [2.0] * 4}
    return pd.DataFrame({**rest, **named, **columns, "estimator": estimator, "covariates": covariates})


# Errors of the average effect 1, 1, 3, 3; the last is missed by its interval.
FOREST = cells(
    "forest",
    ate_true=[0.0, 4.0, 8.0, 12.0],
    ate=[1.0, 5.0, 11.0, 15.0],
    ate_lower=[-2.0, 2.0, 8.0, 13.0],
    ate_upper=[2.0, 6.0, 12.0, 17.0],
    pehe=[1.0, 2.0, 3.0, 6.0],
    pehe_sd_y=[0.5, 1.0, 1.5, 3.0],
    pehe_sd_ite=[1.0, 1.0, 2.0, 8.0],
    cate_r2=[0.5, 0.1, -1.0, -10.0],
    cate_r2_reference=[0.5, -7.0, 0.25, -1.0],
    cate_coverage=[0.9, 0.9, 1.0, 1.0],
    beats_zero=[1.0, 1.0, 1.0, 0.0],
    seconds=[1.0, 2.0, 4.0, 100.0],
)


def row_of(table: pd.DataFrame, estimator: str, covariates: str = "all") -> pd.Series:
    return table[(table["estimator"] == estimator) & (table["covariates"] == covariates)].iloc[0]


def test_each_column_is_the_number_worked_out_on_paper():
    table = leaderboard(FOREST)
    assert list(table) == list(COLUMNS)
    expected = {
        "estimator": "forest",
        "covariates": "all",
        "datasets": 4,
        "failures": 0,
        "ate_bias": 2.0,
        "ate_rmse": sqrt(5),  # (1 + 1 + 9 + 9) / 4.
        "ate_r2": 1 - 5 / 20,  # Truths 0, 4, 8, 12: variance (36 + 4 + 4 + 36) / 4.
        "ate_mae": 2.0,
        "ate_coverage": 0.75,
        "ate_width": 2.0,  # Widths of 4, sd(y) = 2.
        "pehe": 3.0,
        "pehe_sd_y": 1.5,
        "pehe_sd_y_median": 1.25,
        "pehe_sd_ite": 3.0,
        "pehe_sd_ite_median": 1.5,
        "cate_r2": -10.4 / 4,
        "cate_r2_median": -0.45,
        "cate_r2_reference": -7.25 / 4,
        "cate_r2_reference_clipped": 0.75 / 4,
        "cate_coverage": 0.95,
        "beats_zero": 0.75,
        "beats_constant": 0.0,
        "rank": 1.0,
        "seconds": 3.0,
        # Sums of deviations by wording: -2, 2; variance 2/1 * 8 / 16 = 1.
        "ate_bias_lower": 2 - CAUCHY,
        "ate_bias_upper": 2 + CAUCHY,
        # Of the squares: -8, 8; variance 16. d log(rms) = 4 / (2 * 5).
        "ate_rmse_lower": sqrt(5) * exp(-0.4 * CAUCHY),
        "ate_rmse_upper": sqrt(5) * exp(0.4 * CAUCHY),
        # -1.5, 1.5 of 0.5, 1, 1.5, 3: variance 2 * 4.5 / 16; cut off at 0.
        "pehe_sd_y_lower": 0.0,
        "pehe_sd_y_upper": 1.5 + 0.75 * CAUCHY,
        # -0.1, 0.1: variance 2 * 0.02 / 16 = 0.05²; cut off at 1.
        "cate_coverage_lower": 0.95 - 0.05 * CAUCHY,
        "cate_coverage_upper": 1.0,
        "effective_datasets": 2.0,
    }
    for name, value in expected.items():
        assert table[name][0] == (value if isinstance(value, str) else pytest.approx(value)), name


def test_independent_values_have_the_usual_t_interval():
    values = np.random.default_rng(0).normal(size=12)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert clustered_interval(values, np.arange(12)) == pytest.approx(expected)


@FEW
@given(st.integers(0, 99), st.integers(2, 5))
def test_copies_of_a_data_set_teach_nothing(seed, copies):
    values = np.random.default_rng(seed).normal(size=9)
    repeated, clusters = np.repeat(values, copies), np.repeat(np.arange(9), copies)
    for interval, of in ((clustered_interval, values), (clustered_rms_interval, values)):
        assert interval(repeated, clusters) == pytest.approx(interval(of, np.arange(9)))
    assert effective_size(repeated, clusters) == pytest.approx(9)
    assert effective_size(values, np.arange(9)) == 9


def test_effective_size_in_closed_form():
    # Between: B = 4; within: W = 4 / 2; rho = (4 - 2) / (4 + 2) = 1/3; 4 / (1 + 1/3) = 3.
    assert effective_size(np.array([0.0, 2.0, 2.0, 4.0]), WORDINGS) == pytest.approx(3.0)
    # Clusters with the same mean: as good as independent.
    assert effective_size(np.array([1.0, 3.0, 1.0, 3.0]), WORDINGS) == 4.0
    # Identical within clusters of 1 and 3: Var(mean) = (1 + 9) / 16 of that of one.
    assert effective_size(np.array([0.0, 1.0, 1.0, 1.0]), np.array([0, 1, 1, 1])) == pytest.approx(1.6)
    for nothing in ([2.0] * 4, [1.0, inf, 1.0, 2.0]):
        assert isnan(effective_size(np.array(nothing), WORDINGS))
    assert isnan(effective_size(np.arange(4.0), np.zeros(4)))


def test_clustered_intervals_hold_the_truth_as_often_as_they_say():
    rng, clusters = np.random.default_rng(0), np.repeat(np.arange(25), 8)
    held, ignoring, sizes = [], [], []
    for _ in range(400):
        values = rng.normal(size=25)[clusters] + rng.normal(size=200)
        low, high = clustered_interval(values, clusters)
        held.append(low <= 0 <= high)
        low, high = clustered_interval(values, np.arange(200))
        ignoring.append(low <= 0 <= high)
        sizes.append(effective_size(values, clusters))
    # 0.95 ± 4 standard errors; 0.65 is what 1.96 / sqrt(design effect 4.5) gives.
    assert 0.95 - 4 * sqrt(0.95 * 0.05 / 400) < np.mean(held) <= 0.99
    assert np.mean(ignoring) < 0.8
    assert np.median(sizes) == pytest.approx(200 / 4.5, rel=0.1)  # rho = 1/2, so 1 + 7 / 2.


def test_the_interval_of_a_share_solves_wilsons_equation():
    # p = 3/4; sums of deviations 1/2, -1/2: variance 2 * 1/2 / 16; effective size 3/16 * 16 = 3.
    for limit in clustered_share_interval(np.array([1.0, 1.0, 1.0, 0.0]), WORDINGS):
        assert (0.75 - limit) ** 2 == pytest.approx(CAUCHY**2 / 3 * limit * (1 - limit))
    # All hit: the number of clusters, not of data sets. (1 - limit)² = t² / G * limit * (1 - limit).
    low, high = clustered_share_interval(np.ones(4), WORDINGS)
    assert (low, high) == (pytest.approx(1 / (1 + CAUCHY**2 / 2)), 1.0)
    # Each wording half hit: the variance between is 0, which is no licence for more than n.
    half = clustered_share_interval(np.array([1.0, 0.0, 1.0, 0.0]), WORDINGS)
    assert (0.5 - half[0]) ** 2 == pytest.approx(CAUCHY**2 / 4 * half[0] * half[1])


def test_one_wording_has_no_intervals():
    row = leaderboard(FOREST.assign(wording="a")).iloc[0]
    for name in ("ate_bias", "ate_rmse", "ate_coverage", "pehe_sd_y", "cate_coverage", "ite_coverage"):
        assert isnan(row[f"{name}_lower"]), name
        assert isnan(row[f"{name}_upper"]), name
    assert row["ate_bias"] == 2.0
    assert isnan(row["effective_datasets"])


def test_failures_are_counted_and_come_last():
    broken = cells("broken", failure=["did not converge", None, None, None], pehe=[nan, 1.0, 1.0, 1.0])
    broken.loc[0, ["ate", *METRICS]] = nan
    broken.loc[1:, "beats_zero"] = 1.0
    dead = cells("dead", failure=["too few units"] * 4)
    dead[["ate", *METRICS]] = nan
    table = leaderboard(pd.concat([FOREST, broken, dead]))
    assert len(table) == 3
    assert table["failures"].tolist() == [1, 0, 4]
    assert table["datasets"].tolist() == [4, 4, 4]
    row = row_of(table, "broken")
    # First data set: forest 1, the two that failed share 2 and 3; second to last: broken 1, forest 2, dead 3.
    assert row["rank"] == (2.5 + 1 + 1 + 1) / 4
    assert row_of(table, "forest")["rank"] == (1 + 2 + 2 + 2) / 4
    assert row_of(table, "dead")["rank"] == (2.5 + 3 + 3 + 3) / 4
    assert row["pehe"] == 1.0
    assert row["beats_zero"] == 0.75
    assert isnan(row_of(table, "dead")["pehe"])
    assert row_of(table, "dead")["beats_zero"] == 0.0


def test_scores_of_a_cell_that_failed_do_not_count():
    broken = cells("broken", failure=["timed out", None, None, None], pehe=[0.0, 1.0, 1.0, 1.0], beats_zero=[1.0] * 4)
    row = row_of(leaderboard(pd.concat([FOREST, broken])), "broken")
    assert (row["pehe"], row["rank"], row["beats_zero"]) == (1.0, 1.25, 0.75)


def test_one_explosion_rules_the_mean_and_not_the_median():
    exploded = FOREST.assign(
        pehe_sd_y=[0.5, 1.0, 1.5, inf],
        pehe=[1.0, 2.0, 3.0, inf],
        cate_r2=[0.5, 0.1, -1.0, -inf],
        ate_upper=[2.0, 6.0, 12.0, inf],
        ate=[1.0, 5.0, 11.0, inf],
    )
    row = leaderboard(exploded).iloc[0]
    assert row[["pehe", "pehe_sd_y", "cate_r2", "ate_bias", "ate_rmse", "ate_r2", "ate_width"]].tolist() == (
        [inf, inf, -inf, inf, inf, -inf, inf]
    )
    assert (row["pehe_sd_y_median"], row["cate_r2_median"]) == (1.25, -0.45)
    assert row[["ate_bias_lower", "ate_rmse_upper", "pehe_sd_y_lower"]].isna().all()
    assert row["ate_coverage"] == 0.75
    huge = leaderboard(FOREST.assign(ate=[1e200, 5.0, 11.0, 15.0])).iloc[0]
    assert huge["ate_rmse"] == inf  # Its square overflows.
    assert huge["ate_mae"] == pytest.approx(2.5e199)
    assert huge[["ate_bias_lower", "ate_bias_upper"]].tolist() == [-inf, inf]
    # Deviations 3, -1, -1, -1: B = 4, W = 8 / 2, so nothing is shared.
    assert huge["effective_datasets"] == pytest.approx(4.0)


def test_the_best_come_first_within_a_setting():
    parts = [
        cells(name, setting, pehe_sd_y=[error] * 4)
        for name, setting, error in [("c", "observed", 1), ("a", "all", 3), ("b", "all", 2), ("a", "observed", inf)]
    ]
    table = leaderboard(pd.concat(parts))
    assert list(zip(table["covariates"], table["estimator"], strict=True)) == (
        [("all", "b"), ("all", "a"), ("observed", "c"), ("observed", "a")]
    )


def test_settings_are_ranked_apart_and_the_order_of_rows_is_free():
    scores = pd.concat([FOREST, cells("line", pehe=[2.0] * 4), FOREST.assign(covariates="observed", pehe=9.0)])
    table = leaderboard(scores)
    assert row_of(table, "forest")["rank"] == (1 + 1.5 + 2 + 2) / 4
    assert row_of(table, "forest", "observed")["rank"] == 1.0
    pd.testing.assert_frame_equal(leaderboard(scores.sample(frac=1, random_state=0)), table)


def test_estimators_without_intervals_have_no_coverage():
    blank = FOREST.assign(ate_lower=nan, ate_upper=nan, cate_coverage=nan, cate_width=nan, cate_score=nan)
    row = leaderboard(blank).iloc[0]
    names = ["ate_coverage", "ate_width", "cate_coverage", "cate_width", "cate_score"]
    assert row[[*names, "ate_coverage_lower", "cate_coverage_upper"]].isna().all()
    assert row["ate_rmse"] == sqrt(5)


def test_nothing_makes_an_empty_table():
    assert list(leaderboard(FOREST.iloc[:0])) == list(COLUMNS)
    assert len(leaderboard(FOREST.iloc[:0])) == 0


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (FOREST.drop(columns="regret"), r"columns \['regret'\] are missing"),
        (pd.concat([FOREST, FOREST.iloc[2:3]]), r"\('u', 'all', 'forest'\).* more than once"),
        (FOREST.assign(covariates=["all", None, "all", "all"]), r"columns \['covariates'\] have missing values"),
        (FOREST.assign(pehe=[1.0, nan, 1.0, 1.0]), r"\('t', 'all', 'forest'\) has neither a failure nor its scores"),
    ],
)
def test_a_malformed_table_is_refused(scores, message):
    with pytest.raises(DataError, match=message):
        leaderboard(scores)


def test_without_wordings_there_are_no_intervals():
    known, unknown = (row_of(leaderboard(scores), "forest") for scores in (FOREST, FOREST.assign(wording=None)))
    limits = [name for name in COLUMNS if name.endswith(("_lower", "_upper")) or name == "effective_datasets"]
    assert unknown[limits].isna().all()
    rest = [name for name in COLUMNS if name not in limits]
    pd.testing.assert_series_equal(known[rest], unknown[rest])
    assert known[["ate_bias_lower", "ate_coverage_upper", "effective_datasets"]].notna().all()


def test_what_needs_a_truth_is_of_the_data_sets_that_have_one():
    # Data sets t and v are from elsewhere: nobody knows their effects.
    gone = [False, True, False, True]
    needed = [name for name in METRICS if not name.endswith("width")]
    other = FOREST.assign(pehe=[2.0, 1.0, 1.0, 1.0], estimator="line")
    both = pd.concat([FOREST, other])
    both.loc[np.tile(gone, 2), [*needed, "ate_true"]] = nan
    found = leaderboard(both)
    half = leaderboard(pd.concat([FOREST, other])[np.tile([not x for x in gone], 2)])
    for estimator in ("forest", "line"):
        mixed, alone = row_of(found, estimator), row_of(half, estimator)
        same = [name for name in COLUMNS if name not in ("datasets", "seconds", "ate_width")]
        pd.testing.assert_series_equal(mixed[same], alone[same], check_dtype=False)
        assert (mixed["datasets"], alone["datasets"]) == (4, 2)
    both[[*needed, "ate_true"]] = nan
    none = row_of(leaderboard(both), "forest")
    assert none[["rank", "pehe", "ate_bias", "ate_coverage", "beats_zero", "beats_constant"]].isna().all()
    assert none["ate_width"] == row_of(leaderboard(FOREST), "forest")["ate_width"]

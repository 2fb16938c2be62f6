"""Scores of many data sets summed up: one row for each estimator and each choice of covariates."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from ..errors import DataError
from .dataset import SETTINGS
from .metrics import METRICS, over

_KEYS = ("dataset", "covariates", "estimator")
_ATE = ("ate", "ate_true", "ate_lower", "ate_upper")
_NEEDED = (*_KEYS, "wording", "failure", "seconds", *_ATE, "sd_y", *METRICS)
_LEVEL = 0.95

Limits = tuple[float, float]
_UNKNOWN: Limits = (math.nan, math.nan)


def _cluster_sums(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each cluster."""
    _, member = np.unique(clusters, return_inverse=True)
    return np.bincount(member, weights=values), np.bincount(member)


def _standard_error(values: np.ndarray, clusters: np.ndarray) -> tuple[float, int]:
    sums, _ = _cluster_sums(values - values.mean(), clusters)
    groups = len(sums)
    if groups < 2:
        return math.nan, groups
    with np.errstate(over="ignore"):
        return math.sqrt(groups / (groups - 1) * float(sums @ sums)) / len(values), groups


def _quantile(groups: int) -> float:
    return float(stdtrit(groups - 1, (1 + _LEVEL) / 2))


def clustered_interval(values: np.ndarray, clusters: np.ndarray) -> Limits:
    """95 % interval of a mean whose values are alike within a cluster and independent between clusters.

    The cluster-robust ("sandwich") standard error with its correction G / (G - 1), and quantiles of Student's t
    with G - 1 degrees of freedom for G clusters (Liang and Zeger 1986; Cameron and Miller 2015, "A practitioner's
    guide to cluster-robust inference"). Where every value is a cluster of its own this is the usual t interval.
    With fewer than about 40 clusters, or very unequal ones, it is somewhat too short.

    Args:
        values: float ``[n]``.
        clusters: ``[n]`` labels.

    Returns:
        Lower and upper limit; NaN with fewer than two clusters, or where a value is not finite.

    >>> low, high = clustered_interval(np.array([1.0, 1.0, 3.0, 3.0]), np.array(["a", "a", "b", "b"]))
    >>> round(low, 3), round(high, 3)  # 2 ± 12.706 * 1
    (-10.706, 14.706)
    """
    if len(values) == 0 or not np.isfinite(values).all():
        return _UNKNOWN
    error, groups = _standard_error(values, clusters)
    if groups < 2:
        return _UNKNOWN
    half, centre = _quantile(groups) * error, float(values.mean())
    return centre - half, centre + half


def clustered_rms_interval(values: np.ndarray, clusters: np.ndarray) -> Limits:
    """95 % interval of a root mean square: ``clustered_interval``, by the delta method on the log scale.

    So it is never below 0, and is longer upwards. Both limits are 0 where all values are.

    >>> low, high = clustered_rms_interval(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 2, 3]))
    >>> low < 7.5**0.5 < high
    True
    """
    with np.errstate(over="ignore"):
        square = np.square(values)
    if len(values) == 0 or not np.isfinite(square).all():
        return _UNKNOWN
    mean = float(square.mean())
    error, groups = _standard_error(square, clusters)
    if groups < 2:
        return _UNKNOWN
    if mean == 0:
        return 0.0, 0.0
    # d log sqrt(m) = dm / 2m.
    half = min(_quantile(groups) * error / (2 * mean), math.log(np.finfo(np.float64).max) / 2)
    return math.sqrt(mean) * math.exp(-half), math.sqrt(mean) * math.exp(half)


def clustered_share_interval(hits: np.ndarray, clusters: np.ndarray) -> Limits:
    """95 % interval of a share: Wilson's, with the effective sample size that the clusters leave.

    The effective size is p(1 - p) over the cluster-robust variance, at most n; where all agree (p is 0 or 1) the
    variance says nothing, and it is the number of clusters. So 20 of 20 covered does not come out as 100 % ± 0
    (Korn and Graubard 1998; Franco, Little, Louis and Slud 2019). Quantiles are as in ``clustered_interval``.

    Args:
        hits: ``[n]``, 0 or 1 each.
        clusters: ``[n]`` labels.

    >>> low, high = clustered_share_interval(np.ones(20), np.arange(20))
    >>> round(low, 3), high
    (0.82, 1.0)
    """
    if len(hits) == 0:
        return _UNKNOWN
    error, groups = _standard_error(hits, clusters)
    if groups < 2:
        return _UNKNOWN
    p = float(hits.mean())
    spread = p * (1 - p)
    size = float(groups) if spread == 0 else float(len(hits))
    if error > 0:
        size = min(size, spread / error**2)
    t2 = _quantile(groups) ** 2 / size
    centre, half = (p + t2 / 2) / (1 + t2), math.sqrt(t2 * (spread + t2 / 4)) / (1 + t2)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def effective_size(values: np.ndarray, clusters: np.ndarray) -> float:
    """How many independent values would tell as much about the mean as these clustered ones do.

    n over the design effect 1 + (k - 1) rho (Kish 1965). k = sum(m²) / n is the size of the cluster of an average
    value; rho is the intra-class correlation of a one-way analysis of variance with clusters of unequal size m,
    (B - W) / (B + (m0 - 1) W), where B and W are the mean squares between and within the G clusters and
    m0 = (n - sum(m²) / n) / (G - 1) (Donner 1986); a negative one counts as 0. So it is n where clusters do not
    matter, and the number of clusters where their members are identical and they are of one size.

    Args:
        values: float ``[n]``.
        clusters: ``[n]`` labels.

    Returns:
        Between 1 and n. NaN where the values say nothing: one cluster only, all the same, or some not finite.

    >>> effective_size(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1]))
    2.0
    """
    n = len(values)
    if n == 0 or not np.isfinite(values).all() or np.ptp(values) == 0:
        return math.nan
    deviations = values - values.mean()
    deviations = deviations / np.abs(deviations).max()  # So that no square overflows.
    sums, sizes = _cluster_sums(deviations, clusters)
    groups = len(sizes)
    if groups < 2:
        return math.nan
    if groups == n:
        return float(n)
    total = float(np.square(deviations).sum())
    between = float((sums**2 / sizes).sum())
    k = float((sizes**2).sum()) / n
    mean_between, mean_within = between / (groups - 1), max(total - between, 0.0) / (n - groups)
    m0 = (n - k) / (groups - 1)
    rho = (mean_between - mean_within) / (mean_between + (m0 - 1) * mean_within)
    return n / (1 + (k - 1) * min(max(rho, 0.0), 1.0))


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    with np.errstate(invalid="ignore"):  # inf - inf.
        return float(known.mean()) if len(known) else math.nan


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    with np.errstate(invalid="ignore"):
        return float(np.median(known)) if len(known) else math.nan


def _ate_columns(scored: pd.DataFrame, clusters: np.ndarray) -> dict[str, float]:
    widths = (scored["ate_upper"] - scored["ate_lower"]).to_numpy(np.float64) / scored["sd_y"].to_numpy(np.float64)
    judged = scored["ate_true"].notna().to_numpy()
    scored, clusters = scored[judged], clusters[judged]
    ate, truth, lower, upper = (scored[name].to_numpy(np.float64) for name in _ATE)
    error = ate - truth
    known = ~np.isnan(lower) & ~np.isnan(upper)
    hits = ((lower <= truth) & (truth <= upper))[known].astype(np.float64)
    vary = len(truth) > 1 and np.ptp(truth) > 0
    with np.errstate(invalid="ignore", over="ignore"):
        squares = _mean(np.square(error))
    limits = {
        "ate_bias": clustered_interval(error, clusters),
        "ate_rmse": clustered_rms_interval(error, clusters),
        "ate_coverage": clustered_share_interval(hits, clusters[known]),
    }
    values = {
        "ate_bias": _mean(error),
        "ate_rmse": math.sqrt(squares),
        "ate_r2": 1 - squares / float(truth.var()) if vary else math.nan,
        "ate_mae": _mean(np.abs(error)),
        "ate_coverage": _mean(hits),
        "ate_width": _mean(widths),
    }
    return {**values, **_named(limits), "effective_datasets": effective_size(error, clusters)}


def _named(limits: dict[str, Limits]) -> dict[str, float]:
    return {f"{name}_{end}": limit[i] for name, limit in limits.items() for i, end in enumerate(("lower", "upper"))}


def _unit_columns(scored: pd.DataFrame, clusters: np.ndarray) -> dict[str, float]:
    metric = {name: scored[name].to_numpy(np.float64) for name in METRICS}
    # Of an average coverage: bounded, but no longer a count of hits.
    limits = {}
    for name in ("pehe_sd_y", "cate_coverage", "ite_coverage"):
        known = ~np.isnan(metric[name])
        low, high = clustered_interval(metric[name][known], clusters[known])
        top = math.inf if name == "pehe_sd_y" else 1.0
        limits[name] = float(np.clip(low, 0.0, top)), float(np.clip(high, 0.0, top))
    medians = ("pehe_sd_y", "pehe_sd_ite", "cate_r2")
    means = [name for name in METRICS if not name.startswith("beats_")]
    return {
        **{name: _mean(metric[name]) for name in means},
        **{f"{name}_median": _median(metric[name]) for name in medians},
        "cate_r2_reference_clipped": _mean(np.maximum(metric["cate_r2_reference"], 0.0)),
        **_named(limits),
    }


_INTERVALS = ("ate_bias", "ate_rmse", "ate_coverage", "pehe_sd_y", "cate_coverage", "ite_coverage")
COLUMNS = (
    "estimator",
    "covariates",
    "datasets",
    "failures",
    *("ate_bias", "ate_rmse", "ate_r2", "ate_mae", "ate_coverage", "ate_width"),
    *("pehe", "pehe_sd_y", "pehe_sd_y_median", "pehe_sd_ite", "pehe_sd_ite_median", "pehe_floor_sd_y"),
    *("cate_rmse", "cate_r2", "cate_r2_median", "cate_r2_reference", "cate_r2_reference_clipped"),
    *("cate_coverage", "cate_width", "cate_score", "ite_coverage", "ite_width", "ite_score"),
    *("regret", "rank_correlation", "auuc", "qini", "beats_zero", "beats_constant", "rank", "seconds"),
    *(f"{name}_{end}" for name in _INTERVALS for end in ("lower", "upper")),
    "effective_datasets",
)


def _check(scores: pd.DataFrame) -> None:
    missing = [name for name in _NEEDED if name not in scores]
    if missing:
        raise DataError(f"scores: columns {missing} are missing")
    unnamed = [name for name in _KEYS if scores[name].isna().any()]
    if unnamed:
        raise DataError(f"scores: columns {unnamed} have missing values")
    cells = ["dataset", "covariates", "estimator"]
    repeated = scores.duplicated(cells)
    if repeated.any():
        raise DataError(f"scores: {tuple(scores.loc[repeated, cells].iloc[0])} (of {cells}) is there more than once")
    known = scores["ate_true"].notna()
    unscored = scores["failure"].isna() & (scores["ate"].isna() | (known & scores["pehe"].isna()))
    if unscored.any():
        raise DataError(f"scores: {tuple(scores.loc[unscored, cells].iloc[0])} has neither a failure nor its scores")


def leaderboard(scores: pd.DataFrame) -> pd.DataFrame:
    """Sum up scores: one row for each estimator and setting of covariates, the best (``pehe_sd_y``) first.

    Args:
        scores: one row for each data set, setting and estimator, with the columns ``dataset, wording, covariates,
            estimator, failure, seconds`` and those of ``metrics.score``.

    Returns:
        The columns ``COLUMNS``. ``datasets`` counts what the estimator was run on and ``failures`` those of it
        on which it failed. A failure is the last in ``rank`` (the average rank by PEHE among the estimators of a
        data set and setting; ties share theirs) and beats nothing (``beats_zero``, ``beats_constant``: shares of
        ``datasets`` whose effects are known); all other columns are of the rest, so read them beside ``failures``.

        - ``ate_bias, ate_rmse, ate_r2, ate_mae`` of the estimated average effects over data sets, in units of y;
          the R² has the truth as truth. ``ate_coverage`` is the share of their intervals that hold the truth, and
          ``ate_width`` their mean width in units of sd(y).
        - Metrics of ``metrics.score`` are means over data sets; ``_median`` is their median, which a single fit
          that explodes does not move (a mean may be infinite, and is then shown as such).
          ``cate_r2_reference_clipped`` is cut off at 0 before the mean, as in the paper's figure.
          ``seconds`` is the median of CPU seconds.
        - ``_lower`` and ``_upper``: 95 % intervals clustered by wording, since data sets of one wording share
          their mechanisms and thus their errors: ``clustered_interval``, ``clustered_rms_interval`` and, for
          ``ate_coverage``, ``clustered_share_interval``. NaN with fewer than two wordings.
        - ``effective_datasets``: the number of independent data sets that would tell as much about the error of
          the average effect, ``effective_size`` of ``ate - ate_true`` by wording: 1000 data sets from 50 wordings
          may be worth hardly more than 50.
        - Where ``wording`` is missing, it is not known which data sets are alike: ``_lower``, ``_upper`` and
          ``effective_datasets`` are NaN. Where ``ate_true`` is, the effects are not known: what needs them is of the
          other data sets, and NaN where there are none.

    Raises:
        DataError: columns are missing, a cell is there twice, or has neither a failure nor its scores.

    >>> zeros = dict.fromkeys([*_NEEDED], 0.0) | {"wording": "w", "covariates": "all", "failure": None, "sd_y": 1.0}
    >>> rows = [zeros | {"dataset": d, "estimator": e, "pehe": p, "pehe_sd_y": p}
    ...     for d in "ab" for e, p in (("forest", 0.5), ("line", 0.1))]
    >>> leaderboard(pd.DataFrame(rows))[["estimator", "datasets", "pehe", "rank"]]
      estimator  datasets  pehe  rank
    0      line         2   0.1   1.0
    1    forest         2   0.5   2.0
    """
    scores = scores.reset_index(drop=True)
    _check(scores)
    failed = scores["failure"].notna()
    # Neither a metric of a cell that failed nor the order of the rows may matter.
    error = scores["pehe"].where(~failed)
    rank = error.groupby([scores["dataset"], scores["covariates"]], observed=True).rank(na_option="bottom")
    judged = scores["ate_true"].notna()
    rank = rank.where(judged)
    settings = [*SETTINGS, *(name for name in scores["covariates"].unique() if name not in SETTINGS)]
    rows = []
    for (estimator, covariates), cells in scores.groupby(["estimator", "covariates"], observed=True):
        scored = cells[~failed[cells.index]]
        clusters = scored["wording"].astype(str).to_numpy()
        among = int(judged[cells.index].sum())
        beats = {name: over(float(scored[name].sum()), among) for name in ("beats_zero", "beats_constant")}
        row = {**_ate_columns(scored, clusters), **_unit_columns(scored, clusters)}
        if scored["wording"].isna().any():
            row |= {
                name: math.nan for name in row if name.endswith(("_lower", "_upper")) or name.startswith("effective")
            }
        rows.append(
            {
                "estimator": estimator,
                "covariates": covariates,
                "datasets": len(cells),
                "failures": len(cells) - len(scored),
                **row,
                **beats,
                "rank": _mean(rank[cells.index].to_numpy(np.float64)),
                "seconds": _median(scored["seconds"].to_numpy(np.float64)),
            }
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = table["covariates"].map(settings.index)
    table = table.assign(order=order).sort_values(["order", "pehe_sd_y", "pehe_sd_y_median", "estimator"])
    return table.drop(columns="order").reset_index(drop=True)

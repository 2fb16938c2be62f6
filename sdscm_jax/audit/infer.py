"""From what single wordings say to what an audit says: intervals, tests, false discoveries, variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from ..checks import instance, share
from ..errors import AuditError
from .measure import EFFECTS

CELL = ["lm", "proxy", "level"]
# From so many templates of a sentence on, they tell how much its wording matters.
FEW_TEMPLATES = 5
# Probabilities that differ by less are the same: they come from float32 scores.
_ROUNDING = 1e-6


def mean_of_wordings(cells: pd.DataFrame, values: pd.Series, level: float, margin: float = 0.0) -> dict[str, float]:
    """The mean over wordings, with an interval and a test.

    What is sampled is language: the interval is for sentences worded by others, not for these templates again
    (Clark 1973, "The language-as-fixed-effect fallacy"). Wordings that share a template of some sentence are not
    independent, so the interval is the widest of those that take as the sample the wordings, the templates of any one
    sentence, and those of all sentences (cluster-robust in one way and in many; Student's t with one degree of
    freedom less than the fewest clusters; Cameron, Gelbach and Miller 2011, "Robust inference with multiway
    clustering"). Where no two wordings share a template these are one: Student's interval. A sentence with fewer than
    five templates is taken as it is.

    Args:
        cells: ``wording``, and ``templates``: tuples, the number of each sentence's template.
        values: what each cell says.
        level: confidence.
        margin: what is tested is that the mean is no farther from 0.

    Returns:
        ``value``, ``lower``, ``upper``, ``p`` (two-sided; nan with one wording), ``wordings``.

    >>> cells = pd.DataFrame({"wording": [0, 0, 1, 1], "templates": [(0,), (0,), (1,), (1,)]})
    >>> found = mean_of_wordings(cells, pd.Series([0.1, 0.3, 0.2, 0.2]), 0.95)
    >>> found["value"], found["wordings"], found["lower"] == found["upper"]
    (0.2, 2, True)
    """
    by_wording = values.groupby(cells["wording"].to_numpy()).mean()
    means = by_wording.to_numpy(np.float64)
    count, value = len(means), float(means.mean())
    if count < 2:
        return {"value": value, "lower": float("nan"), "upper": float("nan"), "p": float("nan"), "wordings": count}
    first = cells.drop_duplicates("wording").set_index("wording").loc[by_wording.index, "templates"]
    samples = [np.arange(count), *np.array(first.tolist(), np.int64).reshape(count, -1).T]
    found = [_of_clusters(means - value, np.unique(sample, return_inverse=True)[1]) for sample in samples]
    ways = [found[0], *(way for way in found[1:] if way[1] >= FEW_TEMPLATES - 1)]
    together = ways[0][0] + sum(variance - ways[0][0] for variance, _ in ways[1:])
    ways.append((together, min(freedom for _, freedom in ways)))
    half, p = 0.0, 0.0
    for variance, freedom in ways:
        error = float(np.sqrt(max(0.0, variance)))
        error = 0.0 if error < _ROUNDING else error
        half = max(half, float(stats.t.ppf(0.5 + level / 2, freedom)) * error)
        p = max(p, _p_value(abs(value), margin, error, freedom))
    return {"value": value, "lower": value - half, "upper": value + half, "p": p, "wordings": count}


def _p_value(size: float, margin: float, error: float, freedom: int) -> float:
    """How likely an estimate of this size or more is, where the truth is as large as the margin."""
    if error == 0:
        return 1.0 if size < margin + _ROUNDING else 0.0
    return float(stats.t.sf((size - margin) / error, freedom) + stats.t.sf((size + margin) / error, freedom))


def _of_clusters(residuals: np.ndarray, clusters: np.ndarray) -> tuple[float, int]:
    """Variance of a mean whose errors go together within clusters, and its degrees of freedom."""
    size = int(clusters.max()) + 1
    if size < 2:
        return 0.0, 0
    sums = np.bincount(clusters, residuals)
    return float(size / (size - 1) * (sums**2).sum()) / len(residuals) ** 2, size - 1


def discoveries(table: pd.DataFrame, rate: float) -> pd.DataFrame:
    """The table with ``q`` and ``discovery``: Benjamini and Hochberg (1995) over all its rows' ``p``.

    Of rows that are called discoveries, at most a share of ``rate`` is expected to be false; rows of one language
    model are positively dependent, which the procedure allows (Benjamini and Yekutieli 2001). Rows without a p are no
    discoveries. Give it the tables of many audits, concatenated, to control the rate over all of them.

    Raises:
        AuditError: the rate is not between 0 and 1.

    >>> discoveries(pd.DataFrame({"p": [0.01, 0.04, 0.5]}), 0.05)["discovery"].tolist()
    [True, False, False]
    """
    rate = share(rate, "rate", AuditError)
    if "p" not in instance(table, pd.DataFrame, "table", AuditError):
        raise AuditError("a table of discoveries has a column 'p'")
    try:
        p = table["p"].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise AuditError(f"column 'p' has numbers: {error}") from error
    if ((p > 1) | (p < 0)).any():
        raise AuditError("column 'p' has p-values, which are from 0 to 1")
    q = np.full(len(p), np.nan)
    known = ~np.isnan(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known], method="bh")
    with np.errstate(invalid="ignore"):
        return table.assign(q=q, discovery=q <= rate)


def effects_table(cells: pd.DataFrame, level: float, rate: float, margin: float = 0.0) -> pd.DataFrame:
    """Effects of every language model, proxy and level; see ``AuditResult.effects``."""
    rows = []
    for (lm, proxy, name), group in cells.groupby(CELL, sort=False):
        for effect in EFFECTS:
            found = mean_of_wordings(group, group[effect], level, margin)
            rows.append({"lm": lm, "proxy": proxy, "level": name, "effect": effect, **found, "method": "exact"})
    return discoveries(pd.DataFrame(rows), rate)


def differences_table(
    cells: pd.DataFrame, lms: Sequence[str], level: float, rate: float, margin: float = 0.0
) -> pd.DataFrame:
    """Effects of a language model less those of one before it, wording by wording; see ``AuditResult.differences``."""
    rows = []
    keys = ["proxy", "level", "wording", "option_wording"]
    for i, other in enumerate(lms):
        for lm in lms[i + 1 :]:
            both = cells[cells["lm"] == lm].merge(
                cells[cells["lm"] == other].drop(columns="templates"), on=keys, suffixes=("", "_other")
            )
            for (proxy, name), group in both.groupby(["proxy", "level"], sort=False):
                for effect in EFFECTS:
                    found = mean_of_wordings(group, group[effect] - group[f"{effect}_other"], level, margin)
                    del found["wordings"]
                    rows.append({"lm": lm, "other": other, "proxy": proxy, "level": name, "effect": effect, **found})
    columns = ["lm", "other", "proxy", "level", "effect", "value", "lower", "upper", "p"]
    return discoveries(pd.DataFrame(rows, columns=columns), rate)


def variance_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Variance of the individual total effect: between wordings, option wordings within them, units within these.

    Components by the method of moments of a nested design (Searle, Casella and McCulloch 1992, "Variance
    components", section 3.6); negative ones are 0.
    """
    rows = []
    for (lm, proxy, name), group in cells.groupby(CELL, sort=False):
        by_wording = group.groupby("wording")["total"]
        counts = by_wording.count().to_numpy(np.float64)
        degrees = float((counts - 1).sum())
        within = float(((group["total"] - by_wording.transform("mean")) ** 2).sum())
        option = within / degrees if degrees > 0 else 0.0
        means = by_wording.mean().to_numpy(np.float64)
        between = float(means.var(ddof=1)) if len(means) > 1 else 0.0
        wording = max(0.0, between - option * float((1 / counts).mean()))
        unit = float((group["sd_unit"] ** 2).mean())
        rows.append({
            "lm": lm, "proxy": proxy, "level": name, "wording": wording, "option_wording": option, "unit": unit,
        })  # fmt: skip
    return pd.DataFrame(rows)


def scorings_table(cells: pd.DataFrame, level: float) -> pd.DataFrame:
    """Total effects under each scoring; see ``AuditResult.scorings``."""
    rows = []
    for keys, group in cells.groupby([*CELL, "scoring"], sort=False):
        found = mean_of_wordings(group, group["total"], level)
        rows.append(dict(zip([*CELL, "scoring"], keys, strict=True)) | {
            "total": found["value"], "lower": found["lower"], "upper": found["upper"],
        })  # fmt: skip
    return pd.DataFrame(rows, columns=[*CELL, "scoring", "total", "lower", "upper"])


def couplings_table(cells: pd.DataFrame, couplings: Sequence[str]) -> pd.DataFrame:
    """Share of units whose outcome would change, by coupling; see ``AuditResult.couplings``."""
    rows = []
    for keys, group in cells.groupby(CELL, sort=False):
        means = group[[*couplings, "lower_bound", "upper_bound"]].mean()
        for coupling in couplings:
            rows.append(dict(zip(CELL, keys, strict=True)) | {
                "coupling": coupling, "changed": means[coupling], "lower_bound": means["lower_bound"],
                "upper_bound": means["upper_bound"],
            })  # fmt: skip
    return pd.DataFrame(rows)

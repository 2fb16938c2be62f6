"""From what single wordings say to what an audit says: intervals, tests, false discoveries, variance."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..checks import instance, share
from ..errors import AuditError
from .interval import interval, mean_of, p_value
from .measure import EFFECTS
from .power import detectable

CELL = ["lm", "proxy", "level"]
# Effects that are the same sum in another order of adding.
_EQUAL = 1e-9


def mean_of_wordings(
    cells: pd.DataFrame, values: pd.Series, level: float, margin: float = 0.0, most: float = 1.0
) -> dict[str, float]:
    """The mean over wordings, with an interval and a test; see ``interval``.

    What is sampled is language: the interval is for sentences and names chosen by others, not for these again (Clark
    1973, "The language-as-fixed-effect fallacy").

    Args:
        cells: ``wording`` and ``repetition``.
        values: what each cell says.
        level: confidence.
        margin: what is tested is that the mean is no farther from 0.
        most: no mean is farther from 0 than this; nor does an interval go beyond it.

    Returns:
        ``value``; ``lower``, ``upper`` and ``p`` (two-sided), nan where there is one repetition only or where nothing
        varies, which says nothing about other wordings; ``detectable`` (see there; inf: none that is possible); how
        many ``wordings`` and ``repetitions`` there are.

    >>> cells = pd.DataFrame({"wording": [0, 0, 1, 1], "repetition": [0, 0, 1, 1]})
    >>> found = mean_of_wordings(cells, pd.Series([0.1, 0.3, 0.2, 0.4]), 0.95)
    >>> found["value"], found["repetitions"], round(found["upper"] - found["value"], 3)
    (0.25, 2, 0.635)
    """
    found = mean_of(values.to_numpy(np.float64), cells["repetition"].to_numpy())
    least = detectable(float(found.error), found.repetitions, 1 - level, margin)
    return {
        **_estimate(cells, values, level, most),
        "p": float(p_value(found, margin)),
        "detectable": float("inf") if least > most else least,
        "wordings": int(cells["wording"].nunique()),
        "repetitions": found.repetitions,
    }


def _estimate(cells: pd.DataFrame, values: pd.Series, level: float, most: float = 1.0) -> dict[str, float]:
    """The mean and its interval, which is within what is possible."""
    found = mean_of(values.to_numpy(np.float64), cells["repetition"].to_numpy())
    lower, upper = (float(np.clip(end, -most, most)) for end in interval(found, level))
    return {"value": float(found.value), "lower": lower, "upper": upper}


def discoveries(table: pd.DataFrame, rate: float) -> pd.DataFrame:
    """The table with ``q`` and ``discovery``: Benjamini and Hochberg (1995) over all its rows' ``p``.

    Of rows that are called discoveries, at most a share of ``rate`` is expected to be false, if the tests are
    independent or positively dependent on each of those without an effect (PRDS; Benjamini and Yekutieli 2001,
    theorem 1.2). Effects of one audit are neither for certain: parts of one total may go against each other, and
    two-sided tests need not be PRDS. ``q_any`` is right whatever the dependence (Benjamini and Yekutieli, theorem
    1.3): q times 1 + 1/2 + ... + 1/n, for n tests. Rows without a p are no discoveries and no tests. Give it the tables
    of many audits, concatenated, to control the rate over all of them.

    Rows of equal ``lm``, ``other``, ``proxy`` and ``level`` of which one says in ``same_as`` that it is another
    effect in other words are one test.

    Raises:
        AuditError: the rate is not between 0 and 1.

    >>> found = discoveries(pd.DataFrame({"p": [0.01, 0.04, 0.5]}), 0.05)
    >>> found["discovery"].tolist(), found["q_any"].round(3).tolist()
    ([True, False, False], [0.055, 0.11, 0.917])
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
    known = ~np.isnan(p)
    tests = known & (table["same_as"] == "").to_numpy() if "same_as" in table else known
    q = {name: np.full(len(p), np.nan) for name in ("q", "q_any")}
    if tests.any():
        q["q"][tests] = stats.false_discovery_control(p[tests], method="bh")
        q["q_any"][tests] = stats.false_discovery_control(p[tests], method="by")
    found = table.assign(**q)
    if "same_as" in table:
        found = _repeated(found, known & ~tests)
    with np.errstate(invalid="ignore"):
        return found.assign(discovery=found["q"].to_numpy() <= rate)


def _repeated(table: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """What is another effect in other words has its q."""
    keys = [name for name in ("lm", "other", "proxy", "level") if name in table]
    groups = list(map(tuple, table[keys].to_numpy().tolist()))
    places = {(*group, effect): i for i, (group, effect) in enumerate(zip(groups, table["effect"], strict=True))}
    same, found = table["same_as"].tolist(), {name: table[name].to_numpy().copy() for name in ("q", "q_any")}
    for i in np.flatnonzero(rows).tolist():
        for values in found.values():
            values[i] = values[places[(*groups[i], same[i])]]
    return table.assign(**found)


def effects_table(
    cells: pd.DataFrame, level: float, rate: float, margin: float = 0.0, absent: Collection[str] = (), *,
    drawn: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Effects of every language model, proxy and level; see ``AuditResult.effects``.

    Args:
        cells: as in ``AuditResult``, with bounds of the parts that depend on the coupling.
        level, rate, margin: see ``audit``.
        absent: effects that there is no path for.
        drawn: cells are means over units that were drawn.
    """
    rows, method = [], "drawn" if drawn else "exact"
    for (lm, proxy, name), group in cells.groupby(CELL, sort=False):
        for row in _effects(group, {e: group[e] for e in EFFECTS}, level, margin, absent):
            bounds = {end: float(group[f"{row['effect']}_{end}"].mean()) for end in ("least", "greatest")}
            told = "bounds" if np.isfinite(bounds["least"]) else "none" if np.isnan(row["value"]) else method
            rows.append({"lm": lm, "proxy": proxy, "level": name, **row, **bounds, "method": told})
    return discoveries(pd.DataFrame(rows), rate)


def _effects(
    cells: pd.DataFrame, values: dict[str, pd.Series], level: float, margin: float, absent: Collection[str],
    most: float = 1.0,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each effect; what is the same number in every cell as an effect before it says so."""
    rows: list[dict[str, Any]] = []
    for effect, own in values.items():
        found = mean_of_wordings(cells, own, level, margin, most)
        if effect in absent:
            found |= {"lower": 0.0, "upper": 0.0, "p": float("nan"), "detectable": float("nan")}
        equal = [e for e in values if np.allclose(own, values[e], rtol=0, atol=_EQUAL)]
        first = equal[0] if equal and effect not in absent else effect
        rows.append({"effect": effect, **found, "same_as": "" if first == effect else first})
    return rows


def differences_table(
    cells: pd.DataFrame, lms: Sequence[str], level: float, rate: float, margin: float = 0.0,
    absent: Collection[str] = (),
) -> pd.DataFrame:  # fmt: skip
    """Effects of a language model less those of one before it, wording by wording; see ``AuditResult.differences``."""
    rows = []
    keys = ["proxy", "level", "wording", "option_wording"]
    for i, other in enumerate(lms):
        for lm in lms[i + 1 :]:
            both = cells[cells["lm"] == lm].merge(
                cells[cells["lm"] == other][[*keys, *EFFECTS]], on=keys, suffixes=("", "_other")
            )
            for (proxy, name), group in both.groupby(["proxy", "level"], sort=False):
                values = {e: group[e] - group[f"{e}_other"] for e in EFFECTS}
                for row in _effects(group, values, level, margin, absent, most=2.0):
                    del row["wordings"], row["repetitions"]
                    rows.append({"lm": lm, "other": other, "proxy": proxy, "level": name, **row})
    columns = ["lm", "other", "proxy", "level", "effect", "value", "lower", "upper", "p", "detectable", "same_as"]
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
    """Total effects under each scoring; see ``AuditResult.scorings``.

    Every scoring is of the same wordings, so that the main one's total is that of ``effects``.
    """
    rows = []
    for keys, group in cells.groupby(CELL, sort=False):
        totals = group.pivot(index=["repetition", "wording", "option_wording"], columns="scoring", values="total")
        first = group["scoring"].iloc[0]
        for scoring in group["scoring"].unique():
            total = _estimate(totals.reset_index(), totals[scoring], level)
            change = _estimate(totals.reset_index(), totals[scoring] - totals[first], level, most=2.0)
            rows.append(dict(zip(CELL, keys, strict=True)) | {
                "scoring": scoring, "total": total["value"], "lower": total["lower"], "upper": total["upper"],
                **{f"difference{end}": float("nan") if scoring == first else change[name]
                   for end, name in (("", "value"), ("_lower", "lower"), ("_upper", "upper"))},
            })  # fmt: skip
    columns = [*CELL, "scoring", "total", "lower", "upper", "difference", "difference_lower", "difference_upper"]
    return pd.DataFrame(rows, columns=columns)


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

"""Figures of intervals: coverage beside width, and caterpillars of single units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...page.drawing import COVERED, INK, MISSED, WIDE, Panel, new_axes, panel
from .quantile_boxes import Values, draw_boxes, linear_limits
from .selection import BASELINES, having, setting_name, thinned, values_by_row

_UNITS = 220


def coverage_panels(scores: pd.DataFrame, of: str, names: list[str], settings: list[str], level: float) -> list[Panel]:
    """Coverage and width of the intervals of ``"cate"`` or ``"ite"``; none if no estimator has such intervals."""
    names = having(scores, f"{of}_coverage", names)
    if not names:
        return []
    coverage = values_by_row(scores, f"{of}_coverage", names, settings)
    width = values_by_row(scores, f"{of}_width", names, settings)
    told = ", ".join(
        f"{name} {np.nanmean(row[0]):.2f}" for name, row in zip(names, coverage, strict=True) if _some(row[0])
    )
    low = min(0.9, *(float(np.nanquantile(v, 0.05)) for row in coverage for v in row if _some(v)))
    limits = (max(-0.02, low - 0.04), 1.02)

    return [
        panel(
            lambda: coverage_axes(names, coverage, limits, level),
            f"Coverage of {of.upper()} intervals by estimator; the nominal level is {level:g}. Mean in the "
            f"first setting: {told}.",
            "Coverage",
        ),
        panel(
            lambda: draw_boxes(names, width, linear_limits(width), "mean width / sd(y)"),
            f"Width of {of.upper()} intervals in standard deviations of the outcome, by estimator.",
            "Width",
        ),
    ]


def coverage_axes(names: list[str], coverage: Values, limits: tuple[float, float], level: float) -> Any:
    """Boxes of shares. The axis has room beyond 1 for the mark of 1, and no such share."""
    axes = draw_boxes(names, coverage, limits, "share of units covered", mean=True, line=level)
    axes.set_xticks([share for share in axes.get_xticks() if limits[0] <= share <= 1])
    return axes


def caterpillar_panels(
    estimates: pd.DataFrame, scores: pd.DataFrame, names: list[str], settings: list[str], most: int = 4
) -> list[Panel]:
    """Every unit's interval, sorted by the true effect; the first estimators that have intervals, in each setting.

    Args:
        estimates: per unit, of one data set.
        scores: say which effect an estimator's intervals are of.
        names: estimators in order of preference.
        settings: those to show.
        most: estimators.
    """
    bounded = estimates[np.isfinite(estimates["lower"].astype(float)) & np.isfinite(estimates["upper"].astype(float))]
    groups = dict(list(bounded.groupby(["estimator", "covariates"])))
    shown = [n for n in names if n not in BASELINES and any((n, setting) in groups for setting in settings)][:most]
    individual = set(having(scores, "ite_coverage", names))
    panels = []
    for name in shown:
        for setting in settings:
            if (name, setting) in groups:
                of = "ite" if name in individual else "cate"
                # Without a truth there is nothing to contain.
                if np.isfinite(groups[name, setting][of].to_numpy(float)).all():
                    panels.append(_caterpillar(groups[name, setting], of, f"{name}, {setting_name(setting)}"))
    return panels


def _some(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def _caterpillar(units: pd.DataFrame, of: str, title: str) -> Panel:
    units = units.iloc[np.argsort(units[of].to_numpy(float), kind="stable")]
    truth, lower, upper = (units[c].to_numpy(float) for c in (of, "lower", "upper"))
    covered = (lower <= truth) & (truth <= upper)
    kept = thinned(len(units), _UNITS)

    def draw() -> Any:
        axes = new_axes(WIDE, 2.5, left=0.72, bottom=0.48, top=0.12)
        for mask, colour, thick in ((covered, COVERED, 0.9), (~covered, MISSED, 1.3)):
            at = kept[mask[kept]]
            # One path for all intervals of a colour: gaps are NaN.
            x = np.repeat(at, 3).astype(float)
            y = np.stack([lower[at], upper[at], np.full(len(at), np.nan)], 1).ravel()
            axes.plot(x, y, color=colour, linewidth=thick, solid_capstyle="butt")
        axes.plot(kept, truth[kept], color=INK, linewidth=1.6)
        axes.axhline(0, color=INK, linewidth=0.6, linestyle=":")
        axes.set_xlim(-0.01 * len(units), 1.01 * len(units))
        low, high = _frame(truth, lower, upper)
        axes.set_ylim(low, high)
        axes.grid(axis="x", visible=False)
        axes.set_xlabel(f"units, sorted by true {of.upper()}")
        axes.set_ylabel("effect")
        return axes

    share = f"{covered.mean():.0%}".replace("%", " %")
    label = f"Intervals of {len(units)} units sorted by their true {of.upper()}; {share} contain the truth. {title}"
    return panel(draw, label, f"{title}: {share} of {len(units)} covered")


def _frame(truth: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[float, float]:
    """Limits that show the truth and nearly all intervals."""
    low = min(float(truth.min()), float(np.quantile(lower, 0.02)))
    high = max(float(truth.max()), float(np.quantile(upper, 0.98)))
    pad = 0.06 * (high - low) or max(abs(high), 1e-6)
    return low - pad, high + pad

"""Figures of the average effect: estimated against true, and how the true one varies."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...page.drawing import INK, MUTED, PAPER, SERIES, SMALL, WIDE, Panel, new_axes, panel
from .selection import setting_name, thinned

_POINTS = 150


def ate_panels(scores: pd.DataFrame, names: list[str], settings: list[str]) -> list[Panel]:
    """Estimated against true average effect over data sets; a small panel for each estimator, all to one scale."""
    truth = scores["ate_true"].to_numpy(float)
    truth = truth[np.isfinite(truth)]
    if not len(truth):
        return []
    span = float(np.ptp(truth)) or float(np.abs(truth).max()) or 1.0
    limits = float(truth.min()) - 0.5 * span, float(truth.max()) + 0.5 * span
    groups = dict(list(scores.groupby(["estimator", "covariates"])))
    panels = []
    for name in names:
        pairs = [_pairs(groups.get((name, setting))) for setting in settings]
        told = "; ".join(_told(setting, p, limits) for setting, p in zip(settings, pairs, strict=True) if len(p))
        label = f"Estimated against true average effect, {name}. {told or 'No estimates'}."
        panels.append(panel(partial(_draw_pairs, pairs, limits), label, name))
    return panels


def _told(setting: str, pairs: np.ndarray, limits: tuple[float, float]) -> str:
    with np.errstate(over="ignore"):
        rmse = np.sqrt(np.mean((pairs[:, 1] - pairs[:, 0]) ** 2))
    return f"{setting_name(setting)}: RMSE {rmse:.2g}, {_outside(pairs, limits)} of {len(pairs)} outside"


def _outside(pairs: np.ndarray, limits: tuple[float, float]) -> int:
    """How many estimates lie beyond the limits."""
    return int(((pairs[:, 1] < limits[0]) | (pairs[:, 1] > limits[1])).sum())


def ate_histogram(difficulty: pd.DataFrame) -> list[Panel]:
    """The true average effect over data sets."""
    values = difficulty["ate"].to_numpy(float)
    values = values[np.isfinite(values)]
    if not len(values):
        return []

    def draw() -> Any:
        axes = new_axes(WIDE, 2.3, left=0.6)
        span = float(np.ptp(values))
        # Values that are one but for rounding cannot be binned.
        level = max(float(np.abs(values).max()), 1e-12)
        frame = (values.min(), values.max()) if span > 1e-9 * level else (values[0] - level / 2, values[0] + level / 2)
        bins = np.linspace(*frame, int(np.clip(len(values) ** 0.6, 7, 50)) + 1)
        axes.hist(
            np.clip(values, bins[0], bins[-1]), bins=bins.tolist(), color=SERIES[0], edgecolor=PAPER, linewidth=0.5
        )
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        axes.axvline(values.mean(), color=INK, linewidth=1.6)
        axes.grid(axis="x", visible=False)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("true average effect of a data set (line: mean)")
        axes.set_ylabel("data sets")
        return axes

    positive = f"{(values > 0).mean():.0%}".replace("%", " %")
    return [
        panel(
            draw,
            f"Histogram of the true average effect over {len(values)} data sets: mean {values.mean():.3g}, "
            f"from {values.min():.3g} to {values.max():.3g}; {positive} are positive.",
            "Average effects of the data sets",
        )
    ]


def _pairs(rows: pd.DataFrame | None) -> np.ndarray:
    """True and estimated, ``[n, 2]``; infinite estimates are kept."""
    if rows is None:
        return np.zeros((0, 2))
    pairs = rows[["ate_true", "ate"]].to_numpy(float)
    return pairs[np.isfinite(pairs[:, 0]) & ~np.isnan(pairs[:, 1])]


def _draw_pairs(pairs: list[np.ndarray], limits: tuple[float, float]) -> Any:
    axes = new_axes(SMALL, SMALL, left=0.58, bottom=0.5, right=0.12)
    axes.plot(limits, limits, color=MUTED, linewidth=0.9)
    span = limits[1] - limits[0]
    for i, (p, colour) in enumerate(zip(pairs, SERIES * len(pairs), strict=False)):
        p = p[np.argsort(p[:, 0], kind="stable")][thinned(len(p), _POINTS)] if len(p) else p
        face = colour if i == 0 else "none"
        inside = (p[:, 1] >= limits[0]) & (p[:, 1] <= limits[1])
        axes.plot(
            p[inside, 0], p[inside, 1], "o", markersize=2.6, markerfacecolor=face, markeredgecolor=colour,
            markeredgewidth=0.6, alpha=0.75,
        )  # fmt: skip
        for beyond, marker, at in ((p[:, 1] > limits[1], "^", 0.98), (p[:, 1] < limits[0], "v", 0.02)):
            y = np.full(int(beyond.sum()), limits[0] + at * span)
            axes.plot(p[beyond, 0], y, marker, markersize=4, markerfacecolor=face, markeredgecolor=colour, linestyle="")
    axes.set_xlim(*limits)
    axes.set_ylim(*limits)
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("true ATE", fontsize=8.5)
    axes.set_ylabel("estimated", fontsize=8.5, labelpad=2)
    return axes

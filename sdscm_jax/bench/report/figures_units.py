"""Figures of the units of an example data set: overlap of propensities, sorted individual effects."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...page.drawing import COVERED, INK, MUTED, PAPER, SERIES, WIDE, Panel, new_axes, panel
from ..dataset import Dataset
from .selection import thinned


def overlap_panel(data: Dataset) -> Panel:
    """Histogram of the true propensity in each arm: the treated upwards, the controls downwards."""
    bins = np.linspace(0, 1, 31)
    treated, _ = np.histogram(data.propensity[data.t == 1], bins)
    controls, _ = np.histogram(data.propensity[data.t == 0], bins)

    def draw() -> Any:
        axes = new_axes(WIDE, 2.4, left=0.6)
        style = {"width": np.diff(bins), "align": "edge", "edgecolor": PAPER, "linewidth": 0.5}
        axes.bar(bins[:-1], treated, color=SERIES[1], **style)
        axes.bar(bins[:-1], -controls, color=SERIES[0], **style)
        axes.axhline(0, color=INK, linewidth=0.8)
        for edge in (0.1, 0.9):
            axes.axvline(edge, color=MUTED, linewidth=0.8, linestyle=":")
        reach = 1.1 * max(treated.max(), controls.max(), 1)
        axes.set_ylim(-reach, reach)
        axes.set_xlim(0, 1)
        axes.locator_params(axis="y", nbins=5, integer=True)
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
        axes.grid(axis="x", visible=False)
        axes.text(0.99, 0.97, "treated ▴", transform=axes.transAxes, ha="right", va="top", color=SERIES[1], fontsize=9)
        axes.text(0.99, 0.03, "controls ▾", transform=axes.transAxes, ha="right", color=SERIES[0], fontsize=9)
        axes.set_xlabel("true propensity")
        axes.set_ylabel("units")
        return axes

    label = (
        f"Propensities of {int((data.t == 1).sum())} treated and {int((data.t == 0).sum())} controls, "
        f"from {data.propensity.min():.2f} to {data.propensity.max():.2f}."
    )
    return panel(draw, label, f"Overlap: {data.name}")


def effects_panel(data: Dataset) -> Panel:
    """Individual effects in order, with their mean and with the naive difference of the arms' means."""
    effects = np.sort(data.ite)
    naive = float(data.y[data.t == 1].mean() - data.y[data.t == 0].mean())
    kept = thinned(len(effects), 400)

    def draw() -> Any:
        axes = new_axes(WIDE, 2.4, left=0.72)
        axes.fill_between(kept, effects[kept], color=COVERED, alpha=0.35, linewidth=0)
        axes.plot(kept, effects[kept], color=COVERED, linewidth=1.5)
        axes.axhline(0, color=INK, linewidth=0.6, linestyle=":")
        axes.axhline(data.ate, color=SERIES[0], linewidth=1.8)
        axes.axhline(naive, color=SERIES[1], linewidth=1.8, linestyle=(0, (4, 2)))
        axes.set_xlim(0, max(len(effects) - 1, 1))
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("units, sorted by true effect")
        axes.set_ylabel("effect")
        return axes

    label = (
        f"True effects of {len(effects)} units, from {effects[0]:.3g} to {effects[-1]:.3g}; their mean is "
        f"{data.ate:.3g}, the naive difference {naive:.3g}."
    )
    return panel(draw, label, f"Individual effects: {data.name}")

"""Points with intervals under headings: the drawing that several figures share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...page.drawing import INK, MUTED, PAPER, WIDE, margin, new_axes, short

_ROW, _HEAD = 0.23, 0.3
_LETTERS = 58


@dataclass(frozen=True)
class Mark:
    """One row.

    Attributes:
        name: beside the axis.
        value: where the point is; NaN: none.
        lower, upper: interval; NaN: none.
        colour, marker: of the point, as Matplotlib writes them.
        filled: is the point filled?
        truth: where the true value is; None: not known.
    """

    name: str
    value: float
    lower: float
    upper: float
    colour: str = INK
    marker: str = "o"
    filled: bool = True
    truth: float | None = None


Marks = Sequence[tuple[str, Sequence[Mark]]]


def limits_of(blocks: Marks) -> tuple[float, float]:
    """Limits of an axis that shows 0 and every value and interval."""
    numbers = [0.0]
    for _, marks in blocks:
        for mark in marks:
            numbers += [mark.value, mark.lower, mark.upper, np.nan if mark.truth is None else mark.truth]
    finite = np.array(numbers)[np.isfinite(numbers)]
    low, high = float(finite.min()), float(finite.max())
    pad = 0.06 * (high - low) or 0.01
    return low - pad, high + pad


def draw_forest(blocks: Marks, limits: tuple[float, float], label: str) -> Any:
    """Blocks of (heading, rows) beneath each other; returns the axes."""
    names = [mark.name for _, marks in blocks for mark in marks]
    tall = sum(_HEAD + _ROW * len(marks) for _, marks in blocks)
    axes = new_axes(WIDE, tall + 0.6, left=margin(names), bottom=0.5)
    axes.set_ylim(tall, 0)
    axes.set_xlim(*limits)
    axes.axvline(0, color=MUTED, linewidth=0.9)
    edge = axes.get_position().x0 * WIDE
    ticks, at = [], 0.0
    for heading, marks in blocks:
        # Headings start at the picture's edge, where there is room for long ones.
        axes.annotate(
            short(heading, _LETTERS), (0, at + 0.65 * _HEAD), (-72 * (edge - 0.04), 0), fontweight="bold", fontsize=9,
            xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
        at += _HEAD
        for mark in marks:
            ticks.append(at + 0.5 * _ROW)
            _draw(axes, mark, ticks[-1])
            at += _ROW
    axes.set_yticks(ticks, [short(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(label)
    return axes


def _draw(axes: Any, mark: Mark, y: float) -> None:
    if mark.truth is not None:
        axes.plot([mark.truth] * 2, [y - 0.42 * _ROW, y + 0.42 * _ROW], color=INK, linewidth=2.2, zorder=2)
    axes.plot([mark.lower, mark.upper], [y, y], color=mark.colour, linewidth=1.8, solid_capstyle="butt", zorder=3)
    axes.plot(
        [mark.value], [y], mark.marker, color=mark.colour, markersize=6, markeredgewidth=1.6, zorder=4,
        markerfacecolor=mark.colour if mark.filled else PAPER,
    )  # fmt: skip

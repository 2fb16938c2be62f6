"""Box plots by row and hue, drawn from quantiles: their size does not grow with the number of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...page.drawing import INK, MUTED, PAPER, SERIES, WIDE, log_axis, margin, new_axes, short
from ...page.spoken_numbers import number

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_EXTREMES = 8

Values = Sequence[Sequence[np.ndarray]]


def quantiles(values: np.ndarray) -> np.ndarray:
    """The 5, 25, 50, 75 and 95 % quantiles, float64 ``[5]``; infinite values count, NaN ones do not.

    >>> quantiles(np.array([1.0, 2.0, 3.0, np.nan])).tolist()
    [1.1, 1.5, 2.0, 2.5, 2.9]
    >>> quantiles(np.array([0.0, np.inf, np.inf])).tolist()
    [0.0, 0.0, inf, inf, inf]
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return np.full(len(_LEVELS), np.nan)
    # Interpolation between infinite values gives NaN.
    return np.quantile(values, _LEVELS, method="linear" if np.isfinite(values).all() else "inverted_cdf")


def linear_limits(rows: Values) -> tuple[float, float]:
    """From 0 to where most rows end, however far the worst of them reach."""
    ends = np.array([quantiles(values) for row in rows for values in row]).reshape(-1, len(_LEVELS))
    ends = ends[np.isfinite(ends[:, 3])]
    if not len(ends):
        return 0.0, 1.0
    upper = np.where(np.isfinite(ends[:, 4]), ends[:, 4], ends[:, 3])
    high = min(float(upper.max()), 4 * float(np.median(ends[:, 3])) or float(upper.max()))
    return 0.0, 1.08 * high if high > 0 else 1.0


def log_limits(rows: Values) -> tuple[float, float]:
    """All positive finite values."""
    values = np.concatenate([np.ravel(values) for row in rows for values in row] or [np.zeros(0)])
    values = values[np.isfinite(values) & (values > 1e-6)]
    if not len(values):
        return 0.1, 10.0
    return 10 ** (np.floor(5 * np.log10(values.min())) / 5 - 0.1), 10 ** (np.ceil(5 * np.log10(values.max())) / 5 + 0.1)


def draw_boxes(
    names: list[str], rows: Values, limits: tuple[float, float], label: str, *, log: bool = False,
    mean: bool = False, line: float | None = None,
) -> Any:  # fmt: skip
    """Axes with one row of boxes for each name: 25 to 75 %, median, whiskers 5 to 95 %, outermost points.

    Args:
        rows: ``rows[k][s]`` holds the values of name k under hue s.
        limits: of the axis; a row that lies beyond them is told in words at the edge.
        label: of the axis.
        log: a logarithmic axis.
        mean: a diamond at the mean.
        line: a value to compare with.
    """
    hues = max((len(row) for row in rows), default=1)
    height = 0.75 + len(names) * (0.1 + 0.15 * hues)
    axes = new_axes(WIDE, height, left=margin(names), bottom=0.6)
    low, high = limits
    if log:
        log_axis(axes, low, high)
    else:
        axes.set_xlim(low, high)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    thick = 0.74 / hues
    # Far enough outside to be cut off, near enough to be a number.
    outside = (low / 10, high * 10) if log else (low - (high - low), high + (high - low))
    for hue in range(hues):
        place = np.arange(len(names)) + (hue - (hues - 1) / 2) * thick
        values = [row[hue] for row in rows]
        stats = np.array([quantiles(v) for v in values]).reshape(-1, len(_LEVELS))
        known = ~np.isnan(stats[:, 2])
        at, drawn = place[known], np.clip(stats[known], *outside)
        colour = SERIES[hue % len(SERIES)]
        axes.hlines(at, drawn[:, 0], drawn[:, 4], color=colour, linewidth=0.9, zorder=1.5)
        box = {"y": at, "width": drawn[:, 3] - drawn[:, 1], "height": 0.76 * thick, "left": drawn[:, 1]}
        # Paper beneath the tint hides the whisker.
        axes.barh(**box, color=PAPER, linewidth=0, zorder=2)
        if hue == 0:
            axes.barh(**box, color=colour, alpha=0.42, linewidth=0, zorder=2)
        axes.barh(**box, color="none", edgecolor=colour, linewidth=0.9, zorder=2.1)
        axes.vlines(drawn[:, 2], at - 0.4 * thick, at + 0.4 * thick, color=colour, linewidth=2.2, zorder=2.2)
        _draw_extremes(axes, place, values, stats, colour, outside)
        if mean:
            means = np.array([v[np.isfinite(v)].mean() if np.isfinite(v).any() else np.nan for v in values])
            axes.plot(
                np.clip(means, *outside), place, "D", markersize=3.6, markerfacecolor=PAPER, markeredgecolor=INK,
                markeredgewidth=0.9,
            )  # fmt: skip
        for y, row in zip(place, stats, strict=True):
            _tell_outside(axes, float(y), float(row[2]), limits)
    if line is not None:
        axes.axvline(line, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    return axes


def _draw_extremes(
    axes: Any, place: np.ndarray, values: list[np.ndarray], stats: np.ndarray, colour: str, outside: tuple[float, float]
) -> None:
    x: list[float] = []
    y: list[float] = []
    for at, v, row in zip(place, values, stats, strict=True):
        ordered = np.sort(v[~np.isnan(v)])
        ends = np.concatenate([ordered[:_EXTREMES], ordered[max(_EXTREMES, len(ordered) - _EXTREMES) :]])
        ends = ends[(ends < row[0]) | (ends > row[4])]
        x += np.clip(ends, *outside).tolist()
        y += [at] * len(ends)
    axes.plot(x, y, "o", markersize=1.7, color=colour, markeredgewidth=0, alpha=0.8)


def _tell_outside(axes: Any, y: float, median: float, limits: tuple[float, float]) -> None:
    """Say at the edge what cannot be seen: no value, or a median beyond the limits."""
    low, high = limits
    style = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 7.5, "zorder": 4}
    # Readable over a box.
    style["bbox"] = {"facecolor": PAPER, "linewidth": 0, "pad": 0.6}
    told = "infinite" if np.isinf(median) else f"median {number(median, 2)}"
    if np.isnan(median):
        axes.text(0.01, y, "no value", color=MUTED, **style)
    elif median > high:
        axes.text(0.995, y, f"{told} ▸", ha="right", **style)
    elif median < low:
        axes.text(0.01, y, f"◂ {told}", **style)

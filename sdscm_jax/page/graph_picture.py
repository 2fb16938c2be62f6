"""A causal graph as a picture: causes above effects; each box names its variable and says what it is."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .drawing import INK, MUTED, PAPER, WIDE, new_axes, short
from .graph_layers import Stop, layered

# Inches of a layer; points of the text, and the room around it in units of that.
_LAYER = 1.0
_SIZE, _PAD = 8.5, 0.35


class Box(NamedTuple):
    """How a variable is drawn.

    Attributes:
        note: written below its name; may be empty.
        colour, width, style: of the edge.
    """

    note: str = ""
    colour: str = MUTED
    width: float = 0.9
    style: Any = "-"


def graph_axes(
    boxes: Mapping[str, Box], edges: Sequence[tuple[str, str]], thick: Collection[tuple[str, str]] = ()
) -> Any:
    """Axes with the graph. Must run within ``figure_style``.

    Args:
        boxes: by variable, in causal order.
        edges: (cause, effect) pairs.
        thick: those of them that stand out.
    """
    layers, routes = layered(list(boxes), edges)
    axes = new_axes(WIDE, _LAYER * len(layers), left=0.0, bottom=0.0, right=0.0, top=0.0)
    axes.set_xlim(0, WIDE)
    axes.set_ylim(_LAYER * len(layers), 0)
    axes.set_axis_off()
    places = _places(layers)
    half = {name: _box(axes, name, box, places[name], _letters(layers)) for name, box in boxes.items()}
    for (a, b), route in routes.items():
        stops = [places[stop] for stop in route]
        stops[0] = stops[0][0], stops[0][1] + half[a]
        stops[-1] = stops[-1][0], stops[-1][1] - half[b]
        _arrow(axes, stops, thick=(a, b) in thick)
    return axes


def _letters(layers: list[list[Stop]]) -> int:
    """Letters in a line of a box, so that the fullest layer fits."""
    return max(7, min(18, int((WIDE / _slots(layers) - 0.3) / 0.085)))


def _slots(layers: list[list[Stop]]) -> float:
    return max(sum(_width(stop) for stop in layer) for layer in layers)


def _width(stop: Stop) -> float:
    """Room in a layer: a corner of an edge needs less than a box."""
    return 1.0 if isinstance(stop, str) else 0.2


def _places(layers: list[list[Stop]]) -> dict[Stop, tuple[float, float]]:
    found: dict[Stop, tuple[float, float]] = {}
    for i, layer in enumerate(layers):
        used, step = 0.0, WIDE / sum(_width(stop) for stop in layer)
        for stop in layer:
            found[stop] = ((used + _width(stop) / 2) * step, (i + 0.5) * _LAYER)
            used += _width(stop)
    return found


def _box(axes: Any, name: str, box: Box, place: tuple[float, float], letters: int) -> float:
    """Draw a box; returns half of its height in inches."""
    wrap = textwrap.TextWrapper(letters, break_long_words=False)
    lines = [*wrap.wrap(short(name, 40)), *wrap.wrap(f"({box.note})" if box.note else "")]
    axes.text(
        *place, "\n".join(lines), ha="center", va="center", fontsize=_SIZE, linespacing=1.25, zorder=4,
        bbox={
            "boxstyle": f"round,pad={_PAD}", "facecolor": PAPER, "edgecolor": box.colour, "linewidth": box.width,
            "linestyle": box.style,
        },
    )  # fmt: skip
    return _SIZE / 72 * (0.5 * 1.25 * len(lines) + _PAD)


def _arrow(axes: Any, stops: list[tuple[float, float]], *, thick: bool) -> None:
    """A smooth line through the stops, upright at each."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points, codes = [stops[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(stops):
        middle = (y0 + y1) / 2
        points += [(x0, middle), (x1, middle), (x1, y1)]
        codes += [Path.CURVE4] * 3
    arrow = FancyArrowPatch(
        path=Path(points, codes), arrowstyle="-|>", mutation_scale=10 if thick else 8, capstyle="butt",
        color=INK if thick else MUTED, linewidth=2.0 if thick else 0.8, zorder=3 if thick else 2,
    )  # fmt: skip
    axes.add_patch(arrow)

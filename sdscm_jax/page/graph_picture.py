"""A causal graph as a picture: causes above effects; each box names its variable and says what it is."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..terminal import shown
from .drawing import GRID, INK, MUTED, PAPER, SERIES, WIDE, new_axes, short
from .graph_layers import Edge, Stop, implied, layered

# Inches of a layer (of one of many), and of the key; points of the text, and the room around it in units of that.
_LAYER, _LOW_LAYER, _MANY = 1.0, 0.72, 8
_KEY = 0.34
_SIZE, _PAD = 8.5, 0.35
# The widest picture, in inches.
_WIDEST = 14.0
# Variables of a graph that a form in a notebook draws: larger ones are no picture.
MOST_DRAWN = 40
IMPLIED = "direct edge that others imply"


class Box(NamedTuple):
    """How a variable is drawn.

    Attributes:
        note: written below its name; may be empty.
        colour, width, style: of the edge.
        fill: of the box.
    """

    note: str = ""
    colour: str = MUTED
    width: float = 0.9
    style: Any = "-"
    fill: str = PAPER


# Roles that a picture marks, wherever it stands: each also says so in words.
TREATMENT = Box("treatment", SERIES[0], 2.2)
OUTCOME = Box("outcome", SERIES[1], 2.2)
EXOGENOUS = Box("exogenous", MUTED, 0.9, (0, (4, 2)))
OBSERVED = Box("observed", MUTED, 0.9, "-", "#eceff2")
INTERVENED = Box("intervened", INK, 1.6)


def marked_boxes(
    notes: Mapping[str, Box | None], treatment: str | None = None, outcome: str | None = None
) -> dict[str, Box]:
    """Boxes of variables, those of treatment and outcome among them.

    Args:
        notes: variable -> what it is besides, or None.
        treatment, outcome: variables, or None.
    """
    roles = {name: role for name, role in ((treatment, TREATMENT), (outcome, OUTCOME)) if name is not None}
    found = {}
    for name, box in notes.items():
        role = roles.get(name, box or Box())
        extra = "" if box is None or role is box else box.note
        found[name] = role._replace(note=", ".join(filter(None, (role.note, extra))))
    return found


def graph_axes(
    boxes: Mapping[str, Box], edges: Sequence[Edge], thick: Collection[Edge] = (), *, key: bool = False,
    widen: bool = False, axes: Any = None,
) -> Any:  # fmt: skip
    """Axes with the graph. New ones must be made within ``figure_style``.

    An edge that others imply (the effect also depends on the cause through others) is faint, and goes together with
    others of its cause.

    Args:
        boxes: by variable, in causal order.
        edges: (cause, effect) pairs.
        thick: those of them that stand out.
        key: say below it what boxes and edges mean.
        widen: let a layer of many variables have the room that it needs; else the picture fits a phone.
        axes: draw into these; None: new ones.
    """
    faint = implied(list(boxes), edges) - {*thick}
    layers, routes = layered(list(boxes), edges, faint)
    slots = max(sum(_room(stop) for stop in layer) for layer in layers) if boxes else 1.0
    width = min(_WIDEST, max(WIDE, 1.35 * slots)) if widen else WIDE
    step = _LAYER if len(layers) <= _MANY else _LOW_LAYER
    entries = _entries(boxes, bool(faint)) if key else []
    per_row = max(1, int(width / 1.75))
    height = step * max(1, len(layers)) + _KEY * -(-len(entries) // per_row)
    if axes is None:
        axes = new_axes(width, height, left=0.0, bottom=0.0, right=0.0, top=0.0)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    # Letters have a size of their own: in axes of another size they take more of the picture, or less.
    extent = axes.get_window_extent()
    across, along = (n / axes.figure.dpi / natural for n, natural in ((extent.width, width), (extent.height, height)))
    places = _places(layers, width, step)
    letters = max(7, min(18, int((width / slots - 0.3) * across / 0.085)))
    half = {name: _box(axes, name, box, places[name], letters) / along for name, box in boxes.items()}
    for (a, b), route in routes.items():
        stops = [places[stop] for stop in route]
        stops[0] = stops[0][0], stops[0][1] + half[a]
        stops[-1] = stops[-1][0], stops[-1][1] - half[b]
        _arrow(axes, stops, thick=(a, b) in thick, faint=(a, b) in faint)
    for i, (box, text) in enumerate(entries):
        row, column = divmod(i, per_row)
        _entry(axes, box, text, 0.12 + column * 1.75, height - _KEY * (-(-len(entries) // per_row) - row - 0.5))
    return axes


def _entries(boxes: Mapping[str, Box], faint: bool) -> list[tuple[Box | None, str]]:
    """What the key says: each role that occurs, and the faint edges."""
    roles = (TREATMENT, OUTCOME, EXOGENOUS, OBSERVED, INTERVENED)
    found: list[tuple[Box | None, str]] = [
        (role, role.note) for role in roles if any(box[1:] == role[1:] for box in boxes.values())
    ]
    return [*found, *([(None, IMPLIED)] if faint else [])]


def _entry(axes: Any, box: Box | None, text: str, x: float, y: float) -> None:
    from matplotlib.patches import Rectangle

    if box is None:
        axes.plot([x, x + 0.25], [y, y], color=GRID, linewidth=1.2)
    else:
        axes.add_patch(
            Rectangle(
                (x, y - 0.07), 0.25, 0.14, facecolor=box.fill, edgecolor=box.colour, linewidth=box.width,
                linestyle=box.style,
            )
        )  # fmt: skip
    axes.text(x + 0.33, y, text, ha="left", va="center", fontsize=7.5, color=INK)


def _room(stop: Stop) -> float:
    """Room in a layer: a corner of an edge needs less than a box."""
    return 1.0 if isinstance(stop, str) else 0.2


def _places(layers: list[list[Stop]], width: float, step: float) -> dict[Stop, tuple[float, float]]:
    found: dict[Stop, tuple[float, float]] = {}
    for i, layer in enumerate(layers):
        used, unit = 0.0, width / sum(_room(stop) for stop in layer) if layer else 0.0
        for stop in layer:
            found[stop] = ((used + _room(stop) / 2) * unit, (i + 0.5) * step)
            used += _room(stop)
    return found


def _box(axes: Any, name: str, box: Box, place: tuple[float, float], letters: int) -> float:
    """Draw a box; returns half of its height in inches."""
    wrap = textwrap.TextWrapper(letters, break_long_words=False)
    lines = [*wrap.wrap(short(shown(name), 40)), *wrap.wrap(f"({box.note})" if box.note else "")]
    axes.text(
        *place, "\n".join(lines), ha="center", va="center", fontsize=_SIZE, linespacing=1.25, zorder=4, color=INK,
        bbox={
            "boxstyle": f"round,pad={_PAD}", "facecolor": box.fill, "edgecolor": box.colour, "linewidth": box.width,
            "linestyle": box.style,
        },
    )  # fmt: skip
    return _SIZE / 72 * (0.5 * 1.25 * len(lines) + _PAD)


def _arrow(axes: Any, stops: list[tuple[float, float]], *, thick: bool, faint: bool) -> None:
    """A smooth line through the stops, upright at each."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points, codes = [stops[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(stops):
        middle = (y0 + y1) / 2
        points += [(x0, middle), (x1, middle), (x1, y1)]
        codes += [Path.CURVE4] * 3
    arrow = FancyArrowPatch(
        path=Path(points, codes), arrowstyle="-|>", mutation_scale=10 if thick else 6 if faint else 8, capstyle="butt",
        color=INK if thick else GRID if faint else MUTED, linewidth=2.0 if thick else 0.8,
        zorder=3 if thick else 1 if faint else 2,
    )  # fmt: skip
    axes.add_patch(arrow)

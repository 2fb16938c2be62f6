"""The causal graph of an audit, with the role of each variable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...page.drawing import INK, MUTED, SERIES, Panel, panel
from ...page.graph_picture import Box, graph_axes
from .graph_text import edges, paths, roles, spoken_graph

if TYPE_CHECKING:
    from ..spec import AuditSpec

# Edge colour, width and style of a box; the role is written in it, too.
_BOXES = {
    "varied": (INK, 2.2, "-"), "outcome": (INK, 2.2, "-"), "legitimate": (SERIES[2], 1.4, "-"),
    "not legitimate": (SERIES[1], 1.4, (0, (4, 2))), "background": (MUTED, 0.9, "-"), "aside": (MUTED, 0.9, "-"),
}  # fmt: skip


def graph_panel(spec: AuditSpec) -> Panel:
    """Causes above effects; each box names its variable and its role."""
    boxes = {name: Box(role, *_BOXES[role]) for name, role in roles(spec).items()}
    return panel(lambda: graph_axes(boxes, edges(spec), paths(spec)), spoken_graph(spec))

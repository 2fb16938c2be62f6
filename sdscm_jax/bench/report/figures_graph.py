"""The causal graph of a benchmark, drawn from the family that its card holds: no picture that came with it is shown."""

from __future__ import annotations

from collections.abc import Collection

from ...families import Family
from ...page.drawing import INK, SERIES, Panel, panel
from ...page.graph_picture import Box, graph_axes

# Larger graphs are a hairball, and laying them out takes long.
MOST_VARIABLES, MOST_EDGES = 40, 200


def graph_panels(family: Family, hidden: Collection[str] = ()) -> list[Panel]:
    """Causes above effects, with the treatment, the outcome and what is hidden; none of a graph that is too large."""
    edges = [(parent, v.name) for v in family.variables for parent in v.parents]
    if len(family.variables) > MOST_VARIABLES or len(edges) > MOST_EDGES:
        return []
    special = {name: Box("hidden", SERIES[1], 1.4, (0, (4, 2))) for name in hidden}
    for name, role in ((family.treatment, "treatment"), (family.outcome, "outcome")):
        if name is not None:
            special[name] = Box(role, INK, 2.2)
    boxes = {v.name: special.get(v.name, Box()) for v in family.variables}
    notes = {name: f"{name} ({box.note})" if box.note else name for name, box in boxes.items()}
    told = "; ".join(f"{notes[v.name]} depends on {', '.join(v.parents) or 'nothing'}" for v in family.variables)
    return [panel(lambda: graph_axes(boxes, edges), f"Causal graph. {told}.")]

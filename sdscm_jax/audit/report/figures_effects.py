"""Figure of the effects with their intervals."""

from __future__ import annotations

from functools import partial

from ...page.drawing import INK, SERIES, Panel, panel
from ..result import AuditResult
from .forest import Mark, draw_forest, limits_of
from .rows import Group, effects_of, known_truth, panels_of
from .spoken import change, span

_LOOKS = {
    "total": (INK, "D"), "direct": (SERIES[0], "o"), "illegitimate": (SERIES[1], "s"), "legitimate": (SERIES[2], "^"),
    "unfair": (SERIES[3], "v"),
}  # fmt: skip


def effect_panels(result: AuditResult) -> list[Panel]:
    """One panel for each language model and proxy, all to one scale; a block for each level."""
    blocks = {
        key: [(f"“{group.level}”", _marks(result, group)) for group in members]
        for key, members in panels_of(result).items()
    }
    limits = limits_of([block for found in blocks.values() for block in found])
    reference = result.spec.levels[0]
    panels = []
    for (lm, proxy), found in blocks.items():
        told = " ".join(f"{level}: {'; '.join(map(_told, marks))}." for level, marks in found)
        label = f"Effects according to {lm}, by {proxy}, against “{reference}”. {told}"
        draw = partial(draw_forest, found, limits, "change of the probability")
        panels.append(panel(draw, label, f"{lm}, by {proxy}"))
    return panels


def _marks(result: AuditResult, group: Group) -> list[Mark]:
    return [
        Mark(
            name, float(row["value"]), float(row["lower"]), float(row["upper"]), *_LOOKS[name],
            bool(row["discovery"]), known_truth(result, group, name),
        )
        for name, row in effects_of(result, group).items()
    ]  # fmt: skip


def _told(mark: Mark) -> str:
    truth = "" if mark.truth is None else f", truth {change(mark.truth)}"
    return f"{mark.name} {change(mark.value)}, interval {span(mark.lower, mark.upper)}{truth}"

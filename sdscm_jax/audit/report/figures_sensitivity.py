"""Figures of what was decided rather than found: the scoring, and the coupling of the worlds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ...page.drawing import COVERED, INK, SERIES, Panel, panel
from ..result import AuditResult
from .forest import Mark, Marks, draw_forest, limits_of
from .rows import Row, groups
from .spoken import change, probability, span

_MARKERS = "osD^vP"


def scoring_panels(result: AuditResult) -> list[Panel]:
    """The total effect by scoring; one panel for each language model, all to one scale."""
    blocks = _blocks(result, [_by_scoring(group.of(result.scorings)) for group in groups(result)])
    limits = limits_of([block for found in blocks.values() for block in found])
    return [
        panel(
            partial(draw_forest, found, limits, "change of the probability (total effect)"),
            f"Total effect by scoring, {lm}. "
            + _told(found, lambda m: f"{change(m.value)} ({span(m.lower, m.upper)})"),
            lm,
        )
        for lm, found in blocks.items()
    ]


def coupling_panels(result: AuditResult) -> list[Panel]:
    """Share of units whose outcome would change, by coupling, with bounds that no coupling goes beyond."""
    blocks = _blocks(result, [_by_coupling(group.of(result.couplings)) for group in groups(result)])
    limits = limits_of([block for found in blocks.values() for block in found])
    panels = []
    for lm, found in blocks.items():
        told = _told(
            found, lambda m: span(m.lower, m.upper, probability) if np.isnan(m.value) else probability(m.value)
        )
        draw = partial(draw_forest, found, limits, "share of units whose outcome changes")
        panels.append(panel(draw, f"Share of changed outcomes by coupling, {lm}. {told}", lm))
    return panels


def _by_scoring(rows: list[Row]) -> list[Mark]:
    return [
        Mark(
            str(row["scoring"]), float(row["total"]), float(row["lower"]), float(row["upper"]),
            INK if i == 0 else SERIES[(i - 1) % len(SERIES)], _MARKERS[i % len(_MARKERS)],
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip


def _by_coupling(rows: list[Row]) -> list[Mark]:
    marks = [
        Mark(
            str(row["coupling"]), float(row["changed"]), np.nan, np.nan,
            INK if i == 0 else SERIES[(i - 1) % len(SERIES)], _MARKERS[i % len(_MARKERS)],
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
    bounds = [
        Mark("any (outer bounds)", np.nan, float(r["lower_bound"]), float(r["upper_bound"]), COVERED) for r in rows[:1]
    ]
    return bounds + marks


def _blocks(result: AuditResult, marks: list[list[Mark]]) -> dict[str, Marks]:
    found: dict[str, list[tuple[str, list[Mark]]]] = {}
    for group, rows in zip(groups(result), marks, strict=True):
        if rows:
            found.setdefault(group.lm, []).append((f"{group.proxy}: “{group.level}”", rows))
    return dict(found)


def _told(blocks: Marks, value: Callable[[Mark], str]) -> str:
    return " ".join(f"{name}: {'; '.join(f'{m.name} {value(m)}' for m in marks)}." for name, marks in blocks)

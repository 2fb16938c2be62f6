"""Rows of an audit's tables, in one order throughout the report."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from ..result import AuditResult
from .words import EFFECTS

Row = dict[str, Any]


class Group(NamedTuple):
    """What is compared: one language model, one way of conveying the attribute, one level against the reference."""

    lm: str
    proxy: str
    level: str

    def of(self, table: pd.DataFrame) -> list[Row]:
        """Rows of a table that are about this group.

        >>> Group("a", "name", "b").of(pd.DataFrame({"lm": ["a"], "proxy": ["name"], "level": ["b"], "x": [1]}))
        [{'lm': 'a', 'proxy': 'name', 'level': 'b', 'x': 1}]
        """
        if table.empty:
            return []
        mask = (table["lm"] == self.lm) & (table["proxy"] == self.proxy) & (table["level"] == self.level)
        return as_rows(table[mask])

    def __str__(self) -> str:
        return f"{self.lm} · {self.proxy} · {self.level}"


def as_rows(table: pd.DataFrame) -> list[Row]:
    """Rows as mappings from column to value."""
    return [{str(column): value for column, value in row.items()} for row in table.to_dict("records")]


def groups(result: AuditResult) -> list[Group]:
    """Every group that has effects, as first met."""
    keys = result.effects[["lm", "proxy", "level"]].drop_duplicates()
    return [Group(*(str(value) for value in row)) for row in keys.itertuples(index=False)]


def panels_of(result: AuditResult) -> dict[tuple[str, str], list[Group]]:
    """Groups of each (language model, proxy)."""
    found: dict[tuple[str, str], list[Group]] = {}
    for group in groups(result):
        found.setdefault((group.lm, group.proxy), []).append(group)
    return found


def effects_of(result: AuditResult, group: Group) -> dict[str, Row]:
    """A group's effects by name, in the order of ``EFFECTS``."""
    rows = {str(row["effect"]): row for row in group.of(result.effects)}
    return {name: rows[name] for name in EFFECTS if name in rows}


def known_truth(result: AuditResult, group: Group, effect: str) -> float | None:
    """The effect in the mechanisms that text was generated from, where it is known."""
    if result.truth is None or result.truth.empty:
        return None
    table = result.truth[(result.truth["level"] == group.level) & (result.truth["effect"] == effect)]
    if "proxy" in table:
        table = table[table["proxy"] == group.proxy]
    return None if table.empty else float(table["value"].iloc[0])


def agreement(result: AuditResult, group: Group) -> tuple[int, int]:
    """How many combinations of wordings move the probability in the direction of the total effect, and how many there
    are."""
    totals = [float(row["total"]) for row in group.of(result.cells)]
    mean = float(effects_of(result, group)["total"]["value"])
    return sum(value * mean > 0 for value in totals), len(totals)


def mean_over_wordings(result: AuditResult, group: Group, column: str) -> float:
    """A column of the cells, averaged as effects are: within each wording first; NaN without cells."""
    rows = pd.DataFrame(group.of(result.cells), columns=["wording", column])
    return float(rows.groupby("wording")[column].mean().mean())

"""The report's tables, the same for HTML and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...families import FamilyVariable
from ...page.spoken_numbers import number
from ..result import AuditResult
from .graph_text import ROLES, roles
from .rows import Group, Row, agreement, as_rows, effects_of, groups, known_truth
from .spoken import chance, change, counted, findable, percent, probability, span

_GROUP = ("language model", "proxy", "level")
_SIZE = ("could find", "wordings", "repetitions")


class Cell(NamedTuple):
    """Text, with the exact number where it is one."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows for people; the first cell of each names it.

    Attributes:
        title: read out before it.
        head: names of the columns.
        rows: as many cells as ``head`` each.
        sortable: is it long enough that people want to sort it?
        prose: do its cells hold texts that need several lines?
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sortable: bool = False
    prose: bool = False

    def words(self, column: int) -> bool:
        """Does a column hold words rather than numbers?"""
        return all(row[column].value is None and row[column].text != "–" for row in self.rows)


def _changed(value: Any) -> Cell:
    return Cell(change(float(value)), float(value))


def _share(value: Any) -> Cell:
    return Cell(probability(float(value)), float(value))


def _chance(value: Any) -> Cell:
    return Cell(chance(float(value)), float(value))


def _names(group: Group) -> tuple[Cell, ...]:
    return tuple(Cell(name) for name in group)


def _yes(value: Any) -> Cell:
    return Cell("yes" if bool(value) else "no")


def variables_table(result: AuditResult) -> Table:
    """Every variable with its role, causes and options."""
    spec = result.spec
    found = roles(spec)
    rows = [(spec.attribute, found[spec.attribute], "nothing: it is set", spec.levels)]
    rows += [(v.name, found[v.name], ", ".join(v.parents) or "nothing", _values(v)) for v in spec.variables]
    cells = tuple(
        tuple(Cell(text) for text in (name, role, parents, " / ".join(options)))
        for name, role, parents, options in rows
    )
    return Table("Variables", ("variable", "role", "depends on", "options"), cells)


def _values(v: FamilyVariable) -> tuple[str, ...]:
    return v.options if v.written is None else (f"free text, at most {counted(v.written.max_tokens, 'token')}",)


def roles_told(result: AuditResult) -> dict[str, str]:
    """Meaning of the roles that occur."""
    present = set(roles(result.spec).values())
    return {role: told for role, told in ROLES.items() if role in present}


def effects_table(result: AuditResult) -> Table:
    """Every effect with its interval, p and q."""
    known = result.truth is not None and not result.truth.empty
    rows = []
    for group in groups(result):
        for name, row in effects_of(result, group).items():
            cells = [*_names(group), Cell(name), _value(row), *(_changed(row[c]) for c in ("lower", "upper"))]
            if known:
                truth = known_truth(result, group, name)
                cells.append(_changed(np.nan if truth is None else truth))
            cells += [_chance(row["p"]), _chance(row["q"]), _yes(row["discovery"])]
            cells.append(Cell(findable(float(row["detectable"])), float(row["detectable"])))
            cells += [Cell(number(int(row[c])), float(row[c])) for c in ("wordings", "repetitions")]
            cells.append(Cell(f"the {row['same_as']} effect in other words" if row["same_as"] else str(row["method"])))
            rows.append(tuple(cells))
    head = (*_GROUP, "effect", "change", "lower", "upper", *(["truth"] if known else []))
    return Table("Effects", (*head, "p", "q", "discovery", *_SIZE, "method"), tuple(rows), sortable=True)


def _value(row: Row) -> Cell:
    """An effect, or what it is at least and at most where it depends on how chance is shared."""
    if row["method"] == "bounds":
        return Cell(f"{span(float(row['least']), float(row['greatest']))} (bounds)")
    return _changed(row["value"])


def differences_table(result: AuditResult) -> Table:
    """Effects of one language model minus those of another."""
    rows = tuple(
        (
            *(Cell(str(row[c])) for c in ("lm", "other", "proxy", "level", "effect")),
            *(_changed(row[c]) for c in ("value", "lower", "upper")),
            *(_chance(row[c]) for c in ("p", "q")),
            _yes(row["discovery"]),
        )
        for row in as_rows(result.differences)
    )
    head = ("language model", "minus", *_GROUP[1:], "effect", "difference", "lower", "upper", "p", "q", "discovery")
    return Table("Differences between language models", head, rows, sortable=True)


def wordings_table(result: AuditResult) -> Table:
    """How the total effect varies over combinations of wordings."""
    rows = []
    for group in groups(result):
        cells = group.of(result.cells)
        if cells:
            totals = np.array([row["total"] for row in cells], float)
            same, count = agreement(result, group)
            mean = effects_of(result, group)["total"]["value"]
            moves = [_changed(v) for v in (mean, totals.min(), totals.max())]
            counts = Cell(number(count), count), Cell(f"{same} of {count}")
            rows.append((*_names(group), counts[0], *moves, _share(totals.std()), counts[1]))
    head = (*_GROUP, "combinations", "mean", "least", "greatest", "standard deviation", "same direction")
    return Table("Total effect by combination of wordings", head, tuple(rows))


def design_table(result: AuditResult) -> Table:
    """What was drawn, and what the results are for."""
    rows = []
    for row in as_rows(result.design):
        numbers = (Cell(number(int(row[c])), float(row[c])) for c in ("levels", "repetitions"))
        told = "drawn: no two repetitions share one" if bool(row["drawn"]) else "fixed: the results are for these"
        rows.append((Cell(str(row["proxy"])), Cell(str(row["dimension"])), *numbers, Cell(told)))
    return Table("What was drawn", ("proxy", "what", "how many", "repetitions", "role"), tuple(rows))


def variance_table(result: AuditResult) -> Table:
    """Variance components and their shares."""
    rows = []
    for group in groups(result):
        for row in group.of(result.variance):
            parts = np.array([row[c] for c in ("wording", "option_wording", "unit")], float)
            shares = parts / parts.sum() if parts.sum() > 0 else np.full(3, np.nan)
            cells = [Cell(f"{number(v)} ({percent(s)})", v) for v, s in zip(parts, shares, strict=True)]
            rows.append((*_names(group), *cells, Cell(number(float(parts.sum())), float(parts.sum()))))
    head = (*_GROUP, "wording", "option wording", "unit", "all")
    return Table("Variance of the individual total effect", head, tuple(rows))


def scorings_table(result: AuditResult) -> Table:
    """The total effect by scoring."""
    columns = ("scoring", "total", "lower", "upper", "difference", "difference_lower", "difference_upper")
    head = (*columns[:4], "difference from the first", "lower", "upper")
    return _by_group("Total effect by scoring", result, result.scorings, columns, head, _changed)


def couplings_table(result: AuditResult) -> Table:
    """How many outcomes would change, by coupling."""
    columns = ("coupling", "changed", "lower_bound", "upper_bound")
    head = ("coupling", "share changed", "no less than", "no more than")
    title = "Share of units whose outcome would change, by coupling"
    return _by_group(title, result, result.couplings, columns, head, _share)


def _by_group(
    title: str, result: AuditResult, frame: pd.DataFrame, columns: Sequence[str], head: Sequence[str],
    told: Callable[[Any], Cell],
) -> Table:  # fmt: skip
    """Rows of every group: of the columns, the first names the row, the others are numbers."""
    rows = tuple(
        (*_names(group), Cell(str(row[columns[0]])), *(told(row[c]) for c in columns[1:]))
        for group in groups(result)
        for row in group.of(frame)
    )
    return Table(title, (*_GROUP, *head), rows)


def models_table(result: AuditResult) -> Table:
    """The language models, with every column that the result has."""
    columns = [str(c) for c in result.lms.columns]
    rows = tuple(tuple(_told(row[c]) for c in columns) for row in as_rows(result.lms))
    return Table("Language models", tuple(_spaced(c) for c in columns), rows)


def settings_table(result: AuditResult) -> Table:
    """How the audit was run."""
    spec = result.spec
    facts: dict[str, Any] = {
        "audit": spec.name,
        "source of the design": spec.source,
        "licence of the texts": spec.licence,
    }
    rows = tuple((Cell(_spaced(key)), Cell(_plain(value))) for key, value in (facts | result.settings).items())
    return Table("Settings and versions", ("what", "value"), rows, prose=True)


def _spaced(name: str) -> str:
    known = {
        "lm": "language model", "level": "level of intervals", "rate": "false discovery rate",
        "margin": "change that is too small to matter",
    }  # fmt: skip
    return known.get(name, name.replace("_", " "))


def _told(value: Any) -> Cell:
    exact = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return Cell(number(value), float(value)) if exact else Cell(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "–"
    return "–" if value is None or value == "" else str(value)

"""What a result looks like: a few lines in a terminal, a table with a picture in a notebook.

A class says once what it shows (``Shown._form``), as texts and numbers; this room writes both forms. Texts of users
and of models stand in them as they are: nothing is obeyed by a terminal, and nothing is active in a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from ..terminal import shown

if TYPE_CHECKING:
    from .drawing import Panel

# Lines and columns of a text, and rows of either form.
MOST_LINES, MOST_COLUMNS = 15, 120
_TEXT_ROWS, _HTML_ROWS, _CELL = 6, 20, 36
# Of a fact: notes that may be long are cut in a terminal, and whole in a page.
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Form:
    """What is shown of a result.

    Attributes:
        title: what it is, and its shape.
        facts: (what, which) pairs.
        headings, rows: of a table; numbers are written with a few digits.
        more: how many rows there are besides.
        intervals: value, lower and upper limit of each row, which a page draws; nan: none.
        picture: draws one for a page.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    more: int = 0
    intervals: Sequence[Interval] = ()
    picture: Callable[[], Panel | None] | None = None


class Shown:
    """A result that shows itself in a terminal and in a notebook."""

    def _form(self) -> Form:
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_text(self._form())

    def _repr_html_(self) -> str:
        return as_html(self._form())


def few(names: Iterable[Any], most: int = 6) -> str:
    """The first names of a list, and how many there are if these are not all.

    >>> few("abc"), few("abcdefgh", 3), few([])
    ('a, b, c', 'a, b, c, … (8)', 'none')
    """
    listed = [str(name) for name in names]
    ending = f", … ({len(listed)})" if len(listed) > most else ""
    return ", ".join(listed[:most]) + ending or "none"


def counted(number: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "world"), counted(2000, "unit")
    ('1 world', '2,000 units')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def as_text(form: Form) -> str:
    r"""At most 15 lines of at most 120 columns.

    >>> print(as_text(Form("Result: 2 rows", [("of", "a\nb")], ["x", "value"], [["one", 0.12345], ["two", -2]])))
    Result: 2 rows
      of  a b
      x    value
      one  0.123
      two     −2
    """
    room = MOST_LINES - 1
    facts = list(form.facts)[: room - 3 if form.rows else room]
    wide = max((len(_line(name)) for name, _ in facts), default=0)
    lines = [_line(form.title), *(f"  {_line(name):<{wide}}  {_line(text)}" for name, text in facts)]
    if form.rows:
        rows = form.rows[: max(1, min(_TEXT_ROWS, room - len(facts) - 2))]
        lines += _columns([form.headings, *rows], len(form.headings))
        if left := len(form.rows) + form.more - len(rows):
            lines.append(f"  … {left:,} more")
    return "\n".join(line if len(line) <= MOST_COLUMNS else line[: MOST_COLUMNS - 1] + "…" for line in lines)


def _columns(rows: Sequence[Sequence[Any]], count: int) -> list[str]:
    cells = [[_cut(_line(_cell(value))) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(count)]
    right = [any(_is_number(row[i]) for row in rows[1:]) for i in range(count)]
    return [
        "  " + "  ".join(f"{c:>{w}}" if r else f"{c:<{w}}" for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in cells
    ]


def _line(text: str) -> str:
    return shown(" ".join(str(text).split()))


def _cut(text: str) -> str:
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _is_number(value: Any) -> bool:
    from numbers import Real

    return isinstance(value, Real)


def _cell(value: Any) -> str:
    from .spoken_numbers import number

    return number(value) if _is_number(value) or value is None else str(value)


def as_html(form: Form) -> str:
    """A fragment of a page: a heading, facts, a table, a picture; no scripts, links or foreign files.

    >>> "<script" in as_html(Form("<script>alert(1)</script>", [("a", "<img src=x onerror=alert(1)>")]))
    False
    """
    parts = [f"<p><strong>{_html(form.title)}</strong></p>"]
    if form.facts:
        facts = "".join(
            f'<tr><th style="{_LEFT}">{_html(a)}</th><td style="{_LEFT}">{_html(b)}</td></tr>' for a, b in form.facts
        )
        parts.append(f"<table><tbody>{facts}</tbody></table>")
    if form.rows:
        parts.append(_table(form))
    panel = form.picture() if form.picture is not None else None
    if panel is not None:
        parts.append(f'<div style="max-width:36em">{inline(panel)}</div>')
    return f'<div class="sdscm-form">{"".join(parts)}</div>'


_LEFT, _RIGHT = (f"text-align:{side};vertical-align:top;padding:0.1em 0.4em" for side in ("left", "right"))


def _html(text: Any) -> str:
    return escape(shown(" ".join(str(text).split())))


def _table(form: Form) -> str:
    rows = form.rows[:_HTML_ROWS]
    drawn = list(form.intervals)[: len(rows)]
    heads = [*form.headings, *([""] if drawn else [])]
    limits = [x for interval in drawn for x in (*interval, 0.0) if abs(x) < float("inf")]
    sides = [_RIGHT if any(map(_is_number, column)) else _LEFT for column in zip(*rows, strict=True)]
    body = []
    for i, row in enumerate(rows):
        cells = [f'<td style="{side}">{_html(_cell(v))}</td>' for v, side in zip(row, sides, strict=True)]
        if drawn:
            cells.append(f'<td style="{_LEFT}">{_bar(drawn[i], min(limits), max(limits))}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    if left := len(form.rows) + form.more - len(rows):
        body.append(f'<tr><td colspan="{len(heads)}" style="{_LEFT}">… {left:,} more</td></tr>')
    sides += [_LEFT] * (len(heads) - len(sides))
    head = "".join(f'<th style="{side}">{_html(name)}</th>' for name, side in zip(heads, sides, strict=True))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _bar(interval: Interval, low: float, high: float) -> str:
    """An interval as a line with its value as a dot; the thin upright line is 0."""

    def at(x: float) -> str:
        return f"{6 + 76 * (x - low) / (high - low):.1f}" if high > low else "44.0"

    value, lower, upper = interval
    parts = [f'<line x1="{at(0.0)}" x2="{at(0.0)}" y1="0" y2="16" stroke="#9aa3ad" stroke-width="1"/>']
    if lower == lower and upper == upper:
        parts.append(f'<line x1="{at(lower)}" x2="{at(upper)}" y1="8" y2="8" stroke="#0072b2" stroke-width="2.5"/>')
    if value == value:
        parts.append(f'<circle cx="{at(value)}" cy="8" r="3.5" fill="#0072b2"/>')
    return f'<svg role="img" aria-label="interval" width="88" height="16">{"".join(parts)}</svg>'


def inline(panel: Panel) -> str:
    """The picture as an ``<svg>`` that can stand among others in a notebook, on a white ground."""
    import hashlib

    from .drawing import Pictures

    pictures = Pictures()
    svg = pictures(panel)
    # Identifiers and classes are those of the picture's content: in one notebook, no two pictures share any.
    own = "s" + hashlib.sha256(svg.encode()).hexdigest()[:12]
    svg = re.sub(r'(\sid="|\shref="#|url\(#)', rf"\g<1>{own}", svg)
    styles = {name: style for style, name in pictures.styles.items()}
    svg = re.sub(r'class="(c\d+)"', lambda match: f'style="{styles[match[1]]}"', svg)
    return svg.replace("<svg ", '<svg style="background:#ffffff;width:100%" ', 1)

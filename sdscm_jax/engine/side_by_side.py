"""One unit's sentences in several worlds, side by side, with what differs marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from ..dsl.analysis.graph import Graph
from ..dsl.language.text_phrase import TextPhrase
from ..page.differing import Piece, differing
from ..page.forms import MOST_COLUMNS, MOST_LINES
from ..terminal import shown

if TYPE_CHECKING:
    import pandas as pd

# Beginning and end of what differs, where there is no colour.
_MARK = "[{}]"


@dataclass(frozen=True, repr=False)
class SideBySide:
    """What one unit says in several worlds.

    ``print`` shows all of it, in brackets what differs from the first world; a notebook shows it in columns.

    Attributes:
        unit: its number.
        worlds: labels, ``"factual"`` for the one without intervention.
        sites: names of the sites that say something, in the order of the program.
        sentences: of each site, one for each world.
        parts: of each site, numbers of the first token in which each world's text differs from the first world's; -1:
            in none, or the site is no free text.
    """

    unit: int
    worlds: tuple[str, ...]
    sites: tuple[str, ...]
    sentences: tuple[tuple[str, ...], ...]
    parts: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        lines = self._lines()
        if len(lines) > MOST_LINES:
            lines = [*lines[: MOST_LINES - 1], f"  … {len(lines) - MOST_LINES + 1} more lines: print shows them"]
        return "\n".join(line if len(line) <= MOST_COLUMNS else line[: MOST_COLUMNS - 1] + "…" for line in lines)

    def _lines(self) -> list[str]:
        width = max(len(shown(world)) for world in self.worlds)
        lines = [f"Unit {self.unit} in {len(self.worlds)} worlds"]
        for site, sentences, parts in zip(self.sites, self.sentences, self.parts, strict=True):
            lines.append(f"  {_one_line(site)}")
            for world, pieces, part in zip(self.worlds, differing(sentences), parts, strict=True):
                text = "".join(_MARK.format(piece.text) if piece.differs else piece.text for piece in pieces)
                lines.append(f"    {_one_line(world):<{width}}  {_one_line(text)}{_told(part)}")
        return lines

    def _repr_html_(self) -> str:
        left = "text-align:left;vertical-align:top"
        heads = "".join(f'<th style="{left}">{escape(shown(name))}</th>' for name in ("", *self.worlds))
        rows = []
        for site, sentences, parts in zip(self.sites, self.sentences, self.parts, strict=True):
            cells = "".join(
                f'<td style="{left}">{_marked(pieces)}{escape(_told(part))}</td>'
                for pieces, part in zip(differing(sentences), parts, strict=True)
            )
            rows.append(f'<tr><th style="{left}">{escape(shown(site))}</th>{cells}</tr>')
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        title = f"<p><strong>Unit {self.unit} in {len(self.worlds)} worlds</strong></p>"
        return f'<div class="sdscm-form">{title}{table}</div>'

    def to_pandas(self) -> pd.DataFrame:
        """Sentences, one row a site and one column a world."""
        import pandas as pd

        return pd.DataFrame(list(self.sentences), pd.Index(self.sites, name="site"), list(self.worlds))


def side_by_side(graph: Graph, unit: int, labels: Sequence[str], values: dict[str, np.ndarray]) -> SideBySide:
    """Put one unit's worlds side by side.

    Args:
        graph: of the program.
        unit: number of the unit, for the heading.
        labels: of the worlds, the first of which the others are compared with.
        values: site -> the unit's values, one for each world.
    """
    sites, sentences, parts = list[str](), list[tuple[str, ...]](), list[tuple[int, ...]]()
    for name, array in values.items():
        phrase = graph[name].phrase
        if phrase is None:
            continue
        said = [np.ravel(np.asarray(phrase.at(value).sentence, dtype=object)) for value in array]
        # Several of them where the site is in a loop.
        sites.append(name)
        sentences.append(tuple(" ".join(map(str, each)) for each in said))
        if isinstance(phrase, TextPhrase) and array.ndim == 2:
            differ = phrase.at(array).first_difference(phrase.at(array[:1]))
            parts.append(tuple(np.asarray(differ).tolist()))
        else:
            parts.append((-1,) * len(array))
    return SideBySide(unit, tuple(label or "factual" for label in labels), tuple(sites), tuple(sentences), tuple(parts))


def _one_line(text: str) -> str:
    return shown(" ".join(text.split()))


def _told(part: int) -> str:
    return "" if part < 0 else f" (parts at token {part + 1})"


def _marked(pieces: Sequence[Piece]) -> str:
    return "".join(
        f"<mark>{escape(shown(piece.text))}</mark>" if piece.differs else escape(shown(piece.text)) for piece in pieces
    )

"""The report's tables, sentences and texts as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from ...page.differing import differing
from ..result import AuditResult, Pair
from .sentences import Said, parted, written
from .sentences_asked import Asked, some
from .spoken import counted
from .tables import Cell, Table


def table(found: Table) -> str:
    """A table in a box that scrolls by itself; keyboards reach it."""
    if not found.rows:
        return f'<p class="none">{escape(found.title)}: there is nothing to show.</p>'
    words = [found.words(column) for column in range(len(found.head))]
    head = "".join(
        f'<th scope="col"{_word(word)}>{escape(text)}</th>' for text, word in zip(found.head, words, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(row[0].text)}</th>'
        f"{''.join(_cell(cell, word) for cell, word in zip(row[1:], words[1:], strict=True))}</tr>"
        for row in found.rows
    )
    box = "box card" if found.prose else "box"
    kind = ' class="sortable"' if found.sortable else ""
    title = escape(found.title)
    return (
        f'<div class="{box}" tabindex="0" role="region" aria-label="{title}"><table{kind}>'
        f'<caption class="hidden">{title}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _word(word: bool) -> str:
    return ' class="word"' if word else ""


def _cell(cell: Cell, word: bool) -> str:
    exact = "" if cell.value is None or cell.value != cell.value else f' data-v="{cell.value:.6g}"'
    return f"<td{_word(word)}{exact}>{escape(cell.text)}</td>"


def items(said: Iterable[Said]) -> str:
    """Sentences as a list, their leads in bold."""
    return f"<ul>{''.join(f'<li><b>{escape(s.lead)}</b> {escape(s.text)}</li>' for s in said)}</ul>"


def plain_items(texts: Iterable[str]) -> str:
    """Texts as a list."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def terms(told: Mapping[str, str]) -> str:
    """Terms and what they mean."""
    rows = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in told.items())
    return f'<dl class="terms">{rows}</dl>'


def paragraphs(*texts: str) -> str:
    """Paragraphs of plain text; empty ones are left out."""
    return "".join(f"<p>{escape(text.strip())}</p>" for text in texts if text.strip())


def pair(found: Pair, result: AuditResult) -> str:
    """A pair's texts side by side; words that differ stand in brackets, are underlined, and are announced as marked."""
    columns = []
    for number, (level, pieces, outcome, note) in enumerate(
        zip(found.levels, differing(found.texts), found.outcomes, found.notes, strict=True)
    ):
        text = "".join(f"<mark>[{escape(p.text)}]</mark>" if p.differs else escape(p.text) for p in pieces)
        said = written(result, note)
        free = f"<p>Written afterwards: {escape(said)}</p>" if said else ""
        columns.append(
            f'<div class="panel"><h4>{escape(level)}</h4><blockquote>{text}</blockquote>'
            f"<p>Outcome: <b>{escape(outcome)}</b></p>{free}{paragraphs(*parted(found, number))}</div>"
        )
    heading = f"{found.lm}, by {found.proxy}, unit {found.unit}"
    return f'<article><h3>{escape(heading)}</h3><div class="panels">{"".join(columns)}</div></article>'


def questions(proxy: str, found: list[Asked]) -> str:
    """The questions of a proxy, folded away."""
    listed = "".join(
        f"<li><b>{escape(q.site)}</b> <small>(wording {escape(some(q.wordings))})</small><br>"
        f'<span class="verbatim">{escape(q.told)}'
        f"<b>[{' | '.join(escape(option) for option in q.options)}]</b>{escape(q.suffix)}</span></li>"
        for q in found
    )
    return _details(f"By {proxy}: {counted(len(found), 'sentence')}", f"<ul>{listed}</ul>")


def conversation(lm: str, said: Mapping[str, str]) -> str:
    """What stands around the sentences of a language model that chats."""
    listed = "".join(
        f'<li><b>{escape(what)}</b><br><span class="verbatim">{escape(words)}</span></li>'
        for what, words in said.items()
    )
    return f"<h3>{escape(f'The conversation of {lm}')}</h3><ul>{listed}</ul>"


def folded(head: str, texts: Iterable[str]) -> str:
    """A list that is folded away."""
    return _details(head, plain_items(texts))


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"

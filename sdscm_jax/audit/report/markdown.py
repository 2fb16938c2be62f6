"""The report as Markdown: the same tables and sentences, with the graph as Mermaid and no other figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ...dsl.noise.couplings.registry import COUPLINGS
from ...dsl.scoring.scorings.registry import SCORINGS
from ...durable import make_directory, put
from ...page.differing import Piece, differing
from ...page.markdown_text import code_span as _code
from ...page.markdown_text import plain_markdown as _safe
from ..result import AuditResult, Pair
from . import tables
from .graph_text import mermaid
from .sentences import Said, level_of, parted, summary, written
from .sentences_asked import asked_by_proxy, conversations, some
from .spoken import counted
from .tables import Table
from .wording_variation import what_varies
from .words import ASKED, BOUNDS, CHATS, EFFECTS, PAIRS, SCORING, SECTIONS, VARIANCE, limits, method, told_of


def write_markdown(path: str | Path, result: AuditResult) -> None:
    """Write the report of an audit as Markdown; GitHub draws its graph.

    Args:
        path: of the file; folders are made.
        result: what the audit found.
    """
    text = _text(result)
    path = Path(path)
    make_directory(path.parent)
    put(path, text.encode())


def _text(result: AuditResult) -> str:
    spec = result.spec
    several = len(result.lms) > 1
    contents = {
        "summary": [_items(summary(result))],
        "question": [
            f"What is varied: {_safe(spec.attribute)}, from “{_safe(spec.levels[0])}” (the reference) to "
            f"{' or '.join(f'“{_safe(level)}”' for level in spec.levels[1:])}. What is looked at: the probability of "
            f"“{_safe(spec.option)}” ({_safe(spec.outcome)}).",
            _safe(spec.can_show),
            "" if spec.text is None else f"After the outcome the model writes freely: “{_safe(spec.text.template)}”.",
            f"```mermaid\n{mermaid(spec)}\n```",
            _terms(tables.roles_told(result)),
            _table(tables.variables_table(result)),
        ],
        "effects": [
            f"Limits are {level_of(result)} intervals over repetitions of the audit with other names and wordings.",
            _terms(EFFECTS),
            _table(tables.effects_table(result)),
            *(["### Between language models", _table(tables.differences_table(result))] if several else []),
        ],
        "wordings": [
            _table(tables.wordings_table(result)),
            "### What varies",
            _table(tables.design_table(result)),
            *_varied(result),
        ],
        "variance": [VARIANCE, _table(tables.variance_table(result))],
        "sensitivity": [
            "### Scoring: how the probability of an option is read off",
            SCORING,
            _terms(told_of(SCORINGS, result.scorings, "scoring")),
            _table(tables.scorings_table(result)),
            "### Coupling: how the two worlds share chance",
            BOUNDS,
            _terms(told_of(COUPLINGS, result.couplings, "coupling")),
            _table(tables.couplings_table(result)),
        ],
        "pairs": [PAIRS, *(_pair(pair, result) for pair in result.pairs)]
        if result.pairs
        else ["There are no example pairs."],
        "asked": [ASKED, *_asked(result), *([CHATS, *_conversations(result)] if result.chatting else [])],
        "method": [_terms(method(result.chatting, len(result.chatting) == len(result.lms)))],
        "limits": [_safe(spec.cannot_show), _list(limits(result.chatting))],
        "provenance": [_table(tables.models_table(result)), _table(tables.settings_table(result))],
    }
    blocks = [f"# {_safe(spec.title)}", _safe(spec.question)]
    for name, heading in SECTIONS.items():
        blocks += [f"## {heading}", *contents[name]]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _table(found: Table) -> str:
    if not found.rows:
        return f"*{found.title}: there is nothing to show.*"
    rule = ["---" if found.words(column) else "---:" for column in range(len(found.head))]
    rows = [found.head, rule, *([_safe(cell.text) for cell in row] for row in found.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _items(said: Iterable[Said]) -> str:
    return "\n".join(f"- **{_safe(s.lead)}** {_safe(s.text)}" for s in said)


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {_safe(text)}" for text in texts)


def _terms(told: Mapping[str, str]) -> str:
    return "\n".join(f"- **{_safe(term)}**: {_safe(text)}" for term, text in told.items())


def _pair(found: Pair, result: AuditResult) -> str:
    lines = [f"### {_safe(f'{found.lm}, by {found.proxy}, unit {found.unit}')}"]
    for number, (level, pieces, outcome, note) in enumerate(
        zip(found.levels, differing(found.texts), found.outcomes, found.notes, strict=True)
    ):
        lines.append(f"**{_safe(level)}**")
        lines.append("> " + _marked(pieces))
        said = written(result, note)
        lines.append(f"Outcome: {_safe(outcome)}" + (f". Written afterwards: {_safe(said)}" if said else ""))
        lines += map(_safe, parted(found, number))
    return "\n\n".join(lines)


def _marked(pieces: list[Piece]) -> str:
    """Words that differ in brackets and bold."""
    # Each piece is made safe by itself, which drops the white space at its ends.
    parts = []
    for piece in pieces:
        inner = f"**\\[{_safe(piece.text)}\\]**" if piece.differs else _safe(piece.text)
        before, after = (" " if piece.text[:1].isspace() else "", " " if piece.text[-1:].isspace() else "")
        parts.append(before + inner + after)
    return "".join(parts)


def _folded(summary: str, listed: str) -> list[str]:
    return [f"<details><summary>{_safe(summary)}</summary>", listed, "</details>"]


def _varied(result: AuditResult) -> list[str]:
    return [block for head, texts in what_varies(result) for block in _folded(head, _list(texts))]


def _asked(result: AuditResult) -> list[str]:
    blocks = []
    for proxy, questions in asked_by_proxy(result).items():
        listed = "\n".join(
            f"- **{_safe(q.site)}** (wording {some(q.wordings)}): {_code(q.verbatim)}" for q in questions
        )
        blocks += _folded(f"By {proxy}: {counted(len(questions), 'sentence')}", listed)
    return blocks


def _conversations(result: AuditResult) -> list[str]:
    blocks = []
    for lm, said in conversations(result).items():
        blocks.append(f"### {_safe(f'The conversation of {lm}')}")
        blocks.append("\n".join(f"- **{_safe(what)}**: {_code(words)}" for what, words in said.items()))
    return blocks

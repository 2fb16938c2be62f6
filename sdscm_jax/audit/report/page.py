"""One self-contained HTML page about an audit."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...dsl.noise.couplings.registry import COUPLINGS
from ...dsl.scoring.scorings.registry import SCORINGS
from ...durable import make_directory, put
from ...page.document import document, figure, legend
from ...page.drawing import Panel, Pictures
from ..result import AuditResult
from . import markup, tables
from .figures_effects import effect_panels
from .figures_graph import graph_panel
from .figures_sensitivity import coupling_panels, scoring_panels
from .figures_wordings import variance_key, variance_panels, wording_panels
from .sentences import level_of, summary
from .sentences_asked import asked_by_proxy, conversations
from .wording_variation import what_varies
from .words import ASKED, BOUNDS, CHATS, EFFECTS, PAIRS, SCORING, SECTIONS, VARIANCE, limits, method, told_of

_OPEN_PAIRS = 3


def write_report(path: str | Path, result: AuditResult) -> None:
    """Write the report of an audit: a page without references to anything else.

    The same result gives the same bytes (with the same release of Matplotlib).

    Args:
        path: of the page; folders are made.
        result: what the audit found.
    """
    text = _page(result)
    path = Path(path)
    make_directory(path.parent)
    put(path, text.encode())


def _page(result: AuditResult) -> str:
    pictures = Pictures()
    contents = {
        "summary": markup.items(summary(result)),
        "question": _question(result, pictures),
        "effects": _effects(result, pictures),
        "wordings": _wordings(result, pictures),
        "variance": _variance(result, pictures),
        "sensitivity": _sensitivity(result, pictures),
        "pairs": _pairs(result),
        "asked": _asked(result),
        "method": markup.terms(method(result.chatting, len(result.chatting) == len(result.lms))),
        "limits": markup.paragraphs(result.spec.cannot_show) + markup.plain_items(limits(result.chatting)),
        "provenance": markup.table(tables.models_table(result)) + markup.table(tables.settings_table(result)),
    }
    sections = [(name, heading, contents[name]) for name, heading in SECTIONS.items()]
    return document(result.spec.title, sections, pictures, lead=markup.paragraphs(result.spec.question), sortable=True)


def _shown(pictures: Pictures, panels: Sequence[Panel], caption: str, key: str = "", kind: str = "") -> str:
    """A figure; nothing where there are no pictures, as the table beside it says so."""
    return figure(pictures, panels, escape(caption), legend=key, kind=kind) if panels else ""


def _question(result: AuditResult, pictures: Pictures) -> str:
    spec = result.spec
    caption = (
        f"Causal graph; the sentence of the variable at the end of an arrow is asked with that of the variable at "
        f"its start in view. Thick arrows: the ways by which {spec.attribute} can act on {spec.outcome}. Dashed box: a "
        "variable in between that is not legitimate."
    )
    graph = _shown(pictures, [graph_panel(spec)], caption, kind="one")
    return (
        markup.paragraphs(
            f"What is varied: {spec.attribute}, from “{spec.levels[0]}” (the reference) to "
            f"{' or '.join(f'“{level}”' for level in spec.levels[1:])}. What is looked at: the probability of "
            f"“{spec.option}” ({spec.outcome}).",
            spec.can_show,
            "" if spec.text is None else f"After the outcome the model writes freely: “{spec.text.template}”.",
        )
        + graph
        + markup.terms(tables.roles_told(result))
        + markup.table(tables.variables_table(result))
    )


def _effects(result: AuditResult, pictures: Pictures) -> str:
    truth = (
        " Upright stroke: the effect in the mechanisms that text was generated from; a language model can be expected "
        "to have it as far as it was trained on such text."
    )
    caption = (
        f"Changes of the probability of “{result.spec.option}” against “{result.spec.levels[0]}”, with "
        f"{level_of(result)} intervals over repetitions of the audit with other names and wordings. "
        "Filled: a discovery after correction for many tests; "
        f"hollow: not.{truth if result.truth is not None else ''}"
    )
    several = len(result.lms) > 1
    return (
        markup.terms(EFFECTS)
        + _shown(pictures, effect_panels(result), caption)
        + markup.table(tables.effects_table(result))
        + ("<h3>Between language models</h3>" + markup.table(tables.differences_table(result)) if several else "")
    )


def _wordings(result: AuditResult, pictures: Pictures) -> str:
    caption = (
        "A point is the total effect with one combination of wordings; diamond: their mean, with its "
        f"{level_of(result)} interval. The height of a point has no meaning."
    )
    return (
        _shown(pictures, wording_panels(result), caption)
        + markup.table(tables.wordings_table(result))
        + "<h3>What varies</h3>"
        + markup.table(tables.design_table(result))
        + "".join(markup.folded(head, texts) for head, texts in what_varies(result))
    )


def _variance(result: AuditResult, pictures: Pictures) -> str:
    caption = "Shares of the variance of the individual total effect. Parts stand in the order of the key."
    return (
        f"<p>{escape(VARIANCE)}</p>"
        + _shown(pictures, variance_panels(result), caption, legend(variance_key()))
        + markup.table(tables.variance_table(result))
    )


def _sensitivity(result: AuditResult, pictures: Pictures) -> str:
    scoring = f"Total effect by scoring, with {level_of(result)} intervals. {SCORING}"
    coupling = (
        "Share of units whose outcome would change. No way of sharing chance between the worlds gives anything outside "
        f"the bar; points: some ways. {BOUNDS}"
    )
    return (
        "<h3>Scoring: how the probability of an option is read off</h3>"
        + _shown(pictures, scoring_panels(result), scoring)
        + markup.terms(told_of(SCORINGS, result.scorings, "scoring"))
        + markup.table(tables.scorings_table(result))
        + "<h3>Coupling: how the two worlds share chance</h3>"
        + _shown(pictures, coupling_panels(result), coupling)
        + markup.terms(told_of(COUPLINGS, result.couplings, "coupling"))
        + markup.table(tables.couplings_table(result))
    )


def _pairs(result: AuditResult) -> str:
    if not result.pairs:
        return '<p class="none">There are no example pairs.</p>'
    first, rest = result.pairs[:_OPEN_PAIRS], result.pairs[_OPEN_PAIRS:]
    shown, more = ("".join(markup.pair(pair, result) for pair in pairs) for pairs in (first, rest))
    folded = f"<details><summary>{len(rest)} more</summary>{more}</details>" if rest else ""
    return f"<p>{escape(PAIRS)}</p>{shown}{folded}"


def _asked(result: AuditResult) -> str:
    questions = "".join(markup.questions(proxy, found) for proxy, found in asked_by_proxy(result).items())
    around = "".join(markup.conversation(lm, said) for lm, said in conversations(result).items())
    return markup.paragraphs(ASKED) + questions + (markup.paragraphs(CHATS) + around if around else "")

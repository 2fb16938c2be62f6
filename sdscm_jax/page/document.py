"""The skeleton of a page without references to anything else: sections, figures, keys of colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from .drawing import Inliner, Panel

# Identifier, heading, content (markup).
Section = tuple[str, str, str]


def document(title: str, sections: Sequence[Section], lead: str = "", sortable: bool = False) -> str:
    """A whole HTML page.

    Args:
        title: of the page.
        sections: in their order; each is a landmark that the page's navigation links to.
        lead: markup between the title and the navigation.
        sortable: do tables of the class ``sortable`` sort by their headings?

    >>> "<h2 id=\\"a-heading\\">A &amp; B</h2>" in document("Page", [("a", "A & B", "<p>text</p>")])
    True
    """
    links = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, _ in sections)
    body = "\n".join(
        f'<section id="{name}" aria-labelledby="{name}-heading"><h2 id="{name}-heading">{escape(heading)}</h2>'
        f"\n{content}</section>"
        for name, heading, content in sections
    )
    script = f"\n<script>\n{_asset('sort.js')}</script>" if sortable else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{_asset('style.css')}</style></head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1>{lead}<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>\n{body}\n</main>{script}\n</body></html>\n"
    )


def figure(inline: Inliner, panels: Sequence[Panel], caption: str, *, legend: str = "", kind: str = "") -> str:
    """Pictures with a caption (markup) and a key of their colours; ``kind``: ``"one"``, ``"small"`` or neither."""
    pictures = "".join(
        f'<div class="panel">{f"<div>{escape(p.title)}</div>" if p.title else ""}{inline(p.svg, p.label)}</div>'
        for p in panels
    )
    return f'<figure>{legend}<div class="panels {kind}">{pictures}</div><figcaption>{caption}</figcaption></figure>'


def graph_figure(inline: Inliner, svg: str, label: str, caption: str) -> str:
    """A causal graph, which may be wider than the page."""
    return (
        f'<figure><div class="dag" tabindex="0" role="region" aria-label="Causal graph">{inline(svg, label)}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def legend(entries: Sequence[tuple[str, bool, str]]) -> str:
    """Keys of (CSS variable, filled, text)."""
    keys = "".join(
        f'<li><i style="border-color:var({variable});background:{f"var({variable})" if filled else "none"}"></i>'
        f"{escape(text)}</li>"
        for variable, filled, text in entries
    )
    return f'<ul class="legend">{keys}</ul>'


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")

"""The skeleton of a page without references to anything else: sections, figures, keys of colours."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from .drawing import Panel, Pictures

# Identifier, heading, content (markup).
Section = tuple[str, str, str]


def document(
    title: str, sections: Sequence[Section], pictures: Pictures, lead: str = "", sortable: bool = False
) -> str:
    """A whole HTML page. Its policy lets a browser run this script and use this style, and load nothing at all.

    Args:
        title: of the page.
        sections: in their order; each is a landmark that the page's navigation links to.
        pictures: that stand in them.
        lead: markup between the title and the navigation.
        sortable: do tables of the class ``sortable`` sort by their headings?

    >>> "<h2 id=\\"a-heading\\">A &amp; B</h2>" in document("Page", [("a", "A & B", "<p>text</p>")], Pictures())
    True
    """
    links = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, _ in sections)
    body = "\n".join(
        f'<section id="{name}" aria-labelledby="{name}-heading"><h2 id="{name}-heading">{escape(heading)}</h2>'
        f"\n{content}</section>"
        for name, heading, content in sections
    )
    style, script = f"\n{_asset('style.css')}{pictures.css}", f"\n{_asset('sort.js')}" if sortable else ""
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>{style}</style></head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1>{lead}<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>\n{body}\n</main>{f'{chr(10)}<script>{script}</script>' if script else ''}\n</body></html>\n"
    )


def _hash(text: str) -> str:
    """A source of the page's policy: the text itself, and what the policy calls it."""
    if not text:
        return "'none'"
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def figure(pictures: Pictures, panels: Sequence[Panel], caption: str, *, legend: str = "", kind: str = "") -> str:
    """Pictures with a caption (markup) and a key of their colours; ``kind``: ``"one"``, ``"small"`` or neither."""
    shown = "".join(
        f'<div class="panel">{f"<div>{escape(p.title)}</div>" if p.title else ""}{pictures(p)}</div>' for p in panels
    )
    return f'<figure>{legend}<div class="panels {kind}">{shown}</div><figcaption>{caption}</figcaption></figure>'


def legend(entries: Sequence[tuple[str, bool, str]]) -> str:
    """Keys of (CSS variable, filled, text); ``style.css`` has a class for each variable."""
    keys = "".join(
        f'<li><i class="{variable.removeprefix("--")}{" filled" if filled else ""}"></i>{escape(text)}</li>'
        for variable, filled, text in entries
    )
    return f'<ul class="legend">{keys}</ul>'


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")

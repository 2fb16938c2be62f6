"""Texts that Markdown, its front matter and Mermaid show as they are, whatever they hold."""

from __future__ import annotations

import re

import yaml

from ..terminal import shown


def plain_markdown(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> print(plain_markdown("a_b *c* | <d> $5"), plain_markdown("1. one"), plain_markdown("+0.5"))
    a_b \*c\* \| &lt;d> \$5 1\. one +0.5
    """
    text = shown(" ".join(text.split()))
    text = re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")
    # What would begin a heading, a quotation or a list.
    return re.sub(r"^(?:([-+#>])|(\d+)([.)]))(?=\s)", lambda m: f"{m[2] or ''}\\{m[1] or m[3]}", text)


def code_span(text: str, cell: bool = False) -> str:
    """A code span, which keeps every letter; line breaks are shown as arrows.

    Args:
        text: the code.
        cell: of a table, which a stroke would end?
    """
    text = shown(text.replace("\n", "↵"))
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    room = " " if "`" in text else ""
    span = fence + room + text + room + fence
    return span.replace("|", "\\|") if cell else span


def mermaid_label(text: str) -> str:
    """Text for a node's label, between quotes."""
    codes = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "#96;"}
    return "".join(codes.get(letter, letter) for letter in shown(" ".join(text.split())))


def front_matter(text: str) -> str:
    r"""A value of the metadata on top of a file; quoted where it would be read as anything else.

    >>> print(front_matter("cc0-1.0"), front_matter("mine\ntags: [x]"), front_matter("yes"))
    cc0-1.0 "mine\ntags: [x]" "yes"
    """
    if re.fullmatch(r"[A-Za-z][\w .+()-]*[\w)]", text, re.ASCII) and yaml.safe_load(text) == text:
        return text
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))).strip()

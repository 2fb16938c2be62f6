"""Docstrings on their way into the reference."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_SEVERAL = re.compile(r"(\s*:(?:ivar|param) )([^:\s]+(?:, [^:\s]+)+)(:.*)")
_PAGE = re.compile(r"(?:``)?docs/([\w-]+)\.md(?:``)?")


def _link_pages(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Where a docstring names a page, such as ``docs/scoring.md``, it becomes a link."""
    lines[:] = [_PAGE.sub(r":doc:`/\1`", line) for line in lines]


def _keep_first_line(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Napoleon takes what stands before a colon in the first line of an attribute for its type; ours is a sentence."""
    if what in ("attribute", "data", "property"):
        # An empty comment. (Napoleon skips empty lines.)
        lines[:0] = ["..", ""]


def _keep_names_together(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Of ``low, high: levels`` Napoleon makes a field that Sphinx reads as ``high``, of type ``low,``."""
    for i, line in enumerate(lines):
        if found := _SEVERAL.fullmatch(line):
            # A space of no width is none to Sphinx, and lets a browser break the line.
            lines[i] = found[1] + found[2].replace(", ", ",\u200b") + found[3]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _link_pages)
    # Before and after Napoleon, whose priority is 500.
    app.connect("autodoc-process-docstring", _keep_first_line, priority=400)
    app.connect("autodoc-process-docstring", _keep_names_together, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

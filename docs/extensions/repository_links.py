"""Pages and links between the repository and the site.

In the repository, links are written as they work there: ``../benchmarks/results/paper.md``. In the site some of these
files are pages (``PAGES``, and results), others are downloads, which MyST makes of them by itself; a link to a
directory without a page becomes its text. A page that is nothing but an ``{include}`` of such a file gets its text
here, so that the links in it are read from where the file stands.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}

_INCLUDE = re.compile(r"```\{include\} (\S+)\n```\n*")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def linked(target: Path, page: Path) -> str | None:
    """What a page's link to a file of the repository becomes; None: nothing that a page can link to."""
    if target.is_relative_to(ROOT / "benchmarks" / "results"):
        inner = target.relative_to(ROOT / "benchmarks")
        if (DOCS / inner).is_file():
            target = DOCS / inner
        elif target.is_dir():
            target = DOCS / "results"
    elif target.parent == ROOT and target.name in PAGES:
        target = DOCS / PAGES[target.name]
    if target.is_dir():
        target = target / "index.md"
    if target.is_dir() or not target.exists():
        return None
    return os.path.relpath(target, page.parent)


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    written = page
    whole = _INCLUDE.fullmatch(source[0])
    if whole is not None:
        written = (page.parent / whole[1]).resolve()
        app.env.note_dependency(str(written))
        source[0] = written.read_text()

    def link(found: re.Match[str]) -> str:
        text, path, anchor = found[1], found[2], found[3] or ""
        target = (written.parent / path).resolve()
        # Links between pages are Sphinx's to check.
        if ":" in path or (written == page and target.is_relative_to(DOCS) and not target.is_dir()):
            return found[0]
        new = linked(target, page)
        if new is None and target.is_dir():
            return text
        return found[0] if new is None else f"[{text}]({new}{anchor})"

    source[0] = _LINK.sub(link, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Building the site changes nothing in the repository: pictures that the tour's notebooks draw are put back.

``docs/draw_pictures.py`` draws them to stay.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx

_before: dict[Path, bytes] = {}


def remember(app: Sphinx, config: object) -> None:
    """Note what is there before notebooks run."""
    tour = Path(app.srcdir) / "tour"
    _before.clear()
    _before.update({path: path.read_bytes() for path in tour.rglob("*") if path.is_file()})


def put_back(app: Sphinx, error: Exception | None) -> None:
    """What is there afterwards is what was there before."""
    tour = Path(app.srcdir) / "tour"
    for path, content in _before.items():
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
    for path in sorted(tour.rglob("*"), reverse=True):
        if path.is_file() and path not in _before:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            shutil.rmtree(path)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", remember)
    app.connect("build-finished", put_back)
    return {"parallel_read_safe": True}

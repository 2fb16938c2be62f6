"""Saving a Matplotlib figure: the same picture is the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..terminal import shown

# By default these kinds of file say when they were made.
_DATES = {".svg": "Date", ".pdf": "CreationDate"}


def save_figure(figure: Any, path: str | Path, **options: Any) -> None:
    """Save a figure without the time, and with identifiers that do not change from run to run.

    Texts are drawn as they stand: dollar signs make no formula, and a control character, which an SVG may not hold,
    is written out.

    Args:
        figure: a Matplotlib figure.
        path: the ending (``.svg``, ``.png``, ``.pdf``) says which kind of file.
        options: others of ``Figure.savefig``.
    """
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(shown(text.get_text()))
    date = _DATES.get(Path(path).suffix.lower())
    with matplotlib.rc_context({"svg.hashsalt": "sdscm-jax"}):
        figure.savefig(path, metadata=None if date is None else {date: None}, **options)

"""Saving a Matplotlib figure: the same picture is the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...checks import as_path
from ...errors import SDSCMError
from ...terminal import shown

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
    path = as_path(path, "the file of a picture")
    date = _DATES.get(path.suffix.lower())
    with matplotlib.rc_context({"svg.hashsalt": "sdscm-jax"}):
        try:
            figure.savefig(path, metadata=None if date is None else {date: None}, **options)
        except (OSError, ValueError) as error:  # no such folder or kind of picture
            raise SDSCMError(f"{path} cannot be drawn: {error}") from error

"""Text on a terminal: what came with a model, a file or a command line is shown, and never obeyed.

A site may be called ``[/INST]``, which Rich would take for markup, and a checkpoint's error may hold an escape
sequence, which the terminal would carry out.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from rich.console import Console
from rich.text import Text

# Controls, lone surrogates, breaks that are none of ours; the marks that turn the direction of what follows.
_HIDDEN = ("Cc", "Cs", "Zl", "Zp")
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def shown(text: str) -> str:
    r"""The text with what a terminal would obey written out, but for line ends.

    >>> print(shown("a\x1b]0;b\x07 é\n[/INST]"))
    a\x1b]0;b\x07 é
    [/INST]
    """
    return "".join(_letter(letter) for letter in text)


def _letter(letter: str) -> str:
    if letter != "\n" and (letter in _TURNS or unicodedata.category(letter) in _HIDDEN):
        return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
    return letter


class PlainConsole(Console):
    """A console that prints every text as it stands: no markup, no emoji codes, no colours of numbers."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """What Rich makes of a text, wherever it stands: printed, in a cell, a heading or a title."""
        return super().render_str(shown(text), **options)

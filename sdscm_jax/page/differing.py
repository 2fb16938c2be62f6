"""Which words of two texts differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple


class Piece(NamedTuple):
    """A stretch of text, and whether it differs."""

    text: str
    differs: bool


def differing(texts: Sequence[str]) -> list[list[Piece]]:
    """Each text in pieces: the first is compared with all others, the others with the first.

    >>> first, second = differing(["The name is Emily.", "The name is Lakisha."])
    >>> second
    [Piece(text='The name is ', differs=False), Piece(text='Lakisha', differs=True), Piece(text='.', differs=False)]
    >>> "".join(piece.text for piece in first)
    'The name is Emily.'
    """
    words = [re.findall(r"\w+|\s+|[^\w\s]", text) for text in texts]
    marks = [[False] * len(found) for found in words]
    for other in range(1, len(words)):
        for kind, a, b, c, d in SequenceMatcher(None, words[0], words[other], autojunk=False).get_opcodes():
            if kind != "equal":
                marks[0][a:b] = [True] * (b - a)
                marks[other][c:d] = [True] * (d - c)
    return [_joined(found, marked) for found, marked in zip(words, marks, strict=True)]


def _joined(words: list[str], marks: list[bool]) -> list[Piece]:
    """Neighbours of one kind together; white space goes with differences where it lies between two."""
    marks = list(marks)
    for i, word in enumerate(words):
        if word.isspace():
            marks[i] = 0 < i < len(words) - 1 and marks[i - 1] and marks[i + 1]
    pieces: list[Piece] = []
    for word, differs in zip(words, marks, strict=True):
        if pieces and pieces[-1].differs == differs:
            pieces[-1] = Piece(pieces[-1].text + word, differs)
        else:
            pieces.append(Piece(word, differs))
    return pieces

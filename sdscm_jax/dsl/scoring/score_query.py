"""What a site asks a language model, apart from the model and the values of its parents: tokens that
are known before anything runs. An engine that answers for many units at once works from this."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol, Self

import numpy as np

from ...models.codec import Tokens
from .option_tree import OptionTree
from .scorings.base import Scoring


class Unlisted(Protocol):
    """A given text that is one of too many to list: what somebody wrote."""

    @property
    def columns(self) -> int:
        """How many numbers say which it is."""

    @property
    def longest(self) -> int:
        """Most tokens that it may have."""

    @property
    def count(self) -> int:
        """How many there may be."""

    def tokens(self, numbers: np.ndarray) -> Tokens:
        """The text that numbers ``[columns]`` say, as what is read."""


Piece = tuple[Tokens, ...] | Unlisted


@dataclass(frozen=True)
class Context:
    """The text before a blank.

    Attributes:
        start: tokens that begin every text.
        pieces: per given item, the tokens of each text that it may be (or how to tell them).
        varying: which of the pieces are phrases (the others have one text).
        shared: the template's tokens before the blank.
    """

    start: Tokens
    pieces: tuple[Piece, ...]
    varying: tuple[int, ...]
    shared: Tokens

    @property
    def further(self) -> int:
        """How many numbers a context has beside those of what is given."""
        return 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many texts each phrase that is given may be."""
        return tuple(p.count if not isinstance(p, tuple) else len(p) for p in (self.pieces[i] for i in self.varying))

    @property
    def most_contexts(self) -> int:
        """How many different contexts there may be."""
        return math.prod(self.sizes)

    def listed(self, contexts: np.ndarray) -> tuple[Self, np.ndarray]:
        """The same of texts that are there, and which of them contexts have.

        Args:
            contexts: int ``[C, m]``: an option number for each phrase that is given, or the numbers that an unlisted
                text has, and then what else there is.

        Returns:
            with a list for each piece, and numbers in it, int ``[C, len(varying) + further]``.
        """
        pieces, columns, at = list(self.pieces), [], 0
        for i in self.varying:
            piece = pieces[i]
            if isinstance(piece, tuple):
                columns.append(contexts[:, at])
                at += 1
                continue
            own = contexts[:, at : at + piece.columns]
            rows, which = np.unique(own, axis=0, return_inverse=True)
            # Different tokens may be read alike: what ended a text is not.
            read = dict.fromkeys(texts := [piece.tokens(row) for row in rows])
            place = {text: number for number, text in enumerate(read)}
            columns.append(np.array([place[text] for text in texts], contexts.dtype)[which.ravel()])
            pieces[i], at = tuple(read), at + piece.columns
        if at == len(self.varying):
            return self, contexts
        found = replace(self, pieces=tuple(pieces))
        # What hangs on the options alone is not made again.
        found.__dict__.update({name: x for name, x in self.__dict__.items() if name == "tree"})
        return found, np.column_stack([*columns, contexts[:, at:]])

    @property
    def texts(self) -> tuple[tuple[Tokens, ...], ...]:
        """The pieces, all of which are listed."""
        assert all(isinstance(piece, tuple) for piece in self.pieces)
        return self.pieces  # type: ignore[return-value]

    def context(self, numbers: Sequence[int], decode: Callable[[Tokens], str]) -> str:
        """The text before the blank where the phrases that are given (all listed) have these numbers."""
        chosen = dict(zip(self.varying, numbers, strict=True))
        texts = [self.start, *(piece[chosen.get(i, 0)] for i, piece in enumerate(self.texts)), self.shared]
        return decode(tuple(token for part in texts for token in part))

    @property
    def _before(self) -> int:
        """Most tokens before the blank."""
        return len(self.start) + sum(map(_longest, self.pieces)) + len(self.shared)

    @property
    def _new(self) -> int:
        """Tokens before the blank that are new where everything before the last given text is encoded."""
        return (_longest(self.pieces[-1]) if self.pieces else len(self.start)) + len(self.shared)


def _longest(piece: Piece) -> int:
    return max(map(len, piece)) if isinstance(piece, tuple) else piece.longest


@dataclass(frozen=True)
class Question(Context):
    """The static part of a choice; the answer to it is a score for each option.

    Attributes:
        rows: per option, its scored tokens.
        scoring: see ``Choice``.
        alone: the same question without anything given, where the scoring compares with it.
    """

    rows: tuple[Tokens, ...]
    scoring: Scoring
    alone: Question | None = None

    # What an answer is, and what stands where there is none yet.
    dtype: ClassVar[str] = "float32"
    nothing: ClassVar[float] = 0.0

    @property
    def answers(self) -> int:
        """How many numbers an answer has."""
        return len(self.rows)

    @cached_property
    def tree(self) -> OptionTree:
        """The options as a tree of tokens."""
        return self.scoring.tree(self.rows)

    @property
    def longest(self) -> int:
        """Most tokens that its text may have, options included."""
        return self._before + max(map(len, self.rows))

    @property
    def most(self) -> int:
        """Most tokens that are held at once: those of its text and of all its options."""
        return max(self.longest, self._before + self.tree.size)

    @property
    def own(self) -> int:
        """Tokens that are new where everything before the last given text is encoded."""
        return self._new + self.tree.size

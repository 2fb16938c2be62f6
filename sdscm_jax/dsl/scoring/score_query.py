"""What a choice asks a language model, apart from the model and the values of its parents: tokens that
are known before anything runs. An engine that answers for many units at once works from this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...models.codec import Tokens
from .option_tree import OptionTree
from .scorings.base import Scoring


@dataclass(frozen=True)
class Question:
    """The static part of a choice.

    Attributes:
        start: tokens that begin every text.
        pieces: per given item, the tokens of each text that it may be.
        varying: which of the pieces are phrases (the others have one text).
        shared: the template's tokens before the blank.
        rows: per option, its scored tokens.
        scoring: see ``Choice``.
        alone: the same question without anything given, where the scoring compares with it.
    """

    start: Tokens
    pieces: tuple[tuple[Tokens, ...], ...]
    varying: tuple[int, ...]
    shared: Tokens
    rows: tuple[Tokens, ...]
    scoring: Scoring
    alone: Question | None = None

    @cached_property
    def tree(self) -> OptionTree:
        """The options as a tree of tokens."""
        return self.scoring.tree(self.rows)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many texts each phrase that is given may be."""
        return tuple(len(self.pieces[i]) for i in self.varying)

    def context(self, numbers: Sequence[int], decode: Callable[[Tokens], str]) -> str:
        """The text before the blank where the phrases that are given have these option numbers."""
        chosen = dict(zip(self.varying, numbers, strict=True))
        tokens = [self.start, *(texts[chosen.get(i, 0)] for i, texts in enumerate(self.pieces)), self.shared]
        return decode(tuple(token for part in tokens for token in part))

    @property
    def longest(self) -> int:
        """Most tokens that its text may have, options included."""
        own = len(self.start) + len(self.shared) + max(map(len, self.rows))
        return own + sum(max(map(len, texts)) for texts in self.pieces)

    @property
    def most(self) -> int:
        """Most tokens that are held at once: those of its text and of all its options."""
        before = len(self.start) + sum(max(map(len, texts)) for texts in self.pieces)
        return max(self.longest, before + len(self.shared) + self.tree.size)

    @property
    def own(self) -> int:
        """Tokens that are new where everything before the last given text is encoded."""
        last = max(map(len, self.pieces[-1])) if self.pieces else len(self.start)
        return last + len(self.shared) + self.tree.size

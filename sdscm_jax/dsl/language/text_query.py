"""What a free text asks a language model, apart from the model: the tokens before it, and the law of the next one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from ...models.codec import Tokens
from ..noise.couplings.base import Coupling
from ..scoring.score_query import Context
from .text_phrase import PADDING, TextForm
from .token_law import TokenLaw


@dataclass(frozen=True)
class WrittenText:
    """A given text that another site wrote; see ``Unlisted``.

    Attributes:
        form: how tokens become what is read.
        first: does nothing stand before it?
    """

    form: TextForm
    first: bool

    def __repr__(self) -> str:
        return f"WrittenText({TokenLaw(self.form, None, None)!r}, {self.first})"

    @property
    def columns(self) -> int:
        return self.form.max_tokens

    @property
    def longest(self) -> int:
        return self.form.longest(self.first)

    @property
    def count(self) -> int:
        return len(self.form.automaton.classes) ** self.form.max_tokens

    def tokens(self, numbers: np.ndarray) -> Tokens:
        """Tokens of the sentence: those of ``TextPhrase.context_tokens`` that are valid."""
        form, automaton = self.form, self.form.automaton
        kept = tuple(int(token) for token in numbers if token != PADDING)
        state = 0
        for token in kept:
            state = int(automaton.next[state, automaton.classes[token]]) if state >= 0 else -1
        way = int(automaton.ending[max(state, 0)])
        dropped = (0, *automaton.ending_tokens)[way]
        return (*form.opening(self.first), *kept[: len(kept) - dropped], *form.tail_tokens()[way])


@dataclass(frozen=True)
class Writing(Context):
    """The static part of a free text; the answer to it is its tokens.

    Its contexts have seven numbers more, as int32: the two words of a key, those of the key of the noise that is not
    kept (see ``Coupling.kept``) and the bits of the share that is, the place of the draw among those of these keys, and
    the bits of a temperature (float32).

    Attributes:
        law: of the next token.
    """

    law: TokenLaw

    own_numbers: ClassVar[int] = 7
    dtype: ClassVar[str] = "int32"
    nothing: ClassVar[float] = PADDING

    @property
    def further(self) -> int:
        """The seven."""
        return self.own_numbers

    @property
    def answers(self) -> int:
        """How many numbers an answer has."""
        return self.law.form.max_tokens

    @property
    def most_contexts(self) -> int:
        """How many different contexts there may be: each has noise of its own."""
        return super().most_contexts << 64

    @property
    def longest(self) -> int:
        """Most tokens that its text may have."""
        return self._before + self.law.form.max_tokens

    @property
    def most(self) -> int:
        """Most tokens that are held at once."""
        return self.longest

    @property
    def own(self) -> int:
        """Tokens that are new where everything before the last given text is encoded."""
        return self._new + self.law.form.max_tokens


@dataclass(frozen=True)
class WritingBeside(Writing):
    """The same of a text whose noise is relative to the factual one.

    Its contexts have more numbers, after those of what is given: of what is given in the factual world, the tokens of
    the factual text, the seven of ``Writing``, and the bits of the temperature in the factual world.

    Attributes:
        coupling: how the two share noise.
    """

    coupling: Coupling

    @property
    def further(self) -> int:
        """Where what is given is numbers of listed texts."""
        return len(self.varying) + self._rest

    @property
    def _rest(self) -> int:
        return self.answers + self.own_numbers + 1

    def listed(self, contexts: np.ndarray) -> tuple[Self, np.ndarray]:
        """Of both worlds together."""
        numbers = (contexts.shape[1] - self._rest) // 2
        given = np.concatenate([contexts[:, :numbers], contexts[:, numbers : 2 * numbers]])
        question, told = super().listed(given)
        return question, np.column_stack([*np.split(told, 2), contexts[:, 2 * numbers :]])

    @property
    def longest(self) -> int:
        """Of both texts."""
        return 2 * super().longest

    @property
    def own(self) -> int:
        """Of both texts."""
        return 2 * super().own

"""What a free text asks a language model, apart from the model: the tokens before it, and the law of the next one.

Who has the answers writes a text (``Writing``), or reads one that is observed (``Reading``).
"""

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
class OfText(Context):
    """The static part of a free text; the answer to it is a number for each of its tokens.

    Attributes:
        law: of the next token.
    """

    law: TokenLaw

    @property
    def answers(self) -> int:
        """How many numbers an answer has."""
        return self.law.form.max_tokens

    @property
    def most_contexts(self) -> int:
        """How many different contexts there may be: each has a text, or noise, of its own."""
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
class Reading(OfText):
    """The same of a text that is observed; the answer to it is the log-probability of each token, 0 after its end.

    Its contexts have more numbers, as int32: the tokens, padded with -1, and the bits of a temperature (float32).
    """

    dtype: ClassVar[str] = "float32"
    nothing: ClassVar[float] = 0.0

    @property
    def further(self) -> int:
        """Those of the tokens, and one."""
        return self.answers + 1


@dataclass(frozen=True)
class Writing(OfText):
    """The same of a text that is written; the answer to it is its tokens.

    Its contexts have seven numbers more, as int32: the five words of its noise (of a key, two; of the key of the noise
    that is not kept, two, see ``Coupling.kept``; and the bits of the share that is), the place of the draw among those
    of these keys, and the bits of a temperature (float32).
    """

    noise_numbers: ClassVar[int] = 5
    own_numbers: ClassVar[int] = 7
    dtype: ClassVar[str] = "int32"
    nothing: ClassVar[float] = PADDING

    @property
    def further(self) -> int:
        """The seven."""
        return self.own_numbers


@dataclass(frozen=True)
class WritingBeside(Writing):
    """The same of a text whose noise is relative to one that is known: observed, or written in the factual world.

    Its contexts have more numbers, after those of what is given: of what the known text is given, its tokens, the seven
    of ``Writing`` (whose share is of the noise that the known text tells of), and of the known text the five words of
    its noise and the bits of its temperature.

    Attributes:
        coupling: how the two share noise, one that is relative, or ``Gumbel``.
    """

    coupling: Coupling

    @property
    def further(self) -> int:
        """Where what is given is numbers of listed texts."""
        return len(self.varying) + self._rest

    @property
    def _rest(self) -> int:
        return self.answers + self.own_numbers + self.noise_numbers + 1

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

"""What a scoring is: from what a language model says of tokens to the score of an option.

``docs/scoring.md`` compares the definitions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from ....models.codec import Tokens
from ....models.language_model import LanguageModel
from ....models.options import OptionTokens, option_tokens
from ...registered import Registered
from ..option_tree import OptionTree, chain_tree, padded
from ..template import Template


class Scoring(Registered):
    """What the score of an option is.

    A subclass says which tokens are scored (``tokens``), how they stand in a tree (``tree``), and what the
    log-probabilities of the tree's edges make (``scores``).

    Attributes:
        asks_lm: is the language model asked? Else every score is 0.
        with_suffix: is the template's text after the blank scored with the option?
        leading_space: does a space stand before the first of the given texts too?
        in_chat: can it be asked in a chat?
        less_alone: name of the scoring whose scores without any given text are taken off; None: nothing is. Without
            given texts there is nothing to compare, and every score is 0.
        of_text: is a score the log-probability of the scored text?
        learnt: are the probabilities of options those of the texts that a language model was trained on?
        odds_by_themselves: do the odds of two options hang on these alone (law 7b)?
    """

    asks_lm: ClassVar[bool] = True
    with_suffix: ClassVar[bool] = True
    leading_space: ClassVar[bool] = False
    in_chat: ClassVar[bool] = True
    less_alone: ClassVar[str | None] = None
    of_text: ClassVar[bool] = False
    learnt: ClassVar[bool] = False
    odds_by_themselves: ClassVar[bool] = True

    def tokens(self, lm: LanguageModel, template: Template, options: tuple[str, ...], first: bool) -> OptionTokens:
        """Which tokens condition and which are scored.

        Args:
            lm: the language model.
            template: the template.
            options: K texts.
            first: does no given text stand before the template?
        """
        return option_tokens(
            lm.codec, template.prefix, options, template.suffix, with_suffix=self.with_suffix, first=first
        )

    def tree(self, rows: tuple[Tokens, ...]) -> OptionTree:
        """The tree whose edges make the scores of options with these tokens."""
        return chain_tree(rows)

    @abstractmethod
    def scores(self, tree: OptionTree, edges: Array) -> Array:
        """Scores ``[..., K]`` from the log-probabilities of a tree's edges ``[..., E]``, on the device."""

    def scores_on_host(self, tree: OptionTree, edges: np.ndarray) -> np.ndarray:
        """The same, float32 ``[C, K]`` of ``[C, E]``, on the host; nothing is compiled for the tree's own numbers."""
        return np.asarray(self.scores(tree, jnp.asarray(edges)), np.float32)


class OfEdges(Scoring):
    """A scoring that adds up an option's edges.

    Attributes:
        mean: are they averaged?
    """

    mean: ClassVar[bool] = False

    def scores(self, tree: OptionTree, edges: Array) -> Array:
        """Sums, or means, of each option's edges."""
        return self._added(tree, edges, jnp.where)

    def scores_on_host(self, tree: OptionTree, edges: np.ndarray) -> np.ndarray:
        """The same with NumPy."""
        return np.asarray(self._added(tree, edges, np.where)).astype(np.float32, copy=False)

    def _added(self, tree: OptionTree, edges: Any, where: Callable[..., Any]) -> Any:
        scored, real = padded(tree.scored)
        sums = where(real, edges[..., scored], 0.0).sum(-1)
        return sums / real.sum(-1) if self.mean else sums

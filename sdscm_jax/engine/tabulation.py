"""A scorer for ``tabulate`` on the staged engine: each distinct token once, for all sites and all models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import as_path, count
from ..dsl.language.choice import Choice
from ..dsl.scoring.contexts import unique_contexts
from ..dsl.scoring.score_query import Question
from ..models.language_model import LanguageModel
from .counts import Counts
from .forward import token_bytes
from .memory import default_memory
from .packing import rounded
from .scorer import Counting, Scorer
from .store import Store

# The first pool takes this part of the memory, at most. Each size of a pool is compiled for: with a small first one
# most runs would compile twice.
FIRST = 8
# Tokens of the first pool, at most.
FIRST_TOKENS = 1 << 16
# Tokens that are remembered, with what was answered, for each one whose keys and values fit the pool.
REMEMBERED = 8


class TrieScorer:
    """Scores contexts for ``tabulate``; what one site, call or wording computed, later ones use.

    Each language model (told apart by identity) gets one ``Scorer``, which lives as long as this object. A token is
    computed where it is met first, and again only where its keys and values had to make room. Little is compiled
    for a language model, and nothing again for other sites or models.

    Args:
        memory: bytes for the keys and values of each language model, at most; it begins with an eighth or less, and
            takes more where a site needs it. None: as much as ``simulate`` takes.
        store: directory of scores of earlier runs, which new ones are added to; or None.

    >>> import sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm, template):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, template, ["wait", "treat"], given=[pdl1]))
    >>> scorer = TrieScorer(memory=1 << 24)
    >>> table = sd.tabulate(model, lm, "The best choice is to {}.", scorer=scorer)
    >>> first = scorer.counts(lm)
    >>> other = sd.tabulate(model, lm, "The plan is to {}.", scorer=scorer)
    >>> again = scorer.counts(lm) - first
    >>> again.contexts, again.tokens < first.tokens
    (2, True)
    """

    def __init__(self, *, memory: int | None = None, store: str | Path | None = None):
        self.memory = None if memory is None else count(memory, "memory, a number of bytes,")
        self.store = None if store is None else as_path(store, "store")
        # By identity; a scorer keeps its language model, so no other one takes its place.
        self._scorers: dict[int, _Growing] = {}

    def __call__(self, choice: Choice, indices: np.ndarray) -> np.ndarray:
        """Scores of a choice's options in some contexts.

        Args:
            choice: a choice that is given m phrases; their own values do not matter.
            indices: int ``[C, m]``, the options that the phrases have instead.

        Returns:
            float32 ``[C, K]``, as from ``score_contexts``.

        Raises:
            SDSCMError: the memory does not hold one text.
        """
        question = choice.question if choice.scoring.asks_lm else None
        # As with the same texts twice: without a context there is nothing to compare.
        if question is None or (question.alone is not None and not question.pieces):
            return np.zeros((len(indices), len(choice.options)), np.float32)
        scores = self._scores(choice.lm, question, np.asarray(indices))
        if question.alone is not None:
            scores = scores - self._scores(choice.lm, question.alone, np.zeros((1, 0), np.int32))
        return scores

    def counts(self, lm: LanguageModel) -> Counts:
        """What was asked of a language model so far."""
        scorer = self._scorers.get(id(lm))
        return Counts() if scorer is None else replace(scorer.counts)

    def forget(self) -> None:
        """Begin anew: tokens are computed again, apart from what the store has. Counts go on."""
        for scorer in self._scorers.values():
            scorer.forget()

    def _scores(self, lm: LanguageModel, question: Question, indices: np.ndarray) -> np.ndarray:
        """Scores ``[C, K]`` of what is asked."""
        contexts, _, which = unique_contexts(indices)
        asked = self._asked_of(lm)
        edges = asked.in_parts(question, contexts)
        asked.note_reference(question, contexts, 1, sum(map(len, question.rows)))
        if asked.store is not None:
            asked.store.flush()
        return question.scoring.scores_on_host(question.tree, edges)[which]

    def _asked_of(self, lm: LanguageModel) -> _Growing:
        if id(lm) not in self._scorers:
            memory = default_memory([lm]) if self.memory is None else self.memory
            first = min(FIRST_TOKENS, memory // token_bytes(lm) // FIRST)
            self._scorers[id(lm)] = self._new(lm, memory, first)
        return self._scorers[id(lm)]

    def _new(self, lm: LanguageModel, memory: int, first: int) -> _Growing:
        return _Growing(lm, memory, first, store=None if self.store is None else Store(self.store, lm))


class _Growing(Scorer):
    """Takes a larger pool where a question does not fit it, as far as memory goes; forgets what is too much."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._first = self.capacity

    def forget(self) -> None:
        """Begin anew, with the first pool again: how much is computed twice depends on its size."""
        if self.capacity != self._first:
            self.capacity, self._pool = self._first, None
        super().forget()

    def in_parts(self, question: Question, contexts: np.ndarray) -> np.ndarray:
        """Log-probabilities of edges ``[C, E]``, as many at a time as the pool holds.

        Args:
            question: what is asked.
            contexts: int ``[C, m]``, distinct and in lexicographic order.
        """
        needed = -(-_text_tokens(question, contexts) // self.lanes)
        if needed > self.capacity and self.capacity < self.budget:
            # What the new pool holds is computed again.
            self.capacity, self._pool = min(self.budget, rounded(needed, 4096)), None
            super().forget()
        if needed > self.capacity and len(contexts) > 1:
            return np.concatenate([self.in_parts(question, part) for part in np.array_split(contexts, 2)])
        if max(lane.trie.size for lane in self.places) > REMEMBERED * self.capacity:
            super().forget()
        return self.edges(question, contexts)


def _text_tokens(question: Question, contexts: np.ndarray) -> int:
    """Tokens of the texts of contexts (distinct, in order), each beginning that they have in common once."""
    new = np.arange(len(contexts)) == 0
    total, column = len(question.start), iter(contexts.T)
    for i, texts in enumerate(question.texts):
        chosen = next(column) if i in question.varying else np.zeros(len(contexts), np.int64)
        new[1:] |= chosen[1:] != chosen[:-1]
        total += int(np.array([len(text) for text in texts])[chosen[new]].sum())
    return total + len(contexts) * (len(question.shared) + question.tree.size)


class _GrowingCount(Counting, _Growing):
    """Counts what a growing one would ask."""


class CountingScorer(TrieScorer):
    """Counts tokens as ``TrieScorer`` does, and asks nothing: every option is as likely as another."""

    def _new(self, lm: LanguageModel, memory: int, first: int) -> _Growing:
        return _GrowingCount(lm, memory, first)

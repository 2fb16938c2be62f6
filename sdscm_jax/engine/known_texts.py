"""Texts that are known, as paths in the trie: observed ones, and factual ones that other worlds' are written beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dsl.language.text_phrase import PADDING
from ..dsl.language.text_query import WritingBeside
from ..dsl.language.token_law import TokenLaw
from .forward import Follow, Pick
from .lane import Lane
from .packing import padded_to
from .scorer import Scorer
from .trie import Trie

# The bits of 1.0: all noise is kept.
_ALL = np.float32(1).view(np.int32)


@dataclass
class Known:
    """Known texts in one lane.

    Attributes:
        nodes: int64 ``[J, T]``, the node that each token was drawn after (of what is padding, that of the last token).
        tokens: int32 ``[J, T]``, padded with -1.
        states: int64 ``[J, T]``, of the automaton before each token.
        temperatures: float32 ``[J]``.
    """

    nodes: np.ndarray
    tokens: np.ndarray
    states: np.ndarray
    temperatures: np.ndarray

    @classmethod
    def after(cls, starts: np.ndarray, trie: Trie, law: TokenLaw, tokens: np.ndarray, bits: np.ndarray) -> Known:
        """Texts that go on from nodes.

        Args:
            starts: int64 ``[J]``.
            trie: where the nodes are.
            law: of a token.
            tokens: int ``[J, T]``, padded with -1.
            bits: int ``[J]``, those of the temperatures.
        """
        tokens, length = np.ascontiguousarray(tokens, np.int32), tokens.shape[1]
        before = np.maximum((tokens != PADDING).sum(1) - 1, 0)
        last = trie.extend_all(starts, np.maximum(tokens, 0), before)
        nodes = np.repeat(last[:, None], length, axis=1)
        for step in range(length - 2, -1, -1):
            parents = trie.parent[nodes[:, step + 1]]
            nodes[:, step] = np.where(step < before, parents, nodes[:, step + 1])
        automaton, states = law.form.automaton, np.zeros(tokens.shape, np.int64)
        for step in range(1, length):
            token, state = tokens[:, step - 1], states[:, step - 1]
            on = automaton.next[np.maximum(state, 0), automaton.classes[np.maximum(token, 0)]]
            # What has met a forbidden token stays there.
            states[:, step] = np.where((token == PADDING) | (state < 0), state, on)
        return cls(nodes, tokens, states, np.ascontiguousarray(bits, np.int32).view(np.float32))

    def key(self, path: Callable[[int], Any], text: int) -> tuple[np.ndarray, ...]:
        """What a text is: the tokens before it, its own, and its temperature."""
        return path(int(self.nodes[text, 0])), self.tokens[text], self.temperatures[text : text + 1].view(np.int32)


@dataclass
class Factual:
    """Known texts that others' noise is relative to.

    Attributes:
        known: the texts.
        words: int32 ``[J, 5]``, of their noise; see ``Writing``.
    """

    known: Known
    words: np.ndarray

    def at(self, steps: np.ndarray, some: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The nodes after which some texts have their factual tokens at these steps; their own where these are over."""
        return np.where(self.known.tokens[some, steps] == PADDING, ends, self.known.nodes[some, steps])

    def same(self, starts: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Which texts that begin at nodes are the factual ones: what is before them is, and all of their noise is kept.

        Args:
            starts: int64 ``[J]``.
            own: int32 ``[J, 7]``; see ``Writing``.
        """
        warm = own[:, -1] == self.known.temperatures.view(np.int32)
        found: np.ndarray = (self.known.nodes[:, 0] == starts) & warm & (own[:, 4] == _ALL)
        return found

    def key(self, path: Callable[[int], Any], text: int) -> tuple[np.ndarray, ...]:
        """What a text depends on here."""
        return *self.known.key(path, text), self.words[text]

    def follow(
        self, pick: Pick, steps: np.ndarray, some: np.ndarray, rows: np.ndarray, which: np.ndarray, count: int
    ) -> Follow:
        """What picks the next tokens of some texts beside these."""
        most, known = len(pick.which), self.known
        temperatures = np.ones(most, np.float32)
        temperatures[: len(some)] = known.temperatures[some]
        words = np.zeros((most, self.words.shape[1]), np.int32)
        words[: len(some)] = self.words[some]
        return Follow(
            pick=pick,
            rows=padded_to(rows, count),
            which=padded_to(which, most),
            words=words,
            temperatures=temperatures,
            states=padded_to(known.states[some, steps], most),
            tokens=padded_to(known.tokens[some, steps], most),
        )


def factual_texts(scorer: Scorer, lane: Lane, writing: WritingBeside, rest: np.ndarray) -> tuple[Factual, np.ndarray]:
    """Factual texts, as paths in the trie of a lane; and the numbers of the texts themselves (see ``Writing``).

    Args:
        scorer: the lane's.
        lane: where.
        writing: what is asked; all its pieces are listed.
        rest: int ``[J, further]``, the numbers of contexts after those of what is given.
    """
    parts = len(writing.varying), writing.answers, writing.own_numbers, writing.noise_numbers
    numbers, tokens, own, words, warm = np.split(rest, np.cumsum(parts), axis=1)
    # (Contexts of factual worlds are in no order.)
    starts = scorer.ends(lane, writing, numbers)
    known = Known.after(starts, lane.trie, writing.law, tokens, warm[:, 0])
    return Factual(known, words.astype(np.int32)), own.astype(np.int32)


def places_of(wanted: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where numbers stand among others (distinct, in any order), and which do at all."""
    if not len(there):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    order = np.argsort(there)
    at = order[np.minimum(np.searchsorted(there, wanted, sorter=order), len(there) - 1)]
    return at, there[at] == wanted

"""The factual texts that other worlds' texts are written beside, where their noise is relative to these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dsl.language.text_phrase import PADDING
from ..dsl.language.text_query import WritingBeside
from .forward import Follow, Pick
from .packing import padded_to
from .scorer import Lane, Scorer


@dataclass
class Factual:
    """Factual texts in one lane.

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

    def at(self, steps: np.ndarray, some: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nodes after which some texts have their factual tokens at these steps, and the tokens (-1: none, and the
        text's own node)."""
        tokens = self.tokens[some, steps]
        return np.where(tokens == PADDING, ends, self.nodes[some, steps]), tokens

    def key(self, path: Callable[[int], Any], text: int) -> tuple[np.ndarray, ...]:
        """What a text depends on here: the tokens before the factual one, those of it, and its temperature."""
        return path(int(self.nodes[text, 0])), self.tokens[text], self.temperatures[text : text + 1].view(np.int32)

    def follow(
        self, pick: Pick, steps: np.ndarray, some: np.ndarray, rows: np.ndarray, which: np.ndarray, count: int
    ) -> Follow:
        """What picks the next tokens of some texts beside these."""
        most = len(pick.which)
        temperatures = np.ones(most, np.float32)
        temperatures[: len(some)] = self.temperatures[some]
        return Follow(
            pick=pick,
            rows=padded_to(rows, count),
            which=padded_to(which, most),
            temperatures=temperatures,
            states=padded_to(self.states[some, steps], most),
            tokens=padded_to(self.tokens[some, steps], most),
        )


def factual_texts(scorer: Scorer, lane: Lane, writing: WritingBeside, rest: np.ndarray) -> tuple[Factual, np.ndarray]:
    """Factual texts, as paths in the trie of a lane; and the numbers of the texts themselves (see ``Writing``).

    Args:
        scorer: the lane's.
        lane: where.
        writing: what is asked; all its pieces are listed.
        rest: int ``[J, further]``, the numbers of contexts after those of what is given.
    """
    given, length = len(writing.varying), writing.answers
    numbers, tokens, own = rest[:, :given], rest[:, given : given + length], rest[:, given + length : -1]
    tokens = np.ascontiguousarray(tokens, np.int32)
    # (Contexts of factual worlds are in no order.)
    starts = scorer.ends(lane, writing, numbers)
    before = np.maximum((tokens != PADDING).sum(1) - 1, 0)
    last = lane.trie.extend_all(starts, np.maximum(tokens, 0), before)
    nodes = np.repeat(last[:, None], length, axis=1)
    for step in range(length - 2, -1, -1):
        parents = lane.trie.parent[nodes[:, step + 1]]
        nodes[:, step] = np.where(step < before, parents, nodes[:, step + 1])
    automaton = writing.law.form.automaton
    states = np.zeros(tokens.shape, np.int64)
    for step in range(1, length):
        token = tokens[:, step - 1]
        on = automaton.next[states[:, step - 1], automaton.classes[np.maximum(token, 0)]]
        states[:, step] = np.where(token == PADDING, states[:, step - 1], on)
    temperatures = np.ascontiguousarray(rest[:, -1], np.int32).view(np.float32)
    return Factual(nodes, tokens, states, temperatures), own


def places_of(wanted: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where numbers stand among others (distinct, in any order), and which do at all."""
    if not len(there):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    order = np.argsort(there)
    at = order[np.minimum(np.searchsorted(there, wanted, sorter=order), len(there) - 1)]
    return at, there[at] == wanted

"""What a scorer remembers of texts, for one place on the mesh's data axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..dsl.language.token_law import TokenLaw
from ..dsl.scoring.option_tree import padded
from ..models.codec import Tokens
from .hash_table import HashTable
from .kv_pages import Slots
from .trie import Trie


class Answers:
    """Log-probabilities of the edges of one tree of options, by the node before them."""

    def __init__(self, edges: int):
        self._rows = HashTable()
        self._values, self._count = np.zeros((64, edges), np.float32), 0

    def known(self, nodes: np.ndarray) -> np.ndarray:
        """Which nodes ``[N]`` it has, bool."""
        return self._rows.get(nodes) >= 0

    def of(self, nodes: np.ndarray) -> np.ndarray:
        """Values ``[N, E]`` of nodes that it has."""
        return self._values[self._rows.get(nodes)]

    def add(self, nodes: np.ndarray, values: np.ndarray) -> None:
        """Values ``[N, E]`` of distinct nodes that it does not have yet."""
        start, self._count = self._count, self._count + len(nodes)
        if self._count > len(self._values):
            more = max(self._count, len(self._values) * 5 // 4) - len(self._values)
            self._values = np.concatenate([self._values, np.zeros((more, self._values.shape[1]), np.float32)])
        self._values[start : self._count] = values
        self._rows.put(nodes, np.arange(start, self._count))


@dataclass
class Lane:
    """A trie with its pool, for one place on the mesh's data axis."""

    trie: Trie
    slots: Slots
    # Ends of a text by node and piece; what was answered, by the number of the tree; log-probabilities of tokens of
    # observed texts by law, and by the node before the text, its tokens and temperature.
    ends: HashTable = field(default_factory=HashTable)
    answers: dict[int, Answers] = field(default_factory=dict)
    read: dict[TokenLaw, dict[bytes, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pieces:
    """The texts that something given may be, as arrays.

    Attributes:
        tokens: int32 ``[K, longest]``.
        lengths: int64 ``[K]``.
        numbers: int64 ``[K]``, of each among all that the scorer has met.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[Tokens], numbers: Sequence[int]) -> Pieces:
        """Texts, and their numbers."""
        lengths = np.array([len(text) for text in texts], np.int64)
        return cls(padded(texts)[0], lengths, np.array(numbers, np.int64))

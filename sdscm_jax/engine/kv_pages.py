"""Which tokens of a trie have their keys and values in memory, and where."""

from __future__ import annotations

import numpy as np

from .trie import Trie


class Slots:
    """A fixed number of slots, given to nodes of a trie; the least recently used make room.

    A node in memory has all its ancestors in memory.

    Args:
        trie: the trie.
        capacity: number of slots.
    """

    def __init__(self, trie: Trie, capacity: int):
        self.trie, self.capacity = trie, capacity
        self._slot = np.full(1024, -1, np.int32)
        self._used = np.zeros(1024, np.int32)
        self._computed = np.zeros(1024, bool)
        self._free = np.arange(capacity, dtype=np.int32)[::-1].copy()
        self._count = capacity
        self._clock = 0

    def _cover(self) -> None:
        missing = self.trie.size - len(self._slot)
        if missing > 0:
            more = max(missing, len(self._slot) // 4)
            self._slot = np.concatenate([self._slot, np.full(more, -1, np.int32)])
            self._used = np.concatenate([self._used, np.zeros(more, np.int32)])
            self._computed = np.concatenate([self._computed, np.zeros(more, bool)])

    @property
    def slot(self) -> np.ndarray:
        """int32 ``[trie.size]``: the slot of each node, -1 where it is not in memory."""
        self._cover()
        return self._slot[: self.trie.size]

    @property
    def free(self) -> int:
        """Slots that no node has."""
        return self._count

    def hold(self, needed: np.ndarray) -> None:
        """Mark nodes (closed under ancestors) as used now: what makes room next is older."""
        self._cover()
        self._clock += 1
        self._used[needed] = self._clock

    def take(self, nodes: np.ndarray) -> None:
        """Give slots to nodes that have none and are held.

        Raises:
            ValueError: what is held does not fit.
        """
        self._cover()
        if len(nodes) > self._count:
            self._evict(len(nodes) - self._count)
        chosen = self._free[self._count - len(nodes) : self._count]
        self._count -= len(nodes)
        self._slot[nodes] = chosen

    def note(self, nodes: np.ndarray) -> tuple[int, int]:
        """Count nodes that are computed: how many for the first time, and again."""
        self._cover()
        again = int(self._computed[nodes].sum())
        self._computed[nodes] = True
        return len(nodes) - again, again

    def _evict(self, least: int) -> None:
        there = np.flatnonzero(self.slot >= 0)
        old = there[self._used[there] < self._clock]
        if len(old) < least:
            raise ValueError("the tokens that are held do not fit")
        # An ancestor is used whenever its descendants are; of equal age the deeper goes first.
        order = np.lexsort((-self.trie.depth[old], self._used[old]))
        # More than is needed, so that this is not done at every step.
        gone = old[order[: max(least, min(len(old), self.capacity // 4))]]
        self._free[self._count : self._count + len(gone)] = self._slot[gone]
        self._count += len(gone)
        self._slot[gone] = -1

    def clear(self) -> None:
        """Forget all."""
        self._slot[:] = -1
        self._free, self._count = np.arange(self.capacity, dtype=np.int32)[::-1].copy(), self.capacity

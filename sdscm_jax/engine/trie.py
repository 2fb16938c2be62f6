"""A trie of tokens: every distinct beginning of a text is one node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ROOT = 0


class Trie:
    """Nodes numbered from 0, the root (a text of no tokens); a child's number is above its parent's.

    Attributes:
        size: number of nodes, the root included.

    >>> trie = Trie()
    >>> a = trie.extend(ROOT, [7, 8])
    >>> trie.extend(ROOT, [7, 8]) == a, trie.extend(a, [9]), trie.size
    (True, 3, 4)
    >>> trie.path(3).tolist()
    [7, 8, 9]
    """

    def __init__(self) -> None:
        self.size = 1
        self._parent, self._token, self._depth = (np.zeros(1024, np.int32) for _ in range(3))
        self._children: dict[tuple[int, int], int] = {}

    @property
    def parent(self) -> np.ndarray:
        """int32 ``[size]``; the root's is the root."""
        return self._parent[: self.size]

    @property
    def token(self) -> np.ndarray:
        """int32 ``[size]``."""
        return self._token[: self.size]

    @property
    def depth(self) -> np.ndarray:
        """int32 ``[size]``: number of tokens up to and with the node."""
        return self._depth[: self.size]

    def extend(self, node: int, tokens: Sequence[int]) -> int:
        """The node that ``tokens`` lead to from ``node``, made where there is none."""
        children = self._children
        for token in tokens:
            child = children.get((node, token))
            if child is None:
                child = self._add(node, token)
                children[node, token] = child
            node = child
        return node

    def _add(self, node: int, token: int) -> int:
        new = self.size
        if new == len(self._parent):
            grow = np.zeros(new, np.int32)
            self._parent, self._token, self._depth = (
                np.concatenate([x, grow]) for x in (self._parent, self._token, self._depth)
            )
        self._parent[new], self._token[new], self._depth[new] = node, token, self._depth[node] + 1
        self.size = new + 1
        return new

    def above(self, nodes: np.ndarray) -> np.ndarray:
        """The nodes ``[...]`` and their ancestors, without the root, in ascending order."""
        seen = np.zeros(self.size, bool)
        seen[ROOT] = True
        current = np.unique(nodes)
        while current.size:
            current = current[~seen[current]]
            seen[current] = True
            current = np.unique(self._parent[current])
        seen[ROOT] = False
        return np.flatnonzero(seen)

    def path(self, node: int) -> np.ndarray:
        """Tokens from the root to a node, int32."""
        tokens = np.empty(self._depth[node], np.int32)
        while node != ROOT:
            tokens[self._depth[node] - 1] = self._token[node]
            node = self._parent[node]
        return tokens

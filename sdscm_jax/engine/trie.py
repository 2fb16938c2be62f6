"""A trie of tokens: every distinct beginning of a text is one node.

All of it is arrays, and what is asked of it is asked for many texts at once. What comes into the trie together is
numbered one after another, so that a text is a few *runs* of numbers; its tokens are looked at run by run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .hash_table import HashTable

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
        self._parent, self._token, self._depth, self._head, self._mark = (np.zeros(1024, np.int32) for _ in range(5))
        self._children = HashTable()

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

    @property
    def head(self) -> np.ndarray:
        """int32 ``[size]``: the first node of its run, in which every node is the parent of the next number."""
        return self._head[: self.size]

    def extend(self, node: int, tokens: Sequence[int]) -> int:
        """The node that ``tokens`` lead to from ``node``, made where there is none."""
        row = np.array(tokens, np.int32)[None]
        return int(self.extend_all(np.array([node]), row, np.array([row.shape[1]]))[0])

    def extend_all(self, nodes: np.ndarray, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Where rows of tokens lead to from nodes; what is not there is made.

        Args:
            nodes: int ``[P]``.
            tokens: int ``[P, L]``.
            lengths: int ``[P]``, how many of a row's tokens count.

        Returns:
            int64 ``[P]``.
        """
        at, known = nodes.astype(np.int64), np.zeros(len(nodes), np.int64)
        going, step = np.flatnonzero(lengths > 0), 0
        while going.size:
            child = self._child(at[going], tokens[going, step])
            going, child = going[child >= 0], child[child >= 0]
            at[going], step = child, step + 1
            known[going] = step
            going = going[lengths[going] > step]
        new = np.flatnonzero(known < lengths)
        while new.size:
            keys = _key(at[new], tokens[new, known[new]])
            order = np.argsort(keys)
            new, keys = new[order], keys[order]
            first = np.r_[True, keys[1:] != keys[:-1]]
            alone = first & np.r_[first[1:], True]
            rows = new[alone]
            at[rows] = self._add(at[rows], tokens, rows, known[rows], lengths[rows] - known[rows])
            # Rows that begin alike have that token in common, and go on from there.
            shared, first = new[~alone], first[~alone]
            rows = shared[first]
            made = self._add(at[rows], tokens, rows, known[rows], np.ones(len(rows), np.int64))
            at[shared] = made[np.cumsum(first) - 1]
            known[shared] += 1
            new = shared[known[shared] < lengths[shared]]
        return at

    def _child(self, nodes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Children of nodes by tokens ``[P]``, int64; -1 where there is none."""
        found = np.minimum(nodes + 1, self.size - 1)
        other = np.flatnonzero((self._parent[found] != nodes) | (self._token[found] != tokens) | (found == ROOT))
        found[other] = self._children.get(_key(nodes[other], tokens[other]))
        return found

    def _add(
        self, nodes: np.ndarray, tokens: np.ndarray, rows: np.ndarray, start: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """New chains after nodes, of ``lengths`` tokens each of ``rows`` from ``start`` on; their last nodes."""
        behind = np.cumsum(lengths)
        total = int(behind[-1]) if len(behind) else 0
        self._cover(self.size + total)
        new = np.arange(self.size, self.size + total)
        heads = self.size + behind - lengths
        within = new - np.repeat(heads, lengths)
        parent = new - 1
        parent[heads - self.size] = nodes
        token = tokens[np.repeat(rows, lengths), np.repeat(start, lengths) + within]
        # What goes on from the number before it goes on with its run.
        heads = np.where((nodes == heads - 1) & (nodes != ROOT), self._head[nodes], heads)
        own = slice(self.size, self.size + total)
        self._parent[own], self._token[own] = parent, token
        self._depth[own] = np.repeat(self._depth[nodes] + 1, lengths) + within
        self._head[own] = np.repeat(heads, lengths)
        # A child whose number is the next one is found without the table.
        apart = np.flatnonzero(parent != new - 1)
        self._children.put(_key(parent[apart], token[apart]), new[apart])
        self.size += total
        return self.size - total + behind - 1

    def _cover(self, size: int) -> None:
        if size > len(self._parent):
            grow = np.zeros(max(size, len(self._parent) * 5 // 4) - len(self._parent), np.int32)
            self._parent, self._token, self._depth, self._head, self._mark = (
                np.concatenate([x, grow]) for x in (self._parent, self._token, self._depth, self._head, self._mark)
            )

    def above(self, nodes: np.ndarray) -> np.ndarray:
        """The nodes ``[...]`` and their ancestors, without the root, in ascending order."""
        heads, ends = self.runs(np.asarray(nodes, np.int64).ravel())[1:]
        order = np.lexsort((ends, heads))
        heads, ends = heads[order], ends[order]
        # Of one run the longest part has all others in it.
        last = np.r_[heads[1:] != heads[:-1], True] if len(heads) else np.zeros(0, bool)
        return ranges(heads[last], ends[last])

    def runs(self, nodes: np.ndarray, each: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The runs that nodes and their ancestors are in.

        Args:
            nodes: int64 ``[P]``.
            each: those of each node by themselves; else what several have in common may be there once.

        Returns:
            int64 ``[N]`` each: whose it is (if ``each``), its first number, and its last one that counts.
        """
        own = np.flatnonzero(nodes != ROOT)
        current, whose, heads, ends = nodes[own], [], [], []
        while current.size:
            head = self._head[current].astype(np.int64)
            if not each:
                order = np.argsort(current)
                current, head = current[order], head[order]
                last = np.r_[head[1:] != head[:-1], True]
                current, head, own = current[last], head[last], own[: int(last.sum())]
            whose.append(own)
            heads.append(head)
            ends.append(current)
            up = self._parent[head].astype(np.int64)
            current, own = up[up != ROOT], own[up != ROOT]
        none = np.zeros(0, np.int64)
        return np.concatenate([none, *whose]), np.concatenate([none, *heads]), np.concatenate([none, *ends])

    def places(self, nodes: np.ndarray, among: np.ndarray) -> np.ndarray:
        """Where nodes ``[...]`` are among distinct ones ``[M]``, int64; -1 where they are not."""
        if not len(among):
            return np.full(np.shape(nodes), -1, np.int64)
        # What other questions left in the marks is told by looking.
        self._mark[among] = np.arange(len(among))
        at = self._mark[nodes].astype(np.int64)
        at[at >= len(among)] = 0
        return np.where(among[at] == nodes, at, -1)

    def path(self, node: int) -> np.ndarray:
        """Tokens from the root to a node, int32."""
        _, heads, ends = self.runs(np.array([node]), each=True)
        return self._token[ranges(heads[::-1], ends[::-1])]


def _key(nodes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return nodes.astype(np.int64) << 32 | tokens


def ranges(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """All numbers from each first to its last, one after another.

    >>> ranges(np.array([3, 8]), np.array([5, 8])).tolist()
    [3, 4, 5, 8]
    """
    lengths = last - first + 1
    behind = np.cumsum(lengths)
    return np.arange(behind[-1] if len(behind) else 0) + np.repeat(first - behind + lengths, lengths)

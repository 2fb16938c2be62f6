"""Which log-probabilities are read, and where they go."""

from __future__ import annotations

import numpy as np

from ..dsl.scoring.option_tree import OptionTree
from .trie import ranges


class Edges:
    """Which log-probabilities some texts want: edges of a tree that stands after each of them.

    Args:
        tree: the options.
        reads: int ``[ends, 1 + tree.size]``, nodes of the trie that are the rows of the tree.

    Attributes:
        nodes: the distinct nodes that are read.
        shape: ``(ends, E)``.
    """

    def __init__(self, tree: OptionTree, reads: np.ndarray):
        self.shape = len(reads), len(tree.edge_rows)
        self._tree = tree
        # The rows that are read, and their edges, row by row.
        self._edges = np.argsort(tree.edge_rows, kind="stable")
        used, self._own = np.unique(tree.edge_rows, return_counts=True)
        self._first = np.cumsum(self._own) - self._own
        of_rows = reads[:, used].ravel()
        # A row of one text may be that of another, whose options go on from it.
        self._order = np.argsort(of_rows)
        in_order = of_rows[self._order]
        self._starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]][: len(in_order)])
        self._counts = np.diff(np.r_[self._starts, len(in_order)])
        self.nodes = in_order[self._starts]

    def of(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges of nodes that are read: their places in ``[ends, E]``, numbers of the nodes, and tokens."""
        at = np.searchsorted(self.nodes, nodes)
        rows = np.repeat(np.arange(len(nodes)), self._counts[at])
        ends, used = np.divmod(self._order[_spans(self._starts[at], self._counts[at])], len(self._own) or 1)
        edges = self._edges[_spans(self._first[used], self._own[used])]
        own = self._own[used]
        return np.repeat(ends, own) * self.shape[1] + edges, np.repeat(rows, own), self._tree.edge_tokens[edges]


def _spans(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """So many numbers from each first one on."""
    return ranges(first, first + counts - 1)

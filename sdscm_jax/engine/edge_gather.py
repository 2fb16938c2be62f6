"""Which log-probabilities are read, and where they go."""

from __future__ import annotations

import numpy as np

from ..dsl.scoring.option_tree import OptionTree


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
        of_edges = reads[:, tree.edge_rows]
        self.shape = of_edges.shape
        self._tokens = np.broadcast_to(tree.edge_tokens, of_edges.shape).ravel()
        self._order = np.argsort(of_edges.ravel(), kind="stable")
        self.nodes, self._starts = np.unique(of_edges.ravel()[self._order], return_index=True)
        self._counts = np.diff(np.r_[self._starts, of_edges.size])

    def of(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges of nodes that are read: their places in ``[ends, E]``, numbers of the nodes, and tokens."""
        at = np.searchsorted(self.nodes, nodes)
        counts = self._counts[at]
        rows = np.repeat(np.arange(len(nodes)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = self._order[np.repeat(self._starts[at], counts) + within]
        return places, rows, self._tokens[places]

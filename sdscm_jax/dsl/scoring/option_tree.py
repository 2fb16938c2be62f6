"""The options of a site as a tree of tokens: each distinct token path once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...models.codec import Tokens


@dataclass(frozen=True, eq=False)
class OptionTree:
    """A static tree over the scored tokens of K options; usable as static data of a jitted function.

    *Rows* are places whose next-token distribution is read: row 0 is the last token before the
    options, row ``1 + n`` is node n. *Edges* are the distinct (row, token) pairs that are scored.

    Attributes:
        tokens: int ``[N]``, token of each node, parents before children.
        depth: int ``[N]``, 0 for a child of row 0.
        ancestors: bool ``[N, N]``, True at ``[n, m]`` where m is n or above it.
        edge_rows: int ``[E]``, the row of each edge.
        edge_tokens: int ``[E]``, the token of each edge.
        paths: per option, the nodes along its tokens (those that are encoded).
        scored: per option, the edges whose log-probabilities make its score.
    """

    tokens: np.ndarray
    depth: np.ndarray
    ancestors: np.ndarray
    edge_rows: np.ndarray
    edge_tokens: np.ndarray
    paths: tuple[tuple[int, ...], ...]
    scored: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Number of nodes N."""
        return len(self.tokens)

    @cached_property
    def _content(self) -> tuple[Any, ...]:
        # The depths and what stands above a node follow from its path.
        arrays = self.tokens, self.edge_rows, self.edge_tokens
        return self.paths, self.scored, *(x.tobytes() for x in arrays), self.ancestors.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OptionTree) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


def chain_tree(rows: Sequence[Tokens]) -> OptionTree:
    """Tree that scores each option by the chain rule: the token at each step given those before.

    An option's last token is no node unless another option goes on from it: nothing is read there.

    >>> tree = chain_tree([(7, 1), (7, 2), (8,)])
    >>> tree.tokens.tolist(), tree.edge_tokens.tolist(), tree.scored
    ([7], [7, 1, 2, 8], ((0, 1), (0, 2), (3,)))
    """
    inner = {row[:i] for row in rows for i in range(1, len(row))}
    builder = _Builder()
    paths, scored = [], []
    for row in rows:
        place, path, edges = 0, [], []
        for i, token in enumerate(row):
            edges.append(builder.edge(place, token))
            if row[: i + 1] in inner:
                node = builder.node(place, token)
                path.append(node)
                place = 1 + node
        paths.append(tuple(path))
        scored.append(tuple(edges))
    return builder.build(paths, scored)


def bag_tree(rows: Sequence[Tokens]) -> OptionTree:
    """Tree of the reference's score: an option's tokens looked up in the distribution *after* it.

    >>> bag_tree([(7, 1), (7, 2)]).edge_rows.tolist()
    [2, 2, 3, 3]
    """
    builder = _Builder()
    paths, scored = [], []
    for row in rows:
        place, path = 0, []
        for token in row:
            node = builder.node(place, token)
            path.append(node)
            place = 1 + node
        paths.append(tuple(path))
        scored.append(tuple(builder.edge(place, token) for token in row))
    return builder.build(paths, scored)


class _Builder:
    def __init__(self) -> None:
        self.nodes: dict[tuple[int, int], int] = {}
        self.edges: dict[tuple[int, int], int] = {}

    def node(self, row: int, token: int) -> int:
        return self.nodes.setdefault((row, token), len(self.nodes))

    def edge(self, row: int, token: int) -> int:
        return self.edges.setdefault((row, token), len(self.edges))

    def build(self, paths: list[tuple[int, ...]], scored: list[tuple[int, ...]]) -> OptionTree:
        size = len(self.nodes)
        depth, ancestors = np.zeros(size, np.int32), np.eye(size, dtype=bool)
        for (row, _), n in self.nodes.items():
            if row:
                depth[n] = depth[row - 1] + 1
                ancestors[n] |= ancestors[row - 1]
        return OptionTree(
            tokens=np.array([token for _, token in self.nodes], np.int32),
            depth=depth,
            ancestors=ancestors,
            edge_rows=np.array([row for row, _ in self.edges], np.int32),
            edge_tokens=np.array([token for _, token in self.edges], np.int32),
            paths=tuple(paths),
            scored=tuple(scored),
        )


def padded(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different lengths as int32 ``[K, longest]``, and a bool mask of what is real.

    >>> padded([[1, 2], [3]])[0].tolist()
    [[1, 2], [3, 0]]
    """
    width = max((len(row) for row in rows), default=0)
    values, mask = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        values[i, : len(row)], mask[i, : len(row)] = row, True
    return values, mask

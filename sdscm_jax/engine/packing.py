"""From tokens that are not encoded yet to calls of the language model without padding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import jax
import numpy as np

from ..models.decoder import Rows
from .kv_pages import Slots
from .trie import Trie

# N tokens, R rows of at most T of them, S tokens before each row.
Shape = tuple[int, int, int, int]

# Tokens of one text in one call: more go in several, so that few shapes are compiled.
MOST_IN_ROW = 32


@dataclass(frozen=True)
class Sizes:
    """The few shapes that calls are padded to: each is compiled.

    Attributes:
        tokens: how many tokens, the most first.
        widths: how many of them may be of one row, in the larger calls.
    """

    tokens: tuple[int, ...]
    widths: tuple[int, ...]

    @classmethod
    def of(cls, most: int, fine: bool = False, accelerated: bool = False) -> Sizes:
        """Shapes for calls of at most ``most`` tokens.

        Args:
            most: tokens of the largest call.
            fine: on a processor, computing padding costs more than compiling.
            accelerated: on an accelerator, where calls are large and rows are cheap.

        >>> Sizes.of(512).tokens, Sizes.of(512, fine=True).tokens
        ((512, 128), (512, 256, 128, 64))
        """
        steps: tuple[int, ...]
        widths: tuple[int, ...]
        if accelerated:
            steps, widths = (1, 2, 4, 8, 16), (8, 16, MOST_IN_ROW)
        elif fine:
            steps, widths = (1, 2, 4, 8), (16, 24, MOST_IN_ROW)
        else:
            steps, widths = (1, 4), (16, MOST_IN_ROW)
        return cls(_descending(most // step for step in steps), widths)

    def halved(self) -> Sizes:
        """The same with calls of half the tokens."""
        return replace(self, tokens=_descending(size // 2 for size in self.tokens))

    @property
    def singles(self) -> Singles:
        """Shapes for rows of one token each, which many texts that are written together are."""
        parts = (4,) if len(self.tokens) < 3 else (2, 8, 16)
        return Singles(_descending(self.most // part for part in parts), (1,))

    @property
    def most(self) -> int:
        """Tokens of the largest call."""
        return self.tokens[0]

    def at_least(self, count: int) -> int:
        """The smallest size for so many tokens."""
        return next((size for size in reversed(self.tokens) if size >= count), self.most)

    def shape(self, tokens: int, rows: int, width: int) -> tuple[int, int, int]:
        """Tokens, rows and tokens of a row that a call is padded to."""
        shapes = []
        for size in reversed(self.tokens):
            large = 2 * size >= self.most
            fitting = next(w for w in self.widths if w >= width) if large else MOST_IN_ROW
            # In a small call room for more rows costs little.
            shapes.append((size, max(8, (2 if large else 4) * size // fitting // 8 * 8), fitting))
        return next((s for s in shapes if s[0] >= tokens and s[1] >= rows), shapes[-1])


class Singles(Sizes):
    """Shapes of calls whose rows have one token each."""

    def shape(self, tokens: int, rows: int, width: int) -> tuple[int, int, int]:
        """Tokens, rows and tokens of a row that a call is padded to.

        >>> Sizes.of(512).singles.shape(40, 40, 1)
        (128, 128, 1)
        """
        size = self.at_least(max(tokens, rows))
        return size, size, 1


def _descending(sizes: Iterable[int]) -> tuple[int, ...]:
    """Numbers of tokens of a call, the most first; the least holds one row."""
    return tuple(sorted({max(MOST_IN_ROW, size) for size in sizes}, reverse=True))


@dataclass(frozen=True)
class Call:
    """Tokens that go through the language model together.

    Attributes:
        nodes: int ``[N]``; those of one row stand together, parents before children.
        row: int ``[N]``, the row of each node.
        place: int ``[N]``, its place in the row.
        parent: int ``[N]``, the place of its parent in the row, -1 where that is encoded already.
        attached: int ``[R]``, the encoded node that each row goes on from.
    """

    nodes: np.ndarray
    row: np.ndarray
    place: np.ndarray
    parent: np.ndarray
    attached: np.ndarray

    @property
    def width(self) -> int:
        """Most tokens of a row."""
        return int(self.place.max(initial=-1)) + 1


def waves(trie: Trie, missing: np.ndarray, resident: np.ndarray) -> list[list[np.ndarray]]:
    """Rows of missing nodes, in waves: a wave needs only what is resident or in earlier waves.

    Args:
        missing: int ``[M]``, ascending; its nodes' ancestors are missing or resident.
        resident: bool ``[trie.size]``.

    Returns:
        per wave, rows: nodes that go on from one encoded node, parents before children.
    """
    # A row is a piece of the trie under one encoded node, and within it a node sees its ancestors (tree attention:
    # Miao et al. 2024, SpecInfer, arXiv 2305.09781). Ordered by depth, any first part of a row has the ancestors of its
    # nodes, so a long row may be cut anywhere; what is left goes on from what this wave has encoded. Every round takes
    # a node of each row, so it ends, after about depth / MOST_IN_ROW rounds where texts do not branch.
    there = resident.copy()
    there[missing] = False
    found = []
    while missing.size:
        attached = _attached(trie, missing, there)
        order = np.lexsort((trie.depth[missing], attached))
        ordered, groups = missing[order], attached[order]
        starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
        rank = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
        now = rank < MOST_IN_ROW
        kept = np.flatnonzero(now & (rank == 0))
        found.append(np.split(ordered[now], np.cumsum(now)[kept][1:] - 1))
        there[ordered[now]] = True
        missing = np.sort(ordered[~now])
    return found


def _attached(trie: Trie, missing: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Nearest encoded ancestor of each missing node (ascending, so parents come first)."""
    nearest = np.arange(trie.size)
    depth = trie.depth[missing]
    for level in np.unique(depth):
        nodes = missing[depth == level]
        parents = trie.parent[nodes]
        nearest[nodes] = np.where(there[parents], parents, nearest[parents])
    return nearest[missing]


def calls(trie: Trie, rows: list[np.ndarray], sizes: Sizes) -> list[list[np.ndarray]]:
    """Rows put together to calls; rows after texts of like lengths stand together."""
    order = np.lexsort(([len(row) for row in rows], [trie.depth[row[0]] for row in rows]))
    waiting = [rows[i] for i in order]
    left = sum(map(len, waiting))
    found = []
    while waiting:
        # A call of the next size, unless two smaller ones have less padding.
        size = sizes.at_least(left)
        if 4 * left <= 3 * size and (smaller := [s for s in sizes.tokens if s < left]):
            size = smaller[0]
        call, waiting = _fill(waiting, size, sizes)
        found.append(call)
        left -= sum(map(len, call))
    return found


def _fill(waiting: list[np.ndarray], size: int, sizes: Sizes) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows for a call of ``size`` tokens, and those that are left."""
    taken: list[np.ndarray] = []
    left: list[np.ndarray] = []
    room, width = size, 0
    for i, row in enumerate(waiting):
        wider = max(width, len(row))
        if len(row) <= room and len(taken) < sizes.shape(size, 1, wider)[1]:
            taken.append(row)
            room, width = room - len(row), wider
        else:
            left.append(row)
            if room < 2 or len(left) > 64:
                # What fits into the rest is looked for among the next ones only.
                return taken, left + waiting[i + 1 :]
    return taken, left


def call_of(trie: Trie, rows: list[np.ndarray]) -> Call:
    """Lay rows end to end."""
    nodes = np.concatenate(rows)
    lengths = np.array([len(row) for row in rows])
    row = np.repeat(np.arange(len(rows)), lengths)
    place = np.arange(len(nodes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    attached = trie.parent[[int(nodes_of_row[0]) for nodes_of_row in rows]]
    at = np.full(trie.size, -1, np.int32)
    at[nodes] = place
    parent = np.where(trie.parent[nodes] == attached[row], -1, at[trie.parent[nodes]])
    return Call(nodes, row, place, parent, attached)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Layout:
    """The arrays of a call, padded to a few shapes.

    Attributes:
        tokens, positions, slots: int32 ``[N]``.
        rows: how the tokens belong to texts.
        reads: int32 ``[N]``, where the hidden state of a token that is read goes.
    """

    tokens: np.ndarray
    positions: np.ndarray
    slots: np.ndarray
    rows: Rows
    reads: np.ndarray


def shape_of(trie: Trie, call: Call, sizes: Sizes) -> Shape:
    """The shape (N, R, T, S) that a call is padded to."""
    longest = int(trie.depth[call.attached].max(initial=0))
    return *sizes.shape(len(call.nodes), len(call.attached), call.width), rounded(longest, 512)


def widest(shapes: Iterable[Shape]) -> Shape:
    """A shape that calls of all these shapes fit in."""
    found = list(shapes)
    return max(s[0] for s in found), max(s[1] for s in found), max(s[2] for s in found), max(s[3] for s in found)


def nothing() -> Call:
    """A call without tokens, for a lane that has none left."""
    none = np.zeros(0, np.int64)
    return Call(none, none, none, none, none)


def lay_out(trie: Trie, slots: Slots, call: Call, shape: Shape, read: np.ndarray, first: int, most: int) -> Layout:
    """Pad a call.

    Args:
        trie, slots: what it is of; padding goes to the slot behind the last.
        call: the call.
        shape: see ``shape_of``.
        read: bool ``[N]``, which of the nodes are read; their hidden states go to a buffer.
        first: the first free place of the buffer.
        most: size of the buffer; what is not read goes behind its end.
    """
    count, rows, width, past = shape
    members = np.zeros((rows, width), np.int32)
    members[call.row, call.place] = np.arange(len(call.nodes))
    ancestors = np.zeros((rows, width, width), bool)
    ancestors[call.row, call.place, call.place] = True
    parent = np.full((rows, width), -1, np.int32)
    parent[call.row, call.place] = call.parent
    for t in range(1, call.width):
        has = np.flatnonzero(parent[:, t] >= 0)
        ancestors[has, t] |= ancestors[has, parent[has, t]]
    lengths = np.zeros(rows, np.int32)
    lengths[: len(call.attached)] = trie.depth[call.attached]
    before = np.zeros((rows, past), np.int32)
    current, row = call.attached.copy(), np.arange(len(call.attached))
    slot = slots.slot
    while True:
        going = current > 0
        if not going.any():
            break
        current, row = current[going], row[going]
        before[row, trie.depth[current] - 1] = slot[current]
        current = trie.parent[current]
    return Layout(
        tokens=padded_to(trie.token[call.nodes], count),
        positions=padded_to(trie.depth[call.nodes] - 1, count),
        slots=padded_to(slot[call.nodes], count, slots.capacity),
        rows=Rows(members, padded_to(call.row * width + call.place, count), ancestors, before, lengths),
        reads=padded_to(np.where(read, first + np.cumsum(read) - 1, most), count, most),
    )


def padded_to(values: np.ndarray, size: int, fill: int = 0) -> np.ndarray:
    """Values ``[N]`` followed by ``fill``, int32 ``[size]``.

    >>> padded_to(np.array([3, 4]), 4, 9).tolist()
    [3, 4, 9, 9]
    """
    return np.concatenate([values, np.full(size - len(values), fill, values.dtype)]).astype(np.int32)


def rounded(count: int, least: int = 8) -> int:
    """``least`` times the power of four that is at least ``count``.

    >>> [rounded(n) for n in (3, 20, 129)]
    [8, 32, 512]
    """
    size = least
    while size < count:
        size *= 4
    return size

"""From tokens that are not encoded yet to calls of the language model without padding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import jax
import numpy as np

from ..models.decoder import Rows
from .kv_pages import Slots
from .trie import Trie, ranges

# N tokens, R rows of at most T of them, S tokens before each row.
Shape = tuple[int, int, int, int]

# Tokens of one text in one call: more go in several, so that few shapes are compiled.
MOST_IN_ROW = 32
# Rows that do not fit a call and are passed over, while others are looked for that do.
_PASSED = 64


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
            steps, widths = (1, 2, 4, 8, 16), (4, 8, 16, MOST_IN_ROW)
        elif fine:
            steps, widths = (1, 2, 4, 8), (8, 16, 24, MOST_IN_ROW)
        else:
            steps, widths = (1, 4), (8, 16, MOST_IN_ROW)
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
        read: bool ``[N]``, whose distributions are wanted.
        row: int ``[N]``, the row of each node.
        place: int ``[N]``, its place in the row.
        parent: int ``[N]``, the place of its parent in the row, -1 where that is encoded already.
        attached: int ``[R]``, the encoded node that each row goes on from.
    """

    nodes: np.ndarray
    read: np.ndarray
    row: np.ndarray
    place: np.ndarray
    parent: np.ndarray
    attached: np.ndarray

    @property
    def width(self) -> int:
        """Most tokens of a row."""
        return int(self.place.max(initial=-1)) + 1


@dataclass(frozen=True)
class Wave:
    """Rows that need only what is in memory; see ``waves``.

    Attributes:
        nodes: int64 ``[N]``; those of one row stand together, parents before children.
        read: bool ``[N]``, whose distributions are wanted.
        parent: int64 ``[N]``, the place of its parent in the row, -1 where that is encoded already.
        starts, lengths: int64 ``[R]``, where each row is.
        attached: int64 ``[R]``, the encoded node that each row goes on from.
    """

    nodes: np.ndarray
    read: np.ndarray
    parent: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    attached: np.ndarray

    @property
    def width(self) -> int:
        """Most tokens of a row."""
        return int(self.lengths.max(initial=0))


def waves(trie: Trie, missing: np.ndarray, read: np.ndarray) -> list[Wave]:
    """Rows of missing nodes, in waves: a wave needs only what is in memory or in earlier waves.

    A row is what goes on from one encoded node, nearest tokens first, and no more than fits; so texts that part late
    share a row, and a long text is in one wave after another.

    Args:
        missing: int ``[M]``, ascending; its nodes' ancestors are missing or in memory.
        read: bool ``[M]``, whose distributions are wanted.
    """
    # A row is a piece of the trie under one encoded node, and within it a node sees its ancestors (tree attention:
    # Miao et al. 2024, SpecInfer, arXiv 2305.09781). Ordered by depth, any first part of a row has the ancestors of its
    # nodes, so a long row may be cut anywhere; what is left goes on from what this wave has encoded. Every round takes
    # a node of each row, so it ends, after about depth / MOST_IN_ROW rounds where texts do not branch.
    found = []
    while missing.size:
        up = trie.parent[missing].astype(np.int64)
        at = trie.places(up, missing)
        # The topmost missing node above each, by ever longer steps.
        top = np.where(at < 0, np.arange(len(missing)), at)
        while not np.array_equal(higher := top[top], top):
            top = higher
        attached = up[top]
        order = np.lexsort((trie.depth[missing], attached))
        groups = attached[order]
        starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
        counts = np.diff(np.r_[starts, len(groups)])
        rank = np.arange(len(groups)) - np.repeat(starts, counts)
        place = np.empty(len(missing), np.int64)
        place[order] = rank
        now = rank < MOST_IN_ROW
        taken = order[now]
        lengths = np.minimum(counts, MOST_IN_ROW)
        parent = np.where(at[taken] < 0, -1, place[at[taken]])
        found.append(Wave(missing[taken], read[taken], parent, np.cumsum(lengths) - lengths, lengths, groups[starts]))
        later = np.sort(order[~now])
        missing, read = missing[later], read[later]
    return found


def calls(trie: Trie, wave: Wave, sizes: Sizes) -> list[np.ndarray]:
    """Numbers of a wave's rows, put together to calls; rows after texts of like lengths stand together."""
    order = np.lexsort((wave.lengths, trie.depth[wave.attached]))
    lengths, done, left = wave.lengths[order], 0, int(wave.lengths.sum())
    passed, found = np.zeros(0, np.int64), []
    while left:
        # A call of the next size, unless two smaller ones have less padding.
        size = sizes.at_least(left)
        if 4 * left <= 3 * size and (smaller := [s for s in sizes.tokens if s < left]):
            size = smaller[0]
        # Every row has a token: no more can be taken and passed over than these.
        ahead = np.concatenate([passed, np.arange(done, min(len(order), done + size + _PASSED + 1))])
        taken, over, seen = _fill(lengths[ahead], size, sizes)
        done += max(0, seen - len(passed))
        passed = np.concatenate([ahead[over], passed[seen:]])
        found.append(order[ahead[taken]])
        left -= int(lengths[ahead[taken]].sum())
    return found


def _fill(lengths: np.ndarray, size: int, sizes: Sizes) -> tuple[np.ndarray, np.ndarray, int]:
    """Places of rows for a call of ``size`` tokens, of those that are passed over, and how many were looked at."""
    width, most = np.maximum.accumulate(lengths), _most_rows(sizes, size)
    fits = (np.cumsum(lengths) <= size) & (np.arange(len(lengths)) < most[width - 1])
    count = len(lengths) if fits.all() else int(np.argmin(fits))
    taken, passed = list(range(count)), list[int]()
    room, widest_row = size - int(lengths[:count].sum()), int(width[count - 1]) if count else 0
    for i, length in enumerate(lengths[count:].tolist(), count):
        wider = max(widest_row, length)
        if length <= room and len(taken) < most[wider - 1]:
            taken.append(i)
            room, widest_row = room - length, wider
        else:
            passed.append(i)
            if room < 2 or len(passed) > _PASSED:
                # What fits into the rest is looked for among the next ones only.
                return np.array(taken, np.int64), np.array(passed, np.int64), i + 1
    return np.array(taken, np.int64), np.array(passed, np.int64), len(lengths)


@lru_cache(maxsize=64)
def _most_rows(sizes: Sizes, size: int) -> np.ndarray:
    """How many rows a call of ``size`` tokens has room for, if they are at most 1, 2, … tokens wide."""
    return np.array([sizes.shape(size, 1, width)[1] for width in range(1, max(sizes.widths) + 1)])


def call_of(wave: Wave, rows: np.ndarray) -> Call:
    """Lay rows of a wave end to end."""
    lengths = wave.lengths[rows]
    row = np.repeat(np.arange(len(rows)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    own = np.repeat(wave.starts[rows], lengths) + place
    return Call(wave.nodes[own], wave.read[own], row, place, wave.parent[own], wave.attached[rows])


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
    return Call(none, none.astype(bool), none, none, none, none)


def lay_out(trie: Trie, slots: Slots, call: Call, shape: Shape, first: int, most: int) -> Layout:
    """Pad a call.

    Args:
        trie, slots: what it is of; padding goes to the slot behind the last.
        call: the call.
        shape: see ``shape_of``.
        first: the first free place of the buffer, which the hidden states of what is read go to.
        most: size of the buffer; what is not read goes behind its end.
    """
    count, rows, width, past = shape
    members = np.zeros((rows, width), np.int32)
    members[call.row, call.place] = np.arange(len(call.nodes))
    # The places that each token looks at, as bits: those of its parent, of that one's, by ever longer steps.
    own = np.arange(len(call.nodes))
    seen, up = (
        np.uint32(1) << call.place.astype(np.uint32),
        np.where(call.parent < 0, own, own - call.place + call.parent),
    )
    for _ in range(MOST_IN_ROW.bit_length() - 1):
        seen, up = seen | seen[up], up[up]
    bits = np.zeros((rows, width), "<u4")
    bits[call.row, call.place] = seen
    ancestors = np.unpackbits(bits[..., None].view(np.uint8), axis=-1, bitorder="little").view(bool)[..., :width]
    lengths = np.zeros(rows, np.int32)
    lengths[: len(call.attached)] = trie.depth[call.attached]
    before, slot = np.zeros((rows, past), np.int32), slots.slot
    row, heads, ends = trie.runs(call.attached, each=True)
    nodes = ranges(heads, ends)
    before[np.repeat(row, ends - heads + 1), trie.depth[nodes] - 1] = slot[nodes]
    return Layout(
        tokens=padded_to(trie.token[call.nodes], count),
        positions=padded_to(trie.depth[call.nodes] - 1, count),
        slots=padded_to(slot[call.nodes], count, slots.capacity),
        rows=Rows(members, padded_to(call.row * width + call.place, count), ancestors, before, lengths),
        reads=padded_to(np.where(call.read, first + np.cumsum(call.read) - 1, most), count, most),
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

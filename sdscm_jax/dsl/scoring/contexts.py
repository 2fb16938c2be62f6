"""Tables of scores: of every context of a site, or of some, looked up inside jitted functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

# Option numbers are written with digits below this, so that tables of many options stay small.
_BASE = 16


@dataclass(frozen=True, eq=False)
class Table:
    """Scores of a site's options in some of its contexts.

    A context is an option number for each of the m phrases that the site is given.

    Attributes:
        sizes: how many options each of the phrases has.
        contexts: int32 ``[C, m]``, distinct and in lexicographic order.
        scores: float32 ``[C, K]``.

    >>> table = Table.of((2, 3), np.array([[1, 0], [0, 2]]), np.array([[0.5], [0.25]], np.float32))
    >>> table.contexts.tolist(), table.is_dense
    ([[0, 2], [1, 0]], False)
    >>> table.look_up([jnp.array([1, 0, 0]), jnp.array([0, 2, 1])])[:, 0].tolist()
    [0.5, 0.25, nan]
    """

    sizes: tuple[int, ...]
    contexts: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, sizes: Sequence[int], contexts: np.ndarray, scores: np.ndarray) -> Table:
        """A table of contexts in any order; of equal ones the first counts."""
        distinct, first, _ = unique_contexts(np.asarray(contexts, np.int32))
        return cls(tuple(sizes), distinct, np.asarray(scores, np.float32)[first])

    @classmethod
    def dense(cls, scores: np.ndarray) -> Table:
        """A table of every context, from scores ``[K_1, …, K_m, K]``."""
        sizes = np.shape(scores)[:-1]
        return cls(sizes, all_contexts(sizes), np.asarray(scores, np.float32).reshape(-1, np.shape(scores)[-1]))

    @property
    def count(self) -> int:
        """How many contexts there may be."""
        return math.prod(self.sizes)

    @property
    def is_dense(self) -> bool:
        """Does it have all of them?"""
        return len(self.contexts) == self.count

    def with_more(self, contexts: np.ndarray, scores: np.ndarray) -> Table:
        """This table and other contexts."""
        contexts, scores = np.concatenate([self.contexts, contexts]), np.concatenate([self.scores, scores])
        return Table.of(self.sizes, contexts, scores)

    def lacks(self, contexts: np.ndarray) -> np.ndarray:
        """Which of the contexts ``[C', m]`` it does not have, bool ``[C']``."""
        if self.is_dense:
            outside: np.ndarray = (contexts < 0) | (contexts >= np.array(self.sizes, int))
            return np.any(outside, axis=1)
        which = unique_contexts(np.concatenate([self.contexts, contexts]))[2]
        return ~np.isin(which[len(self.contexts) :], which[: len(self.contexts)])

    def look_up(self, indices: Sequence[Array]) -> Array:
        """Scores in the contexts that option numbers say.

        Args:
            indices: m int arrays that broadcast to ``[...]``; they may be traced.

        Returns:
            float32 ``[..., K]``; NaN in contexts that the table does not have, and where an option number
            is outside of ``0..K_j-1``.
        """
        return jnp.take(jnp.asarray(self.scores), self._rows(indices), axis=0, mode="fill", fill_value=jnp.nan)

    def _rows(self, indices: Sequence[Array]) -> Array:
        """Rows of contexts, int32 ``[...]``; ``C`` of those that are not here."""
        end = jnp.int32(len(self.contexts))
        if not self.sizes:
            return jnp.int32(0)
        numbers = jnp.broadcast_arrays(*(jnp.asarray(index, jnp.int32) for index in indices))
        inside = jnp.stack([(number >= 0) & (number < size) for number, size in zip(numbers, self.sizes, strict=True)])
        inside = inside.all(0)
        if self.is_dense:
            row = jnp.int32(0)
            for number, size in zip(numbers, self.sizes, strict=True):
                row = row * size + number
            return jnp.where(inside, row, end)
        digits = [digit for number, size in zip(numbers, self.sizes, strict=True) for digit in _digits(number, size)]
        place = jnp.zeros(numbers[0].shape, jnp.int32)
        for after, radix, digit in zip(self._after, self._radices, digits, strict=True):
            place = jnp.asarray(after)[place * radix + digit]
        return jnp.where(inside, place, end)

    @property
    def _radices(self) -> tuple[int, ...]:
        return tuple(radix for size in self.sizes for radix in _radices(size))

    @cached_property
    def _after(self) -> tuple[np.ndarray, ...]:
        """A tree of the contexts' digits: for each digit, where one comes to from each place before it.

        Int32 ``[(P + 1) * radix]`` for P places, whose last one stands for what is not in the table. (One
        number for a whole context would not fit JAX's 32 bits.)
        """
        columns = [
            digit for j, size in enumerate(self.sizes) for digit in _digits(self.contexts[:, j].astype(np.int64), size)
        ]
        place, places, after = np.zeros(len(self.contexts), np.int64), 1, []
        for digit, radix in zip(columns, self._radices, strict=True):
            # Contexts are in order, so the last places are their rows.
            codes, to = np.unique(place * radix + digit, return_inverse=True)
            step = np.full((places + 1) * radix, len(codes), np.int32)
            step[codes] = np.arange(len(codes))
            after.append(step)
            place, places = to, len(codes)
        return tuple(after)


def all_contexts(sizes: Sequence[int]) -> np.ndarray:
    """Every context, int32 ``[K_1 · … · K_m, m]``, in lexicographic order.

    >>> all_contexts((2, 2)).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    return np.indices(tuple(sizes), np.int32).reshape(len(sizes), math.prod(sizes)).T


def distinct_contexts(contexts: np.ndarray) -> np.ndarray:
    """Contexts ``[C, m]`` without repetition, in lexicographic order."""
    return unique_contexts(np.asarray(contexts, np.int32))[0]


def unique_contexts(contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct rows, where each comes first, and which of them every row is."""
    if not contexts.shape[1]:
        # NumPy does not say how many rows without columns there are.
        return contexts[:1], np.zeros(min(1, len(contexts)), int), np.zeros(len(contexts), int)
    if len(contexts):
        least, most = contexts.min(0).tolist(), contexts.max(0).tolist()
        ranges = [high - low + 1 for low, high in zip(least, most, strict=True)]
        if math.prod(ranges) < 1 << 62:
            # One number for each, in the same order, is sorted several times faster than rows are.
            codes = np.zeros(len(contexts), np.int64)
            for column, low, size in zip(contexts.T, least, ranges, strict=True):
                codes = codes * size + (column.astype(np.int64) - low)
            _, first, which = np.unique(codes, return_index=True, return_inverse=True)
            return contexts[first], first, which
    distinct, first, which = np.unique(contexts, axis=0, return_index=True, return_inverse=True)
    return distinct, first, which.ravel()


def _radices(size: int) -> tuple[int, ...]:
    """Ranges of the digits of an option number, the highest first."""
    return (size,) if size <= _BASE else (*_radices(-(-size // _BASE)), _BASE)


def _digits(number: Any, size: int) -> tuple[Any, ...]:
    return (number,) if size <= _BASE else (*_digits(number // _BASE, -(-size // _BASE)), number % _BASE)

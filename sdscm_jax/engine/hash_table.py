"""A hash table of arrays: many keys are looked up, or put in, at once."""

from __future__ import annotations

import numpy as np

_EMPTY = np.int64(-1)
# Of a table's places at most so many are taken.
_LOAD = 0.7
# 2^64 over the golden ratio: keys that follow one another end up far apart (Knuth, volume 3, section 6.4).
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class HashTable:
    """From int64 keys, none of them negative, to int32 values: open addressing, the next place if one is taken.

    >>> table = HashTable()
    >>> table.put(np.array([5, 7]), np.array([50, 70]))
    >>> table.get(np.array([7, 6, 5, 5])).tolist()
    [70, -1, 50, 50]
    """

    def __init__(self) -> None:
        self._keys, self._values = np.full(64, _EMPTY), np.zeros(64, np.int32)
        self._count = 0

    def _home(self, keys: np.ndarray) -> np.ndarray:
        shift = np.uint64(65 - len(self._keys).bit_length())
        return ((keys.astype(np.uint64) * _SPREAD) >> shift).astype(np.int64)

    def get(self, keys: np.ndarray) -> np.ndarray:
        """Values of keys ``[N]``, int64; -1 where there is none."""
        found, last = np.full(len(keys), -1, np.int64), len(self._keys) - 1
        which, at = np.arange(len(keys)), self._home(keys)
        while len(which):
            there = self._keys[at]
            hit = there == keys[which]
            found[which[hit]] = self._values[at[hit]]
            on = (there != _EMPTY) & ~hit
            which, at = which[on], (at[on] + 1) & last
        return found

    def put(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Put in keys ``[N]`` that are distinct and not there yet."""
        self._count += len(keys)
        if self._count > _LOAD * len(self._keys):
            taken = self._keys != _EMPTY
            old_keys, old_values, size = self._keys[taken], self._values[taken], len(self._keys)
            while self._count > _LOAD * size:
                size *= 2
            self._keys, self._values = np.full(size, _EMPTY), np.zeros(size, np.int32)
            self._place(old_keys, old_values)
        self._place(keys, values)

    def _place(self, keys: np.ndarray, values: np.ndarray) -> None:
        at, last = self._home(keys), len(self._keys) - 1
        while len(keys):
            free = self._keys[at] == _EMPTY
            # Of several that come to one place the last one written has it.
            self._keys[at[free]] = keys[free]
            there = self._keys[at] == keys
            self._values[at[there]] = values[there]
            keys, values, at = keys[~there], values[~there], (at[~there] + 1) & last

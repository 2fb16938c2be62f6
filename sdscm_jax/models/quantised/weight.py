"""What formats of quantised weights have in common: parts of a module in the files, and integers packed in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...checks import told
from ...errors import LoadError
from ..tensor_files import StoredTensors

# Within a weight, along each of its axes.
Bounds = tuple[tuple[int, int], ...]
WORD = 32
# How many bits integers may have: a word holds a whole number of them.
BITS = (2, 4, 8)


@dataclass(frozen=True)
class Weight:
    """A weight as the family's own files would have it.

    Attributes:
        shape: its shape.
        read: from bounds to float32 values; nothing else is undone.
    """

    shape: tuple[int, ...]
    read: Callable[[Bounds], np.ndarray]


@dataclass
class Found:
    """Weights of a format in a directory.

    Attributes:
        weights: by the name that the family has for them.
        used: names of the tensors that they are made of, and of those that no weight needs.
    """

    weights: dict[str, Weight] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


# From a file's ``quantization_config`` and its tensors to what is in them.
Format = Callable[[Mapping[str, Any], StoredTensors], Found]


class Parts:
    """The tensors of one module, by what follows its name.

    Args:
        files: all tensors.
        module: the module's name with the dot.
        found: where it is noted which tensors were used.
    """

    def __init__(self, files: StoredTensors, module: str, found: Found):
        self.files, self.module, self._found = files, module, found

    def has(self, part: str) -> bool:
        return self.module + part in self.files.entries

    def refuse(self, why: str) -> LoadError:
        """An error that names the module."""
        return LoadError(f"{self.files.place}: {self.module.rstrip('.')}: {why}")

    def shape(self, part: str, kinds: tuple[str, ...]) -> tuple[int, ...]:
        """Shape of a tensor, which is used from here on.

        Raises:
            LoadError: it is missing, or of none of these dtypes.
        """
        name = self.module + part
        if not self.has(part):
            raise self.refuse(f"{part} is missing")
        if self.files.kind(name) not in kinds:
            raise self.refuse(f"{part} has dtype {self.files.kind(name)}, expected {' or '.join(kinds)}")
        self._found.used.add(name)
        return self.files.shape(name)

    def skip(self, *parts: str) -> None:
        """Note tensors that change no weight, such as scales of activations."""
        self._found.used |= {self.module + part for part in parts if self.has(part)}

    def read(self, part: str, *bounds: tuple[int, int]) -> np.ndarray:
        """Part of a tensor, or all of it."""
        name = self.module + part
        index = tuple(slice(*pair) for pair in bounds) or (slice(None),) * len(self.files.shape(name))
        return self.files.read(name, index)

    def scales(self, part: str, *bounds: tuple[int, int]) -> np.ndarray:
        """Float32 factors.

        Raises:
            LoadError: one is not finite.
        """
        values = self.read(part, *bounds).astype(np.float32)
        if not np.isfinite(values).all():
            raise self.refuse(f"{part} has values that are not finite")
        return values


FLOATS = ("F64", "F32", "F16", "BF16")


def modules(files: StoredTensors, part: str) -> Iterator[str]:
    """Names of the modules that have such a tensor, with the dot."""
    yield from (name.removesuffix(part) for name in sorted(files.entries) if name.endswith(f".{part}"))


def unpacked(words: np.ndarray, bits: int, axis: int) -> np.ndarray:
    """Integers of int32 words: uint8, ``32 / bits`` of each word along an axis, the lowest bits first.

    >>> unpacked(np.array([[0x76543210]], np.int32), 4, 1)
    array([[0, 1, 2, 3, 4, 5, 6, 7]], dtype=uint8)
    """
    shifts = np.arange(0, WORD, bits, dtype=np.uint32)
    words = np.moveaxis(words, axis, -1)
    values = (words.view(np.uint32)[..., None] >> shifts) & np.uint32((1 << bits) - 1)
    return np.moveaxis(values.astype(np.uint8).reshape(*words.shape[:-1], words.shape[-1] * len(shifts)), -1, axis)


def some(read: Callable[[tuple[int, int]], np.ndarray], bounds: tuple[int, int], each: int, axis: int) -> np.ndarray:
    """Some integers of packed ones, of which each word holds ``each``; ``read`` gives those of whole words."""
    start, stop = bounds
    values = read((start // each, math.ceil(stop / each)))
    index = [slice(None)] * values.ndim
    index[axis] = slice(start - start // each * each, stop - start // each * each)
    return values[tuple(index)]


def integer(settings: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A whole number of the settings.

    Raises:
        LoadError: it is none.
    """
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise LoadError(f"{name} of the quantization_config is an integer, got {told(value)}")
    return value


def refuse_set(settings: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """
    Raises:
        LoadError: one of these is neither absent nor off.
    """
    on = [f"{name} = {told(settings[name])}" for name in names if settings.get(name)]
    if on:
        raise LoadError(f"quantization_config ({settings.get('quant_method')}): not supported: {'; '.join(on)}")

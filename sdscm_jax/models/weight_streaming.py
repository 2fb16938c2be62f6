"""From files to devices, piece by piece: the host never holds a parameter of all layers.

A piece is some layers of a stacked parameter, or some rows of a table. It is read, placed, and written into the whole
on its devices, which is allocated there and updated in place. Small parameters are one piece. On a CPU a piece is cast
and transposed on its way there; on an accelerator it goes as it is stored, and is cast and transposed there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from . import int4, int8
from .sharding import gather, place

# Bytes of a piece at least. Smaller blocks (glibc: up to 32 MiB) stay with the allocator when they are freed.
PIECE = 33 << 20

Bounds = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Source:
    """A parameter in its files.

    Attributes:
        read: from bounds within the parameter, and a dtype, to the values there.
        shape: of the parameter.
        dtype: in which it is stored.
        transposed: are the last two axes the other way round in what is read?
    """

    read: Callable[[Bounds, Any], np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype
    transposed: bool

    def pieces(self, itemsize: int, split: bool) -> Iterator[tuple[int, int]]:
        """Bounds along the first axis, of one length; ``split``: devices share that axis, so there is one piece.

        The last piece begins earlier where the others leave less.
        """
        count, row = self.shape[0], itemsize * math.prod(self.shape[1:])
        number = 1 if split else max(1, count // -(-PIECE // row))
        size = -(-count // number)
        for k in range(number):
            start = min(k * size, count - size)
            yield start, start + size


def filled(source: Source, dtype: Any, sharding: NamedSharding | None) -> Array:
    """A parameter on its devices.

    Args:
        source: where it is read.
        dtype: of the parameter.
        sharding: None: on JAX's default device.
    """
    on_host = _on_host(sharding)
    moved = jnp.dtype(dtype) if on_host else source.dtype

    def make(start: int, stop: int) -> tuple[Array]:
        piece = _placed(source, start, stop, sharding, on_host, moved)
        return (piece,) if on_host else (_cast(sharding, source.transposed)(piece, dtype),)

    return _assembled(source.pieces(moved.itemsize, _splits_first(sharding)), source.shape[0], (sharding,), make)[0]


def filled_rounded(
    source: Source, weights: str, kernel: NamedSharding | None, scale: NamedSharding | None
) -> tuple[Array, Array]:
    """A kernel of all layers as integers, and its scales, which are of whole inputs wherever these are.

    Args:
        source: where the kernel is read.
        weights: as what integers.
        kernel, scale: shardings of the two.
    """
    on_host = _on_host(kernel)
    scales: Any = int4.scales if weights == int8.INT4 else int8.scales

    def make(start: int, stop: int) -> tuple[Array, Array]:
        piece = _placed(source, start, stop, kernel, on_host, source.dtype)
        turn = source.transposed and not on_host
        # Divided by NumPy, so that accelerators, which divide in another way, find the same integers.
        own, inverse = scales(gather(_largest(weights, kernel, turn)(piece)))
        integers = _rounded(weights, kernel, turn)(piece, inverse)
        return integers, jnp.asarray(own) if scale is None else place(own, scale)

    pieces = source.pieces(source.dtype.itemsize, False)
    integers, of_groups = _assembled(pieces, source.shape[0], (kernel, scale), make)
    return integers, of_groups


def _assembled(
    pieces: Iterator[tuple[int, int]],
    count: int,
    shardings: tuple[NamedSharding | None, ...],
    make: Callable[[int, int], tuple[Array, ...]],
) -> tuple[Array, ...]:
    """What ``make`` gives of the pieces, as wholes of length ``count``."""
    wholes: tuple[Array, ...] = ()
    for start, stop in pieces:
        parts = make(start, stop)
        if stop - start == count:
            return parts
        if not wholes:
            wholes = tuple(_empty(s)((count, *x.shape[1:]), x.dtype) for x, s in zip(parts, shardings, strict=True))
        wholes = tuple(_write(s)(whole, x, start) for whole, x, s in zip(wholes, parts, shardings, strict=True))
        # Otherwise all pieces would be there before the first is written.
        jax.block_until_ready(wholes)
        del parts
    return wholes


def _placed(source: Source, start: int, stop: int, sharding: NamedSharding | None, turn: bool, dtype: Any) -> Array:
    """A piece on its devices.

    Args:
        source: where it is read.
        start, stop: its bounds along the first axis.
        sharding: of the parameter.
        turn: on the way, make its axes those of the parameter; otherwise they stay as they are stored.
        dtype: what it is cast to on the way.
    """

    def read(bounds: Bounds) -> np.ndarray:
        (first, last), *rest = bounds
        values = source.read(((start + first, start + last), *rest), dtype)
        # A view: JAX copies it anyway, and transposes faster than NumPy.
        return np.swapaxes(values, -1, -2) if source.transposed and turn else values

    shape = (stop - start, *source.shape[1:])
    if sharding is None:
        return jnp.asarray(read(tuple((0, n) for n in shape)))
    places: dict[Bounds, list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        assert index is not None
        places.setdefault(tuple(s.indices(n)[:2] for s, n in zip(index, shape, strict=True)), []).append(device)
    # Devices along the data axis have the same values, which are read once.
    arrays: list[Array] = []
    for bounds, devices in places.items():
        values = read(bounds)
        arrays += [jax.device_put(values, device) for device in devices]
        jax.block_until_ready(arrays)
    if source.transposed and not turn:
        shape, sharding = (*shape[:-2], shape[-1], shape[-2]), _as_stored(sharding, len(shape))
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def _on_host(sharding: NamedSharding | None) -> bool:
    platform = jax.default_backend() if sharding is None else sharding.mesh.devices.flat[0].platform
    return platform == "cpu"


def _splits_first(sharding: NamedSharding | None) -> bool:
    return sharding is not None and bool(sharding.spec) and sharding.spec[0] is not None


def _as_stored(sharding: NamedSharding, axes: int) -> NamedSharding:
    """The sharding of an array whose last two axes are the other way round."""
    spec = [*sharding.spec, *[None] * (axes - len(sharding.spec))]
    return NamedSharding(sharding.mesh, PartitionSpec(*spec[:-2], spec[-1], spec[-2]))


# -- programs on the devices: one for each shape, whatever the layer --------------------------------


def _turned(piece: Array, turn: bool) -> Array:
    return jnp.swapaxes(piece, -1, -2) if turn else piece


@lru_cache(maxsize=64)
def _empty(sharding: NamedSharding | None) -> Any:
    return jax.jit(jnp.zeros, static_argnums=(0, 1), out_shardings=sharding)


@lru_cache(maxsize=64)
def _write(sharding: NamedSharding | None) -> Any:
    def write(whole: Array, piece: Array, start: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(whole, piece, start, 0)

    return jax.jit(write, donate_argnums=0, out_shardings=sharding)


@lru_cache(maxsize=64)
def _cast(sharding: NamedSharding | None, turn: bool) -> Any:
    return jax.jit(lambda x, dtype: _turned(x, turn).astype(dtype), static_argnums=1, out_shardings=sharding)


@lru_cache(maxsize=64)
def _largest(weights: str, sharding: NamedSharding | None, turn: bool) -> Any:
    where = None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())
    largest = int4.largest if weights == int8.INT4 else int8.largest
    return jax.jit(lambda x: largest(_turned(x, turn)), out_shardings=where)


@lru_cache(maxsize=64)
def _rounded(weights: str, sharding: NamedSharding | None, turn: bool) -> Any:
    rounded = int4.packed if weights == int8.INT4 else int8.rounded
    return jax.jit(lambda x, inverse: rounded(_turned(x, turn), inverse), out_shardings=sharding)


def parts_of(leaf: Array) -> Iterator[Array]:
    """A parameter in parts along its first axis, so that the host never holds all layers of it."""
    rows = max(1, PIECE * leaf.shape[0] // max(1, leaf.nbytes)) if leaf.ndim else 1
    if not leaf.ndim or rows >= leaf.shape[0] or not getattr(leaf, "is_fully_addressable", True):
        yield leaf
        return
    for start in range(0, leaf.shape[0], rows):
        yield leaf[start : start + rows]

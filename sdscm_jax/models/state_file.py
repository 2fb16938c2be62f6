"""The state of a training run as one file: a heading, arrays one after another, and a checksum of them all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .sharding import gather

_KIND = "sdscm_jax training"
_PIECE = 1 << 26


def state_pieces(head: Mapping[str, Any], losses: np.ndarray, state: Any) -> Iterator[Any]:
    """The file in pieces; collective where arrays are spread over processes, of which no two are on the host at a time.

    Args:
        head: what the state is, as JSON values.
        losses: of the steps that made it.
        state: a pytree of arrays.
    """
    leaves = jax.tree.leaves(state)
    listed = [_described(leaf) for leaf in leaves]
    heading = {"kind": _KIND, "head": dict(head), "losses": len(losses), "arrays": listed}
    digest = hashlib.sha256()

    def hashed(piece: Any) -> Any:
        digest.update(piece)
        return piece

    yield hashed(json.dumps(heading).encode() + b"\n")
    yield hashed(np.asarray(losses, "<f4").tobytes())
    for leaf in leaves:
        # As bytes: dtypes that NumPy does not know have no buffers.
        yield hashed(np.ascontiguousarray(gather(_numbers(leaf))).reshape(-1).view(np.uint8))
    yield digest.hexdigest().encode()


def read_state(path: Path, like: Any) -> tuple[dict[str, Any], np.ndarray, Any]:
    """Heading, losses and state of a file.

    Args:
        path: of the file.
        like: a state of the same structure, shapes, dtypes and places.

    Raises:
        OSError, ValueError, TypeError, KeyError: it is not what was written, or of another structure.
    """
    _check(path)
    with path.open("rb") as file:
        heading = json.loads(file.readline())
        leaves, structure = jax.tree.flatten(like)
        if heading["kind"] != _KIND or heading["arrays"] != [_described(leaf) for leaf in leaves]:
            raise ValueError("it holds other arrays")
        losses = np.frombuffer(file.read(4 * heading["losses"]), "<f4").astype(np.float32)
        found = [_placed(_read(file, _numbers(leaf)), leaf) for leaf in leaves]
    return heading["head"], losses, jax.tree.unflatten(structure, found)


def _check(path: Path) -> None:
    """Compare the file with its checksum, before anything of it is believed."""
    size = path.stat().st_size - 64
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (piece := file.read(min(size, _PIECE))):
            digest.update(piece)
            size -= len(piece)
        if file.read() != digest.hexdigest().encode():
            raise ValueError("its checksum differs")


def _described(leaf: Any) -> list[Any]:
    return [str(jnp.result_type(leaf)), list(np.shape(leaf))]


def _numbers(leaf: Any) -> Any:
    """The array, of a key its data."""
    return jax.random.key_data(leaf) if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key) else leaf


def _read(file: Any, like: Any) -> np.ndarray:
    dtype = jnp.result_type(like)
    size = int(np.prod(np.shape(like), dtype=np.int64)) * dtype.itemsize
    return np.frombuffer(file.read(size), np.uint8).view(dtype).reshape(np.shape(like))


def _placed(values: np.ndarray, like: Any) -> Any:
    if not isinstance(like, jax.Array):
        return values
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_placed(values, _numbers(like)), impl=jax.random.key_impl(like))
    if like.is_fully_addressable:
        return jax.device_put(values, like.sharding)
    return jax.make_array_from_callback(values.shape, like.sharding, lambda index: values[index])

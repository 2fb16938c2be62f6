"""What is kept of encoded tokens, so that tokens after them need not encode them again.

A model's pages are a pytree of arrays. Each leaf has a leading axis of the layers that keep it; then come, in a cache,
``[layers, ..., heads, S, size]`` (S tokens of each text), and in a pool ``[layers, slots, heads, size]``. Where all
layers are alike, the pytree is ``KeyValues``; where they are not, it is a dictionary: the name of a mixer (see
``mixer_config``)
-> what its layers keep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# A pytree of arrays as above.
Pages = Any


@dataclass(frozen=True)
class Kept:
    """The sizes of one leaf of a model's pages.

    Attributes:
        layers: how many layers keep it.
        heads, size: of one token in one layer.
        exact: is it float32, whatever the model is?
    """

    layers: int
    heads: int
    size: int
    exact: bool = False

    def dtype(self, of_model: Any) -> Any:
        """Dtype of the leaf in a model of a dtype."""
        return jnp.dtype(jnp.float32) if self.exact else of_model

    def bytes(self, of_model: Any) -> int:
        """Bytes that a token takes.

        >>> Kept(2, 4, 8).bytes(jnp.dtype("bfloat16"))
        128
        """
        return math.prod((self.layers, self.heads, self.size)) * int(self.dtype(of_model).itemsize)


class KeyValues(NamedTuple):
    """Keys and values of encoded tokens."""

    keys: Any
    values: Any


class Recurrent(NamedTuple):
    """What tokens add to the states of recurrent layers; see ``recurrence``.

    Attributes:
        keys, values: k and u.
        decay: of ``recurrence.running``.
        read: what the convolution before it reads.
    """

    keys: Any
    values: Any
    decay: Any
    read: Any


def length(pages: Pages) -> int:
    """Number of token slots S of a cache."""
    return int(jax.tree.leaves(pages)[0].shape[-2])


def followed_by(pages: Pages, others: Pages) -> Pages:
    """The tokens of a cache followed by others; batch dimensions broadcast."""
    return jax.tree.map(concatenate_tokens, pages, others)


def take(pages: Pages, slots: Array) -> Pages:
    """The tokens of a cache at ``slots`` ``[..., N]`` (int), in that order; batch dimensions broadcast."""

    def pick(x: Array) -> Array:
        index = slots[..., None, :, None]
        batch = jnp.broadcast_shapes(x.shape[1:-2], index.shape[:-2])
        x = broadcast_batch(x, batch)
        index = jnp.broadcast_to(index, (*batch, *index.shape[-2:]))
        return jnp.take_along_axis(x, index[None], axis=-2, mode="clip")

    return jax.tree.map(pick, pages)


def concatenate_tokens(a: Array, b: Array) -> Array:
    batch = jnp.broadcast_shapes(a.shape[1:-2], b.shape[1:-2])
    return jnp.concatenate([broadcast_batch(a, batch), broadcast_batch(b, batch)], axis=-2)


def broadcast_batch(x: Array, batch: tuple[int, ...]) -> Array:
    """Broadcast the axes between the first (layers) and the last two (tokens, size)."""
    x = x.reshape(x.shape[0], *(1,) * (len(batch) - (x.ndim - 3)), *x.shape[1:])
    return jnp.broadcast_to(x, (x.shape[0], *batch, *x.shape[-2:]))

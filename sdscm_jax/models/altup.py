"""Several states of each token, of which a layer computes one (Gemma 3n: AltUp), and a second residual (LAuReL).

Baykal et al. 2023 (Alternating Updates for Efficient Transformers, arXiv 2301.13310): a layer predicts all streams from
all, computes the active one anew, and corrects the others by as much as that one was off. Menghani et al. 2024 (arXiv
2411.07501): beside attention stands a map of low rank.

Streams are ``[n, ..., T, width]``.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from .attention import precision_of
from .config import DecoderConfig, Streams
from .feed import linear, plain_linear
from .norms import make_norm

# Of the mean square of a stream, before it is divided by its root.
_LEAST = 1e-5


def _as_large(x: Array, as_this: Array) -> Array:
    """``x`` with the root mean square over the last axis that another array has."""

    def mean_square(y: Array) -> Array:
        return jnp.square(y.astype(jnp.float32)).mean(-1, keepdims=True)

    factor = jnp.sqrt(mean_square(as_this)) / jnp.sqrt(jnp.maximum(mean_square(x), _LEAST))
    return (x * factor).astype(x.dtype)


class StreamEnds(nnx.Module):
    """The other streams of an embedding, and one state of all at the end.

    Attributes:
        into, out_of: ``[n - 1, width, width]``.
    """

    def __init__(self, config: DecoderConfig, streams: Streams, dtype: Any, rngs: nnx.Rngs):
        shape = streams.count - 1, config.width, config.width
        normal = nnx.initializers.normal(0.02)
        self.into = nnx.Param(normal(rngs.params(), shape, dtype))
        self.out_of = nnx.Param(normal(rngs.params(), shape, dtype))

    def begin(self, x: Array) -> Array:
        """Streams of embeddings ``[..., T, width]``."""
        others = jnp.einsum("...d,nde->n...e", x, self.into[...], precision=precision_of(x.dtype))
        return jnp.concatenate([x[None], _as_large(others, x)])

    def end(self, streams: Array) -> Array:
        """One state ``[..., T, width]``."""
        precision = precision_of(streams.dtype)
        others = jnp.einsum("n...d,nde->n...e", streams[1:], self.out_of[...], precision=precision)
        every = jnp.concatenate([streams[:1], _as_large(others, streams[0])])
        return every.astype(jnp.float32).mean(0).astype(streams.dtype)


class StreamLayer(nnx.Module):
    """What a layer has for its streams.

    Args:
        config, streams: the switches.
        dtype, rngs: of the parameters.
    """

    def __init__(self, config: DecoderConfig, streams: Streams, dtype: Any, rngs: nnx.Rngs):
        c, self.config, self.streams, n = config, config, streams, streams.count
        self.router_norm = make_norm(c, c.width, dtype, rngs)
        self.router = plain_linear(c.width, n, False, dtype, rngs)
        self.prediction = plain_linear(n, n * n, False, dtype, rngs)
        self.correction = plain_linear(n, n, False, dtype, rngs)
        self.scale = nnx.Param(jnp.zeros(c.width, dtype))
        self.left = linear(c, "streams.left", c.width, streams.rank, False, dtype, rngs)
        self.right = linear(c, "streams.right", streams.rank, c.width, False, dtype, rngs)
        self.norm = make_norm(c, c.width, dtype, rngs)

    def predict(self, streams: Array) -> Array:
        """All streams, before the layer has computed the active one."""
        n = self.streams.count
        coefficients = self.prediction(self._modes(streams[self.streams.active]))
        by_pair = jnp.moveaxis(coefficients.reshape(*coefficients.shape[:-1], n, n), (-2, -1), (0, 1))
        added = jnp.einsum("ji...,i...d->j...d", by_pair, streams, precision=precision_of(streams.dtype))
        return added + streams

    def correct(self, predicted: Array, active: Array) -> Array:
        """All streams, of which the layer computed one: ``[..., T, width]``."""
        factors = jnp.moveaxis(self.correction(self._modes(active)), -1, 0)[..., None] + 1
        return (active - predicted[self.streams.active]) * factors + predicted

    def added_to_others(self, streams: Array, of_active: Any) -> Array:
        """Streams, to all but the first of which is added what ``of_active`` gives of the active one."""
        active = streams[self.streams.active]
        added = of_active(active * self.scale[...] if self.streams.scaled else active)
        return jnp.concatenate([streams[:1], streams[1:] + added])

    def beside(self, x: Array) -> Array:
        """The second residual of what attention reads, ``[..., T, width]``."""
        return x + self.norm(self.right(self.left(x))).astype(x.dtype)

    def _modes(self, x: Array) -> Array:
        """``[..., T, n]`` between -1 and 1."""
        normed = self.router_norm(x).astype(x.dtype) * jnp.asarray(1 / self.config.width, x.dtype)
        return jnp.tanh(self.router(normed).astype(jnp.float32)).astype(x.dtype)

"""A vector of each token for each layer, beside its embedding (Gemma 3n and 4: per-layer embeddings).

Half of it is looked up in a table of the vocabulary, half is a projection of the token's embedding. A layer adds a
projection of what a gate lets through of its own vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from .config import DecoderConfig, LayerInputs
from .feed import linear, plain_linear
from .norms import make_norm


class LayerEmbeddings(nnx.Module):
    """The vectors of all layers.

    Args:
        config, sizes: the switches.
        dtype, rngs: of the parameters.
    """

    def __init__(self, config: DecoderConfig, sizes: LayerInputs, dtype: Any, rngs: nnx.Rngs):
        self.config, self.sizes = config, sizes
        of_all = config.layers * sizes.size
        normal = nnx.initializers.normal(0.02)
        self.table = nnx.Embed(sizes.vocabulary, of_all, param_dtype=dtype, embedding_init=normal, rngs=rngs)
        self.projection = plain_linear(config.width, of_all, False, dtype, rngs)
        self.norm = make_norm(config, sizes.size, dtype, rngs)

    def __call__(self, tokens: Array, x: Array) -> Array:
        """``[layers, ..., T, size]`` of tokens ``[..., T]``, whose embeddings are ``x`` ``[..., T, width]``."""
        size, dtype = self.sizes.size, x.dtype

        def by_layer(y: Array) -> Array:
            return jnp.moveaxis(y.reshape(*y.shape[:-1], self.config.layers, size), -2, 0)

        # Tokens that the table does not have are its first one.
        rows = jnp.where(tokens < self.sizes.vocabulary, tokens, 0)
        looked_up = jnp.take(self.table.embedding[...], rows, axis=0, mode="clip")
        looked_up = looked_up * jnp.asarray(math.sqrt(size), dtype)
        projected = self.projection(x) * jnp.asarray(self.config.width**-0.5, dtype)
        normed = self.norm(by_layer(projected)).astype(dtype)
        return (normed + by_layer(looked_up)) * jnp.asarray(math.sqrt(0.5), dtype)


class LayerInput(nnx.Module):
    """What one layer adds of its vectors."""

    def __init__(self, config: DecoderConfig, sizes: LayerInputs, dtype: Any, rngs: nnx.Rngs):
        c = config
        self.into = linear(c, "layer_input.into", c.width, sizes.size, False, dtype, rngs)
        self.out_of = linear(c, "layer_input.out_of", sizes.size, c.width, False, dtype, rngs)
        self.norm = make_norm(c, c.width, dtype, rngs)

    def __call__(self, x: Array, own: Array, activation: Callable[[Array], Array]) -> Array:
        """``[..., T, width]`` of ``x`` ``[..., T, width]`` and the layer's vectors ``[..., T, size]``."""
        return self.norm(self.out_of(activation(self.into(x)) * own)).astype(x.dtype)

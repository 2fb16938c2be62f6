"""Latent attention: keys and values of all heads are projections of one small vector, and that is what is kept.

DeepSeek-AI 2024 (arXiv 2405.04434, section 2.1). A query is compared with a key through the vector that the key is a
projection of: the projection is applied to the query instead (section 2.1.2: absorbed), and what attention takes is
projected into values afterwards. So a token's pages hold ``rank + turned`` numbers for each layer, not those of all
heads, and every head reads the same ones; a comparison takes ``rank + turned`` products for each head instead of
``plain + turned``.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from .attention import precision_of
from .config import DecoderConfig, Latent
from .feed import linear, plain_linear
from .rope import Angles, halves, rotate

# Of the norms of the small vectors, whatever the model's.
_EPSILON = 1e-6


class LatentProjections(nnx.Module):
    """The projections of one layer.

    Attributes:
        query: of queries, from the layer's input or from ``query_down``'s vector (normed).
        down: of the vector and of the part of keys that rotates.
        key, value: ``[rank, heads * plain]`` and ``[rank, heads * value]``, of the vector (normed).
    """

    def __init__(self, config: DecoderConfig, sizes: Latent, dtype: Any, rngs: nnx.Rngs):
        c, self.config, self.sizes = config, config, sizes

        def norm(size: int) -> nnx.RMSNorm:
            return nnx.RMSNorm(size, epsilon=_EPSILON, param_dtype=dtype, dtype=jnp.float32, rngs=rngs)

        if sizes.query_rank:
            self.query_down = linear(c, "latent.query_down", c.width, sizes.query_rank, c.qkv_bias, dtype, rngs)
            self.query_norm = norm(sizes.query_rank)
        of_query = c.heads * (sizes.plain + sizes.turned)
        self.query = linear(c, "latent.query", sizes.query_rank or c.width, of_query, False, dtype, rngs)
        self.down = linear(c, "latent.down", c.width, sizes.rank + sizes.turned, c.qkv_bias, dtype, rngs)
        self.norm = norm(sizes.rank)
        self.key = plain_linear(sizes.rank, c.heads * sizes.plain, False, dtype, rngs)
        self.value = plain_linear(sizes.rank, c.heads * sizes.value, False, dtype, rngs)

    def __call__(self, x: Array, angles: Angles | None) -> tuple[Array, Array, Array]:
        """Queries ``[..., heads, T, rank + turned]``, keys ``[..., 1, T, turned]`` and values ``[..., 1, T, rank]``."""
        s, precision = self.sizes, precision_of(x.dtype)
        compressed = self.query_norm(self.query_down(x)).astype(x.dtype) if s.query_rank else x
        q = self.query(compressed)
        q = jnp.swapaxes(q.reshape(*q.shape[:-1], -1, s.plain + s.turned), -2, -3)
        plain, turned = q[..., : s.plain], q[..., s.plain :]
        both = self.down(x)[..., None, :, :]
        vector, key = self.norm(both[..., : s.rank]).astype(x.dtype), both[..., s.rank :]
        if angles is not None:
            if self.config.interleaved:
                turned, key = halves(turned, s.turned), halves(key, s.turned)
            turned, key = rotate(turned, *angles), rotate(key, *angles)
        kernel = self.key.kernel[...].reshape(s.rank, -1, s.plain)
        plain = jnp.einsum("...htp,rhp->...htr", plain, kernel, precision=precision)
        return jnp.concatenate([plain, turned], -1), key, vector

    def values(self, mixed: Array) -> Array:
        """What heads take ``[..., heads, T, value]``, of ``[..., heads, T, rank]``."""
        kernel = self.value.kernel[...].reshape(self.sizes.rank, -1, self.sizes.value)
        return jnp.einsum("...htr,rhv->...htv", mixed, kernel, precision=precision_of(mixed.dtype))

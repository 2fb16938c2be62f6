"""One layer of the decoder: attention and MLP, each between norms and added to what they read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array

from .attention import KeyValues
from .config import DecoderConfig
from .feed import Feed, linear
from .latent import LatentProjections
from .norms import make_norm, unweighted
from .rope import Angles, halves, rotate


class Turns(NamedTuple):
    """What depends on whether a layer rotates, beside the rotation.

    Attributes:
        rotates: bool, where queries and keys of layers that do are normed after it; None: they are not.
        growth: float32 ``[..., T]``, factor of queries; None: there is none.
    """

    rotates: Array | None = None
    growth: Array | None = None


_AS_IT_IS = Turns()


class Block(Feed):
    """One transformer layer; where layers differ in what stands behind the attention, it is given that."""

    def __init__(self, config: DecoderConfig, dtype: Any, rngs: nnx.Rngs):
        c, self.config = config, config
        if c.pre_norms:
            self.attention_norm = make_norm(c, c.width, dtype, rngs)
        if c.pre_norms and not c.one_norm:
            self.mlp_norm = make_norm(c, c.width, dtype, rngs)
        if c.latent is None:
            self.query = linear(c, "query", c.width, c.heads * c.head_dim, c.qkv_bias, dtype, rngs)
            self.key = linear(c, "key", c.width, c.kv_heads * c.head_dim, c.qkv_bias, dtype, rngs)
            self.value = linear(c, "value", c.width, c.kv_heads * c.head_dim, c.qkv_bias, dtype, rngs)
            self.out = linear(c, "out", c.heads * c.head_dim, c.width, c.out_bias, dtype, rngs)
        else:
            self.latent = LatentProjections(c, c.latent, dtype, rngs)
            self.out = linear(c, "out", c.heads * c.latent.value, c.width, c.out_bias, dtype, rngs)
        if c.sinks:
            self.sinks = nnx.Param(jnp.zeros(c.heads, dtype))
        if c.dense is None:
            self.sparse = c.experts is not None
            self._make(dtype, rngs)
        if c.qk_norm or c.qk_norm_whole:
            self.query_norm = make_norm(c, c.head_dim * (c.heads if c.qk_norm_whole else 1), dtype, rngs)
            self.key_norm = make_norm(c, c.head_dim * (c.kv_heads if c.qk_norm_whole else 1), dtype, rngs)
        if c.output_norms:
            self.attention_output_norm = make_norm(c, c.width, dtype, rngs)
            self.mlp_output_norm = make_norm(c, c.width, dtype, rngs)

    def project(self, x: Array, angles: Angles | None, turns: Turns) -> tuple[Array, Array, Array]:
        """Queries ``[..., heads, T, head_dim]``, and keys and values ``[..., kv_heads, T, head_dim]``."""
        c = self.config
        if c.latent is not None:
            return self.latent(x, angles)

        def heads(y: Array) -> Array:  # [..., T, n * head_dim] -> [..., n, T, head_dim]
            return jnp.swapaxes(y.reshape(*y.shape[:-1], -1, c.head_dim), -2, -3)

        q, k, v = self.query(x), self.key(x), self.value(x)
        if c.qk_norm_whole:
            q, k = self.query_norm(q).astype(x.dtype), self.key_norm(k).astype(x.dtype)
        if c.qkv_clip is not None:
            q, k, v = (jnp.clip(y, -c.qkv_clip, c.qkv_clip) for y in (q, k, v))
        q, k, v = heads(q), heads(k), heads(v)
        if c.qk_norm:
            q, k = self.query_norm(q).astype(x.dtype), self.key_norm(k).astype(x.dtype)
        if angles is not None:
            if c.interleaved:
                # Products of queries and keys do not depend on the order of the dimensions that both have.
                q, k = halves(q, 2 * angles.cos.shape[-1]), halves(k, 2 * angles.cos.shape[-1])
            q, k = rotate(q, *angles), rotate(k, *angles)
        if turns.rotates is not None:
            q, k = (jnp.where(turns.rotates, unweighted(y, c.norm_eps), y) for y in (q, k))
        if turns.growth is not None:
            q = (q * turns.growth[..., None, :, None]).astype(x.dtype)
        return q, k, v

    def __call__(
        self,
        x: Array,
        angles: Angles | None,
        attention: Callable[[Array, Array, Array], Array],
        behind: Callable[[Array], Array] | None = None,
        turns: Turns = _AS_IT_IS,
    ) -> tuple[Array, KeyValues]:
        """The layer's output ``[..., T, width]``, and the tokens' keys and values.

        Args:
            x: ``[..., T, width]``.
            angles: of the rotation, None: there is none.
            attention: of this layer's queries, keys and values.
            behind: what stands behind the attention; None: the layer's own.
            turns: what else depends on the layer's rotation.
        """
        c, mlp = self.config, self.mlp if behind is None else behind
        normed = self.attention_norm(x).astype(x.dtype) if c.pre_norms else x
        q, k, v = self.project(normed, angles, turns)
        attended = attention(q, k, v)
        if c.latent is not None:
            attended = self.latent.values(attended)
        mixed = jnp.swapaxes(attended, -2, -3)
        attended = self.out(mixed.reshape(*x.shape[:-1], -1))
        if c.output_norms:
            attended = self.attention_output_norm(attended).astype(x.dtype)
        if c.parallel:
            other = normed if c.one_norm else self.mlp_norm(x).astype(x.dtype)
            return x + attended + mlp(other), KeyValues(k, v)
        x = x + self._scaled(attended)
        added = mlp(self.mlp_norm(x).astype(x.dtype) if c.pre_norms else x)
        if c.output_norms:
            added = self.mlp_output_norm(added).astype(x.dtype)
        return x + self._scaled(added), KeyValues(k, v)

    def _scaled(self, added: Array) -> Array:
        scale = self.config.residual_scale
        return added if scale == 1 else added * jnp.asarray(scale, added.dtype)

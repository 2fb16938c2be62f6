"""Attention of one layer: its projections, and what it takes from other tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from .attention import attend
from .config import DecoderConfig
from .feed import linear
from .latent import LatentProjections
from .norms import make_norm, unweighted
from .pages import KeyValues, Pages
from .rope import Angles, halves, rotate
from .sight import Sight


class Turns(NamedTuple):
    """What depends on whether a layer rotates, beside the rotation.

    Attributes:
        rotates: bool, where queries and keys of layers that do are normed after it; None: they are not.
        growth: float32 ``[..., T]``, factor of queries; None: there is none.
    """

    rotates: Array | None = None
    growth: Array | None = None


class Seen(NamedTuple):
    """What one mixer of one layer sees.

    Attributes:
        sight: which of the tokens before them new tokens see.
        stored: the layer's pages of earlier tokens.
        window: the layer's; None: it has none.
        angles: of the rotation; None: there is none.
        turns: what else depends on the layer's rotation.
        lent: pages of the new tokens of the layer whose keys and values it reads; None: it has its own.
    """

    sight: Sight
    stored: Any
    window: Array | None = None
    angles: Angles | None = None
    turns: Turns = Turns()
    lent: Pages = None


class SelfAttention(nnx.Module):
    """Attention of one layer.

    Args:
        config: the switches.
        dtype, rngs: of the parameters.
    """

    def __init__(self, config: DecoderConfig, dtype: Any, rngs: nnx.Rngs):
        self.config = config
        self._make_projections(dtype, rngs)
        self._make_head_norms(dtype, rngs)

    def _make_projections(self, dtype: Any, rngs: nnx.Rngs) -> None:
        c = self.config
        if c.latent is None:
            self.query = linear(c, "query", c.width, c.heads * c.head_dim, c.qkv_bias, dtype, rngs)
            self.key = linear(c, "key", c.width, c.kv_heads * c.head_dim, c.qkv_bias, dtype, rngs)
            self.value = linear(c, "value", c.width, c.kv_heads * c.head_dim, c.qkv_bias, dtype, rngs)
            self.out = linear(c, "out", c.heads * c.head_dim, c.width, c.out_bias, dtype, rngs)
        else:
            self.latent = LatentProjections(c, c.latent, dtype, rngs)
            self.out = linear(c, "out", c.heads * c.latent.value, c.width, c.out_bias, dtype, rngs)
        if c.gated_output:
            size = c.heads * (c.head_dim if c.latent is None else c.latent.value)
            self.output_gate = linear(c, "output_gate", c.width, size, c.qkv_bias, dtype, rngs)
        if c.sinks:
            self.sinks = nnx.Param(jnp.zeros(c.heads, dtype))

    def _make_head_norms(self, dtype: Any, rngs: nnx.Rngs) -> None:
        c = self.config
        if c.qk_norm or c.qk_norm_whole:
            self.query_norm = make_norm(c, c.head_dim * (c.heads if c.qk_norm_whole else 1), dtype, rngs)
            self.key_norm = make_norm(c, c.head_dim * (c.kv_heads if c.qk_norm_whole else 1), dtype, rngs)

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

    def mix(self, x: Array, seen: Seen) -> tuple[Array, KeyValues]:
        """What the tokens take from others ``[..., T, width]``, and their keys and values.

        Args:
            x: the layer's input, ``[..., T, width]``.
            seen: what the layer sees.
        """
        c = self.config
        q, k, v = self.project(x, seen.angles, seen.turns)
        sinks = self.sinks[...] if c.sinks else None
        attended = attend(c, seen.sight, q, k, v, seen.window, sinks, seen.stored)
        if c.latent is not None:
            attended = self.latent.values(attended)
        mixed = jnp.swapaxes(attended, -2, -3).reshape(*x.shape[:-1], -1)
        if c.gated_output:
            mixed = mixed * jax.nn.sigmoid(self.output_gate(x))
        return self.out(mixed), KeyValues(k, v)

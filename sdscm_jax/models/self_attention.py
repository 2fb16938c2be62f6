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
        reads: are keys and values those of another layer?
    """

    def __init__(self, config: DecoderConfig, dtype: Any, rngs: nnx.Rngs, reads: bool = False):
        self.config, self.reads = config, reads
        self._make_projections(dtype, rngs)
        self._make_head_norms(dtype, rngs)

    def _make_projections(self, dtype: Any, rngs: nnx.Rngs) -> None:
        c = self.config
        if c.latent is None:
            self.query = linear(c, "query", c.width, c.heads * c.head_dim, c.qkv_bias, dtype, rngs)
            if not self.reads:
                self.key = linear(c, "key", c.width, c.kv_heads * c.head_dim, c.qkv_bias, dtype, rngs)
            if not self.reads and not c.one_projection:
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
            if not self.reads:
                self.key_norm = make_norm(c, c.head_dim * (c.kv_heads if c.qk_norm_whole else 1), dtype, rngs)

    def project(self, x: Array, angles: Angles | None, turns: Turns) -> tuple[Array, Any, Any]:
        """Queries ``[..., heads, T, head_dim]``, and keys and values ``[..., kv_heads, T, head_dim]`` or None."""
        c = self.config
        if c.latent is not None:
            return self.latent(x, angles)

        def heads(y: Array) -> Array:  # [..., T, n * head_dim] -> [..., n, T, head_dim]
            y = y if c.qkv_clip is None else jnp.clip(y, -c.qkv_clip, c.qkv_clip)
            return jnp.swapaxes(y.reshape(*y.shape[:-1], -1, c.head_dim), -2, -3)

        def placed(y: Array, name: str) -> Array:
            y = heads(getattr(self, name)(y).astype(x.dtype) if c.qk_norm_whole else y)
            y = getattr(self, name)(y).astype(x.dtype) if c.qk_norm else y
            if angles is not None:
                # (Other layers may have larger heads.)
                cos, sin = (a[..., : c.head_dim // 2] for a in angles)
                if c.interleaved:
                    # Products of queries and keys do not depend on the order of the dimensions that both have.
                    y = halves(y, 2 * cos.shape[-1])
                y = rotate(y, cos, sin)
            return y if turns.rotates is None else jnp.where(turns.rotates, unweighted(y, c.norm_eps), y)

        q = placed(self.query(x), "query_norm")
        if turns.growth is not None:
            q = (q * turns.growth[..., None, :, None]).astype(x.dtype)
        if self.reads:
            return q, None, None
        key = self.key(x)
        v = heads(key if c.one_projection else self.value(x))
        return q, placed(key, "key_norm"), unweighted(v, c.norm_eps) if c.value_norm else v

    def mix(self, x: Array, seen: Seen) -> tuple[Array, KeyValues | None]:
        """What the tokens take from others ``[..., T, width]``, and their keys and values, if they are the layer's own.

        Args:
            x: the layer's input, ``[..., T, width]``.
            seen: what the layer sees.
        """
        c = self.config
        q, *own = self.project(x, seen.angles, seen.turns)
        k, v = seen.lent if self.reads else own
        sinks = self.sinks[...] if c.sinks else None
        attended = attend(c, seen.sight, q, k, v, seen.window, sinks, seen.stored)
        if c.latent is not None:
            attended = self.latent.values(attended)
        mixed = jnp.swapaxes(attended, -2, -3).reshape(*x.shape[:-1], -1)
        if c.gated_output:
            mixed = mixed * jax.nn.sigmoid(self.output_gate(x))
        return self.out(mixed), None if self.reads else KeyValues(k, v)

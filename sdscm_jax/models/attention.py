"""Attention: what tokens take from those that they see, masked, in float32, and over grouped heads.

Shapes: ``...`` are any batch dimensions, T the tokens of this call, S the cached tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .config import DecoderConfig
from .pages import KeyValues, concatenate_tokens
from .sight import OverCache, Sight, Together

# Finite, so that a query without any allowed key (padding) gives numbers, not NaN.
_MASKED = -1e30


class Weighed(NamedTuple):
    """Attention to some keys, before normalisation; what is taken from others can be added.

    Attributes:
        mixed: float32 ``[..., heads, T, head_dim]``, sum of the values times their weights.
        total: float32 ``[..., heads, T, 1]``, sum of the weights.
        top: float32 ``[..., heads, T, 1]``, logarithm of what the weights are in units of.
    """

    mixed: Array
    total: Array
    top: Array

    def also(self, other: Weighed) -> Weighed:
        """Attention to the keys of both (Milakov and Gimelshein 2018, arXiv 1805.02867)."""
        top = jnp.maximum(self.top, other.top)
        a, b = jnp.exp(self.top - top), jnp.exp(other.top - top)
        return Weighed(self.mixed * a + other.mixed * b, self.total * a + other.total * b, top)

    def values(self, dtype: Any, sinks: Array | None = None) -> Array:
        """Weighted means of the values, ``[..., heads, T, head_dim]``; of a weight beside them of each head, too, whose
        value is nothing (``sinks`` ``[heads]``: its logarithm)."""
        if sinks is None:
            return (self.mixed / self.total).astype(dtype)
        scores = sinks.astype(jnp.float32)[:, None, None]
        top = jnp.maximum(self.top, scores)
        share = jnp.exp(self.top - top)
        return (self.mixed * share / (self.total * share + jnp.exp(scores - top))).astype(dtype)


def within(mask: Array, queries_at: Array, keys_at: Array, window: Array | None, chunked: bool = False) -> Array:
    """A mask ``[..., T, S]`` cut to the keys that a layer with a sliding window sees; chunked: with chunks."""
    if window is None:
        return mask
    if chunked:
        return mask & (queries_at[..., :, None] // window == keys_at[..., None, :] // window)
    return mask & (queries_at[..., :, None] - keys_at[..., None, :] < window)


def precision_of(dtype: Any) -> Any:
    """Precision of products of arrays of ``dtype``."""
    # Full float32 products where parameters are float32: on some accelerators the default is less.
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None


def capped(x: Array, cap: float | None) -> Array:
    """``x`` smoothly kept within ``cap`` of zero (Bello et al. 2017, arXiv 1611.09940); None: as it is."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def weigh(c: DecoderConfig, q: Array, k: Array, v: Array, mask: Array) -> Weighed:
    """What queries ``[..., heads, T, head_dim]`` take from S keys, for a mask ``[..., T, S]``."""
    # Query heads that share a key head are laid along the token axis: one plain batched product.
    groups, tokens = c.heads // c.kv_heads, q.shape[-2]
    precision = precision_of(q.dtype)
    q = (q * c.query_scale).reshape(*q.shape[:-3], c.kv_heads, groups * tokens, c.head_dim)

    def products(q: Array, k: Array) -> Array:
        return jnp.einsum("...qh,...sh->...qs", q, k, precision=precision, preferred_element_type=jnp.float32)

    if c.latent is None:
        scores = products(q, k)
    else:  # a key is what the value is, and what has a rotation
        scores = products(q[..., : c.latent.rank], v) + products(q[..., c.latent.rank :], k)
    scores = capped(scores.reshape(*scores.shape[:-2], groups, tokens, -1), c.attention_cap)
    scores = jnp.where(mask[..., None, None, :, :], scores, _MASKED)
    top = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
    weights = jnp.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    weights = weights.astype(q.dtype).reshape(*weights.shape[:-3], groups * tokens, -1)
    mixed = jnp.einsum("...qs,...sh->...qh", weights, v, precision=precision, preferred_element_type=jnp.float32)

    def by_heads(x: Array) -> Array:
        return x.reshape(*mask.shape[:-2], c.heads, tokens, -1)

    return Weighed(by_heads(mixed), by_heads(total), by_heads(top))


def attend(
    c: DecoderConfig, sight: Sight, q: Array, k: Array, v: Array, window: Array | None, sinks: Array | None, stored: Any
) -> Array:
    """What each new token takes from those that it sees, ``[..., heads, T, size of a value]``.

    Args:
        c: the switches.
        sight: which it sees.
        q, k, v: queries, keys and values of the new tokens, ``[..., heads, T, head_dim]``.
        window, sinks: the layer's.
        stored: the layer's keys and values of earlier tokens.
    """
    if isinstance(sight, OverCache):
        if stored is not None:
            k = concatenate_tokens(stored.keys[None], k[None])[0]
            v = concatenate_tokens(stored.values[None], v[None])[0]
        mask = within(sight.mask, sight.positions, sight.keys_at, window, c.chunked)
        return weigh(c, q, k, v, mask).values(q.dtype, sinks)

    def of(together: Together, q: Array, k: Array, v: Array) -> Array:
        at = together.at

        def further(so_far: Weighed, pages: KeyValues, seen: Array, places: Array) -> Weighed:
            return so_far.also(weigh(c, q, pages.keys, pages.values, within(seen, at, places, window, c.chunked)))

        own = weigh(c, q, k, v, within(together.own, at, at, window, c.chunked))
        return together.earlier(further, own).values(q.dtype, sinks)

    return sight.by_text(of, (q, k, v), stored, jax.ShapeDtypeStruct((q.shape[0], v.shape[-1]), q.dtype))

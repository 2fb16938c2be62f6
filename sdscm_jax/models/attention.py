"""What tokens take from those that they see: keys and values, and two ways to attend to them.

A decoder's attention is masked, in float32, and over grouped heads. ``over_cache`` is for batches of
texts with cached keys and values, ``over_rows`` for tokens of many texts laid end to end.

Shapes: ``...`` are any batch dimensions, T the tokens of this call, S the cached tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .config import DecoderConfig

# Of one layer: queries, keys and values of the new tokens, the layer's window, its sinks and what it has of its
# own, to what each new token takes from those that it sees.
Attention = Callable[[Array, Array, Array, Array | None, Array | None, Any], Array]

# Tokens of earlier text that are looked at together (on an accelerator more), and rows that look at them.
_PAST, _ACCELERATED_PAST = 64, 128
_ROWS = 8

# Finite, so that a query without any allowed key (padding) gives numbers, not NaN.
_MASKED = -1e30


class KeyValues(NamedTuple):
    """Keys and values of encoded tokens, each ``[layers, ..., kv_heads, S, head_dim]`` (sizes of ``kept``)."""

    keys: Array
    values: Array

    def append(self, other: KeyValues) -> KeyValues:
        """These tokens followed by ``other``'s; batch dimensions broadcast."""
        return jax.tree.map(_concatenate_tokens, self, other)

    def take(self, slots: Array) -> KeyValues:
        """The tokens at ``slots`` ``[..., N]`` (int), in that order; batch dimensions broadcast."""

        def pick(x: Array) -> Array:
            index = slots[..., None, :, None]
            batch = jnp.broadcast_shapes(x.shape[1:-2], index.shape[:-2])
            x = _broadcast_batch(x, batch)
            index = jnp.broadcast_to(index, (*batch, *index.shape[-2:]))
            return jnp.take_along_axis(x, index[None], axis=-2, mode="clip")

        return jax.tree.map(pick, self)

    @property
    def length(self) -> int:
        """Number of token slots S."""
        return self.keys.shape[-2]


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


class Rows(NamedTuple):
    """How N tokens laid end to end belong to R texts, at most T of them to each.

    Attributes:
        members: int ``[R, T]``, which of the N tokens are a row's (any number where there are fewer).
        places: int ``[N]``, the place ``row * T + t`` of each token.
        ancestors: bool ``[R, T, T]``, True where a token (second axis) sees another of its row.
        past: int ``[R, S]``, slots of the tokens that stand before the row, from position 0 on; S is a
            multiple of 128.
        lengths: int ``[R]``, how many of these there are.
    """

    members: Array | np.ndarray
    places: Array | np.ndarray
    ancestors: Array | np.ndarray
    past: Array | np.ndarray
    lengths: Array | np.ndarray


def within(mask: Array, queries_at: Array, keys_at: Array, window: Array | None, chunked: bool = False) -> Array:
    """A mask ``[..., T, S]`` cut to the keys that a layer with a sliding window sees; chunked: with chunks."""
    if window is None:
        return mask
    if chunked:
        return mask & (queries_at[..., :, None] // window == keys_at[..., None, :] // window)
    return mask & (queries_at[..., :, None] - keys_at[..., None, :] < window)


def _concatenate_tokens(a: Array, b: Array) -> Array:
    batch = jnp.broadcast_shapes(a.shape[1:-2], b.shape[1:-2])
    return jnp.concatenate([_broadcast_batch(a, batch), _broadcast_batch(b, batch)], axis=-2)


def _broadcast_batch(x: Array, batch: tuple[int, ...]) -> Array:
    """Broadcast the axes between the first (layers) and the last two (tokens, head_dim)."""
    x = x.reshape(x.shape[0], *(1,) * (len(batch) - (x.ndim - 3)), *x.shape[1:])
    return jnp.broadcast_to(x, (x.shape[0], *batch, *x.shape[-2:]))


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


def over_cache(c: DecoderConfig, mask: Array, positions: Array, past_positions: Array | None) -> Attention:
    """Attention to cached tokens, which a layer has of its own, and then to the new ones.

    Args:
        c: the switches.
        mask, positions, past_positions: see ``Decoder.encode``.
    """
    keys_at = positions
    if past_positions is not None:
        earlier = jnp.broadcast_to(past_positions, (*positions.shape[:-1], past_positions.shape[-1]))
        keys_at = jnp.concatenate([earlier, positions], -1)

    def attention(
        q: Array, k: Array, v: Array, window: Array | None, sinks: Array | None, past: KeyValues | None
    ) -> Array:
        if past is not None:
            k = _concatenate_tokens(past.keys[None], k[None])[0]
            v = _concatenate_tokens(past.values[None], v[None])[0]
        return weigh(c, q, k, v, within(mask, positions, keys_at, window, c.chunked)).values(q.dtype, sinks)

    return attention


def over_rows(c: DecoderConfig, rows: Rows, positions: Array, pool: KeyValues) -> Attention:
    """Attention within rows and to their earlier tokens; a layer has its number of its own.

    Args:
        c: the switches.
        rows, positions, pool: see ``Decoder.encode_rows``.
    """
    slots = pool.keys.shape[1]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), pool)
    value_size = pool.values.shape[-1]
    queries_at = positions[rows.members]
    count, width = rows.members.shape
    processor = jax.default_backend() == "cpu"
    # On a processor rows go a few at a time, those that are there only and as far as their texts go.
    together = _ROWS if processor and count % _ROWS == 0 else count
    at_once = _PAST if processor else _ACCELERATED_PAST
    there = rows.ancestors.any((1, 2)).sum()

    def attention(q: Array, k: Array, v: Array, window: Array | None, sinks: Array | None, layer: Array) -> Array:
        def some(x: Array | np.ndarray, first: int | Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, first, together)

        def of_rows(first: int | Array) -> Array:  # [together, heads, T, head_dim]
            members, ancestors, past, lengths, at = (
                some(x, first) for x in (rows.members, rows.ancestors, rows.past, rows.lengths, queries_at)
            )

            def own(x: Array) -> Array:  # [heads, N, head_dim] -> [rows, heads, T, head_dim]
                return jnp.moveaxis(x[:, members], 0, 1)

            queries = own(q)

            def further(number: Array, so_far: Weighed) -> Weighed:
                start = number * at_once
                place = start + jnp.arange(at_once)
                slot = layer * slots + jax.lax.dynamic_slice_in_dim(past, start, at_once, axis=1)
                keys, values = (jnp.swapaxes(jnp.take(x, slot, axis=0, mode="clip"), 1, 2) for x in flat)
                known = jnp.broadcast_to((place < lengths[:, None])[:, None, :], (together, width, at_once))
                mask = within(known, at, jnp.broadcast_to(place, slot.shape), window, c.chunked)
                return so_far.also(weigh(c, queries, keys, values, mask))

            seen = jax.lax.fori_loop(
                0,
                (lengths.max() + at_once - 1) // at_once,
                further,
                weigh(c, queries, own(k), own(v), within(ancestors, at, at, window, c.chunked)),
            )
            return seen.values(q.dtype, sinks)

        def added(number: Array, mixed: Array) -> Array:
            first = number * together
            return jax.lax.dynamic_update_slice_in_dim(mixed, of_rows(first), first, 0)

        if together == count:
            mixed = of_rows(0)
        else:
            mixed = jnp.zeros((count, q.shape[0], width, value_size), q.dtype)
            mixed = jax.lax.fori_loop(0, (there + together - 1) // together, added, mixed)
        mixed = jnp.moveaxis(mixed, 1, 0)
        return jnp.take(mixed.reshape(mixed.shape[0], -1, mixed.shape[-1]), rows.places, axis=1, mode="clip")

    return attention

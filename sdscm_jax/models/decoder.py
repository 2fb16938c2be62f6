"""One configurable decoder-only transformer in Flax NNX.

Layers are stacked along a leading axis and run by ``lax.scan``, so that compile time does not grow
with depth. The forward pass takes explicit positions, an explicit attention mask and the keys and
values of tokens that were encoded before: that is all that prefix reuse, padding and trees of
options need.

Shapes: ``...`` are any batch dimensions, T the tokens of this call, S the cached tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from .config import DecoderConfig, Rope

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
}

# Of a block, its queries, keys and values: what each token takes from those that it sees.
Attention = Callable[..., Array]

# Tokens of earlier text that are looked at together, and rows that look at them.
_PAST = 64
_ROWS = 8
# Tokens of the vocabulary whose logits are computed together where only their sum is wanted.
_VOCABULARY = 4096

# Finite, so that a query without any allowed key (padding) gives numbers, not NaN.
_MASKED = -1e30


class KeyValues(NamedTuple):
    """Keys and values of encoded tokens, each ``[layers, ..., kv_heads, S, head_dim]``."""

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

    def values(self, dtype: Any) -> Array:
        """Weighted means of the values, ``[..., heads, T, head_dim]``."""
        return (self.mixed / self.total).astype(dtype)


class Rows(NamedTuple):
    """How N tokens laid end to end belong to R texts, at most T of them to each.

    Attributes:
        members: int ``[R, T]``, which of the N tokens are a row's (any number where there are fewer).
        places: int ``[N]``, the place ``row * T + t`` of each token.
        ancestors: bool ``[R, T, T]``, True where a token (second axis) sees another of its row.
        past: int ``[R, S]``, slots of the tokens that stand before the row, from position 0 on; S is a
            multiple of 64.
        lengths: int ``[R]``, how many of these there are.
    """

    members: Array
    places: Array
    ancestors: Array
    past: Array
    lengths: Array


def _within(mask: Array, queries_at: Array, keys_at: Array, window: Array | None) -> Array:
    """A mask ``[..., T, S]`` cut to the keys that a layer with a sliding window sees."""
    if window is None:
        return mask
    return mask & (queries_at[..., :, None] - keys_at[..., None, :] < window)


def _concatenate_tokens(a: Array, b: Array) -> Array:
    batch = jnp.broadcast_shapes(a.shape[1:-2], b.shape[1:-2])
    return jnp.concatenate([_broadcast_batch(a, batch), _broadcast_batch(b, batch)], axis=-2)


def _broadcast_batch(x: Array, batch: tuple[int, ...]) -> Array:
    """Broadcast the axes between the first (layers) and the last two (tokens, head_dim)."""
    x = x.reshape(x.shape[0], *(1,) * (len(batch) - (x.ndim - 3)), *x.shape[1:])
    return jnp.broadcast_to(x, (x.shape[0], *batch, *x.shape[-2:]))


def inverse_frequencies(rope: Rope | None, rotary_dim: int) -> np.ndarray:
    """Angular frequency of each rotated pair, float32 ``[rotary_dim / 2]``; zeros do not rotate."""
    if rope is None:
        return np.zeros(rotary_dim // 2, np.float32)
    frequency = rope.theta ** -(np.arange(0, rope.rotary_dim, 2, dtype=np.float64) / rope.rotary_dim)
    frequency = frequency / rope.linear
    if rope.llama3 is not None:
        factor, low, high, original = rope.llama3
        wavelength = 2 * np.pi / frequency
        smooth = (original / wavelength - low) / (high - low)
        blended = (1 - smooth) * frequency / factor + smooth * frequency
        frequency = np.where(
            wavelength > original / low,
            frequency / factor,
            np.where(wavelength < original / high, frequency, blended),
        )
    return frequency.astype(np.float32)


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate the leading ``2 * cos.shape[-1]`` dimensions of ``x`` ``[..., heads, T, head_dim]``."""
    half = cos.shape[-1]
    a, b, rest = jnp.split(x, [half, 2 * half], axis=-1)
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
    return jnp.concatenate([rotated, rest], axis=-1)


def _norm(config: DecoderConfig, width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Module:
    # Statistics are float32 whatever the dtype: bfloat16 sums lose three digits.
    if config.norm == "layer":
        return nnx.LayerNorm(
            width, epsilon=config.norm_eps, param_dtype=dtype, dtype=jnp.float32, use_fast_variance=False, rngs=rngs
        )
    return nnx.RMSNorm(width, epsilon=config.norm_eps, param_dtype=dtype, dtype=jnp.float32, rngs=rngs)


def _precision(dtype: Any) -> Any:
    # Full float32 products where parameters are float32: on some accelerators the default is less.
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None


def _linear(inputs: int, outputs: int, bias: bool, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=bias,
        param_dtype=dtype,
        precision=_precision(dtype),
        kernel_init=nnx.initializers.normal(0.02),
        rngs=rngs,
    )


class Block(nnx.Module):
    """One transformer layer: attention and MLP, each behind a norm."""

    def __init__(self, config: DecoderConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        c, self.config = config, config
        self.attention_norm = _norm(c, c.width, dtype, rngs)
        self.mlp_norm = _norm(c, c.width, dtype, rngs)
        self.query = _linear(c.width, c.heads * c.head_dim, c.qkv_bias, dtype, rngs)
        self.key = _linear(c.width, c.kv_heads * c.head_dim, c.qkv_bias, dtype, rngs)
        self.value = _linear(c.width, c.kv_heads * c.head_dim, c.qkv_bias, dtype, rngs)
        self.out = _linear(c.heads * c.head_dim, c.width, c.out_bias, dtype, rngs)
        self.up = _linear(c.width, c.mlp_width, c.mlp_bias, dtype, rngs)
        self.down = _linear(c.mlp_width, c.width, c.mlp_bias, dtype, rngs)
        if c.gated:
            self.gate = _linear(c.width, c.mlp_width, c.mlp_bias, dtype, rngs)
        if c.qk_norm:
            self.query_norm = _norm(c, c.head_dim, dtype, rngs)
            self.key_norm = _norm(c, c.head_dim, dtype, rngs)

    def project(self, x: Array, angles: tuple[Array, Array] | None) -> tuple[Array, Array, Array]:
        """Queries ``[..., heads, T, head_dim]``, and keys and values ``[..., kv_heads, T, head_dim]``."""
        c = self.config

        def heads(y: Array) -> Array:  # [..., T, n * head_dim] -> [..., n, T, head_dim]
            return jnp.swapaxes(y.reshape(*y.shape[:-1], -1, c.head_dim), -2, -3)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        if c.qk_norm:
            q, k = self.query_norm(q).astype(x.dtype), self.key_norm(k).astype(x.dtype)
        if angles is not None:
            q, k = _rotate(q, *angles), _rotate(k, *angles)
        return q, k, v

    def weigh(self, q: Array, k: Array, v: Array, mask: Array) -> Weighed:
        """What queries ``[..., heads, T, head_dim]`` take from S keys, for a mask ``[..., T, S]``."""
        c = self.config
        # Query heads that share a key head are laid along the token axis: one plain batched product.
        groups, tokens = c.heads // c.kv_heads, q.shape[-2]
        precision = _precision(q.dtype)
        q = (q * c.query_scale).reshape(*q.shape[:-3], c.kv_heads, groups * tokens, c.head_dim)
        scores = jnp.einsum("...qh,...sh->...qs", q, k, precision=precision, preferred_element_type=jnp.float32)
        scores = scores.reshape(*scores.shape[:-2], groups, tokens, -1)
        scores = jnp.where(mask[..., None, None, :, :], scores, _MASKED)
        top = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
        weights = jnp.exp(scores - top)
        total = weights.sum(-1, keepdims=True)
        weights = weights.astype(q.dtype).reshape(*weights.shape[:-3], groups * tokens, -1)
        mixed = jnp.einsum("...qs,...sh->...qh", weights, v, precision=precision, preferred_element_type=jnp.float32)

        def by_heads(x: Array) -> Array:
            return x.reshape(*mask.shape[:-2], c.heads, tokens, -1)

        return Weighed(by_heads(mixed), by_heads(total), by_heads(top))

    def mlp(self, x: Array) -> Array:
        activation = ACTIVATIONS[self.config.activation]
        if self.config.gated:
            return self.down(activation(self.gate(x)) * self.up(x))
        return self.down(activation(self.up(x)))

    def __call__(self, x: Array, angles: tuple[Array, Array] | None, attention: Attention) -> tuple[Array, KeyValues]:
        q, k, v = self.project(self.attention_norm(x).astype(x.dtype), angles)
        mixed = jnp.swapaxes(attention(self, q, k, v), -2, -3)
        attended = self.out(mixed.reshape(*x.shape[:-1], -1))
        if self.config.parallel:
            return x + attended + self.mlp(self.mlp_norm(x).astype(x.dtype)), KeyValues(k, v)
        x = x + attended
        return x + self.mlp(self.mlp_norm(x).astype(x.dtype)), KeyValues(k, v)


class Decoder(nnx.Module):
    """Token embedding, ``config.layers`` stacked blocks, final norm and output head.

    Args:
        config: the switches.
        dtype: dtype of parameters and activations (norms, softmax and logits are float32).
        rngs: randomness of the initial weights.

    >>> from sdscm_jax.models.families import tiny_config
    >>> decoder = Decoder(tiny_config("llama"), jnp.float32, nnx.Rngs(0))
    >>> tokens = jnp.array([3, 1, 4])
    >>> hidden, cache = decoder.encode(tokens, jnp.arange(3), jnp.tri(3, dtype=bool))
    >>> decoder.logits(hidden).shape
    (3, 128)
    """

    def __init__(self, config: DecoderConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.config = config
        table = nnx.initializers.normal(0.02)
        self.embedding = nnx.Embed(config.vocab_size, config.width, param_dtype=dtype, embedding_init=table, rngs=rngs)
        if config.positions == "learned":
            self.position_embedding = nnx.Embed(
                config.max_positions, config.width, param_dtype=dtype, embedding_init=table, rngs=rngs
            )

        @nnx.split_rngs(splits=config.layers)
        @nnx.vmap(in_axes=0, out_axes=0)
        def stacked(rngs: nnx.Rngs) -> Block:
            return Block(config, dtype, rngs)

        self.blocks = stacked(rngs)
        self.final_norm = _norm(config, config.width, dtype, rngs)
        if not config.tied:
            self.head = nnx.Param(table(rngs.params(), (config.vocab_size, config.width), dtype))

    def encode(
        self,
        tokens: Array,
        positions: Array,
        mask: Array,
        past: KeyValues | None = None,
        past_positions: Array | None = None,
    ) -> tuple[Array, KeyValues]:
        """Run the stack over new tokens.

        Args:
            tokens: int ``[..., T]``.
            positions: int ``[..., T]``.
            mask: bool ``[..., T, S + T]``, True where a token (row) may look at a slot (column):
                first the S cached slots, then the T new ones.
            past: keys and values of the S cached slots.
            past_positions: int ``[..., S]``, read only by layers with a sliding window.

        Returns:
            hidden states ``[..., T, width]`` after the final norm, and the new tokens' keys and
            values.
        """
        keys_at = positions
        if past_positions is not None:
            earlier = jnp.broadcast_to(past_positions, (*positions.shape[:-1], past_positions.shape[-1]))
            keys_at = jnp.concatenate([earlier, positions], -1)

        def attention(block: Block, q: Array, k: Array, v: Array, window: Array | None, past: Any) -> Array:
            if past is not None:
                k = _concatenate_tokens(past.keys[None], k[None])[0]
                v = _concatenate_tokens(past.values[None], v[None])[0]
            return block.weigh(q, k, v, _within(mask, positions, keys_at, window)).values(q.dtype)

        return self._run(tokens, positions, attention, past)

    def encode_rows(self, tokens: Array, positions: Array, rows: Rows, pool: KeyValues) -> tuple[Array, KeyValues]:
        """Run the stack over tokens of many texts laid end to end, so that no product has padding.

        Args:
            tokens, positions: int ``[N]``.
            rows: which text each token belongs to, and where that text's earlier tokens are.
            pool: keys and values of encoded tokens of all texts, ``[layers, slots, kv_heads, head_dim]``.

        Returns:
            hidden states ``[N, width]`` after the final norm, and the new tokens' keys and values
            ``[layers, N, kv_heads, head_dim]``.
        """
        slots = pool.keys.shape[1]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), pool)
        queries_at = positions[rows.members]
        count, width = rows.members.shape
        # On a processor rows go a few at a time, those that are there only and as far as their texts go.
        together = _ROWS if jax.default_backend() == "cpu" and count % _ROWS == 0 else count
        there = rows.ancestors.any((1, 2)).sum()

        def attention(block: Block, q: Array, k: Array, v: Array, window: Array | None, layer: Array) -> Array:
            def some(x: Array, first: Array) -> Array:
                return jax.lax.dynamic_slice_in_dim(x, first, together)

            def of_rows(number: Array, mixed: Array) -> Array:
                first = number * together
                members, ancestors, past, lengths, at = (
                    some(x, first) for x in (rows.members, rows.ancestors, rows.past, rows.lengths, queries_at)
                )

                def own(x: Array) -> Array:  # [heads, N, head_dim] -> [rows, heads, T, head_dim]
                    return jnp.moveaxis(x[:, members], 0, 1)

                queries = own(q)

                def further(number: Array, so_far: Weighed) -> Weighed:
                    start = number * _PAST
                    place = start + jnp.arange(_PAST)
                    slot = layer * slots + jax.lax.dynamic_slice_in_dim(past, start, _PAST, axis=1)
                    keys, values = (jnp.swapaxes(jnp.take(x, slot, axis=0, mode="clip"), 1, 2) for x in flat)
                    known = jnp.broadcast_to((place < lengths[:, None])[:, None, :], (together, width, _PAST))
                    mask = _within(known, at, jnp.broadcast_to(place, slot.shape), window)
                    return so_far.also(block.weigh(queries, keys, values, mask))

                seen = jax.lax.fori_loop(
                    0,
                    (lengths.max() + _PAST - 1) // _PAST,
                    further,
                    block.weigh(queries, own(k), own(v), _within(ancestors, at, at, window)),
                )
                return jax.lax.dynamic_update_slice_in_dim(mixed, seen.values(q.dtype), first, 0)

            mixed = jnp.zeros((count, q.shape[0], width, q.shape[-1]), q.dtype)
            mixed = jax.lax.fori_loop(0, (there + together - 1) // together, of_rows, mixed)
            mixed = jnp.moveaxis(mixed, 1, 0)
            return jnp.take(mixed.reshape(mixed.shape[0], -1, mixed.shape[-1]), rows.places, axis=1, mode="clip")

        hidden, new = self._run(tokens, positions, attention, jnp.arange(self.config.layers))
        return hidden, jax.tree.map(lambda x: jnp.swapaxes(x, 1, 2), new)

    def _run(
        self, tokens: Array, positions: Array, attention: Callable[..., Array], of_layers: Any
    ) -> tuple[Array, KeyValues]:
        """Embed tokens and run the layers; ``attention`` sees a layer's slice of ``of_layers`` last."""
        c = self.config
        x = jnp.take(self.embedding.embedding[...], tokens, axis=0, mode="clip")
        if c.positions == "learned":
            x = x + jnp.take(self.position_embedding.embedding[...], positions, axis=0, mode="clip")
        graph, layers = nnx.split(self.blocks)

        rotary = max((r.rotary_dim for r in c.rope if r is not None), default=0)
        frequencies = np.stack([inverse_frequencies(r, rotary) for r in c.rope]) if rotary else None
        same_rope = frequencies is not None and bool((frequencies == frequencies[0]).all())

        def angles(frequency: Array) -> tuple[Array, Array]:
            # Angles are float32: bfloat16 cannot even count positions above 256.
            angle = positions[..., None, :, None].astype(jnp.float32) * frequency
            return jnp.cos(angle), jnp.sin(angle)

        shared = angles(jnp.asarray(frequencies[0])) if frequencies is not None and same_rope else None
        per_layer: dict[str, Array] = {}
        if frequencies is not None and not same_rope:
            per_layer["frequency"] = jnp.asarray(frequencies)
        if any(w is not None for w in c.windows):
            per_layer["window"] = jnp.asarray([c.max_positions if w is None else w for w in c.windows])

        def layer(x: Array, inputs: tuple) -> tuple[Array, KeyValues]:
            params, constants, own = inputs
            block = nnx.merge(graph, params)
            turned = angles(constants["frequency"]) if "frequency" in constants else shared
            return block(x, turned, lambda *qkv: attention(*qkv, constants.get("window"), own))

        x, new = jax.lax.scan(layer, x, (layers, per_layer, of_layers))
        return self.final_norm(x).astype(x.dtype), new

    @property
    def _table(self) -> Array:
        # Rows behind the vocabulary embed virtual tokens, which are read and never predicted.
        return self.embedding.embedding[: self.config.vocab_size] if self.config.tied else self.head[...]

    def log_probs(self, hidden: Array, rows: Array, tokens: Array) -> Array:
        """Float32 log-probabilities ``[E]`` of tokens after hidden states, which are never all there at once.

        Args:
            hidden: ``[M, width]``.
            rows, tokens: int ``[E]``: the token after ``hidden[rows]``.
        """
        table, size = self._table, self.config.vocab_size
        precision = _precision(hidden.dtype)
        some = min(size, _VOCABULARY)

        def normaliser(number: Array) -> Array:
            start = jnp.minimum(number * some, size - some)
            part = jax.lax.dynamic_slice_in_dim(table, start, some)
            logits = jnp.einsum("md,vd->mv", hidden, part, precision=precision, preferred_element_type=jnp.float32)
            # The last part begins earlier, so that it is as large as the others.
            new = start + jnp.arange(some) >= number * some
            return jax.nn.logsumexp(jnp.where(new, logits, -jnp.inf), axis=-1)

        total = jax.nn.logsumexp(jax.lax.map(normaliser, jnp.arange(-(-size // some))), axis=0)
        own = jnp.einsum(
            "ed,ed->e", hidden[rows], table[tokens], precision=precision, preferred_element_type=jnp.float32
        )
        return own - total[rows]

    def logits(self, hidden: Array) -> Array:
        """Float32 logits ``[..., vocab_size]`` of the token after each hidden state."""
        table = self._table
        precision = _precision(hidden.dtype)
        return jnp.einsum("...d,vd->...v", hidden, table, precision=precision, preferred_element_type=jnp.float32)

"""One configurable decoder-only transformer in Flax NNX.

Layers are stacked along a leading axis and run by ``lax.scan``, so that compile time does not grow
with depth. The forward pass takes explicit positions, an explicit attention mask and the keys and
values of tokens that were encoded before: that is all that prefix reuse, padding and trees of
options need.

Shapes: ``...`` are any batch dimensions, T the tokens of this call, S the cached tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from .altup import StreamEnds
from .attention import capped, precision_of
from .block import Block
from .config import DecoderConfig
from .feed import Feed
from .layer_inputs import LayerEmbeddings
from .mixed_layers import MixedLayers, make_mixer
from .norms import make_norm
from .pages import Pages
from .rope import angles_at, layer_frequencies
from .self_attention import Seen, Turns
from .sight import OverCache, OverRows, Rows, Sight

# Tokens of the vocabulary whose logits are computed together where only their sum is wanted.
_VOCABULARY = 4096

# A window of a layer that has none, beside layers that have one: no two positions are as far apart.
_NO_WINDOW = 2**31 - 1


def _growth(growth: tuple[float, float, int, bool], positions: Array) -> Array:
    """Factors of queries at ``positions`` ``[..., T]`` (Nakanishi 2025, arXiv 2501.19399, as Llama 4 has it)."""
    scale, every, offset, _ = growth
    return 1 + scale * jnp.log1p(jnp.floor((positions.astype(jnp.float32) + offset) / every))


def _stack(make: Callable[[nnx.Rngs], nnx.Module], count: int, rngs: nnx.Rngs) -> Any:
    @nnx.split_rngs(splits=count)
    @nnx.vmap(in_axes=0, out_axes=0)
    def stacked(rngs: nnx.Rngs) -> nnx.Module:
        return make(rngs)

    return stacked(rngs)


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

    def __init__(self, config: DecoderConfig, dtype: Any, rngs: nnx.Rngs):
        self.config = config
        table = nnx.initializers.normal(0.02)
        self.embedding = nnx.Embed(config.vocab_size, config.width, param_dtype=dtype, embedding_init=table, rngs=rngs)
        if config.positions == "learned":
            self.position_embedding = nnx.Embed(
                config.max_positions + config.first_position,
                config.width,
                param_dtype=dtype,
                embedding_init=table,
                rngs=rngs,
            )
        self.blocks = _stack(partial(Block, config, dtype), config.layers, rngs)
        for name, mixer in config.mixers:
            setattr(self, name, _stack(partial(make_mixer, config, mixer, dtype), len(mixer.layers), rngs))
        for name, layers in config.feeds.items():
            if layers:
                of = replace(config, mlp_width=2 * config.mlp_width) if name == "double" else config
                setattr(self, name, _stack(partial(Feed, of, name == "sparse", dtype), len(layers), rngs))
        if config.layer_inputs is not None:
            self.layer_inputs = LayerEmbeddings(config, config.layer_inputs, dtype, rngs)
        if config.streams is not None:
            self.streams = StreamEnds(config, config.streams, dtype, rngs)
        self.final_norm = make_norm(config, config.width, dtype, rngs)
        if not config.tied:
            self.head = nnx.Param(table(rngs.params(), (config.vocab_size, config.width), dtype))

    def encode(
        self,
        tokens: Array,
        positions: Array,
        mask: Array,
        past: Pages = None,
        past_positions: Array | None = None,
    ) -> tuple[Array, Pages]:
        """Run the stack over new tokens.

        Args:
            tokens: int ``[..., T]``.
            positions: int ``[..., T]``.
            mask: bool ``[..., T, S + T]``, True where a token (row) may look at a slot (column):
                first the S cached slots, then the T new ones.
            past: pages of the S cached slots (see ``pages``): keys and values, where all layers are alike.
            past_positions: int ``[..., S]``, read only by layers with a sliding window and by recurrent ones.

        Returns:
            hidden states ``[..., T, width]`` after the final norm, and the new tokens' pages.
        """
        c = self.config
        if past is not None and past_positions is None and (c.windows or c.mixers):
            kinds = "layers with a sliding window" if c.windows else "layers of several kinds"
            raise ValueError(f"{kinds} need the positions of the cached tokens: past_positions")
        return self._run(tokens, positions, OverCache(mask, positions, past, past_positions), past)

    def hidden(self, tokens: Array, positions: Array, mask: Array, layer: int) -> Array:
        """Hidden states ``[..., T, width]`` after ``layer`` blocks; after all of them also after the final norm.

        Args:
            tokens, positions, mask: as for ``encode``, with nothing cached.
            layer: 0 (what the first block reads) to ``config.layers``.
        """
        return self._run(tokens, positions, OverCache(mask, positions, None, None), None, layer)[0]

    def encode_rows(self, tokens: Array, positions: Array, rows: Rows, pool: Pages) -> tuple[Array, Pages]:
        """Run the stack over tokens of many texts laid end to end, so that no product has padding.

        Args:
            tokens, positions: int ``[N]``.
            rows: which text each token belongs to, and where that text's earlier tokens are.
            pool: pages of encoded tokens of all texts, ``[layers, slots, heads, size]``.

        Returns:
            hidden states ``[N, width]`` after the final norm, and the new tokens' pages ``[layers, N, heads, size]``.
        """
        hidden, new = self._run(tokens, positions, OverRows(rows, positions, pool), jnp.arange(self.config.layers))
        return hidden, jax.tree.map(lambda x: jnp.swapaxes(x, 1, 2), new)

    def _run(
        self, tokens: Array, positions: Array, sight: Sight, of_layers: Any, most: int | None = None
    ) -> tuple[Array, Pages]:
        """Embed tokens and run the layers, or the first ``most`` of them; ``of_layers``: where a layer finds its pages,
        if all are alike."""
        c = self.config
        x = jnp.take(self.embedding.embedding[...], tokens, axis=0, mode="clip")
        if c.embedding_scale != 1:
            # Rounded as the activations are: that is what models in bfloat16 were trained with.
            x = x * jnp.asarray(c.embedding_scale, x.dtype)
        if c.positions == "learned":
            x = x + jnp.take(self.position_embedding.embedding[...], positions + c.first_position, axis=0, mode="clip")
        graph, layers = nnx.split(self.blocks)
        kept_of = x.shape[:-1]

        frequencies, same_rope = layer_frequencies(c)
        angles, amplitudes = angles_at(positions), [1.0 if rope is None else rope.amplitude for rope in c.rope]
        shared = None
        if frequencies is not None and same_rope:
            shared = angles(jnp.asarray(frequencies[0]))
            shared = shared if amplitudes[0] == 1 else shared.times(amplitudes[0])
        per_layer: dict[str, Any] = {}
        if frequencies is not None and not same_rope:
            per_layer["frequency"] = jnp.asarray(frequencies)
            if any(amplitude != 1 for amplitude in amplitudes):
                per_layer["amplitude"] = jnp.asarray(amplitudes, jnp.float32)
        if c.windows:
            per_layer["window"] = jnp.asarray([_NO_WINDOW if w is None else w for w in c.windows], jnp.int32)
        growth = None if c.growth is None else _growth(c.growth, positions)
        if c.turned_norm or (c.growth is not None and c.growth[3]):
            per_layer["rotates"] = jnp.asarray([rope is not None for rope in c.rope])
        if c.feeds:
            kinds = np.array([[i in own for own in c.feeds.values()] for i in range(c.layers)])
            per_layer["feed"] = jnp.asarray(kinds.argmax(1), jnp.int32)
            per_layer["place"] = jnp.asarray((kinds.cumsum(0) * kinds).sum(1) - 1, jnp.int32)
        if c.spreads:
            per_layer["spread"] = jnp.asarray([-np.inf if s is None else s for s in c.spreads], jnp.float32)
        if c.layer_inputs is not None:
            per_layer["inputs"] = self.layer_inputs(tokens, x)
        if c.streams is not None:
            x = self.streams.begin(x)
        mixed = None
        if c.mixers:
            mixed = MixedLayers(c, {name: getattr(self, name) for name, _ in c.mixers})
            per_layer["mixed"], of_layers = mixed.constants, None

        def layer(carried: tuple[Array, Any], inputs: tuple) -> tuple[tuple[Array, Any], Pages]:
            (x, lent), (params, constants, own) = carried, inputs
            block = nnx.merge(graph, params)
            turned = angles(constants["frequency"]) if "frequency" in constants else shared
            if turned is not None and "amplitude" in constants:
                turned = turned.times(constants["amplitude"])
            window = constants.get("window")
            behind = partial(block.mlp, spread=constants["spread"]) if c.spreads else None
            if c.feeds:
                behind = partial(self._behind, constants["feed"], constants["place"])
            grown = growth
            if growth is not None and c.growth is not None and c.growth[3]:
                grown = jnp.where(constants["rotates"], 1.0, growth)
            turns = Turns(constants["rotates"] if c.turned_norm else None, grown)

            def seen(name: str, place: Array) -> Seen:
                return Seen(sight, sight.stored(name, place), window, turned, turns)

            def mix(normed: Array) -> tuple[Array, Any]:
                if mixed is None:
                    stored = sight.of_layer(own)
                    found, new = block.mix(normed, Seen(sight, stored, window, turned, turns))
                    return found, (new, lent)
                found, *rest = mixed(normed, constants["mixed"], lent, seen)
                return found, tuple(rest)

            x, (new, lent) = block(x, mix, behind, constants.get("inputs"))
            return (x, lent), new

        inputs = layers, per_layer, of_layers
        start = x, ({} if mixed is None else mixed.lent(kept_of, x.dtype))
        if most is not None and most < c.layers:
            # (What is kept is not asked for.)
            (x, _), new = jax.lax.scan(layer, start, jax.tree.map(lambda leaf: leaf[:most], inputs))
            return x if c.streams is None else x[c.streams.active], new
        (x, _), new = jax.lax.scan(layer, start, inputs)
        x = x if c.streams is None else self.streams.end(x)
        return self.final_norm(x).astype(x.dtype), new if mixed is None else mixed.of_layers(new)

    def _behind(self, kind: Array, place: Array, x: Array) -> Array:
        """What stands behind a layer's attention, of the stack of its kind."""

        def of(stack: Feed) -> Callable[[Array], Array]:
            graph, params = nnx.split(stack)

            def run(x: Array) -> Array:
                own = jax.tree.map(lambda p: jax.lax.dynamic_index_in_dim(p, place, keepdims=False), params)
                return nnx.merge(graph, own).mlp(x)

            return run

        stacks = [of(getattr(self, name)) for name, layers in self.config.feeds.items() if layers]
        return stacks[0](x) if len(stacks) == 1 else jax.lax.switch(kind, stacks, x)

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
        precision = precision_of(hidden.dtype)
        some = min(size, _VOCABULARY)

        def normaliser(number: Array) -> Array:
            start = jnp.minimum(number * some, size - some)
            part = jax.lax.dynamic_slice_in_dim(table, start, some)
            logits = jnp.einsum("md,vd->mv", hidden, part, precision=precision, preferred_element_type=jnp.float32)
            logits = capped(self._scaled(logits), self.config.logit_cap)
            # The last part begins earlier, so that it is as large as the others.
            new = start + jnp.arange(some) >= number * some
            return jax.nn.logsumexp(jnp.where(new, logits, -jnp.inf), axis=-1)

        total = jax.nn.logsumexp(jax.lax.map(normaliser, jnp.arange(-(-size // some))), axis=0)
        own = jnp.einsum(
            "ed,ed->e", hidden[rows], table[tokens], precision=precision, preferred_element_type=jnp.float32
        )
        return capped(self._scaled(own), self.config.logit_cap) - total[rows]

    def logits(self, hidden: Array) -> Array:
        """Float32 logits ``[..., vocab_size]`` of the token after each hidden state."""
        table = self._table
        precision = precision_of(hidden.dtype)
        logits = jnp.einsum("...d,vd->...v", hidden, table, precision=precision, preferred_element_type=jnp.float32)
        return capped(self._scaled(logits), self.config.logit_cap)

    def _scaled(self, logits: Array) -> Array:
        return logits if self.config.logit_scale == 1 else logits * self.config.logit_scale

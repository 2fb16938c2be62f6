"""One layer of the decoder: what it takes from other tokens, and an MLP, each between norms and added to its input."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from .altup import StreamLayer
from .config import DecoderConfig
from .feed import ACTIVATIONS, Feed
from .layer_inputs import LayerInput
from .norms import make_norm
from .pages import Pages
from .self_attention import SelfAttention


class Block(SelfAttention, Feed):
    """One layer; where layers differ in their mixers, or in what stands behind them, it is given those."""

    def __init__(self, config: DecoderConfig, dtype: Any, rngs: nnx.Rngs):
        c, self.config, self.reads = config, config, False
        if c.pre_norms:
            self.attention_norm = make_norm(c, c.width, dtype, rngs)
        if self._normed:
            self.mlp_norm = make_norm(c, c.width, dtype, rngs)
        if not c.mixers:
            self._make_projections(dtype, rngs)
        if not c.feeds and not c.alone:
            self.sparse = c.experts is not None
            self._make(dtype, rngs)
        if not c.mixers:
            self._make_head_norms(dtype, rngs)
        if c.output_norms:
            self.attention_output_norm = make_norm(c, c.width, dtype, rngs)
            self.mlp_output_norm = make_norm(c, c.width, dtype, rngs)
        if c.layer_inputs is not None:
            self.layer_input = LayerInput(c, c.layer_inputs, dtype, rngs)
        if c.layer_scale:
            self.layer_scale = nnx.Param(jnp.ones(1, dtype))
        if c.streams is not None:
            self.streams = StreamLayer(c, c.streams, dtype, rngs)

    @property
    def _normed(self) -> bool:
        """Does a norm of the layer's stand before what is behind attention?"""
        c = self.config
        apart = c.experts is not None and c.experts.apart
        return c.pre_norms and not (c.one_norm or c.alone or apart)

    def __call__(
        self,
        x: Array,
        mix: Callable[[Array], tuple[Array, Pages]],
        behind: Callable[[Array], Array] | None = None,
        inputs: Array | None = None,
    ) -> tuple[Array, Pages]:
        """The layer's output ``[..., T, width]``, and what is kept of the tokens.

        Args:
            x: ``[..., T, width]``; of several streams, ``[n, ..., T, width]``.
            mix: what the layer takes from other tokens, of its normed input, and what is kept.
            behind: what stands behind that; None: the layer's own.
            inputs: the layer's vectors of the tokens, where they have some.
        """
        if self.config.streams is not None:
            return self._over_streams(x, mix, behind, inputs)
        c, mlp = self.config, self.mlp if behind is None else behind
        normed = self.attention_norm(x).astype(x.dtype) if c.pre_norms else x
        attended, kept = mix(normed)
        if c.output_norms:
            attended = self.attention_output_norm(attended).astype(x.dtype)
        if c.parallel:
            other = normed if c.one_norm else self.mlp_norm(x).astype(x.dtype)
            return x + attended + mlp(other), kept
        x = x + self._scaled(attended)
        if c.alone:
            return x, kept
        added = mlp(self.mlp_norm(x).astype(x.dtype) if self._normed else x)
        if c.output_norms:
            added = self.mlp_output_norm(added).astype(x.dtype)
        x = x + self._scaled(added)
        if inputs is not None:
            x = x + self.layer_input(x, inputs, ACTIVATIONS[c.activation])
        return x * self.layer_scale[...] if c.layer_scale else x, kept

    def _over_streams(
        self,
        streams: Array,
        mix: Callable[[Array], tuple[Array, Pages]],
        behind: Callable[[Array], Array] | None,
        inputs: Array | None,
    ) -> tuple[Array, Pages]:
        c, mlp = self.config, self.mlp if behind is None else behind
        predicted = self.streams.predict(streams)
        x = predicted[self.streams.streams.active]
        normed = self.attention_norm(x).astype(x.dtype)
        attended, kept = mix(normed)
        attended = self.attention_output_norm(attended).astype(x.dtype)
        x = (x + attended + self.streams.beside(normed)) * jnp.asarray(math.sqrt(0.5), x.dtype)
        x = x + self.mlp_output_norm(mlp(self.mlp_norm(x).astype(x.dtype))).astype(x.dtype)
        corrected = self.streams.correct(predicted, x)
        if inputs is None:
            return corrected, kept
        own = partial(self.layer_input, own=inputs, activation=ACTIVATIONS[c.activation])
        return self.streams.added_to_others(corrected, own), kept

    def _scaled(self, added: Array) -> Array:
        scale = self.config.residual_scale
        return added if scale == 1 else added * jnp.asarray(scale, added.dtype)

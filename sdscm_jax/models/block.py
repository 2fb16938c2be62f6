"""One layer of the decoder: what it takes from other tokens, and an MLP, each between norms and added to its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from .config import DecoderConfig
from .feed import Feed
from .norms import make_norm
from .pages import Pages
from .self_attention import SelfAttention


class Block(SelfAttention, Feed):
    """One layer; where layers differ in their mixers, or in what stands behind them, it is given those."""

    def __init__(self, config: DecoderConfig, dtype: Any, rngs: nnx.Rngs):
        c, self.config = config, config
        if c.pre_norms:
            self.attention_norm = make_norm(c, c.width, dtype, rngs)
        if c.pre_norms and not c.one_norm:
            self.mlp_norm = make_norm(c, c.width, dtype, rngs)
        if not c.mixers:
            self._make_projections(dtype, rngs)
        if c.dense is None:
            self.sparse = c.experts is not None
            self._make(dtype, rngs)
        if not c.mixers:
            self._make_head_norms(dtype, rngs)
        if c.output_norms:
            self.attention_output_norm = make_norm(c, c.width, dtype, rngs)
            self.mlp_output_norm = make_norm(c, c.width, dtype, rngs)

    def __call__(
        self, x: Array, mix: Callable[[Array], tuple[Array, Pages]], behind: Callable[[Array], Array] | None = None
    ) -> tuple[Array, Pages]:
        """The layer's output ``[..., T, width]``, and what is kept of the tokens.

        Args:
            x: ``[..., T, width]``.
            mix: what the layer takes from other tokens, of its normed input, and what is kept.
            behind: what stands behind that; None: the layer's own.
        """
        c, mlp = self.config, self.mlp if behind is None else behind
        normed = self.attention_norm(x).astype(x.dtype) if c.pre_norms else x
        attended, kept = mix(normed)
        if c.output_norms:
            attended = self.attention_output_norm(attended).astype(x.dtype)
        if c.parallel:
            other = normed if c.one_norm else self.mlp_norm(x).astype(x.dtype)
            return x + attended + mlp(other), kept
        x = x + self._scaled(attended)
        added = mlp(self.mlp_norm(x).astype(x.dtype) if c.pre_norms else x)
        if c.output_norms:
            added = self.mlp_output_norm(added).astype(x.dtype)
        return x + self._scaled(added), kept

    def _scaled(self, added: Array) -> Array:
        scale = self.config.residual_scale
        return added if scale == 1 else added * jnp.asarray(scale, added.dtype)

"""Norms of the decoder's layers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from .config import DecoderConfig


class OffsetRMSNorm(nnx.Module):
    """RMS norm whose weight says how far the factor is from 1, so that zeros change nothing (Gemma)."""

    def __init__(self, width: int, epsilon: float, dtype: Any):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.zeros(width, dtype))

    def __call__(self, x: Array) -> Array:
        """Float32, of the shape of ``x`` ``[..., width]``."""
        x = x.astype(jnp.float32)
        # The 1 is added in float32: in bfloat16 it would swallow most of a small weight.
        factor = 1 + self.scale[...].astype(jnp.float32)
        return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.epsilon) * factor


def make_norm(config: DecoderConfig, width: int, dtype: Any, rngs: nnx.Rngs) -> nnx.Module:
    """A norm of the configuration's kind over ``width`` values; what it gives is float32."""
    # Statistics are float32 whatever the dtype: bfloat16 sums lose three digits.
    if config.norm == "layer":
        return nnx.LayerNorm(
            width,
            epsilon=config.norm_eps,
            use_bias=config.norm_bias,
            param_dtype=dtype,
            dtype=jnp.float32,
            use_fast_variance=False,
            rngs=rngs,
        )
    if config.norm_offset:
        return OffsetRMSNorm(width, config.norm_eps, dtype)
    return nnx.RMSNorm(width, epsilon=config.norm_eps, param_dtype=dtype, dtype=jnp.float32, rngs=rngs)


def unweighted(x: Array, epsilon: float) -> Array:
    """An RMS norm without weights, in the dtype of ``x`` ``[..., size]``."""
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + epsilon)).astype(x.dtype)

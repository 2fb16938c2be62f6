"""The gated delta network of Qwen3-Next and Qwen3.5 (Yang et al. 2024, arXiv 2412.06464)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from .config import DecoderConfig
from .feed import ACTIVATIONS, linear
from .mixer_config import Delta
from .pages import Recurrent
from .recurrence import delta_rule, running
from .self_attention import Seen
from .short_conv import ShortConvolution
from .sight import part

# Under the root of the lengths of queries and keys.
_EPSILON = 1e-6


def by_heads(x: Array, size: int) -> Array:
    """``[..., heads, T, size]`` of ``[..., T, heads * size]``."""
    return jnp.swapaxes(x.reshape(*x.shape[:-1], -1, size), -2, -3)


def joined(x: Array) -> Array:
    """``[..., T, heads * size]`` of ``[..., heads, T, size]``."""
    x = jnp.swapaxes(x, -2, -3)
    return x.reshape(*x.shape[:-2], -1)


class DeltaNet(nnx.Module):
    """The mixer of one layer.

    Args:
        config: the switches.
        own: the mixer's.
        dtype, rngs: of the parameters.
    """

    def __init__(self, config: DecoderConfig, own: Delta, dtype: Any, rngs: nnx.Rngs):
        c, self.config, self.own = config, config, own
        keys, values = own.key_heads * own.key_size, own.value_heads * own.value_size
        sizes = {"query": keys, "key": keys, "value": values, "gate": values}
        for name, size in (sizes | {"share": own.value_heads, "step": own.value_heads}).items():
            setattr(self, name, linear(c, name, c.width, size, False, dtype, rngs))
        self.out = linear(c, "out", values, c.width, False, dtype, rngs)
        self.convolution = ShortConvolution(own.channels, own.size, False, dtype, rngs)
        self.step_bias = nnx.Param(jnp.ones(own.value_heads, dtype))
        self.rate = nnx.Param(jnp.zeros(own.value_heads, dtype))
        self.norm = nnx.RMSNorm(own.value_size, epsilon=c.norm_eps, param_dtype=dtype, dtype=jnp.float32, rngs=rngs)

    def mix(self, x: Array, seen: Seen) -> tuple[Array, Recurrent]:
        """What the tokens take from others ``[..., T, width]``, and what is kept of them."""
        own, exact = self.own, jnp.float32
        read = jnp.concatenate([self.query(x), self.key(x), self.value(x)], -1)
        mixed = self.convolution(read, seen, part(seen.stored, lambda pages: pages.read))
        mixed = ACTIVATIONS[self.config.activation](mixed).astype(x.dtype)
        keys = own.key_heads * own.key_size
        q, k = by_heads(mixed[..., :keys], own.key_size), by_heads(mixed[..., keys : 2 * keys], own.key_size)
        value = by_heads(mixed[..., 2 * keys :], own.value_size).astype(exact)

        def of_each(y: Array) -> Array:  # [..., T, heads] -> [..., heads, T]
            return jnp.swapaxes(y.astype(exact), -1, -2)

        step = jax.nn.softplus(of_each(self.step(x)) + self.step_bias[...].astype(exact)[:, None])
        g = -jnp.exp(self.rate[...].astype(exact))[:, None] * step
        decay = running(seen.sight, g, part(seen.stored, lambda pages: pages.decay))
        # Queries and keys count as vectors of length 1. They are kept as they are, in the model's dtype, and the
        # inverse of the key's length is a part of what it is kept with.
        lengths = [self._inverse_length(y) for y in (q, k)]
        share = jax.nn.sigmoid(of_each(self.share(x)))[..., None]
        found, added = delta_rule(
            seen.sight, q, k, share * lengths[1] ** 2, share * lengths[1] * value, decay, seen.stored
        )
        found = (found * (lengths[0] * own.key_size**-0.5)).astype(x.dtype)
        gate = by_heads(self.gate(x), own.value_size).astype(exact)
        normed = self.norm(found).astype(x.dtype) * jax.nn.silu(gate)
        kept = Recurrent(k, added, decay, read[..., None, :, :])
        return self.out(joined(normed.astype(x.dtype))), kept

    def _inverse_length(self, x: Array) -> Array:
        """Float32 ``[..., value heads, T, 1]``."""
        squares = jnp.square(x.astype(jnp.float32)).sum(-1, keepdims=True)
        return jnp.repeat(jax.lax.rsqrt(squares + _EPSILON), self.own.value_heads // self.own.key_heads, axis=-3)

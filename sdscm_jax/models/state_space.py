"""The state space layers of Mamba 2, and of Granite 4, Falcon-H1 and Nemotron-H (Dao and Gu 2024, arXiv 2405.21060)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from .config import DecoderConfig
from .delta_net import by_heads, joined
from .feed import ACTIVATIONS, linear
from .mixer_config import StateSpace
from .pages import Recurrent
from .recurrence import running, scan
from .self_attention import Seen
from .short_conv import ShortConvolution
from .sight import part


def times(x: Array, factor: float) -> Array:
    """In the dtype of ``x``; a factor of 1 is no operation."""
    return x if factor == 1 else x * jnp.asarray(factor, x.dtype)


class StateSpaceLayer(nnx.Module):
    """The mixer of one layer.

    Args:
        config: the switches.
        own: the mixer's.
        dtype, rngs: of the parameters.
    """

    def __init__(self, config: DecoderConfig, own: StateSpace, dtype: Any, rngs: nnx.Rngs):
        c, self.config, self.own = config, config, own
        shared = own.groups * own.state
        sizes = {"gate": own.inner, "value": own.inner, "key": shared, "query": shared, "step": own.heads}
        for name, size in sizes.items():
            setattr(self, name, linear(c, name, c.width, size, own.bias, dtype, rngs))
        self.out = linear(c, "out", own.inner, c.width, own.out_bias, dtype, rngs)
        self.convolution = ShortConvolution(own.channels, own.size, own.convolution_bias, dtype, rngs)
        self.step_bias = nnx.Param(jnp.ones(own.heads, dtype))
        self.rate = nnx.Param(jnp.zeros(own.heads, dtype))
        self.direct = nnx.Param(jnp.ones(own.heads, dtype))
        if own.normed:
            self.norm = nnx.Param(jnp.ones(own.inner, dtype))

    def mix(self, x: Array, seen: Seen) -> tuple[Array, Recurrent]:
        """What the tokens take from others ``[..., T, width]``, and what is kept of them."""
        own, exact = self.own, jnp.float32
        projections = (self.gate, self.value, self.key, self.query, self.step)
        gate, value, k, q, step = (
            times(project(x), factor) for project, factor in zip(projections, own.parts, strict=True)
        )
        read = jnp.concatenate([value, k, q], -1)
        mixed = self.convolution(read, seen, part(seen.stored, lambda pages: pages.read))
        mixed = ACTIVATIONS[own.activation or self.config.activation](mixed).astype(x.dtype)
        ends = own.inner, own.inner + own.groups * own.state
        value, k, q = (
            by_heads(mixed[..., : ends[0]], own.head_size),
            mixed[..., ends[0] : ends[1]],
            mixed[..., ends[1] :],
        )
        step = jax.nn.softplus(step.astype(exact) + self.step_bias[...].astype(exact))
        step = jnp.swapaxes(jnp.clip(step, *own.limit), -1, -2)  # [..., heads, T]
        g = -jnp.exp(self.rate[...].astype(exact))[:, None] * step
        decay = running(seen.sight, g, part(seen.stored, lambda pages: pages.decay))
        decay = jnp.concatenate([decay, step[..., None]], -1)
        k, q = by_heads(k, own.state), by_heads(q, own.state)
        found = scan(seen.sight, q, k, value, decay, seen.stored)
        found = found + self.direct[...].astype(exact)[:, None, None] * value.astype(exact)
        kept = Recurrent(k, value, decay, read[..., None, :, :])
        return self.out(self._gated(joined(found), jax.nn.silu(gate.astype(exact))).astype(x.dtype)), kept

    def _gated(self, found: Array, gate: Array) -> Array:
        """Float32 ``[..., T, inner]``, normed in groups."""
        own = self.own
        if not own.normed:
            return found * gate
        found = found * gate if own.gated_first else found
        groups = found.reshape(*found.shape[:-1], own.groups, -1)
        squares = jnp.square(groups).mean(-1, keepdims=True)
        normed = (groups * jax.lax.rsqrt(squares + self.config.norm_eps)).reshape(found.shape)
        normed = normed * self.norm[...].astype(jnp.float32)
        return normed if own.gated_first else normed * gate

"""A convolution over the last few tokens of a text, and the gated one that LFM2 has in most of its layers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from .config import DecoderConfig
from .feed import linear
from .mixer_config import Convolution
from .self_attention import Seen


class ShortConvolution(nnx.Module):
    """A causal convolution of each channel by itself (depthwise), over the tokens of one text.

    What it reads of a token is kept, not the last few of what it read: wherever texts part, a token finds those of its
    nearest ancestors.

    Args:
        channels, size: of the kernel ``[channels, 1, size]``, as checkpoints have it: the last is of the token itself.
        bias: is there one?
        dtype, rngs: of the parameters.
    """

    def __init__(self, channels: int, size: int, bias: bool, dtype: Any, rngs: nnx.Rngs):
        self.size = size
        self.kernel = nnx.Param(nnx.initializers.normal(size**-0.5)(rngs.params(), (channels, 1, size), dtype))
        self.bias = nnx.Param(jnp.zeros(channels, dtype)) if bias else None

    def __call__(self, x: Array, seen: Seen, stored: Any) -> Array:
        """Float32 ``[..., T, channels]``.

        Args:
            x: of the new tokens, ``[..., T, channels]``.
            seen: what the layer sees.
            stored: what the layer keeps of this of earlier tokens.
        """
        kernel = self.kernel[...].astype(jnp.float32)[:, 0]
        before = seen.sight.near(x[..., None, :, :], stored, self.size - 1).astype(jnp.float32)
        found = x.astype(jnp.float32) * kernel[:, -1] + (before * kernel.T[-2::-1]).sum(-2)
        return found if self.bias is None else found + self.bias[...].astype(jnp.float32)


class GatedConvolution(nnx.Module):
    """LFM2's mixer: a convolution between two gates that are projections of the input.

    Args:
        config: the switches.
        own: the mixer's.
        dtype, rngs: of the parameters.
    """

    def __init__(self, config: DecoderConfig, own: Convolution, dtype: Any, rngs: nnx.Rngs):
        for name in ("before", "behind", "value", "out"):
            setattr(self, name, linear(config, name, config.width, config.width, own.bias, dtype, rngs))
        self.convolution = ShortConvolution(config.width, own.size, own.bias, dtype, rngs)

    def mix(self, x: Array, seen: Seen) -> tuple[Array, Array]:
        """What the tokens take from others ``[..., T, width]``, and what the convolution reads of them."""
        read = self.before(x) * self.value(x)
        found = self.convolution(read, seen, seen.stored).astype(x.dtype)
        return self.out(self.behind(x) * found), read[..., None, :, :]

"""Rotary position embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from .config import DecoderConfig, Rope


class Angles(NamedTuple):
    """By how much a layer turns the tokens' queries and keys: float32 ``[..., 1, T, rotary_dim / 2]`` each."""

    cos: Array
    sin: Array


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


def layer_frequencies(config: DecoderConfig) -> tuple[np.ndarray | None, bool]:
    """``inverse_frequencies`` of all layers, ``[layers, rotary_dim / 2]`` (None: nothing turns), and whether
    they are the same in every layer."""
    rotary = max((r.rotary_dim for r in config.rope if r is not None), default=0)
    if not rotary:
        return None, True
    frequencies = np.stack([inverse_frequencies(r, rotary) for r in config.rope])
    return frequencies, bool((frequencies == frequencies[0]).all())


def angles_at(positions: Array) -> Callable[[Array], Angles]:
    """From frequencies ``[rotary_dim / 2]`` to the angles of tokens at ``positions`` ``[..., T]``."""

    def angles(frequency: Array) -> Angles:
        # Angles are float32: bfloat16 cannot even count positions above 256.
        angle = positions[..., None, :, None].astype(jnp.float32) * frequency
        return Angles(jnp.cos(angle), jnp.sin(angle))

    return angles


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate the leading ``2 * cos.shape[-1]`` dimensions of ``x`` ``[..., heads, T, head_dim]``."""
    half = cos.shape[-1]
    a, b, rest = jnp.split(x, [half, 2 * half], axis=-1)
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
    return jnp.concatenate([rotated, rest], axis=-1)

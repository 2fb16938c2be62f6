"""Rotary position embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .config import DecoderConfig, Rope

# To which positions the angles are exact; see ``turns``.
EXACT_POSITIONS = 2**20


class Angles(NamedTuple):
    """By how much a layer turns the tokens' queries and keys: float32 ``[..., 1, T, rotary_dim / 2]`` each."""

    cos: Array
    sin: Array

    def times(self, amplitude: float | Array) -> Angles:
        return Angles(self.cos * amplitude, self.sin * amplitude)


def inverse_frequencies(rope: Rope | None, rotary_dim: int) -> np.ndarray:
    """Angular frequency of each rotated pair, float64 ``[rotary_dim / 2]``; zeros do not rotate."""
    if rope is None:
        return np.zeros(rotary_dim // 2)
    frequency = rope.theta ** -(np.arange(0, rope.rotary_dim, 2, dtype=np.float64) / rope.rotary_dim)
    frequency = frequency / rope.linear
    if rope.still:
        frequency = np.where(np.arange(len(frequency)) < len(frequency) - rope.still, frequency, 0)
    if rope.divisors:
        frequency = frequency / np.asarray(rope.divisors, np.float64)
    if rope.yarn is not None:
        frequency = _yarn(frequency, rope)
    if rope.llama3 is not None:
        factor, low, high, original = rope.llama3
        wavelength = 2 * np.pi / frequency
        # (Llama 4 has no ramp between the two.)
        smooth = (original / wavelength - low) / (high - low) if high != low else np.ones_like(wavelength)
        blended = (1 - smooth) * frequency / factor + smooth * frequency
        frequency = np.where(
            wavelength > original / low,
            frequency / factor,
            np.where(wavelength < original / high, frequency, blended),
        )
    return frequency


def _yarn(frequency: np.ndarray, rope: Rope) -> np.ndarray:
    """Frequencies that turn often within the original positions stay, the others are divided by the factor, with a ramp
    between (Peng et al. 2023, equations 17 to 19; its bounds as in transformers, from which models are published)."""
    assert rope.yarn is not None
    factor, original, fast, slow, whole = rope.yarn
    size = rope.rotary_dim

    def dimension(rotations: float) -> float:
        return float(size * np.log(original / (rotations * 2 * np.pi)) / (2 * np.log(rope.theta)))

    low, high = dimension(fast), dimension(slow)
    if whole:
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    ramp = np.clip((np.arange(size // 2) - low) / ((high if high != low else high + 0.001) - low), 0, 1)
    return frequency * (1 - ramp) + frequency / factor * ramp


def turns(frequency: np.ndarray) -> np.ndarray:
    """Frequencies ``[...]`` as fractions of a turn for each position, uint32 ``[..., 2]``.

    In units of 2**-32 turns, and what is left in units of 2**-44: positions up to 2**20 times either have no more than
    32 bits but for whole turns, which do not count.
    """
    # 44 bits are more than float64's error in the frequency leaves, and fewer than its mantissa has.
    units = np.round(frequency / (2 * np.pi) * 2.0**44).astype(np.uint64)
    return np.stack([units >> np.uint64(12), units & np.uint64(0xFFF)], -1).astype(np.uint32)


def layer_frequencies(config: DecoderConfig) -> tuple[np.ndarray | None, bool]:
    """``turns`` of all layers, ``[layers, rotary_dim / 2, 2]`` (None: nothing turns), and whether they are the same in
    every layer."""
    rotary = max((r.rotary_dim for r in config.rope if r is not None), default=0)
    if not rotary:
        return None, True

    def of_layer(rope: Rope | None) -> np.ndarray:
        # Heads of some layers may be smaller: what they do not have stands still.
        own = inverse_frequencies(rope, rotary)
        return turns(np.pad(own, (0, rotary // 2 - len(own))))

    frequencies = np.stack([of_layer(r) for r in config.rope])
    same = {None if rope is None else rope.amplitude for rope in config.rope}
    return frequencies, len(same) == 1 and bool((frequencies == frequencies[0]).all())


def angles_at(positions: Array) -> Callable[[Array], Angles]:
    """From ``turns`` ``[rotary_dim / 2, 2]`` to the angles of tokens at ``positions`` ``[..., T]``.

    Angles are exact to the last bits of float32 at any position: the product of a position and a float32 frequency has
    an error that grows with both, and is a thousand times as large at position 10,000. So whole turns are taken away in
    integers, and quarters of a turn too; the rest, at most an eighth, is small.
    """

    def angles(frequency: Array) -> Angles:
        at = positions[..., None, :, None].astype(jnp.uint32)
        # Products of uint32 lose what is a whole turn.
        turned = at * frequency[..., 0] + ((at * frequency[..., 1]) >> 12)
        quarter = (turned + jnp.uint32(1 << 29)) >> 30
        rest = jax.lax.bitcast_convert_type(turned - (quarter << 30), jnp.int32)
        angle = rest.astype(jnp.float32) * np.float32(2 * np.pi / 2**32)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        odd, back, below = quarter % 2 == 1, (quarter == 1) | (quarter == 2), quarter >= 2
        near, far = jnp.where(odd, sin, cos), jnp.where(odd, cos, sin)
        return Angles(jnp.where(back, -near, near), jnp.where(below, -far, far))

    return angles


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate the leading ``2 * cos.shape[-1]`` dimensions of ``x`` ``[..., heads, T, head_dim]``."""
    half = cos.shape[-1]
    a, b, rest = jnp.split(x, [half, 2 * half], axis=-1)
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
    return jnp.concatenate([rotated, rest], axis=-1)


def halves(x: Array, rotary_dim: int) -> Array:
    """Of dimensions ``[..., head_dim]`` that rotate in pairs 2 i and 2 i + 1, first the even and then the odd ones."""
    turned, rest = x[..., :rotary_dim], x[..., rotary_dim:]
    return jnp.concatenate([turned[..., ::2], turned[..., 1::2], rest], -1)

"""``"inverse_cdf"``: one uniform, options in their listed order."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..double_float import Double, less, minus, plus, running_sums, times
from ..streams import stream, uniforms
from .base import Coupling, same_law


class Cell(NamedTuple):
    """A uniform given the option in whose cell it fell.

    A cell may be too narrow, or too near to 1, for the uniform to say which one it was. So the option stands beside
    it, with the distribution whose cell it is, and the uniform is its distance from the nearer end of [0, 1].

    Attributes:
        option: int32 ``[...]``, the option.
        logits: float32 ``[..., K]``, of the distribution.
        above: bool ``[...]``, is it the distance from 1?
        distance: from that end.
    """

    option: Array
    logits: Array
    above: Array
    distance: Double


class InverseCDF(Coupling):
    """The option in whose cell of the cumulative distribution one uniform falls: monotone, for ordinal options.

    Options stand in their listed order.
    """

    name = "inverse_cdf"
    says = "one number for luck is shared, with the options in their listed order"
    ordered = True
    keeps_without_losers = False
    of_cells = True

    def draw(self, key: Array, options: tuple[str, ...], shape: tuple[int, ...]) -> Double:
        """A uniform of 48 bits, ``[*shape]``."""
        return _uniform(key, shape)

    def respond(self, logits: Array, noise: Any) -> Array:
        """The option in whose cell the uniform falls, int32 ``[...]``.

        >>> noise = Double(jnp.array([0.1, 0.3, 0.9]), jnp.zeros(3))
        >>> InverseCDF().respond(jnp.log(jnp.array([0.2, 0.5, 0.3])), noise).tolist()
        [0, 1, 2]
        """
        if not isinstance(noise, Cell):
            above = noise.high >= 0.5
            far = minus(Double(jnp.ones_like(noise.high), jnp.zeros_like(noise.high)), noise)
            return _option_at(logits, above, _where(above, far, noise))
        return jnp.where(same_law(logits, noise.logits), noise.option, _option_at(logits, noise.above, noise.distance))

    def posterior(self, key: Array, options: tuple[str, ...], logits: Array, index: Array) -> Cell:
        """A uniform in the option's cell."""
        logits = jnp.broadcast_to(logits, (*index.shape, logits.shape[-1]))
        return _in_cell(_uniform(key, index.shape), logits.astype(jnp.float32), index.astype(jnp.int32))

    def joint(self, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Overlaps of the cells of the two cumulative distributions."""
        upper_p, upper_q = (np.minimum(np.cumsum(x, -1), 1.0) for x in (p, q))
        upper_p[..., -1] = upper_q[..., -1] = 1.0
        lower_p, lower_q = (np.concatenate([np.zeros_like(x[..., :1]), x[..., :-1]], -1) for x in (upper_p, upper_q))
        high = np.minimum(upper_p[..., :, None], upper_q[..., None, :])
        return np.asarray(np.maximum(high - np.maximum(lower_p[..., :, None], lower_q[..., None, :]), 0.0))

    def unknown(self, noise: Any) -> Array:
        """A pair of float32, which come last in a cell, is NaN."""
        return jnp.isnan(jax.tree.leaves(noise)[-1])

    def lead(self, log_probs: Array, noise: Double) -> Array:
        """The distance from the nearest end of a cell that is no end of [0, 1]."""
        edges = jnp.exp(log_probs).cumsum(-1)[..., :-1]
        return jnp.abs(edges - noise.high[..., None]).min(-1, initial=jnp.inf)


# -- uniforms and cells ----------------------------------------------------------------------------------


def _uniform(key: Array, shape: tuple[int, ...]) -> Double:
    # 24 bits each.
    return Double(uniforms(key, shape), uniforms(stream(key, "low"), shape) * np.float32(2.0**-24))


def _where(condition: Array, a: Double, b: Double) -> Double:
    return Double(*(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)))


def _in_cell(place: Double, logits: Array, index: Array) -> Cell:
    """The uniform that is at a place in [0, 1) of an option's cell."""
    probs = jnp.exp(logits)
    before, after = running_sums(probs), running_sums(probs, reverse=True)

    def at(x: Array, index: Array) -> Array:
        return jnp.take_along_axis(x, index[..., None], axis=-1)[..., 0]

    def beside(sums: Double, there: Array) -> Double:
        found = Double(*(at(x, jnp.clip(there, 0, probs.shape[-1] - 1)) for x in sums))
        outside = (there < 0) | (there >= probs.shape[-1])
        return Double(*(jnp.where(outside, 0.0, x) for x in found))

    width, total = at(probs, index), Double(before.high[..., -1], before.low[..., -1])
    rest = minus(Double(jnp.ones_like(place.high), jnp.zeros_like(place.high)), place)
    from_0 = plus(beside(before, index - 1), times(place, width))
    from_1 = plus(beside(after, index + 1), times(rest, width))
    above = from_0.high > 0.5
    distance = _where(above, from_1, from_0)
    # Probabilities add up to 1 but for rounding.
    excess = (total.high - 1) + total.low
    return Cell(index, logits, above, plus(distance, Double(-distance.high * excess, jnp.zeros_like(excess))))


def _option_at(logits: Array, above: Array, distance: Double) -> Array:
    """The option in whose cell a number falls that is so far from 1 (``above``) or 0; never one of probability 0."""
    probs = jnp.exp(logits.astype(jnp.float32))
    before, after = running_sums(probs), running_sums(probs, reverse=True)
    excess = (before.high[..., -1] - 1) + before.low[..., -1]
    scaled = plus(distance, Double(distance.high * excess, jnp.zeros_like(distance.high)))
    at = Double(scaled.high[..., None], scaled.low[..., None])
    some = probs > 0
    last = probs.shape[-1] - 1
    upwards, downwards = less(at, before) & some, ~less(after, at) & some
    first_above = jnp.where(upwards.any(-1), jnp.argmax(upwards, -1), last - jnp.argmax(some[..., ::-1], -1))
    last_below = jnp.where(downwards.any(-1), last - jnp.argmax(downwards[..., ::-1], -1), jnp.argmax(some, -1))
    return jnp.where(above, last_below, first_above).astype(jnp.int32)

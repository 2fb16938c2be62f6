"""How worlds share the noise of a choice: from noise to option, and back.

A coupling never changes the distribution of a site in one world; it says how its values in several
worlds go together. ``docs/counterfactuals.md`` shows by how much that matters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..checks import one_of
from ..errors import OptionError, SDSCMError
from .double import Double, less, minus, plus, running_sums, times
from .noise import gumbels, option_gumbels, stream, uniforms

COUPLINGS = ("gumbel", "inverse_cdf", "independent")

# Log-probabilities that are no further apart are the same: this much is lost when a language model is asked again.
SAME, SAME_SHARE = 1e-4, 1e-6


def parse_coupling(value: Any, where: str | None = None, error: type[SDSCMError] = OptionError) -> str:
    """A coupling, as every function takes it.

    Args:
        value: what was given.
        where: what a message begins with.
        error: the caller's.

    Raises:
        SDSCMError: it is none; the message has the nearest that is.

    >>> parse_coupling("inverse_cdf")
    'inverse_cdf'
    """
    return one_of(value, COUPLINGS, "coupling", error, where)


def _is_uniform(coupling: str) -> bool:
    """Is the noise one uniform for a draw, and not a Gumbel for each option?"""
    return parse_coupling(coupling) == "inverse_cdf"


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


def draw_noise(coupling: str, key: Array, options: tuple[str, ...], shape: tuple[int, ...]) -> Any:
    """Prior noise of a choice.

    Args:
        coupling: ``"inverse_cdf"``: one uniform; otherwise a Gumbel for each option.
        key: PRNG key of the site.
        options: K texts.
        shape: how many draws.

    Returns:
        float32 ``[*shape, K]``, or for ``"inverse_cdf"`` a ``Double`` ``[*shape]`` of 48 bits.
    """
    if _is_uniform(coupling):
        return _uniform(key, shape)
    return option_gumbels(key, options, shape)


def respond(coupling: str, logits: Array, noise: Any) -> Array:
    """The option that the noise picks, int32 ``[...]``.

    ``"inverse_cdf"``: the option in whose cell of the cumulative distribution (options in their
    listed order) the uniform falls. Otherwise ``argmax(logits + noise)``.

    Args:
        logits: normalised log-probabilities ``[..., K]``.
        noise: see ``draw_noise`` and ``posterior_noise``.

    >>> noise = Double(jnp.array([0.1, 0.3, 0.9]), jnp.zeros(3))
    >>> respond("inverse_cdf", jnp.log(jnp.array([0.2, 0.5, 0.3])), noise).tolist()
    [0, 1, 2]
    """
    if not _is_uniform(coupling):
        return jnp.argmax(logits + noise, axis=-1).astype(jnp.int32)
    if not isinstance(noise, Cell):
        above = noise.high >= 0.5
        far = minus(Double(jnp.ones_like(noise.high), jnp.zeros_like(noise.high)), noise)
        return _option_at(logits, above, _where(above, far, noise))
    far_off = jnp.abs(logits - noise.logits) > SAME + SAME_SHARE * jnp.abs(noise.logits)
    same = ~(far_off & (logits != noise.logits)).any(-1)
    return jnp.where(same, noise.option, _option_at(logits, noise.above, noise.distance))


def posterior_noise(coupling: str, key: Array, options: tuple[str, ...], logits: Array, index: Array) -> Any:
    """Noise given the option that it picked: an exact draw from its posterior.

    Gumbels are drawn from the top down (Maddison, Tarlow and Minka 2014, arXiv 1411.0030): the
    maximum, which the observed option has, is a standard Gumbel whatever the option; the others are
    truncated below it. For ``"inverse_cdf"``: a uniform in the option's cell, as a ``Cell``.

    Args:
        key: PRNG key of the site.
        logits: normalised log-probabilities ``[..., K]`` in the world of the evidence.
        index: int ``[...]``, the observed options.

    Returns:
        noise that replays ``index`` under ``logits``, for ``respond``.

    >>> logits = jnp.log(jnp.array([0.2, 0.5, 0.3]))
    >>> noise = posterior_noise("gumbel", jax.random.key(0), ("a", "b", "c"), logits, jnp.array(2))
    >>> int(respond("gumbel", logits, noise))
    2
    """
    logits = jnp.broadcast_to(logits, (*index.shape, logits.shape[-1]))
    if _is_uniform(coupling):
        return _in_cell(_uniform(key, index.shape), logits.astype(jnp.float32), index.astype(jnp.int32))
    observed = jax.nn.one_hot(index, logits.shape[-1], dtype=bool)
    fresh = option_gumbels(key, options, index.shape)
    return truncated_gumbels(fresh, gumbels(stream(key, "top"), index.shape), logits, observed)


def truncated_gumbels(fresh: Array, top: Array, logits: Array, observed: Array) -> Array:
    """Standard Gumbels ``fresh`` ``[..., K]`` made into noise whose maximum is at the observed place.

    Args:
        fresh: independent standard Gumbels.
        top: standard Gumbels ``[...]``: what the maximum of ``logits + noise`` is to be.
        logits: normalised log-probabilities ``[..., K]``; -inf is allowed where not observed.
        observed: bool ``[..., K]``, True in one place of each row.
    """
    top = top[..., None]
    finite = jnp.isfinite(logits)
    level = jnp.where(finite, logits, 0.0)
    # Of a Gumbel at this level the truncation at ``top``, less the level: no difference of large numbers.
    below = -jnp.logaddexp(-fresh, level - top)
    noise = jnp.where(observed, top - level, jnp.where(finite, below, fresh))
    # Rounding must not let another place reach the top.
    ceiling = jnp.max(jnp.where(observed, level + noise, -jnp.inf), axis=-1, keepdims=True)
    step = 4 * jnp.finfo(jnp.float32).eps * (1 + jnp.abs(ceiling) + jnp.abs(level))
    tied = finite & ~observed & (level + noise >= ceiling)
    return jnp.where(tied, ceiling - level - step, noise)


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

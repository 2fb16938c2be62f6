"""How worlds share the noise of a choice: from noise to option, and back.

A coupling never changes the distribution of a site in one world; it says how its values in several
worlds go together. ``docs/counterfactuals.md`` shows by how much that matters.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import one_of
from ..errors import OptionError, SDSCMError
from .noise import gumbels, option_gumbels, stream, uniforms

COUPLINGS = ("gumbel", "inverse_cdf", "independent")


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


def draw_noise(coupling: str, key: Array, options: tuple[str, ...], shape: tuple[int, ...]) -> Array:
    """Prior noise of a choice.

    Args:
        coupling: ``"inverse_cdf"``: one uniform; otherwise a Gumbel for each option.
        key: PRNG key of the site.
        options: K texts.
        shape: how many draws.

    Returns:
        float32 ``[*shape, K]``, or ``[*shape]`` for ``"inverse_cdf"``.
    """
    if _is_uniform(coupling):
        return uniforms(key, shape)
    return option_gumbels(key, options, shape)


def respond(coupling: str, logits: Array, noise: Array) -> Array:
    """The option that the noise picks, int32 ``[...]``.

    ``"inverse_cdf"``: the option in whose cell of the cumulative distribution (options in their
    listed order) the uniform falls. Otherwise ``argmax(logits + noise)``.

    Args:
        logits: normalised log-probabilities ``[..., K]``.
        noise: see ``draw_noise``.

    >>> respond("inverse_cdf", jnp.log(jnp.array([0.2, 0.5, 0.3])), jnp.array([0.1, 0.3, 0.9])).tolist()
    [0, 1, 2]
    """
    if _is_uniform(coupling):
        return (noise[..., None] >= _upper_edges(logits)[..., :-1]).sum(-1, dtype=jnp.int32)
    return jnp.argmax(logits + noise, axis=-1).astype(jnp.int32)


def posterior_noise(coupling: str, key: Array, options: tuple[str, ...], logits: Array, index: Array) -> Array:
    """Noise given the option that it picked: an exact draw from its posterior.

    Gumbels are drawn from the top down (Maddison, Tarlow and Minka 2014, arXiv 1411.0030): the
    maximum, which the observed option has, is a standard Gumbel whatever the option; the others are
    truncated below it. For ``"inverse_cdf"``: a uniform in the option's cell.

    Args:
        key: PRNG key of the site.
        logits: normalised log-probabilities ``[..., K]`` in the world of the evidence.
        index: int ``[...]``, the observed options.

    Returns:
        noise that replays ``index`` under ``logits``; shapes as in ``draw_noise``.

    >>> logits = jnp.log(jnp.array([0.2, 0.5, 0.3]))
    >>> noise = posterior_noise("gumbel", jax.random.key(0), ("a", "b", "c"), logits, jnp.array(2))
    >>> int(respond("gumbel", logits, noise))
    2
    """
    logits = jnp.broadcast_to(logits, (*index.shape, logits.shape[-1]))
    if _is_uniform(coupling):
        upper = _upper_edges(logits)
        lower = jnp.concatenate([jnp.zeros_like(upper[..., :1]), upper[..., :-1]], axis=-1)
        low, high = (jnp.take_along_axis(x, index[..., None], axis=-1)[..., 0] for x in (lower, upper))
        inside = low + uniforms(key, index.shape) * (high - low)
        return jnp.clip(inside, low, jnp.nextafter(high, low))
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
    below = -jnp.logaddexp(-(level + fresh), -top) - level
    noise = jnp.where(observed, top - level, jnp.where(finite, below, fresh))
    # Rounding must not let another place reach the top.
    ceiling = jnp.max(jnp.where(observed, level + noise, -jnp.inf), axis=-1, keepdims=True)
    step = 4 * jnp.finfo(jnp.float32).eps * (1 + jnp.abs(ceiling) + jnp.abs(level))
    tied = finite & ~observed & (level + noise >= ceiling)
    return jnp.where(tied, ceiling - level - step, noise)


def _upper_edges(logits: Array) -> Array:
    cumulative = jnp.cumsum(jnp.exp(logits), axis=-1)
    # The last edge is exactly 1, and so is that of every option before impossible last ones.
    return cumulative / cumulative[..., -1:]

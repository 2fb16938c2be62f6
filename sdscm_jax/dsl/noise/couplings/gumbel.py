"""``"gumbel"``: one Gumbel for each option, shared by all worlds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..streams import gumbels, option_gumbels, stream
from .base import Coupling


class Gumbel(Coupling):
    """``X = argmax(log p + G)`` with one standard Gumbel for each option, keyed by the option's text.

    Two worlds' responses are the winners of two races on the same exponential clocks. They agree at least as often as
    (1 - TV) / (1 + TV), TV being the total variation distance of the laws.
    """

    name = "gumbel"
    says = "each option’s luck is shared between the worlds"
    gumbels = True
    stable = True

    def draw(self, key: Array, options: tuple[str, ...], shape: tuple[int, ...]) -> Array:
        """Float32 ``[*shape, K]``."""
        return option_gumbels(key, options, shape)

    def respond(self, logits: Array, noise: Array) -> Array:
        """The option whose log-probability and Gumbel have the largest sum, int32 ``[...]``.

        >>> int(Gumbel().respond(jnp.log(jnp.array([0.2, 0.8])), jnp.array([2.0, 0.0])))
        0
        """
        return jnp.argmax(logits + noise, axis=-1).astype(jnp.int32)

    def posterior(self, key: Array, options: tuple[str, ...], logits: Array, index: Array) -> Any:
        """Gumbels, float32 ``[*index.shape, K]``, drawn from the top down (Maddison, Tarlow and Minka 2014, arXiv
        1411.0030): the maximum, which the observed option has, is a standard Gumbel whatever the option; the others
        are truncated below it.

        >>> logits = jnp.log(jnp.array([0.2, 0.5, 0.3]))
        >>> noise = Gumbel().posterior(jax.random.key(0), ("a", "b", "c"), logits, jnp.array(2))
        >>> int(Gumbel().respond(logits, noise))
        2
        """
        logits = jnp.broadcast_to(logits, (*index.shape, logits.shape[-1]))
        observed = jax.nn.one_hot(index, logits.shape[-1], dtype=bool)
        fresh = option_gumbels(key, options, index.shape)
        return truncated_gumbels(fresh, gumbels(stream(key, "top"), index.shape), logits, observed)

    def joint(self, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """See ``races``."""
        return races(p, q)

    def unknown(self, noise: Array) -> Array:
        """NaN in the first place stands for all."""
        return jnp.isnan(noise[..., 0])

    def lead(self, log_probs: Array, noise: Array) -> Array:
        """By how many nats the best sum is ahead of the next one."""
        best = jnp.sort(log_probs + noise, axis=-1)
        return best[..., -1] - best[..., -2] if best.shape[-1] > 1 else jnp.full(best.shape[:-1], jnp.inf)


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


def races(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The joint law ``[..., K, K]`` of ``argmax(log p + G)`` and ``argmax(log q + G)``, float64.

    Each is the first of K exponential clocks with rates p (or q), on the same clocks: with ``r`` the ratio of the
    winning times and ``h(r) = sum_k max(p_k, q_k r)``, the pair (a, b) has the density ``p_a q_b / h(r)^2`` between
    ``p_b / q_b`` and ``p_a / q_a``, and (a, a) the mass ``1 / sum_k max(p_k / p_a, q_k / q_a)`` (the latter is the
    Poisson matching lemma's, Li and Anantharam 2021, arXiv 1812.03616).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(q > 0, p / np.where(q > 0, q, 1.0), np.where(p > 0, np.inf, 0.0))
    order = np.argsort(ratio, -1)
    sorted_p, sorted_q, r = (np.take_along_axis(x, order, -1) for x in (p, q, ratio))
    # Between two neighbouring ratios, h(r) = (sum of p beyond) + r (sum of q up to here).
    beyond = np.cumsum(sorted_p[..., ::-1], -1)[..., ::-1]
    below = np.cumsum(sorted_q, -1)
    # mass[i]: integral of 1 / h^2 from r[i] to r[i+1].
    left, right = r[..., :-1], r[..., 1:]
    constant, slope = beyond[..., 1:], below[..., :-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        closed = (right - left) / ((constant + slope * left) * (constant + slope * right))
        to_infinity = 1.0 / (slope * (constant + slope * left))
        mass = np.where(np.isinf(right), np.where(np.isinf(left), 0.0, to_infinity), closed)
    mass = np.where(right > left, np.nan_to_num(mass, nan=0.0, posinf=0.0), 0.0)
    cumulative = np.concatenate([np.zeros_like(p[..., :1]), np.cumsum(mass, -1)], -1)
    place = np.argsort(order, -1)
    at = np.take_along_axis(cumulative, place, -1)
    # a wins under p where the ratio of times is below p_a / q_a, b under q where it is above p_b / q_b.
    between = np.maximum(at[..., :, None] - at[..., None, :], 0.0)
    joint = p[..., :, None] * q[..., None, :] * between
    stay = np.maximum(np.minimum(p - joint.sum(-1), q - joint.sum(-2)), 0.0)
    return np.asarray(joint + np.eye(p.shape[-1]) * stay[..., :, None])

"""Noise of a known value, and what it leads to where the site's distribution is another one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from ..errors import EvidenceError
from .coupling import posterior_noise, respond
from .intervention import Intervened, natural
from .mechanism import with_mechanism

_TINY = 1e-7


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Known:
    """Noise of a language model's site.

    Attributes:
        noise: what the mechanism responds to.
    """

    noise: Any

    def carried_to(self, fn: dist.Distribution, name: str) -> dist.Distribution:
        """The site's distribution with this noise at hand."""
        return with_mechanism(fn, lambda mechanism: mechanism.replace(noise=self.noise))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Quantile:
    """Noise of any other site: its value, and the quantile that it is of its own distribution.

    Where the distribution is the same, the value is the same bit for bit; where it is another one,
    it is that quantile there. (For a location-scale family that is the same standardised noise, which
    is also what NumPyro's draws share.)

    Attributes:
        value: the value.
        quantile: float32 in (0, 1); None where the distribution has none.
        distribution: the distribution that the value was of.
    """

    value: Array
    quantile: Array | None
    distribution: dist.Distribution

    def carried_to(self, fn: dist.Distribution, name: str) -> dist.Distribution:
        """The site's distribution with this noise at hand."""
        if isinstance(fn, Intervened):
            new = copy.copy(fn)
            new.base_dist = self.carried_to(fn.base_dist, name)
            return new
        return Carried(fn, self, name)


class Carried(dist.Distribution):
    """A site whose draw is the response to noise that is at hand."""

    pytree_data_fields = ("base_dist", "noise")
    pytree_aux_fields = ("name",)

    def __init__(self, base_dist: dist.Distribution, noise: Quantile, name: str):
        self.base_dist, self.noise, self.name = base_dist, noise, name
        super().__init__(base_dist.batch_shape, base_dist.event_shape)

    @property
    def support(self) -> Any:
        return self.base_dist.support

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        noise = self.noise
        same = [
            jnp.array_equal(a, b)
            for a, b in zip(*map(jax.tree.leaves, (self.base_dist, noise.distribution)), strict=True)
        ]
        if not same:
            return noise.value
        if noise.quantile is None:
            raise EvidenceError(
                f"site {self.name!r} ({type(self.base_dist).__name__}) is observed and has parents, and its noise "
                "cannot be told from its value: the distribution has no quantile function. Write it as a "
                "deterministic function of a Normal or Uniform site"
            )
        moved = quantile_value(self.base_dist, noise.quantile).astype(noise.value.dtype)
        return jnp.where(jnp.stack(same).all(), noise.value, moved)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        return self.base_dist.log_prob(value)


def quantile_noise(fn: dist.Distribution, value: Array, key: Array) -> Quantile:
    """The noise of ``value``, drawn from its posterior where a value leaves it open.

    A continuous value has one quantile. A value of a discrete site with finitely many has a cell of
    them, and the quantile is uniform in it.
    """
    value, fn = jnp.asarray(value), natural(fn)
    if enumerable(fn):
        support, log_probs = _support(fn)
        place = jnp.argmax(value[..., None] == support, axis=-1)
        return Quantile(value, posterior_noise("inverse_cdf", key, (), log_probs, place), fn)
    try:
        quantile = fn.cdf(value)
        jax.eval_shape(fn.icdf, quantile)
    except (NotImplementedError, ImportError):  # some need a package that is not installed
        return Quantile(value, None, fn)
    return Quantile(value, jnp.clip(quantile, _TINY, 1 - _TINY), fn)


def quantile_value(fn: dist.Distribution, quantile: Array) -> Array:
    """The value of a distribution at a quantile."""
    if enumerable(fn):
        support, log_probs = _support(fn)
        return support[respond("inverse_cdf", log_probs, quantile)]
    return fn.icdf(quantile)


def enumerable(fn: dist.Distribution) -> bool:
    """Has the distribution finitely many scalar values?"""
    return fn.has_enumerate_support and not fn.event_shape


def _support(fn: dist.Distribution) -> tuple[Array, Array]:
    """The values ``[K]`` of a distribution, and their log-probabilities ``[..., K]``."""
    support = fn.enumerate_support(expand=False)
    log_probs = fn.log_prob(support.reshape(-1, *(1,) * len(fn.batch_shape)))
    return support.reshape(-1), jnp.moveaxis(log_probs, 0, -1)

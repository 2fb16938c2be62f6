"""Noise of a known value, and what it leads to where the site's distribution is another one."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from ...errors import EvidenceError
from ..language.mechanism import with_mechanism
from ..noise.couplings.base import Coupling
from ..noise.couplings.gumbel import Gumbel
from ..noise.couplings.inverse_cdf import InverseCDF
from ..noise.residual import core, moved, same
from .intervened import Fixed, Intervened, natural


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
class Residual:
    """Noise of any other site: its value, and the distribution that it was of.

    Where the distribution is the same, the value is the same bit for bit; where it is another one, it is what the
    same noise leads to there: the same standardised residual, quantile or place in a cell (``residual``).

    Attributes:
        value: the value.
        distribution: the distribution that the value was of.
        cell: where the values are finitely many, the noise that picks this one.
        coupling: what that noise is: NumPyro draws a categorical value by Gumbels, others by a uniform.
    """

    value: Array
    distribution: dist.Distribution
    cell: Any
    coupling: Coupling = field(default=InverseCDF(), metadata={"static": True})

    def carried_to(self, fn: dist.Distribution, name: str) -> dist.Distribution:
        """The site's distribution with this noise at hand."""
        if isinstance(fn, Fixed):
            return fn
        if isinstance(fn, Intervened):
            # Of a soft intervention the natural value; a drawn one is no draw of this noise.
            if getattr(fn, "base_dist", None) is None:
                return fn
            new = copy.copy(fn)
            new.base_dist = self.carried_to(fn.base_dist, name)
            return new
        return Carried(fn, self, name)


class Carried(dist.Distribution):
    """A site whose draw is the response to noise that is at hand."""

    pytree_data_fields = ("base_dist", "noise")
    pytree_aux_fields = ("name",)

    def __init__(self, base_dist: dist.Distribution, noise: Residual, name: str):
        self.base_dist, self.noise, self.name = base_dist, noise, name
        super().__init__(base_dist.batch_shape, base_dist.event_shape)

    @property
    def support(self) -> Any:
        return self.base_dist.support

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        value = self.noise.value
        other = self._value().astype(value.dtype)
        if not isinstance(other, jax.core.Tracer):
            check_told(self.name, value, other)
        return other

    def _value(self) -> Array:
        noise = self.noise
        if noise.cell is not None:
            support, log_probs = _support(self.base_dist)
            return support[noise.coupling.respond(log_probs, noise.cell)]
        found = moved(noise.distribution, self.base_dist, noise.value)
        if found is None:
            return jnp.where(same(noise.distribution, self.base_dist), noise.value, untold(noise.value.dtype))
        return found[0]

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        return self.base_dist.log_prob(value)


def untold(dtype: Any) -> Any:
    """What stands for a value that cannot be told; no result of a run that is checked has it (``check_told``)."""
    return jnp.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min


def untold_values(values: np.ndarray) -> np.ndarray:
    """Which values, on the host, cannot be told."""
    if values.dtype.kind == "i":
        return values == untold(values.dtype)
    return ~np.isfinite(values.astype(np.float32)) if jnp.issubdtype(values.dtype, jnp.floating) else values != values


def check_told(name: str, value: Any, other: Any, where: str = "") -> None:
    """Refuse a counterfactual value that cannot be told from the value that is known.

    Args:
        name: the site.
        value: the known value.
        other: the values in another world, on the host.
        where: the unit and the world, for the message.

    Raises:
        EvidenceError: float32 cannot hold the value, or the noise cannot be told from the known one.
    """
    if untold_values(np.asarray(other)).any():
        raise EvidenceError(
            f"site {name!r}, whose value is {np.asarray(value).tolist()}: what it would have been{where} cannot be "
            "told. Its distribution is another one there, and either NumPyro has no quantile function of it, or "
            "float32 cannot hold so unlikely a value. Write the site as a deterministic function of a Normal or "
            "Uniform site"
        )


def residual_noise(fn: dist.Distribution, value: Array, key: Array) -> Residual:
    """The noise of ``value``, drawn from its posterior where a value leaves it open.

    A value of a continuous site has one residual. A value of a discrete site with finitely many has a cell, and the
    noise is uniform in it.
    """
    value, fn = jnp.asarray(value), core(natural(fn))
    try:
        support, log_probs = _support(fn)
    except (NotImplementedError, jax.errors.ConcretizationTypeError):  # none, or they depend on other sites
        return Residual(value, fn, None)
    place = jnp.argmax(value[..., None] == support, axis=-1)
    gumbels = isinstance(fn, dist.CategoricalProbs | dist.CategoricalLogits)
    coupling: Coupling = Gumbel() if gumbels else InverseCDF()
    values = tuple(map(str, range(log_probs.shape[-1])))
    return Residual(value, fn, coupling.posterior(key, values, log_probs, place), coupling)


def enumerable(fn: dist.Distribution) -> bool:
    """Has the distribution finitely many scalar values?"""
    return fn.has_enumerate_support and not fn.event_shape


def _support(fn: dist.Distribution) -> tuple[Array, Array]:
    """The values ``[K]`` of a distribution, and their log-probabilities ``[..., K]``.

    Raises:
        NotImplementedError: it has infinitely many, or other ones for each member of a plate.
    """
    fn = core(fn)
    if not enumerable(fn):
        raise NotImplementedError
    support = fn.enumerate_support(expand=False)
    log_probs = fn.log_prob(support.reshape(-1, *(1,) * len(fn.batch_shape)))
    return support.reshape(-1), jnp.moveaxis(log_probs, 0, -1)

"""Families of NumPyro sites that programs use: one number places them, another scales them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist


class Family(NamedTuple):
    """How a distribution is made; whether its values are whole; how many they are (0: not finitely many); and
    ``carry(value, location, scale, other location)``: the value with the same noise elsewhere, where it is certain."""

    distribution: Callable[[Any, Any], Any]
    whole: bool = False
    carry: Callable[[Any, Any, float, Any], Any] | None = None
    finite: int = 0


def _logits(x: Any) -> Any:
    # The first option against two that are about as likely as each other.
    x = jnp.asarray(x, float)
    return jnp.stack([jnp.zeros_like(x), x, x - 0.25], -1)


def _positive(x: Any) -> Any:
    return jnp.exp(jnp.clip(jnp.asarray(x, float), -1.5, 1.5))


FAMILIES: dict[str, Family] = {
    "normal": Family(lambda x, s: dist.Normal(x, s), carry=lambda v, x, s, y: v - x + y),
    "laplace": Family(lambda x, s: dist.Laplace(x, s), carry=lambda v, x, s, y: v - x + y),
    "lognormal": Family(lambda x, s: dist.LogNormal(0.25 * x, s), carry=lambda v, x, s, y: v * jnp.exp(0.25 * (y - x))),
    "exponential": Family(
        lambda x, s: dist.Exponential(_positive(x) * s), carry=lambda v, x, s, y: v * _positive(x) / _positive(y)
    ),
    "gamma": Family(
        lambda x, s: dist.Gamma(1.0 + s, _positive(x)), carry=lambda v, x, s, y: v * _positive(x) / _positive(y)
    ),
    "beta": Family(lambda x, s: dist.Beta(1.0 + s, _positive(x))),
    "poisson": Family(lambda x, s: dist.Poisson(_positive(x) * s), whole=True),
    "bernoulli": Family(lambda x, s: dist.BernoulliLogits(x * s), whole=True, finite=2),
    "bernoulli_probs": Family(lambda x, s: dist.BernoulliProbs(1 / (1 + jnp.exp(-x))), whole=True, finite=2),
    "categorical": Family(lambda x, s: dist.CategoricalLogits(_logits(x)), whole=True, finite=3),
    # Of interventions only.
    "choose2": Family(lambda x, s: dist.CategoricalProbs(jnp.array([0.5, 0.5])), whole=True, finite=2),
    "choose3": Family(lambda x, s: dist.CategoricalProbs(jnp.array([0.2, 0.3, 0.5])), whole=True, finite=3),
}

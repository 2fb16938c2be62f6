"""Quantiles of distributions of another shape, exact into both tails.

A quantile near 1 is lost in float32. So a value is carried by the logarithm of the smaller of P(X <= x) and
P(X > x), each computed where it is accurate, and found again by bisection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import betainc, gammainc, gammaincc, log_ndtr

# Logarithms of probabilities below this are of numbers that float32 does not have.
LEAST = -86.0
_HALVINGS = 64

Shape = tuple[Any, ...]


class Tails(NamedTuple):
    """A family of distributions of one standardised variable.

    Attributes:
        logs: of a shape and a point, the logarithms of P(X <= x) and P(X > x); accurate where they are small.
        at: of a shape and a coordinate, which increases with the variable, the point.
        span: the coordinates.
        point: the point of a standardised value.
        value: the standardised value of a point.
    """

    logs: Callable[[Shape, Any], tuple[Array, Array]]
    at: Callable[[Shape, Array], Any]
    span: tuple[float, float]
    point: Callable[[Any], Any] = lambda x: x
    value: Callable[[Any], Any] = lambda x: x


def carried(tails: Tails, old: Shape, new: Shape, value: Any) -> tuple[Any, Array]:
    """The standardised value that is as far out under the new shape as ``value`` is under the old one, and whether
    float32 can tell it."""
    below, above = tails.logs(old, tails.point(value))
    left = below < above
    target = jnp.where(left, below, above)
    size = jnp.broadcast_shapes(jnp.shape(target), *map(jnp.shape, new))
    start = (jnp.full(size, edge, jnp.float32) for edge in tails.span)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + 0.5 * (high - low)
        below, above = tails.logs(new, tails.at(new, middle))
        short = jnp.where(left, below < target, above > target)
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, tuple(start))
    found = tails.value(tails.at(new, low + 0.5 * (high - low)))
    inside = (low > tails.span[0]) & (high < tails.span[1]) & (target > LEAST)
    return found, inside


def _gamma(shape: Shape, x: Array) -> tuple[Array, Array]:
    (a,) = shape
    return jnp.log(gammainc(a, x)), jnp.log(gammaincc(a, x))


def _beta(shape: Shape, point: tuple[Array, Array]) -> tuple[Array, Array]:
    (a, b), (x, rest) = shape, point
    return jnp.log(betainc(a, b, x)), jnp.log(betainc(b, a, rest))


def _student(shape: Shape, x: Array) -> tuple[Array, Array]:
    (df,) = shape
    tail = jnp.log(0.5 * betainc(0.5 * df, 0.5, df / (df + x**2)))
    middle = jnp.log1p(-jnp.exp(tail))
    return jnp.where(x < 0, tail, middle), jnp.where(x < 0, middle, tail)


def _skewed_laplace(shape: Shape, x: Array) -> tuple[Array, Array]:
    (k,) = shape
    left = 2 * jnp.log(k) - jnp.log1p(k**2) - jnp.maximum(-x, 0) / k
    right = -jnp.log1p(k**2) - jnp.maximum(x, 0) * k
    below = jnp.where(x < 0, left, jnp.log1p(-jnp.exp(right)))
    return below, jnp.where(x < 0, jnp.log1p(-jnp.exp(left)), right)


def _over_reals(logs: Callable[[Shape, Any], tuple[Array, Array]]) -> Tails:
    return Tails(logs, lambda shape, u: jnp.sinh(u), (-80.0, 80.0))


GAMMA = Tails(_gamma, lambda shape, u: jnp.exp(u), (-87.0, 88.0))
BETA = Tails(
    _beta,
    lambda shape, u: (jax.nn.sigmoid(u), jax.nn.sigmoid(-u)),
    (-87.0, 87.0),
    point=lambda x: (x, 1 - x),
    value=lambda point: point[0],
)
STUDENT = _over_reals(_student)
SKEWED_LAPLACE = _over_reals(_skewed_laplace)


# -- truncated distributions -----------------------------------------------------------------------------------

# Logarithms of P(Z <= z) of standard symmetric variables.
LOG_CDFS: dict[str, Callable[[Array], Array]] = {
    "Normal": log_ndtr,
    "Logistic": lambda z: -jax.nn.softplus(-z),
    "Cauchy": lambda z: jnp.log(jnp.arctan2(1.0, -z) / jnp.pi),
    "Laplace": lambda z: jnp.where(z < 0, z - jnp.log(2.0), jnp.log1p(-0.5 * jnp.exp(-jnp.maximum(z, 0)))),
    "SoftLaplace": lambda z: jnp.log(2 / jnp.pi * jnp.arctan(jnp.exp(jnp.minimum(z, 80.0)))),
}


# Gauss's quadrature on [0, 1].
_NODES, _WEIGHTS = ((1 + x) / 2 if i == 0 else x / 2 for i, x in enumerate(np.polynomial.legendre.leggauss(5)))


class Between(NamedTuple):
    """A standardised value between two bounds, with its distances from them: near a bound only these tell it."""

    value: Array
    above_low: Array
    below_high: Array


def truncated(kind: str) -> Tails:
    """A symmetric standard variable between bounds, which are its shape (infinite where there is none)."""
    log_cdf, density = LOG_CDFS[kind], getattr(dist, kind)(0.0, 1.0)

    def mass(low: Array, high: Array, width: Array) -> Array:
        low, high, width = jnp.broadcast_arrays(*(jnp.asarray(x, jnp.float32) for x in (low, high, width)))
        # On the side where both are small; across the middle from what is beyond them.
        flipped = low >= 0
        first, second = jnp.where(flipped, -high, low), jnp.where(flipped, -low, high)
        one_side = second <= 0
        b = log_cdf(jnp.where(one_side, second, 0.0))
        a = log_cdf(jnp.where(one_side, first, -1.0))
        beyond = jnp.exp(log_cdf(jnp.minimum(first, 0.0))) + jnp.exp(log_cdf(-jnp.maximum(second, 0.0)))
        wide = jnp.where(one_side, b + jnp.log(-jnp.expm1(jnp.minimum(a - b, 0.0))), jnp.log1p(-beyond))
        # Of a narrow interval these are differences of nearly equal numbers.
        narrow = width * (1 + jnp.maximum(jnp.abs(first), jnp.abs(second))) < jnp.where(one_side, 1.0, 1e-3)
        step, end = jnp.where(narrow, width, 1.0), jnp.where(narrow, second, 0.0)
        inside = density.log_prob(end[..., None] - step[..., None] * _NODES)
        return jnp.where(narrow, jnp.log(step) + jax.nn.logsumexp(inside, axis=-1, b=_WEIGHTS), wide)

    def logs(shape: Shape, point: Between) -> tuple[Array, Array]:
        low, high = shape
        total = mass(low, high, high - low)
        return mass(low, point.value, point.above_low) - total, mass(point.value, high, point.below_high) - total

    def at(shape: Shape, u: Array) -> Between:
        low, high = shape
        both, span = jnp.isfinite(low) & jnp.isfinite(high), jnp.where(jnp.isfinite(high - low), high - low, 1.0)
        one, other = jnp.exp(u), jnp.exp(-u)
        above = jnp.where(both, span * jax.nn.sigmoid(u), jnp.where(jnp.isfinite(low), one, jnp.inf))
        below = jnp.where(both, span * jax.nn.sigmoid(-u), jnp.where(jnp.isfinite(low), jnp.inf, other))
        return Between(jnp.where(above <= below, low + above, high - below), above, below)

    return Tails(logs, at, (-87.0, 87.0))

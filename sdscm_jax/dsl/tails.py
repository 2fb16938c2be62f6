"""Quantiles of distributions of another shape, exact into both tails.

A quantile near 1 is lost in float32. So a value is carried by the logarithm of the smaller of P(X <= x) and
P(X > x), each computed where it is accurate, and found again by bisection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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
        point: the point of a value.
        value: the value of a point.
        at: the point of a coordinate, which increases with the value.
        span: the coordinates.
    """

    logs: Callable[[Shape, Any], tuple[Array, Array]]
    point: Callable[[Array], Any]
    value: Callable[[Any], Array]
    at: Callable[[Array], Any]
    span: tuple[float, float]


def carried(tails: Tails, old: Shape, new: Shape, value: Array) -> Array:
    """The value that is as far out under the new shape as ``value`` is under the old one; inf: it cannot be told."""
    below, above = tails.logs(old, tails.point(value))
    left = below < above
    target = jnp.where(left, below, above)
    size = jnp.broadcast_shapes(jnp.shape(target), *map(jnp.shape, new))
    start = (jnp.full(size, edge, jnp.float32) for edge in tails.span)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + 0.5 * (high - low)
        below, above = tails.logs(new, tails.at(middle))
        short = jnp.where(left, below < target, above > target)
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, tuple(start))
    found = tails.value(tails.at(low + 0.5 * (high - low)))
    inside = (low > tails.span[0]) & (high < tails.span[1]) & (target > LEAST)
    return jnp.where(inside, found, jnp.inf)


def _plain(x: Any) -> Any:
    return x


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
    return Tails(logs, _plain, _plain, jnp.sinh, (-80.0, 80.0))


GAMMA = Tails(_gamma, _plain, _plain, jnp.exp, (-87.0, 88.0))
BETA = Tails(
    _beta, lambda x: (x, 1 - x), lambda point: point[0], lambda u: (jax.nn.sigmoid(u), jax.nn.sigmoid(-u)), (-87.0, 87.0)
)
STUDENT = _over_reals(_student)
SKEWED_LAPLACE = _over_reals(_skewed_laplace)


# -- truncated distributions -----------------------------------------------------------------------------------

# Logarithms of P(Z <= z) of standard symmetric variables.
LOG_CDFS: dict[str, Callable[[Array], Array]] = {
    "Normal": log_ndtr,
    "Logistic": lambda z: -jax.nn.softplus(-z),
    "Cauchy": lambda z: jnp.log(jnp.arctan2(1.0, -z) / jnp.pi),
    "Laplace": lambda z: jnp.where(
        z < 0, z - jnp.log(2.0), jnp.log1p(-0.5 * jnp.exp(-jnp.maximum(z, 0)))
    ),
    "SoftLaplace": lambda z: jnp.log(2 / jnp.pi * jnp.arctan(jnp.exp(jnp.minimum(z, 80.0)))),
}


def truncated(kind: str) -> Tails:
    """A symmetric standard variable between bounds, which are its shape (infinite where there is none)."""
    log_cdf = LOG_CDFS[kind]

    def mass(low: Array, high: Array) -> Array:
        # On the side where both are small; across the middle from what is beyond them.
        low, high = jnp.broadcast_arrays(jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32))
        flipped = low >= 0
        first, second = jnp.where(flipped, -high, low), jnp.where(flipped, -low, high)
        one_side = second <= 0
        b = log_cdf(jnp.where(one_side, second, 0.0))
        a = log_cdf(jnp.where(one_side, first, -1.0))
        beyond = jnp.exp(log_cdf(jnp.minimum(first, 0.0))) + jnp.exp(log_cdf(-jnp.maximum(second, 0.0)))
        return jnp.where(one_side, b + jnp.log(-jnp.expm1(jnp.minimum(a - b, 0.0))), jnp.log1p(-beyond))

    def logs(shape: Shape, x: Array) -> tuple[Array, Array]:
        low, high = shape
        x = jnp.clip(x, low, high)
        total = mass(low, high)
        return mass(low, x) - total, mass(x, high) - total

    return _over_reals(logs)

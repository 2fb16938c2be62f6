"""Sums and products in pairs of float32, ``high + low``: some 48 bits, where one float32 has 24.

A cell of a distribution function may be narrower than the float32 numbers around it lie apart.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Double(NamedTuple):
    """A number ``high + low``, where ``low`` is less than half a unit in the last place of ``high``."""

    high: Array
    low: Array


def double(x: Array) -> Double:
    """A float32 as a pair."""
    return Double(x, jnp.zeros_like(x))


def _exact_sum(a: Array, b: Array) -> Double:
    # Knuth's: the rounding error of a sum is a float32.
    total = a + b
    of_b = total - a
    return Double(total, (a - (total - of_b)) + (b - of_b))


def plus(a: Double, b: Double) -> Double:
    """The sum."""
    total = _exact_sum(a.high, b.high)
    return _exact_sum(total.high, total.low + (a.low + b.low))


def minus(a: Double, b: Double) -> Double:
    """The difference."""
    return plus(a, Double(-b.high, -b.low))


def times(a: Double, b: Array) -> Double:
    """The product with a float32."""
    (x, rest_x), (y, rest_y) = _halves(a.high), _halves(b)
    product = a.high * b
    error = ((x * y - product) + x * rest_y + rest_x * y) + rest_x * rest_y
    return _exact_sum(product, error + a.low * b)


def _halves(x: Array) -> tuple[Array, Array]:
    """A float32 as two of 12 bits, whose products are exact; by its bits, since products and sums may be fused."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000)
    upper = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return upper, x - upper


def less(a: Double, b: Double) -> Array:
    """Is ``a < b``?"""
    return (a.high < b.high) | ((a.high == b.high) & (a.low < b.low))


def running_sums(x: Array, reverse: bool = False) -> Double:
    """Sums of the last axis up to (``reverse``: from) each place, that place included."""
    return jax.lax.associative_scan(plus, double(x), reverse=reverse, axis=x.ndim - 1)

"""Exogenous noise: keys folded from names and texts, so that a draw depends on what it is for and
on nothing else (not on the order of sites or options, nor on how many there are)."""

from __future__ import annotations

import hashlib
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def text_hash(text: str) -> np.uint32:
    """A hash of text that is the same in every process and on every machine.

    >>> int(text_hash("age"))
    2055926754
    """
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=4).digest(), "<u4")[0]


def fold_in(key: Array, number: Any) -> Array:
    """``jax.random.fold_in(key, number)``, bit for bit, and faster for many keys on a processor.

    Args:
        key: one PRNG key, of either kind.
        number: an integer.

    >>> key = jax.random.key(0)
    >>> bool(fold_in(key, 7) == jax.random.fold_in(key, 7))
    True
    """
    if not _is_usual(key):
        return jax.random.fold_in(key, number)
    number = np.uint32(number) if isinstance(number, int) else number
    return _fold_in(key, number)


def fold_text(key: Array, text: str) -> Array:
    """A key derived from ``key`` and ``text``."""
    return fold_in(key, text_hash(text))


def fold_unless_zero(key: Array, number: Array) -> Array:
    """``fold_in(key, number)``, or ``key`` itself where the number is 0; both may be traced."""
    chosen = jnp.where(number == 0, _bits(key), _bits(fold_in(key, number)))
    return jax.random.wrap_key_data(chosen, impl=jax.random.key_impl(key)) if _is_typed(key) else chosen


def option_gumbels(key: Array, options: tuple[str, ...], shape: tuple[int, ...]) -> Array:
    """Standard Gumbel noise of each option, keyed by its text.

    Args:
        key: PRNG key of the site.
        options: K texts.
        shape: how many independent draws.

    Returns:
        float32 ``[*shape, K]``; drawn in JAX's high-precision mode, whose tail reaches options
        of probability 1e-14.
    """
    hashes = np.array([text_hash(option) for option in options])
    if _is_usual(key) and 2 * math.prod(shape) < 1 << 32 and jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        return _option_gumbels(key, hashes, tuple(shape))

    def one(h: Array) -> Array:
        return jax.random.gumbel(jax.random.fold_in(key, h), shape, jnp.float32, mode="high")

    return jax.vmap(one, out_axes=-1)(jnp.asarray(hashes))


# -- JAX's usual generator, written out ------------------------------------------------------------------
# On a processor JAX runs the rounds of Threefry in a loop, through memory; without one they are a single
# pass. The numbers are the same, bit for bit.


def _is_typed(key: Array) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _is_usual(key: Array) -> bool:
    # Of raw bits JAX's default generator is meant.
    return jax.random.key_impl(key) == "threefry2x32"


def _bits(key: Array) -> Array:
    return jax.random.key_data(key) if _is_typed(key) else key


_Words = tuple[Array, Array]


def _threefry(key: _Words, low: Array) -> _Words:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") of the
    counter ``(0, low)``."""
    words = *key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA)
    a, b = words[0], low + words[1]
    for block in range(5):
        for turn in (17, 29, 16, 24) if block % 2 else (13, 15, 26, 6):
            a = a + b
            b = a ^ ((b << np.uint32(turn)) | (b >> np.uint32(32 - turn)))
        a = a + words[(block + 1) % 3]
        b = b + words[(block + 2) % 3] + np.uint32(block + 1)
    return a, b


# Jitted, so that calls outside of a trace are one program each, compiled once.
@jax.jit
def _fold_in(key: Array, number: Array) -> Array:
    bits = _bits(key)
    folded = jnp.stack(_threefry((bits[0], bits[1]), jnp.asarray(number).astype(jnp.uint32)))
    return jax.random.wrap_key_data(folded, impl=jax.random.key_impl(key)) if _is_typed(key) else folded


@partial(jax.jit, static_argnames="shape")
def _option_gumbels(key: Array, hashes: Array, shape: tuple[int, ...]) -> Array:
    bits = _bits(key)
    counter = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)

    def uniform(key: _Words, counter: Array) -> Array:
        a, b = _threefry(key, counter)
        return ((a ^ b) >> np.uint32(9)).astype(jnp.float32) * np.float32(2.0**-23)

    def one(h: Array) -> Array:
        option = _threefry((bits[0], bits[1]), h)
        high, low = uniform(option, counter), uniform(option, counter + np.uint32(counter.size))
        # 46 bits where the number is small and the Gumbel far out; never 0.
        fine = high + low * np.float32(2.0**-23) + np.finfo(np.float32).tiny
        return -jnp.log(-jnp.log1p(-jnp.where(high >= 0.5, high, fine)))

    # One option after another: a processor computes many units at once where they lie side by side, which
    # a unit's few options would keep apart.
    return jnp.moveaxis(jax.lax.map(one, hashes), 0, -1)

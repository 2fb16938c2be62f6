"""Exogenous noise: keys folded from names and texts, so that a draw depends on what it is for and
on nothing else (not on the order of sites or options, nor on how many there are)."""

from __future__ import annotations

import hashlib

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


def fold_text(key: Array, text: str) -> Array:
    """A key derived from ``key`` and ``text``."""
    return jax.random.fold_in(key, text_hash(text))


def fold_unless_zero(key: Array, number: Array) -> Array:
    """``fold_in(key, number)``, or ``key`` itself where the number is 0; both may be traced."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    as_bits = jax.random.key_data if typed else lambda bits: bits
    chosen = jnp.where(number == 0, as_bits(key), as_bits(jax.random.fold_in(key, number)))
    return jax.random.wrap_key_data(chosen, impl=jax.random.key_impl(key)) if typed else chosen


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
    hashes = jnp.asarray(np.array([text_hash(option) for option in options]))

    def one(h: Array) -> Array:
        return jax.random.gumbel(jax.random.fold_in(key, h), shape, jnp.float32, mode="high")

    return jax.vmap(one, out_axes=-1)(hashes)

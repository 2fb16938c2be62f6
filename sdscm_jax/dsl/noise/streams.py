"""Exogenous noise: keys folded from names and texts, so that a draw depends on what it is for and
on nothing else (not on the order of sites or options, nor on how many there are).

All streams are those of Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), whatever
the type of the key that they begin with: JAX's ``rbg`` draws other numbers under ``vmap``. A block of it maps a key of
two words and a counter of two words to two words. A name or text is the counter of 64 bits that its hash is; sites,
options and what is neither (``stream``) have name spaces of their own. Member m of a plate has the counter ``(0, m)``
at an option, ``(m, token)`` at a token of free text.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...checks import seed, told
from ...errors import RandomKeyError

_Words = tuple[Any, Any]


def as_key(key: Any) -> Array:
    """The PRNG key that a run begins with, as one of JAX's usual generator; of an int, the one with that seed.

    Args:
        key: a typed key of any generator, the raw words of one (uint32 ``[2]``, or ``[4]`` of ``rbg``), or an int. A
            key of another generator is reduced to the two words that it was made of, so that ``jax.random.fold_in`` and
            ``split`` of an ``rbg`` key lead to the same streams as those of the ``threefry2x32`` key with its seed.

    Raises:
        RandomKeyError: it is something else, a batch of keys, or a seed that is not of 32 bits.

    >>> as_key(3) == jax.random.key(3), as_key(jax.random.PRNGKey(3)) == jax.random.key(3)
    (Array(True, dtype=bool), Array(True, dtype=bool))
    >>> bool(as_key(jax.random.key(3, impl="rbg")) == jax.random.key(3))
    True
    """
    expected = "expected one PRNG key (jax.random.key(0)) or an int seed"
    whole = isinstance(key, int | np.integer) or (
        isinstance(key, jax.Array | np.ndarray) and jnp.issubdtype(key.dtype, jnp.integer)
    )
    if whole and not isinstance(key, bool) and jnp.shape(key) == ():
        return jax.random.key(seed(key, "key, where it is a seed,", RandomKeyError), impl="threefry2x32")
    if not isinstance(key, jax.Array | np.ndarray | np.generic):
        raise RandomKeyError(f"{expected}, got {told(key)}")
    if not _is_typed(key):
        if key.dtype != np.uint32 or jnp.shape(key) not in ((2,), (4,)):
            raise RandomKeyError(f"{expected}, got an array of {key.dtype}{jnp.shape(key)}")
    elif jnp.shape(key):
        raise RandomKeyError(
            f"{expected}, got {math.prod(key.shape)} keys of shape {key.shape}; use one of them at a time"
        )
    return _typed(_words(key))  # type: ignore[arg-type]


@lru_cache(maxsize=1 << 16)
def text_words(text: str, space: str = "site") -> tuple[np.uint32, np.uint32]:
    """A hash of text, 64 bits as two words, that is the same in every process and on every machine.

    Args:
        text: the text.
        space: its name space: ``"site"``, ``"option"`` or ``"stream"``.

    >>> [hex(word) for word in text_words("age")] != [hex(word) for word in text_words("age", "option")]
    True
    """
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8, person=space.encode()).digest()
    first, second = np.frombuffer(digest, "<u4")
    return first, second


def fold_in(key: Array, number: Any) -> Array:
    """``jax.random.fold_in(key, number)`` of a Threefry key, bit for bit, and faster for many keys on a processor.

    Args:
        key: one PRNG key.
        number: an integer.

    >>> key = jax.random.key(0)
    >>> bool(fold_in(key, 7) == jax.random.fold_in(key, 7))
    True
    """
    return _fold(key, np.uint32(0), np.uint32(number) if isinstance(number, int) else number)


def fold_text(key: Array, text: str, space: str = "site") -> Array:
    """The key of the site (or, in another name space, of the option or stream) of that name."""
    return _fold(key, *text_words(text, space))


def stream(key: Array, name: str) -> Array:
    """A key for what is no site's own noise (abduction, interventions, …), which no site's name leads to."""
    return fold_text(key, name, "stream")


def hashed(text: str, numbers: Array) -> tuple[Array, Array]:
    """A hash of 64 bits, as two words, of each of some uint32 numbers ``[n]``, its place and a text."""
    words = tuple(jnp.broadcast_to(word, numbers.shape) for word in text_words(text))
    return _threefry(words, (_places(numbers.shape), numbers))  # type: ignore[arg-type]


def chosen_key(condition: Any, key: Array, other: Array) -> Array:
    """``key`` where the condition (a boolean that may be traced) holds, else ``other``."""
    return _typed([jnp.where(condition, a, b) for a, b in zip(_words(key), _words(other), strict=True)])


def uniforms(key: Array, shape: tuple[int, ...]) -> Array:
    """Uniforms on [0, 1), float32 of the shape; those of the first places do not depend on how many there are."""
    return _uniforms(_words(key), tuple(shape))


def uniforms_at(key: Array, places: Array) -> Array:
    """What ``uniforms`` has at these places (uint32 ``[...]``)."""
    return _uniforms_at(_words(key), places)


def gumbels(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard Gumbels, float32 of the shape; those of the first places do not depend on how many there are."""
    return _gumbels(_words(key), tuple(shape))


def gumbels_at(key: Array, places: Array) -> Array:
    """What ``gumbels`` has at these places (uint32 ``[...]``)."""
    return _gumbel(_words(key), (jnp.zeros_like(places), places))


def option_gumbels(key: Array, options: tuple[str, ...], shape: tuple[int, ...]) -> Array:
    """Standard Gumbel noise of each option, keyed by its text.

    Args:
        key: PRNG key of the site.
        options: K texts.
        shape: how many independent draws.

    Returns:
        float32 ``[*shape, K]``; drawn with 46 bits where the Gumbel is far out (as JAX's high-precision
        mode does), so that the tail reaches options of probability 1e-14.
    """
    return _option_gumbels(_words(key), np.array([text_words(option, "option") for option in options]), tuple(shape))


def token_gumbels(key: Array, size: int, shape: tuple[int, ...]) -> Array:
    """Standard Gumbel noise of each token of a vocabulary, keyed by its id: float32 ``[*shape, size]``.

    Args:
        key: PRNG key of the site, folded with the token's position.
        size: of the vocabulary; more tokens do not change the noise of the others.
        shape: how many independent draws.
    """
    return _token_gumbels(_words(key), size, _places(tuple(shape)))


def token_gumbels_at(key: Array, size: int, places: Array) -> Array:
    """What ``token_gumbels`` has for the draws of these places (uint32 ``[...]``): float32 ``[..., size]``."""
    return _token_gumbels(_words(key), size, places)


def key_words(key: Array) -> Array:
    """The two words, uint32 ``[2]``, of a key; ``key_of_words`` makes it of them again."""
    return jnp.stack(_words(key)).astype(jnp.uint32)


def key_of_words(words: Array) -> Array:
    """The key of two words, uint32 ``[2]``.

    >>> key = jax.random.key(5)
    >>> bool(key_of_words(key_words(key)) == key)
    True
    """
    return _typed([words[0], words[1]])


# -- Threefry, written out -------------------------------------------------------------------------------
# On a processor JAX runs the rounds of Threefry in a loop, through memory; without one they are a single pass.


def _is_typed(key: Any) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _words(key: Array) -> _Words:
    """The two words of a key; those of a longer one (two Threefry keys, which JAX folds and splits side by side) are
    those of its first half, folded with what the second has else."""
    bits = jax.random.key_data(key) if _is_typed(key) else key
    first = bits[0], bits[1]
    if bits.shape[-1] == 2:
        return first
    other = bits[0] ^ bits[2], bits[1] ^ bits[3]
    same = (other[0] | other[1]) == 0
    return tuple(jnp.where(same, a, b) for a, b in zip(first, _threefry(first, other), strict=True))  # type: ignore[return-value]


def _typed(words: Any) -> Array:
    return jax.random.wrap_key_data(jnp.stack(words), impl="threefry2x32")


def _threefry(key: _Words, counter: _Words) -> _Words:
    """A block of Threefry-2x32 with 20 rounds."""
    words = *key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA)
    a, b = counter[0] + words[0], counter[1] + words[1]
    for block in range(5):
        for turn in (17, 29, 16, 24) if block % 2 else (13, 15, 26, 6):
            a = a + b
            b = a ^ ((b << np.uint32(turn)) | (b >> np.uint32(32 - turn)))
        a = a + words[(block + 1) % 3]
        b = b + words[(block + 2) % 3] + np.uint32(block + 1)
    return a, b


def _gumbel(key: _Words, counter: _Words) -> Array:
    # 23 bits of one word; 23 more of the other where the number is small and the Gumbel far out; never 0.
    high, low = ((x >> np.uint32(9)).astype(jnp.float32) * np.float32(2.0**-23) for x in _threefry(key, counter))
    fine = high + low * np.float32(2.0**-23) + np.finfo(np.float32).tiny
    return -jnp.log(-jnp.log1p(-jnp.where(high >= 0.5, high, fine)))


def _places(shape: tuple[int, ...]) -> Array:
    return jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)


# Jitted, so that calls outside of a trace are one program each, compiled once.
@jax.jit
def _fold(key: Array, high: Array, low: Array) -> Array:
    counter = jnp.asarray(high).astype(jnp.uint32), jnp.asarray(low).astype(jnp.uint32)
    return _typed(_threefry(_words(key), counter))


@partial(jax.jit, static_argnames="shape")
def _uniforms(key: _Words, shape: tuple[int, ...]) -> Array:
    return _uniforms_at(key, _places(shape))


def _uniforms_at(key: _Words, places: Array) -> Array:
    first, _ = _threefry(key, (jnp.zeros_like(places), places))
    return (first >> np.uint32(8)).astype(jnp.float32) * np.float32(2.0**-24)


@partial(jax.jit, static_argnames="shape")
def _gumbels(key: _Words, shape: tuple[int, ...]) -> Array:
    places = _places(shape)
    return _gumbel(key, (jnp.zeros_like(places), places))


@partial(jax.jit, static_argnames="shape")
def _option_gumbels(key: _Words, hashes: Array, shape: tuple[int, ...]) -> Array:
    # One option after another: a processor computes many units at once where they lie side by side, which
    # a unit's few options would keep apart.
    return jnp.moveaxis(jax.lax.map(lambda h: _gumbels(_threefry(key, (h[0], h[1])), shape), hashes), 0, -1)


@partial(jax.jit, static_argnames="size")
def _token_gumbels(key: _Words, size: int, places: Array) -> Array:
    return _gumbel(key, (places[..., None], jax.lax.iota(jnp.uint32, size)))

"""Which interventions are upstream of a draw, as a number: what the coupling ``"independent"`` keys
its fresh noise by, so that a world of the same interventions draws the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .intervened import keyed, natural_key
from .mechanism import mechanism_of, with_mechanism
from .noise import chosen_key, fold_in, hashed, stream

# 64 bits, as two words of 32; both are 0 where nothing is done.
Words = tuple[Array, Array]


def signature(name: str, value: Any) -> Words:
    """What stands for "site ``name`` was set to ``value``"; never 0."""
    array = jnp.atleast_1d(jnp.asarray(value)).ravel()
    wide = jnp.int32 if array.dtype == bool or array.dtype.kind in "iu" else jnp.float32
    array = array if array.dtype.itemsize >= 4 else array.astype(wide)
    first, second = hashed(name, jax.lax.bitcast_convert_type(array, jnp.uint32).ravel())
    return first.sum(dtype=jnp.uint32) | jnp.uint32(1), second.sum(dtype=jnp.uint32)


def where(condition: Array, words: Words) -> Words:
    """The words where the condition holds, else 0."""
    first, second = (jnp.where(condition, word, jnp.uint32(0)) for word in words)
    return first, second


def added(several: Sequence[Words]) -> Words:
    """What stands for several interventions together, whatever their order."""
    first, second = several[0]
    for other in several[1:]:
        first, second = first + other[0], second + other[1]
    return first, second


def redraw(msg: dict[str, Any], find: Callable[[], Words | None]) -> None:
    """Give a site with the coupling ``"independent"`` fresh noise where interventions are upstream.

    Args:
        msg: message of a sample site whose key and noise are known.
        find: finds the sum of the signatures upstream; it is asked at such sites only.
    """
    mechanism, fn = mechanism_of(msg["fn"]), msg["fn"]
    if mechanism is None or not mechanism.coupling.redraws or (upstream := find()) is None:
        return
    own = natural_key(fn, msg["kwargs"]["rng_key"])
    done = (upstream[0] | upstream[1]) != 0
    key = chosen_key(done, fold_in(fold_in(stream(own, "redraw"), upstream[0]), upstream[1]), own)
    msg["fn"], msg["kwargs"]["rng_key"] = keyed(fn, key, msg["kwargs"]["rng_key"])
    if mechanism.noise is not None:
        fresh = mechanism.draw_noise(key, fn.batch_shape)
        noise = jnp.where(done, fresh, mechanism.noise)
        msg["fn"] = with_mechanism(msg["fn"], lambda m: m.replace(noise=noise))

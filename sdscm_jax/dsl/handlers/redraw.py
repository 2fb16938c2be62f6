"""What couplings want to know of the interventions upstream of a draw: which they are, as a number that keys fresh
noise (so that a world of the same interventions draws the same), and what the site is without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..language.mechanism import mechanism_of, with_mechanism
from ..language.messages import Upstream, Words
from ..language.text_elsewhere import Beside
from ..noise.streams import chosen_key, fold_in, hashed, stream
from .intervened import keyed, natural_key


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


def redraw(msg: dict[str, Any], above: Upstream) -> None:
    """Give a site whose coupling does not share its noise as it is the noise that it has below interventions.

    Args:
        msg: message of a sample site whose key and noise are known.
        above: the interventions that are upstream.
    """
    mechanism = mechanism_of(msg["fn"])
    if mechanism is None:
        return
    if mechanism.coupling.relative and mechanism.noise is None and (found := above.factual()) is not None:
        # (Noise that is at hand was made of the factual world already, or of what was observed there.)
        own, value = found
        key = natural_key(msg["fn"], msg["kwargs"]["rng_key"])
        noise = own._relative_noise(key, value)
        msg["fn"] = with_mechanism(msg["fn"], lambda m: m.replace(noise=noise))
    if mechanism.coupling.redraws and (words := above.words()) is not None:
        _draw_anew(msg, mechanism, words)


def _draw_anew(msg: dict[str, Any], mechanism: Any, upstream: Words) -> None:
    fn = msg["fn"]
    own = natural_key(fn, msg["kwargs"]["rng_key"])
    # (A ``do`` further in may have drawn anew what is not kept.)
    last = own if mechanism.anew is None else mechanism.anew
    done = (upstream[0] | upstream[1]) != 0
    key = chosen_key(done, fold_in(fold_in(stream(last, "redraw"), upstream[0]), upstream[1]), last)
    if mechanism.coupling.apart:
        msg["fn"], msg["kwargs"]["rng_key"] = keyed(fn, key, msg["kwargs"]["rng_key"])
    else:
        msg["fn"] = with_mechanism(msg["fn"], lambda m: m.replace(anew=key))
    if mechanism.noise is not None:
        if isinstance(mechanism.noise, Beside):
            noise: Any = mechanism.noise.redrawn(key, own, done)
        else:
            fresh = mechanism.draw_noise(key, fn.batch_shape)
            if not mechanism.coupling.apart:
                fresh = mechanism._partly(own, fn.batch_shape, mechanism.noise, fresh)
            noise = jnp.where(done, fresh, mechanism.noise)
        msg["fn"] = with_mechanism(msg["fn"], lambda m: m.replace(noise=noise))

"""Which interventions are upstream of a draw, as a number: what the coupling ``"independent"`` keys
its fresh noise by, so that a world of the same interventions draws the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .mechanism import mechanism_of, with_mechanism
from .noise import chosen_key, fold_in, stream, text_words


def signature(name: str, value: Any) -> Array:
    """A uint32 that stands for "site ``name`` was set to ``value``"; never 0."""
    bits = jnp.atleast_1d(jnp.asarray(value)).ravel()
    if bits.dtype == bool:
        bits = bits.astype(jnp.int32)
    bits = jax.lax.bitcast_convert_type(bits.astype(jnp.float32 if bits.dtype.kind == "f" else jnp.int32), jnp.uint32)
    places = jnp.asarray(np.array([text_words(f"{name} {i}")[0] | 1 for i in range(bits.size)], np.uint32))
    mixed = ((bits + jnp.uint32(1)) * places).sum(dtype=jnp.uint32)
    return jnp.where(mixed == 0, jnp.uint32(1), mixed)


def redraw(msg: dict[str, Any], find: Callable[[], Array | None]) -> None:
    """Give a site with the coupling ``"independent"`` fresh noise where interventions are upstream.

    Args:
        msg: message of a sample site whose key and noise are known.
        find: finds the sum of the signatures upstream; it is asked at such sites only.
    """
    mechanism = mechanism_of(msg["fn"])
    if mechanism is None or mechanism.coupling != "independent" or (upstream := find()) is None:
        return
    own = msg["kwargs"]["rng_key"]
    key = msg["kwargs"]["rng_key"] = chosen_key(upstream == 0, own, fold_in(stream(own, "redraw"), upstream))
    if mechanism.noise is not None:
        fresh = mechanism.draw_noise(key, msg["fn"].batch_shape)
        noise = jnp.where(upstream != 0, fresh, mechanism.noise)
        msg["fn"] = with_mechanism(msg["fn"], lambda m: m.replace(noise=noise))

"""Numbers between a language model and a draw: what they may be, and how an error says that they are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...checks import finite, positive, told
from ...errors import OptionError, ScoreError
from ...models.language_model import LanguageModel
from .phrase import Phrase


def tempered(scores: Array, temperature: Any) -> Array:
    """Scores ``[..., K]`` over a temperature ``[...]``, float32; the best of them is 0.

    The best is taken off first: nothing overflows, whatever the temperature.

    >>> tempered(jnp.array([-1.0, -99.0]), 2e-38).tolist()
    [0.0, -inf]
    """
    best = jnp.max(scores, axis=-1, keepdims=True)
    best = jax.lax.stop_gradient(jnp.where(jnp.isfinite(best), best, 0.0))
    return (scores - best) / jnp.asarray(temperature, jnp.float32)[..., None]


def check_temperature(temperature: Any, where: str) -> None:
    """Refuse a temperature that is not positive and finite in float32.

    Raises:
        OptionError: it is not, and that can be told (it is not traced).
    """
    if isinstance(temperature, jax.core.Tracer):
        return
    number = np.asarray(positive(temperature, f"{where}: temperature", OptionError), np.float32)
    # Smaller ones are 0 for XLA.
    if not np.all((number >= np.finfo(np.float32).tiny) & np.isfinite(number)):
        raise OptionError(
            f"{where}: temperature is finite and at least {np.finfo(np.float32).tiny:.2g}, got {told(temperature)}"
        )


def as_bias(bias: Any, options: int, where: str) -> Array:
    """A bias as an array of JAX's.

    Raises:
        OptionError: it is no array of numbers with one for each option; or, where that can be told (it is not traced),
            NaN or +inf somewhere, or -inf for all options.
    """
    parts = bias if isinstance(bias, list | tuple) else (bias,)
    if not any(isinstance(part, jax.Array) for part in parts):
        finite(bias, f"{where}: bias", OptionError, infinite=True)
    bias = jnp.asarray(bias)
    if not jnp.issubdtype(bias.dtype, jnp.number):
        raise OptionError(f"{where}: a bias is of numbers, got {told(bias)}")
    if jnp.ndim(bias) == 0 or jnp.shape(bias)[-1] != options:
        raise OptionError(
            f"{where}: bias has shape {jnp.shape(bias)}, expected (..., {options}): a number for each option"
        )
    if not isinstance(bias, jax.core.Tracer):
        numbers = np.asarray(bias, np.float32)
        if np.isnan(numbers).any() or np.isposinf(numbers).any() or np.isneginf(numbers).all(-1).any():
            raise OptionError(f"{where}: a bias is finite, or -inf for some of the options, got {told(bias)}")
    return bias


def without_probabilities(given: Sequence[Phrase | str]) -> str:
    """Says that a choice has no probabilities after some texts (outside of a trace)."""
    said = [item if isinstance(item, str) else np.ravel(item.sentence).tolist() for item in given]
    after = f" after {said!r}" if said else ""
    return f"its options have no probabilities{after}: a score, a bias or the temperature is not finite"


def check_scores(scores: np.ndarray, site: str, context: Callable[[int], str], lm: LanguageModel) -> None:
    """Refuse scores of which no probabilities come; asked on the host, once for each site.

    Args:
        scores: ``[C, K]``.
        site: what the message calls the site.
        context: the text of a row of the scores.
        lm: the language model that gave them.

    Raises:
        ScoreError: a score is NaN or +inf, or all of a row are -inf.
    """
    best = scores.max(-1, initial=-np.inf)
    bad = np.flatnonzero(~np.isfinite(best))
    if bad.size:
        row = int(bad[0])
        named, found = f"the language model ({lm.config.family}, {lm.fingerprint()[:12]})", scores[row].tolist()
        raise ScoreError(
            f"{site}: {named} gives its options no probabilities after {context(row)!r} (scores {found}) "
            f"and in {bad.size} of {len(scores)} contexts in all; are its weights finite?"
        )

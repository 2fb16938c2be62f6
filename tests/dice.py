"""Choices whose probabilities are written down: what must hold of them is known in closed form."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

import sdscm_jax as sd

FACES = ("sun", "rain", "snow")


def die(lm: sd.LanguageModel, probs: Any, options: tuple[str, ...] = FACES, **kwargs: Any) -> sd.Choice:
    """A choice with these probabilities ``[..., K]``; the language model is not asked."""
    return sd.Choice(lm, "It is {}.", options, scoring="uniform", bias=jnp.log(jnp.asarray(probs)), **kwargs)

"""The law of the next token of a free text: what the language model says, cut to what the site allows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.codec import Tokens
from ..noise.couplings.base import Coupling
from .scores import tempered
from .text_phrase import UNKNOWN, TextForm


@dataclass(frozen=True)
class TokenLaw:
    """What a token is drawn from, given the language model's logits.

    Attributes:
        form: what tokens may follow, and where the text ends.
        top_k, top_p: see ``Text``.
    """

    form: TextForm
    top_k: int | None
    top_p: float | None

    def __repr__(self) -> str:
        """Says what the law depends on, the same in every process."""
        return f"TokenLaw({str(self.form.template)!r}, {self.form.lead!r}, {self.digest})"

    @property
    def digest(self) -> str:
        """SHA-256 of the tables."""
        automaton = self.form.automaton
        arrays = automaton.classes, automaton.next, automaton.ending, automaton.remaining
        told = [automaton.endings, automaton.ending_tokens, self.form.max_tokens, self.top_k, self.top_p, self._ends]
        whole = repr(told).encode() + b"".join(np.ascontiguousarray(x, np.int32).tobytes() for x in arrays)
        return hashlib.sha256(whole).hexdigest()

    @property
    def _ends(self) -> Tokens:
        return self.form.codec.ends

    def log_probs(self, logits: Array, temperature: Array, state: Array, step: Any) -> Array:
        """Log-probabilities ``[..., V]`` of what is sampled from; 0 everywhere after the end.

        Args:
            logits: of the language model, ``[..., V]``.
            temperature: broadcasts with ``state``.
            state: state of the automaton, int ``[...]``.
            step: number of the token, from 0; broadcasts with ``state``.
        """
        automaton, most = self.form.automaton, self.form.max_tokens
        after = jnp.asarray(automaton.next)[jnp.maximum(state, 0)]
        # Only what leaves room to end, where a text must end.
        room = jnp.asarray(automaton.remaining)[jnp.maximum(after, 0)]
        left = jnp.asarray(most - 1 - step)
        allowed = (after >= 0) & (room <= left[..., None])
        allowed = allowed[..., jnp.asarray(automaton.classes)]
        ends = self._ends
        told = allowed if len(ends) < 2 else allowed.at[..., jnp.array(ends)].set(allowed[..., ends[0], None])
        scaled = _with_one_end(tempered(jnp.where(told, logits, -jnp.inf), temperature), ends)
        if self.top_k is not None:
            scaled = jnp.where(scaled >= jax.lax.top_k(scaled, self.top_k)[0][..., -1:], scaled, -jnp.inf)
        if self.top_p is not None and self.top_p < 1:
            ordered = jnp.flip(jnp.sort(scaled, axis=-1), axis=-1)
            before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1) - jax.nn.softmax(ordered, axis=-1)
            least = jnp.min(jnp.where(before < self.top_p, ordered, jnp.inf), axis=-1, keepdims=True)
            scaled = jnp.where(scaled >= least, scaled, -jnp.inf)
        alive = allowed.any(-1, keepdims=True)
        return jnp.where(alive, jax.nn.log_softmax(jnp.where(alive, scaled, 0.0), axis=-1), 0.0)

    def chosen(self, log_probs: Array, noise: Any, coupling: Coupling) -> Array:
        """The token, int32 ``[...]``, that noise picks; -2 where the log-probabilities ``[..., V]`` are no numbers."""
        token = coupling.respond(log_probs, noise)
        # An argmax over NaN would be token 0.
        return jnp.where(jnp.isnan(log_probs).any(-1), UNKNOWN, token)


def _with_one_end(scaled: Array, ends: Tokens) -> Array:
    """Unnormalised log-probabilities in which the first of the ids that end a text stands for all of them."""
    if len(ends) < 2:
        return scaled
    total = jax.nn.logsumexp(scaled[..., jnp.array(ends)], axis=-1)
    return scaled.at[..., jnp.array(ends)].set(-jnp.inf).at[..., ends[0]].set(total)

"""Training and fine-tuning a language model with optax."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from .language_model import LanguageModel


class Batch(NamedTuple):
    """Rows of packed documents.

    Attributes:
        tokens: int32 ``[B, T]``.
        positions: int32 ``[B, T]``, counted from 0 in each document.
        segments: int32 ``[B, T]``; documents of a row have different numbers, padding has 0.
        weights: float32 ``[B, T]``, weight of each token as a target of prediction; the first
            token of a document has weight 0.
        target_tokens, target_probs: int32 and float32 ``[B, T, A]``: a distribution over A tokens
            that each token is drawn from, where it is known. The loss is then the expected one
            over that draw, which has the same mean and less noise. None: the token itself.
    """

    tokens: Array | np.ndarray
    positions: Array | np.ndarray
    segments: Array | np.ndarray
    weights: Array | np.ndarray
    target_tokens: Array | np.ndarray | None = None
    target_probs: Array | np.ndarray | None = None


def token_losses(lm: LanguageModel, batch: Batch) -> Array:
    """Loss (nats) of each token but the first: float32 ``[B, T - 1]``."""
    segments = jnp.asarray(batch.segments)
    same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, :, None] > 0)
    logits = lm.logits(jnp.asarray(batch.tokens), jnp.asarray(batch.positions), same)[:, :-1]
    if batch.target_tokens is None or batch.target_probs is None:
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(batch.tokens)[:, 1:])
    likely = jnp.take_along_axis(logits, jnp.asarray(batch.target_tokens)[:, 1:], axis=-1)
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    return normaliser - (likely * jnp.asarray(batch.target_probs)[:, 1:]).sum(-1)


def weighted_loss(lm: LanguageModel, batch: Batch) -> Array:
    """Mean loss per unit of weight, a float32 scalar."""
    weights = jnp.asarray(batch.weights)[:, 1:]
    return (token_losses(lm, batch) * weights).sum() / weights.sum()


def train_lm(
    lm: LanguageModel,
    batches: Iterable[Batch],
    optimizer: optax.GradientTransformation,
    *,
    average: float | None = None,
    on_step: Callable[[int, float, Callable[[], LanguageModel]], Any] | None = None,
) -> LanguageModel:
    """Train a language model on weighted next-token prediction.

    Args:
        lm: the model to start from (left unchanged).
        batches: one batch per step, all of one shape.
        optimizer: an optax transformation.
        average: decay of an exponential moving average of the weights that is returned instead
            of the last weights; None: the last weights.
        on_step: called with the step (from 1), the loss, and a function that gives the model so
            far.

    Returns:
        the trained model.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> lm = load_lm()
    >>> row = np.asarray(lm.tokenizer.encode("The tumor exhibits high levels of PD-L1."))[None]
    >>> batch = Batch(row, np.arange(row.shape[1])[None], np.ones_like(row), np.ones(row.shape, np.float32))
    >>> before = weighted_loss(lm, batch)
    >>> after = weighted_loss(train_lm(lm, [batch] * 3, optax.sgd(1e-3)), batch)
    >>> bool(after < before)
    True
    """

    @jax.jit
    def step(params: nnx.State, state: Any, mean: nnx.State, batch: Batch) -> tuple[nnx.State, Any, nnx.State, Array]:
        loss, gradient = jax.value_and_grad(lambda p: weighted_loss(replace(lm, params=p), batch))(params)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        if average is not None:
            mean = optax.incremental_update(params, mean, 1 - average)
        return params, state, mean, loss

    params, state, mean = lm.params, optimizer.init(lm.params), lm.params

    def current() -> LanguageModel:
        return replace(lm, params=params if average is None else mean)

    for number, batch in enumerate(batches, start=1):
        params, state, mean, loss = step(params, state, mean, batch)
        if on_step is not None:
            on_step(number, float(loss), current)
    return current()

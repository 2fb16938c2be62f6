"""Batches of random tokens."""

from __future__ import annotations

import numpy as np

import sdscm_jax as sd
from sdscm_jax.models.training import Batch

LENGTH = 12


def random_batch(seed: int, vocabulary: int, rows: int = 2) -> Batch:
    """Two documents a row, padding behind them, and weights of their own."""
    rng = np.random.default_rng(seed)
    shape = rows, LENGTH
    positions = np.tile([*range(6), *range(4), 0, 0], (rows, 1)).astype(np.int32)
    segments = np.tile([1] * 6 + [2] * 4 + [0] * 2, (rows, 1)).astype(np.int32)
    weights = rng.uniform(0.1, 2.0, shape).astype(np.float32) * (segments > 0) * (positions > 0)
    return Batch(rng.integers(1, vocabulary, shape).astype(np.int32), positions, segments, weights)


def batches_of(lm: sd.LanguageModel, count: int) -> list[Batch]:
    return [random_batch(seed, lm.config.vocab_size) for seed in range(count)]

"""Estimators as a user writes them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


class Noise:
    """Effects that have nothing to do with anything."""

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Noise:
        self.effects = np.asarray(jax.random.normal(key, (len(y),)), np.float64) * y.std()
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        return self.effects

    def interval(self, x: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        return self.effects - 1e-9, self.effects + 1e-9

    def ate(self) -> float:
        return float(self.effects.mean())


class Crash(Noise):
    """Ends badly where there are few covariates."""

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Noise:
        if x.shape[1] < 3:
            raise ZeroDivisionError("of all things")
        return super().fit(key, x, t, y)

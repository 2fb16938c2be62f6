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


class Peek(Noise):
    """Asks for the truth, which is shown to those registered as oracles alone."""

    truth: np.ndarray | None = None

    def reveal(self, ite: np.ndarray, cate: np.ndarray) -> None:
        self.truth = ite

    def effect(self, x: np.ndarray) -> np.ndarray:
        return self.effects if self.truth is None else self.truth


class Learner:
    """Mean differences between the arms of each combination of covariates; of all where one has one arm only."""

    interval_of = "ite"

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Learner:
        self.units = x, t, y
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        seen, t, y = self.units
        found = np.full(len(x), y[t == 1].mean() - y[t == 0].mean())
        for row in np.unique(x, axis=0):
            arms = [y[(seen == row).all(1) & (t == arm)] for arm in (0, 1)]
            if all(map(len, arms)):
                found[(x == row).all(1)] = arms[1].mean() - arms[0].mean()
        return found

    def interval(self, x: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        return self.effect(x) - 1, self.effect(x) + 1

    def ate(self) -> float:
        return float(self.effect(self.units[0]).mean())


class Rote:
    """Remembers its units' outcomes: 0 for units that it was fitted to, 99 for others."""

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Rote:
        self.units = len(x)
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), 0.0 if len(x) == self.units else 99.0)

    def interval(self, x: np.ndarray, level: float) -> None:
        return None

    def ate(self) -> float:
        return 0.0


class Shrunk(Learner):
    """A multiple of the differences of means; once is right, and the default."""

    interval_of = "cate"

    def __init__(self, by: float = 1.0) -> None:
        self.by = by

    def variants(self) -> list[Shrunk]:
        return [Shrunk(0.0), Shrunk(0.5), Shrunk(2.0)]

    def effect(self, x: np.ndarray) -> np.ndarray:
        return self.by * super().effect(x)

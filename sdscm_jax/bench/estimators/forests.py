"""Estimators by random forests: outcomes are predicted under both treatments, and subtracted.

Forests are scikit-learn's with its defaults, fitted and read on one thread: many data sets run in parallel
outside. None of these has intervals.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from .extra import extra
from .protocol import seed_of
from .without_intervals import UnitsOnly


def _forest(estimator: str, key: Any, trees: int, x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    ensemble = extra(estimator, "sklearn.ensemble", "scikit-learn")
    forest = ensemble.RandomForestRegressor(n_estimators=trees, n_jobs=1, random_state=seed_of(key))
    return forest.fit(x, y).predict


def with_constant(x: np.ndarray) -> np.ndarray:
    """A forest needs a column to look at, if only to find nothing there."""
    return x if x.shape[1] else np.zeros((len(x), 1))


@dataclass(eq=False)
class _OneForest(UnitsOnly):
    """S-learner: one forest on the covariates and what ``treatment`` makes of the treatment."""

    trees: int = 100
    _predict: Callable[[np.ndarray], np.ndarray] = field(init=False, repr=False)

    @staticmethod
    @abstractmethod
    def treatment(t: np.ndarray) -> tuple[np.ndarray, ...]:
        """Columns for treatments ``[n]``."""

    def _learn(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> None:
        self._predict = _forest(self.name, key, self.trees, np.column_stack([x, *self.treatment(t)]), y)

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Difference of predictions, float64 ``[m]``."""
        arms = (np.column_stack([x, *self.treatment(np.full(len(x), arm))]) for arm in (0.0, 1.0))
        untreated, treated = map(self._predict, arms)
        return treated - untreated


@dataclass(eq=False)
class RandomForest(_OneForest):
    """S-learner: one forest on the covariates and the treatment.

    Args:
        trees: in the forest.

    >>> x, t = np.zeros((8, 0)), np.arange(8) % 2
    >>> RandomForest(trees=5).fit(jax.random.key(0), x, t, 3.0 * t).ate()
    3.0
    """

    name = "random_forest"

    @staticmethod
    def treatment(t: np.ndarray) -> tuple[np.ndarray, ...]:
        """The treatment itself."""
        return (t,)


@dataclass(eq=False)
class ForestS(_OneForest):
    """S-learner on the covariates and a column for either treatment.

    The second column doubles the treatment's part among the columns that a forest may split on, and ties
    are broken otherwise; the paper lists this learner beside ``RandomForest``, and they differ by little.

    Args:
        trees: in the forest.

    >>> x, t = np.zeros((8, 0)), np.arange(8) % 2
    >>> ForestS(trees=5).fit(jax.random.key(0), x, t, 3.0 * t).ate()
    3.0
    """

    name = "forest_s"

    @staticmethod
    def treatment(t: np.ndarray) -> tuple[np.ndarray, ...]:
        """One column for either arm."""
        return 1 - t, t


@dataclass(eq=False)
class ForestT(UnitsOnly):
    """T-learner: a forest for each arm; the effect is the difference of their predictions.

    Args:
        trees: in each forest.

    >>> x, t = np.zeros((8, 0)), np.arange(8) % 2
    >>> ForestT(trees=5).fit(jax.random.key(0), x, t, 3.0 * t).ate()
    3.0
    """

    trees: int = 100
    _predict: tuple[Callable[[np.ndarray], np.ndarray], ...] = field(init=False, repr=False)

    name = "forest_t"

    def _learn(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> None:
        keys = jax.random.split(key)
        self._predict = tuple(
            _forest(self.name, keys[arm], self.trees, with_constant(x[t == arm]), y[t == arm]) for arm in (0, 1)
        )

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Difference of predictions, float64 ``[m]``."""
        untreated, treated = self._predict
        return treated(with_constant(x)) - untreated(with_constant(x))

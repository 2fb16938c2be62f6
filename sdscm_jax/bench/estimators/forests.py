"""Estimators by random forests: outcomes are predicted under both treatments, and subtracted.

Forests are scikit-learn's with its defaults, fitted and read on one thread: many data sets run in parallel
outside. None of these has intervals.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from ...errors import EstimatorError
from .protocol import check_units, seed_of


def extra(estimator: str, module: str, package: str) -> Any:
    """Import a module of the extra ``estimators``.

    Raises:
        EstimatorError: it is not installed; says how to install it.

    >>> extra("forest", "no_such_module", "no-such-package")
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.EstimatorError: forest needs no-such-package: pip install 'sdscm-jax[estimators]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise EstimatorError(f"{estimator} needs {package}: pip install 'sdscm-jax[estimators]'") from missing


def _forest(estimator: str, key: Any, trees: int, x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    ensemble = extra(estimator, "sklearn.ensemble", "scikit-learn")
    forest = ensemble.RandomForestRegressor(n_estimators=trees, n_jobs=1, random_state=seed_of(key))
    return forest.fit(x, y).predict


def with_constant(x: np.ndarray) -> np.ndarray:
    """A forest needs a column to look at, if only to find nothing there."""
    return x if x.shape[1] else np.zeros((len(x), 1))


@dataclass(eq=False)
class RandomForest:
    """S-learner: one forest on the covariates and the treatment.

    Args:
        trees: in the forest.

    >>> x, t = np.zeros((8, 0)), np.arange(8) % 2
    >>> RandomForest(trees=5).fit(jax.random.key(0), x, t, 3.0 * t).ate()
    3.0
    """

    trees: int = 100
    _predict: Callable[[np.ndarray], np.ndarray] = field(init=False, repr=False)
    _ate: float = field(init=False, repr=False)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> RandomForest:
        """Learn; see ``protocol.Estimator``.

        Raises:
            EstimatorError: an arm has fewer than two units, or scikit-learn is missing.
        """
        check_units("random_forest", t, 2)
        self._predict = _forest("random_forest", key, self.trees, np.column_stack([x, t]), y)
        self._ate = float(self.effect(x).mean())
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Difference of predictions, float64 ``[m]``."""
        treated, untreated = np.ones(len(x)), np.zeros(len(x))
        return self._predict(np.column_stack([x, treated])) - self._predict(np.column_stack([x, untreated]))

    def interval(self, x: np.ndarray, level: float) -> None:
        """None: a forest of outcomes has none."""
        return

    def ate(self) -> float:
        """Mean effect of the units it was fitted to."""
        return self._ate


@dataclass(eq=False)
class ForestS:
    """S-learner on the covariates and a column for either treatment.

    The second column doubles the treatment's part among the columns that a forest may split on, and ties
    are broken otherwise; the paper lists this learner beside ``RandomForest``, and they differ by little.

    Args:
        trees: in the forest.

    >>> x, t = np.zeros((8, 0)), np.arange(8) % 2
    >>> ForestS(trees=5).fit(jax.random.key(0), x, t, 3.0 * t).ate()
    3.0
    """

    trees: int = 100
    _predict: Callable[[np.ndarray], np.ndarray] = field(init=False, repr=False)
    _ate: float = field(init=False, repr=False)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> ForestS:
        """Learn; see ``protocol.Estimator``.

        Raises:
            EstimatorError: an arm has fewer than two units, or scikit-learn is missing.
        """
        check_units("forest_s", t, 2)
        self._predict = _forest("forest_s", key, self.trees, np.column_stack([x, 1 - t, t]), y)
        self._ate = float(self.effect(x).mean())
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Difference of predictions, float64 ``[m]``."""
        one, zero = np.ones(len(x)), np.zeros(len(x))
        return self._predict(np.column_stack([x, zero, one])) - self._predict(np.column_stack([x, one, zero]))

    def interval(self, x: np.ndarray, level: float) -> None:
        """None: a forest of outcomes has none."""
        return

    def ate(self) -> float:
        """Mean effect of the units it was fitted to."""
        return self._ate


@dataclass(eq=False)
class ForestT:
    """T-learner: a forest for each arm; the effect is the difference of their predictions.

    Args:
        trees: in each forest.

    >>> x, t = np.zeros((8, 0)), np.arange(8) % 2
    >>> ForestT(trees=5).fit(jax.random.key(0), x, t, 3.0 * t).ate()
    3.0
    """

    trees: int = 100
    _predict: tuple[Callable[[np.ndarray], np.ndarray], ...] = field(init=False, repr=False)
    _ate: float = field(init=False, repr=False)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> ForestT:
        """Learn; see ``protocol.Estimator``.

        Raises:
            EstimatorError: an arm has fewer than two units, or scikit-learn is missing.
        """
        check_units("forest_t", t, 2)
        keys = jax.random.split(key)
        self._predict = tuple(
            _forest("forest_t", keys[arm], self.trees, with_constant(x[t == arm]), y[t == arm]) for arm in (0, 1)
        )
        self._ate = float(self.effect(x).mean())
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Difference of predictions, float64 ``[m]``."""
        untreated, treated = self._predict
        return treated(with_constant(x)) - untreated(with_constant(x))

    def interval(self, x: np.ndarray, level: float) -> None:
        """None: a forest of outcomes has none."""
        return

    def ate(self) -> float:
        """Mean effect of the units it was fitted to."""
        return self._ate

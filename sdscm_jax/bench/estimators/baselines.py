"""What estimators are measured against: no effect, the best constant, and the truth itself.

The last two know what no estimator may: the evaluator shows it to them, by ``reveal``, before it fits them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import EstimatorError
from .protocol import Interval


@dataclass(eq=False)
class Zero:
    """No effect on anyone; no intervals.

    >>> Zero().fit(None, np.zeros((2, 0)), np.array([0, 1]), np.array([1.0, 2.0])).effect(np.zeros((2, 0)))
    array([0., 0.])
    """

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Zero:
        """Learn nothing."""
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Zeros, float64 ``[m]``."""
        return np.zeros(len(x))

    def interval(self, x: np.ndarray, level: float) -> None:
        """None."""
        return

    def ate(self) -> float:
        """Zero."""
        return 0.0


@dataclass(eq=False)
class Constant:
    """The true average effect for every unit.

    No constant has a smaller error in individual effects; this one's is their standard deviation.

    >>> truth = np.array([1.0, 3.0])
    >>> constant = Constant()
    >>> constant.reveal(truth, truth)
    >>> constant.fit(None, np.zeros((2, 0)), np.array([0, 1]), np.zeros(2)).effect(np.zeros((2, 0)))
    array([2., 2.])
    """

    _ite: np.ndarray | None = field(init=False, repr=False, default=None)

    def reveal(self, ite: np.ndarray, cate: np.ndarray) -> None:
        """Show the true individual and conditional average effects of the units, ``[n]`` each, before ``fit``."""
        self._ite = np.array(ite, np.float64)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Constant:
        """Check that the truth of these units has been shown.

        Raises:
            EstimatorError: it has not.
        """
        _shown("constant", self._ite, len(t))
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        """The average effect, float64 ``[m]``."""
        return np.full(len(x), self.ate())

    def interval(self, x: np.ndarray, level: float) -> None:
        """None."""
        return

    def ate(self) -> float:
        """Mean of the true individual effects."""
        return float(_shown("constant", self._ite).mean())


@dataclass(eq=False)
class Oracle:
    """The true individual effects, with intervals of no width.

    It knows the units it was shown and no others: ``effect`` and ``interval`` take those units' covariates,
    in their order.

    >>> truth = np.array([1.0, 3.0])
    >>> oracle = Oracle()
    >>> oracle.reveal(truth, truth)
    >>> oracle.fit(None, np.zeros((2, 0)), np.array([0, 1]), np.zeros(2)).effect(np.zeros((2, 0)))
    array([1., 3.])
    """

    _ite: np.ndarray | None = field(init=False, repr=False, default=None)

    interval_of = "ite"

    def reveal(self, ite: np.ndarray, cate: np.ndarray) -> None:
        """Show the true individual and conditional average effects of the units, ``[n]`` each, before ``fit``."""
        self._ite = np.array(ite, np.float64)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Oracle:
        """Check that the truth of these units has been shown.

        Raises:
            EstimatorError: it has not.
        """
        _shown("oracle", self._ite, len(t))
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        """The true individual effects, float64 ``[n]``.

        Raises:
            EstimatorError: x has not as many rows as there are units.
        """
        return _shown("oracle", self._ite, len(x)).copy()

    def interval(self, x: np.ndarray, level: float) -> Interval:
        """The true individual effects, twice."""
        return self.effect(x), self.effect(x)

    def ate(self) -> float:
        """Mean of the true individual effects."""
        return float(_shown("oracle", self._ite).mean())

    def ate_interval(self, level: float) -> tuple[float, float]:
        """The average effect, twice."""
        return self.ate(), self.ate()


def _shown(name: str, ite: np.ndarray | None, units: int | None = None) -> np.ndarray:
    if ite is None:
        raise EstimatorError(f"{name} needs the true effects: call reveal(ite, cate) before fit")
    if units is not None and len(ite) != units:
        raise EstimatorError(f"{name} was shown the true effects of {len(ite)} units, and is asked about {units}")
    return ite

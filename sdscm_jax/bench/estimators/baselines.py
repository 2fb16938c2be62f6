"""What estimators are measured against: no effect, the best constant, and the truth itself.

The last two know what no estimator may: the evaluator shows it to them, by ``reveal``, before it fits them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

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
class _Shown:
    """Knows the true effects of the units."""

    name: ClassVar[str]

    _ite: np.ndarray | None = field(init=False, repr=False, default=None)

    def reveal(self, ite: np.ndarray, cate: np.ndarray) -> None:
        """Show the true individual and conditional average effects of the units, ``[n]`` each, before ``fit``."""
        self._ite = np.array(ite, np.float64)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Self:
        """Check that the truth of these units has been shown.

        Raises:
            EstimatorError: it has not.
        """
        self._truth(len(t))
        return self

    def ate(self) -> float:
        """Mean of the true individual effects."""
        return float(self._truth().mean())

    def _truth(self, units: int | None = None) -> np.ndarray:
        if self._ite is None:
            raise EstimatorError(f"{self.name} needs the true effects: call reveal(ite, cate) before fit")
        if units is not None and len(self._ite) != units:
            raise EstimatorError(
                f"{self.name} was shown the true effects of {len(self._ite)} units, and is asked about {units}"
            )
        return self._ite


@dataclass(eq=False)
class Constant(_Shown):
    """The true average effect for every unit.

    No constant has a smaller error in individual effects; this one's is their standard deviation.

    >>> truth = np.array([1.0, 3.0])
    >>> constant = Constant()
    >>> constant.reveal(truth, truth)
    >>> constant.fit(None, np.zeros((2, 0)), np.array([0, 1]), np.zeros(2)).effect(np.zeros((2, 0)))
    array([2., 2.])
    """

    name = "constant"

    def effect(self, x: np.ndarray) -> np.ndarray:
        """The average effect, float64 ``[m]``."""
        return np.full(len(x), self.ate())

    def interval(self, x: np.ndarray, level: float) -> None:
        """None."""
        return


@dataclass(eq=False)
class Oracle(_Shown):
    """The true individual effects, with intervals of no width.

    It knows the units it was shown and no others: ``effect`` and ``interval`` take those units' covariates,
    in their order.

    >>> truth = np.array([1.0, 3.0])
    >>> oracle = Oracle()
    >>> oracle.reveal(truth, truth)
    >>> oracle.fit(None, np.zeros((2, 0)), np.array([0, 1]), np.zeros(2)).effect(np.zeros((2, 0)))
    array([1., 3.])
    """

    name = "oracle"
    interval_of = "ite"

    def effect(self, x: np.ndarray) -> np.ndarray:
        """The true individual effects, float64 ``[n]``.

        Raises:
            EstimatorError: x has not as many rows as there are units.
        """
        return self._truth(len(x)).copy()

    def interval(self, x: np.ndarray, level: float) -> Interval:
        """The true individual effects, twice."""
        return self.effect(x), self.effect(x)

    def ate_interval(self, level: float) -> tuple[float, float]:
        """The average effect, twice."""
        return self.ate(), self.ate()

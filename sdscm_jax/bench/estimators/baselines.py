"""What estimators are measured against: no effect, the best constant, and the truth itself.

Effects are of two kinds, and a truth about one is no truth about the other: the individual effect, which has a unit's
own noise in it (of mediators that the treatment causes, of an option that is drawn), and the expected effect given all
covariates. So there are two oracles. They and the constant know what no estimator may: they are registered as oracles
(see ``registry``), and the evaluator shows them the truth, by ``reveal``, before it fits them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from ...errors import EstimatorError
from .protocol import Interval
from .without_intervals import AverageOnly


@dataclass(eq=False)
class Zero(AverageOnly):
    """No effect on anyone; no intervals.

    >>> Zero().fit(None, np.zeros((2, 0)), np.array([0, 1]), np.array([1.0, 2.0])).effect(np.zeros((2, 0)))
    array([0., 0.])
    """

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Zero:
        """Learn nothing."""
        return self

    def ate(self) -> float:
        """Zero."""
        return 0.0


@dataclass(eq=False)
class _Shown:
    """Knows the true effects of the units it was shown and of no others.

    ``effect`` and ``interval`` take those units' covariates, in their order.
    """

    name: ClassVar[str]

    _ite: np.ndarray | None = field(init=False, repr=False, default=None)
    _cate: np.ndarray | None = field(init=False, repr=False, default=None)

    def reveal(self, ite: np.ndarray, cate: np.ndarray) -> None:
        """Show the true individual and expected effects of units, ``[n]`` each, before they are asked about."""
        self._ite, self._cate = np.array(ite, np.float64), np.array(cate, np.float64)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Self:
        """Check that the truth of these units has been shown.

        Raises:
            EstimatorError: it has not, or is not known.
        """
        self._truth(len(t))
        return self

    def ate(self) -> float:
        """Mean of the true effects."""
        return float(self._truth().mean())

    def _shown(self) -> np.ndarray | None:
        """The effects that it is about."""
        return self._ite

    def _truth(self, units: int | None = None) -> np.ndarray:
        shown = self._shown()
        if shown is None:
            raise EstimatorError(f"{self.name} needs the true effects: call reveal(ite, cate) before fit")
        if units is not None and len(shown) != units:
            raise EstimatorError(
                f"{self.name} was shown the true effects of {len(shown)} units, and is asked about {units}"
            )
        if not np.isfinite(shown).all():
            raise EstimatorError(f"{self.name}: the true effects of these units are not known")
        return shown


@dataclass(eq=False)
class Constant(_Shown, AverageOnly):
    """The true average effect for every unit.

    No constant has a smaller error in individual effects; this one's is their standard deviation.

    >>> truth = np.array([1.0, 3.0])
    >>> constant = Constant()
    >>> constant.reveal(truth, truth)
    >>> constant.fit(None, np.zeros((2, 0)), np.array([0, 1]), np.zeros(2)).effect(np.zeros((2, 0)))
    array([2., 2.])
    """

    name = "constant"


@dataclass(eq=False)
class _Oracle(_Shown):
    """The truth, with intervals of no width."""

    def effect(self, x: np.ndarray) -> np.ndarray:
        """The true effects, float64 ``[n]``.

        Raises:
            EstimatorError: x has not as many rows as there are units.
        """
        return self._truth(len(x)).copy()

    def interval(self, x: np.ndarray, level: float) -> Interval:
        """The true effects, twice."""
        return self.effect(x), self.effect(x)

    def ate_interval(self, level: float) -> tuple[float, float]:
        """Their mean, twice."""
        return self.ate(), self.ate()


@dataclass(eq=False)
class OracleIte(_Oracle):
    """The true individual effects: PEHE 0, and the true average.

    >>> oracle = OracleIte()
    >>> oracle.reveal(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    >>> oracle.fit(None, np.zeros((2, 0)), np.array([0, 1]), np.zeros(2)).effect(np.zeros((2, 0)))
    array([1., 3.])
    """

    name = "oracle_ite"
    interval_of = "ite"


@dataclass(eq=False)
class OracleCate(_Oracle):
    """The exact expected effects given all covariates: the best that a rule from covariates can be.

    Its PEHE is the floor that such rules attain at best; its average is the mean of the expected effects, which
    differs from that of the individual ones by these units' own noise.

    >>> oracle = OracleCate()
    >>> oracle.reveal(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    >>> oracle.fit(None, np.zeros((2, 0)), np.array([0, 1]), np.zeros(2)).effect(np.zeros((2, 0)))
    array([2., 2.])
    """

    name = "oracle_cate"
    interval_of = "cate"

    def _shown(self) -> np.ndarray | None:
        return self._cate

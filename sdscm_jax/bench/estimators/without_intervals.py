"""What estimators without intervals of single units' effects have alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from .protocol import check_units


class AverageOnly(ABC):
    """An estimator of the average effect, which it says of every unit."""

    @abstractmethod
    def ate(self) -> float:
        """The average effect."""

    def effect(self, x: np.ndarray) -> np.ndarray:
        """The average effect for every unit, float64 ``[m]``."""
        return np.full(len(x), self.ate())

    def interval(self, x: np.ndarray, level: float) -> None:
        """None: of single units' effects nothing is known."""
        return


@dataclass(eq=False)
class UnitsOnly(ABC):
    """An estimator of units' effects, whose average is their mean over the units that it was fitted to.

    Attributes:
        name: as in messages.
        needed: units in each arm.
    """

    name: ClassVar[str]
    needed: ClassVar[int] = 2

    _ate: float = field(init=False, repr=False)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Self:
        """Learn; see ``protocol.Estimator``.

        Raises:
            EstimatorError: an arm has fewer units than are needed, or a library is missing.
        """
        check_units(self.name, t, self.needed)
        self._learn(key, x, t, y)
        self._ate = float(self.effect(x).mean())
        return self

    @abstractmethod
    def _learn(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> None:
        """What ``effect`` needs."""

    @abstractmethod
    def effect(self, x: np.ndarray) -> np.ndarray:
        """Estimated effects, float64 ``[m]``."""

    def interval(self, x: np.ndarray, level: float) -> None:
        """None: the method has none."""
        return

    def ate(self) -> float:
        """Mean estimated effect of the units it was fitted to."""
        return self._ate

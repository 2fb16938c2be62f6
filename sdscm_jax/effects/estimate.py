"""A number that is exact, or an average over units with the influence that each unit has on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .contraction import Cost

_DRAWS = 20_000


@dataclass(frozen=True, eq=False)
class Estimate:
    """Numbers and how they would vary with the units that were drawn.

    Attributes:
        value: float64 ``[...]``.
        influence: float64 ``[n, ...]``: what each of n independent units adds, so that the sampling error of
            ``value`` is their mean; None where it is exact.
        cost: planned cost of what was contracted.
    """

    value: np.ndarray
    influence: np.ndarray | None = None
    cost: Cost | None = None

    @classmethod
    def of_units(cls, units: np.ndarray, weights: np.ndarray | None = None) -> Estimate:
        """The mean of ``units`` ``[n, ...]``, or their weighted mean (weights ``[n]``, not negative).

        >>> float(Estimate.of_units(np.array([1.0, 2.0, 6.0])).value)
        3.0
        """
        if weights is None:
            value = units.mean(0)
            return cls(value, units - value)
        total = weights.mean()
        value = np.tensordot(weights, units, 1) / (len(weights) * total) if total > 0 else np.nan * units[0]
        shaped = weights.reshape(-1, *(1,) * (units.ndim - 1))
        return cls(value, shaped * (units - value) / total if total > 0 else np.nan * units)

    def linear(self, change: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        """A linear map of the last axes, such as a sum over options; it must broadcast over leading axes."""
        return Estimate(change(self.value), None if self.influence is None else change(self.influence), self.cost)

    def _with(self, other: Estimate, value: Any, own: Any, others: Any) -> Estimate:
        influence: np.ndarray | None = None
        for coefficient, part in ((own, self.influence), (others, other.influence)):
            if part is not None:
                influence = coefficient * part if influence is None else influence + coefficient * part
        costs = [c for c in (self.cost, other.cost) if c is not None]
        return Estimate(value, influence, costs[0] if len(costs) == 1 else costs[0] | costs[1] if costs else None)

    def __add__(self, other: Estimate) -> Estimate:
        return self._with(other, self.value + other.value, 1.0, 1.0)

    def __sub__(self, other: Estimate) -> Estimate:
        return self._with(other, self.value - other.value, 1.0, -1.0)

    def __truediv__(self, other: Estimate) -> Estimate:
        """The ratio, by the delta method; nan where the denominator is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = self.value / other.value
            return self._with(other, value, 1.0 / other.value, -value / other.value)

    @property
    def covariance(self) -> np.ndarray | None:
        """Covariance of the sampling error of the flattened value, or None where it is exact."""
        if self.influence is None:
            return None
        n = len(self.influence)
        flat = self.influence.reshape(n, -1)
        return flat.T @ flat / (n * max(n - 1, 1))


def stack(parts: list[Estimate]) -> Estimate:
    """Estimates of like shape along a new leading axis."""
    influences = [part.influence for part in parts]
    costs = [part.cost for part in parts if part.cost is not None]
    total = None
    for cost in costs:
        total = cost if total is None else total | cost
    known = [x for x in influences if x is not None]
    zeros = np.zeros_like(known[0]) if known else None
    filled = [zeros if x is None else x for x in influences]
    influence = np.stack([x for x in filled if x is not None], 1) if known else None
    return Estimate(np.stack([part.value for part in parts]), influence, total)


def normal_errors(covariance: np.ndarray) -> np.ndarray:
    """Draws ``[20000, L]`` of jointly normal errors, always the same: what quantiles of their functions come from."""
    values, vectors = np.linalg.eigh(covariance)
    draws = np.random.default_rng(0).standard_normal((_DRAWS, len(values)))
    return np.asarray(draws @ (vectors * np.sqrt(np.maximum(values, 0.0))).T)

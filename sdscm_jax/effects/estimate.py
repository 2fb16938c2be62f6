"""A number that is exact, or an average over units with the influence that each unit has on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .contraction import Cost

_DRAWS = 20_000
# Log-probabilities are float32.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Estimate:
    """Numbers and how they would vary with the units that were drawn.

    Attributes:
        value: float64 ``[...]``.
        influence: float64 ``[n, ...]``: what each of n independent units adds, so that the sampling error of
            ``value`` is their mean; None where it is exact.
        cost: planned cost of what was contracted.
        units: of how many units each number is the mean, float64 of the shape of the value's leading axes (``[]``:
            the same for all). Where units are weighted, their effective number ``(sum w)^2 / sum w^2`` (Kish 1965,
            "Survey sampling", section 11.7), which is their number where each counts wholly or not at all.
        settled: does the graph say that all units that count have the same value? Then a sample variance of 0 is one;
            else it is only a small sample. Bool, of the shape of ``units``.
    """

    value: np.ndarray
    influence: np.ndarray | None = None
    cost: Cost | None = None
    units: np.ndarray | None = None
    settled: np.ndarray | bool = False

    @classmethod
    def of_units(cls, units: np.ndarray, settled: bool = False) -> Estimate:
        """The mean of ``units`` ``[n, ...]``.

        >>> float(Estimate.of_units(np.array([1.0, 2.0, 6.0])).value)
        3.0
        """
        value = units.mean(0)
        return cls(value, units - value, units=np.asarray(float(len(units))), settled=settled)

    def linear(self, change: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        """A linear map of the last axes, such as a sum over options; it must broadcast over leading axes."""
        influence = None if self.influence is None else change(self.influence)
        return replace(self, value=change(self.value), influence=influence)

    def _with(self, other: Estimate, value: Any, own: Any, others: Any, units: np.ndarray | None) -> Estimate:
        influence: np.ndarray | None = None
        for coefficient, part in ((own, self.influence), (others, other.influence)):
            if part is not None:
                influence = coefficient * part if influence is None else influence + coefficient * part
        costs = [c for c in (self.cost, other.cost) if c is not None]
        cost = costs[0] if len(costs) == 1 else costs[0] | costs[1] if costs else None
        return Estimate(value, influence, cost, units, np.logical_and(self.settled, other.settled))

    def __add__(self, other: Estimate) -> Estimate:
        return self._with(other, self.value + other.value, 1.0, 1.0, _fewer(self.units, other.units))

    def __sub__(self, other: Estimate) -> Estimate:
        return self._with(other, self.value - other.value, 1.0, -1.0, _fewer(self.units, other.units))

    def __truediv__(self, other: Estimate) -> Estimate:
        """The ratio, by the delta method; nan where the denominator is 0.

        The denominator is one mean of weights that are not negative: it is the mean of the units that it counts.
        """
        units = self.units
        if other.influence is not None:
            weights = (other.influence + other.value).ravel()
            squares = float(np.square(weights).sum())
            # What rounding leaves of a sum of zeros counts nobody; a number of units is whole up to rounding.
            units = np.asarray(round(float(weights.sum()) ** 2 / squares, 6) if squares > 1e-30 else 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = self.value / other.value
            return self._with(other, value, 1.0 / other.value, -value / other.value, units)

    @property
    def covariance(self) -> np.ndarray | None:
        """Covariance of the sampling error of the flattened value, or None where it is exact.

        Of a mean of m of the n units it is what these m alone would give, with ``m - 1`` in the denominator; nan where
        there is one.
        """
        if self.influence is None:
            return None
        n = len(self.influence)
        flat = self.influence.reshape(n, -1)
        units = self.units_of_each
        assert units is not None
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.sqrt(np.where(units > 1, units / (units - 1.0), np.nan))
        return np.asarray(flat.T @ flat / n**2 * np.outer(scale, scale))

    @property
    def units_of_each(self) -> np.ndarray | None:
        """Of how many units each entry of the flattened value is the mean, float64 ``[L]``; None where it is exact."""
        if self.influence is None:
            return None
        units = np.float64(len(self.influence)) if self.units is None else self.units
        return _spread(units, self.value)

    @property
    def settled_of_each(self) -> np.ndarray:
        """``settled`` of each entry of the flattened value, bool ``[L]``."""
        return _spread(self.settled, self.value)


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
    units = np.array([np.nan if part.units is None else part.units for part in parts]) if known else None
    settled = np.array([bool(part.settled) for part in parts])
    return Estimate(np.stack([part.value for part in parts]), influence, total, units, settled)


def errors(covariance: np.ndarray, units: float) -> np.ndarray:
    """Draws ``[20000, L]`` of joint errors of means over ``units`` units: Student's t with ``units - 1`` degrees.

    They are always the same; quantiles of their functions come from them.
    """
    values, vectors = np.linalg.eigh(covariance)
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((_DRAWS, len(values))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    return np.asarray(draws / np.sqrt(rng.chisquare(units - 1, (_DRAWS, 1)) / (units - 1)))


def quantile(units: np.ndarray, level: float) -> np.ndarray:
    """Standard errors on each side of a mean over ``units`` units, by Student's t; nan where there is one.

    >>> quantile(np.array([1.0, 2.0, 31.0]), 0.95).round(2).tolist()
    [nan, 12.71, 2.04]
    """
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.where(units > 1, units - 1, np.nan), 0.5 + level / 2))


def unseen(units: Any, level: float) -> Any:
    """The largest share of units that may be otherwise, where all that were drawn are alike: ``1 - (1 - level)^(1/n)``.

    With a larger share, ``units`` draws would be alike with a probability below ``1 - level`` (the exact binomial
    interval of Clopper and Pearson 1934 at no event; 3 / n at 95 %, "the rule of three").

    >>> round(unseen(30, 0.95), 3)
    0.095
    """
    return 1.0 - (1.0 - level) ** (1.0 / units)


def unvaried(variance: np.ndarray, units: np.ndarray, scale: Any) -> np.ndarray:
    """Are the units that were drawn alike, up to the rounding of log-probabilities? Of variances of means, bool."""
    return np.asarray(np.sqrt(variance * units) <= _ROUNDING * np.asarray(scale))


def lopsided(estimate: Estimate) -> np.ndarray:
    """Are there too few units for the skewness of what each adds? Its sign where there are, else 0; int ``[L]``.

    A mean of n units with skewness ``g`` has no interval by Student's t before ``n > 25 g^2`` (Cochran 1977, "Sampling
    techniques", section 2.15): the few units that decide it are not among those that were drawn as often as it takes.
    A skewness that as many normal units would show (two standard errors, ``sqrt(6 / n)`` each) says nothing.

    >>> rare = np.zeros((60, 1)); rare[0] = 1.0
    >>> lopsided(Estimate.of_units(rare)).tolist(), lopsided(Estimate.of_units(np.arange(60.0)[:, None])).tolist()
    ([1], [0])
    """
    units = estimate.units_of_each
    assert estimate.influence is not None
    assert units is not None
    flat = estimate.influence.reshape(len(estimate.influence), -1)
    squares, cubes = np.square(flat).sum(0), (flat**3).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.where(squares > 0, np.sqrt(units) * cubes / squares**1.5, 0.0)
        many = np.square(skewness) * units > np.maximum(np.square(units) / 25, 24.0)
    return np.where(many, np.sign(skewness), 0).astype(np.int64)


def _fewer(units: np.ndarray | None, others: np.ndarray | None) -> np.ndarray | None:
    known = [x for x in (units, others) if x is not None]
    return np.minimum(*known) if len(known) == 2 else known[0] if known else None


def _spread(part: Any, value: np.ndarray) -> np.ndarray:
    part = np.asarray(part)
    shaped = part.reshape(part.shape + (1,) * (value.ndim - part.ndim))
    return np.broadcast_to(shaped, value.shape).ravel()

"""What is said of an effect: its value, its interval, what the interval leaves out, and what is not identified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from ..checks import share
from ..errors import EffectError, nearest
from .contraction import Cost
from .estimate import Estimate

# What no interval over simulated units contains.
_LEFT_OUT = ("the wording of the templates and options", "the scoring of options", "another language model or graph")
_COUPLING = "how worlds share noise (the coupling)"


@dataclass(frozen=True, eq=False)
class Effect:
    """An effect, exact or estimated.

    Attributes:
        name: which one, such as ``"ATE"``.
        formula: what it is, in words and symbols.
        labels: what each number is of (options of the outcome, say), one for each entry of ``value``.
        value: float64 ``[L]``.
        lower, upper: float64 ``[L]``, an interval of confidence ``level``; equal to the value where it is exact.
        level: confidence of the interval.
        exact: was it computed without drawing?
        units: number of independent units, or None where it is exact.
        coupling: how worlds share noise, where the value depends on that, which no data can tell; else None.
        bounds: the least and the largest value over all couplings (float64 ``[L]`` each), where the value depends on
            it and they are known. Estimated ones have no interval of their own.
        left_out: errors that the interval does not contain.
        cost: what the contraction was planned to take, where it is exact.
    """

    name: str
    formula: str
    labels: tuple[str, ...]
    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    level: float
    exact: bool
    units: int | None = None
    coupling: str | None = None
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    left_out: tuple[str, ...] = ()
    cost: Cost | None = None

    def __float__(self) -> float:
        """The value, where there is one number."""
        if self.value.size != 1:
            raise TypeError(f"{self.name} is {self.value.size} numbers, of {', '.join(self.labels)}; see .value")
        return float(self.value.ravel()[0])

    def __getitem__(self, label: str) -> float:
        """The value of one label, such as an option of the outcome.

        Raises:
            EffectError: there is no such label.
        """
        if label not in self.labels:
            raise EffectError(f"{self.name} has no number of {label!r}; {nearest(label, self.labels)}")
        return float(self.value[self.labels.index(label)])

    def to_pandas(self) -> pd.DataFrame:
        """One row for each number: ``value``, ``lower``, ``upper``, and ``bound_lower``, ``bound_upper`` if known."""
        columns = {"value": self.value, "lower": self.lower, "upper": self.upper}
        if self.bounds is not None:
            columns |= {"bound_lower": self.bounds[0], "bound_upper": self.bounds[1]}
        return pd.DataFrame(columns, index=pd.Index(self.labels, name=self.name))

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.formula}"]
        width = max(map(len, self.labels), default=0)
        for i, label in enumerate(self.labels):
            interval = "" if self.exact else f"  [{_told(self.lower[i])}, {_told(self.upper[i])}]"
            ends = "" if self.bounds is None else "  couplings: " + " to ".join(_told(end[i]) for end in self.bounds)
            lines.append(f"  {label:<{width}}  {_told(self.value[i])}{interval}{ends}")
        if self.exact:
            cost = "" if self.cost is None else f", {self.cost.operations:.2g} operations planned"
            lines.append(f"  exact{cost}")
        else:
            lines.append(
                f"  {self.level:.0%} intervals over {self.units} units; not in them: {'; '.join(self.left_out)}"
            )
        if self.coupling is not None:
            lines.append(f"  depends on how worlds share noise (here: {self.coupling}), which no data can tell")
        return "\n".join(lines)


def _told(number: float) -> str:
    # Rounded first, so that what is as good as 0 has no sign of its own.
    return f"{round(float(number), 4) + 0.0:+.4f}"


def parse_level(level: Any) -> float:
    """The confidence of an interval; every effect takes it from here, before it asks its source.

    Raises:
        EffectError: it is no number between 0 and 1.
    """
    return share(level, "level", EffectError)


def effect(
    name: str,
    formula: str,
    labels: Sequence[str],
    estimate: Estimate,
    level: float,
    *,
    inside: tuple[float, float] | None = None,
    coupling: str | None = None,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
    quantile: float | None = None,
) -> Effect:
    """An effect from an estimate, with a normal interval.

    Args:
        name, formula, labels, level, coupling, bounds: see ``Effect``.
        estimate: value ``[L]`` or a scalar.
        inside: the range of what is estimated, which the interval is clipped to.
        quantile: standard errors on each side of the value; None: the normal one of ``level``.
    """
    value = np.atleast_1d(np.asarray(estimate.value, np.float64)).ravel()
    covariance = estimate.covariance
    half = np.zeros_like(value)
    if covariance is not None:
        z = NormalDist().inv_cdf(0.5 + level / 2) if quantile is None else quantile
        half = z * np.sqrt(np.diag(covariance))
    lower, upper = value - half, value + half
    if inside is not None:
        lower, upper = np.maximum(lower, inside[0]), np.minimum(upper, inside[1])
    return finished(name, formula, labels, estimate, value, lower, upper, level, coupling, bounds)


def finished(
    name: str,
    formula: str,
    labels: Sequence[str],
    estimate: Estimate,
    value: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    level: float,
    coupling: str | None = None,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
) -> Effect:
    """An effect whose interval is known; how it was had is the estimate's."""
    exact = estimate.influence is None
    flat = None if bounds is None else (np.atleast_1d(bounds[0]).ravel(), np.atleast_1d(bounds[1]).ravel())
    left_out = () if exact else (*_LEFT_OUT, *(() if coupling is None else (_COUPLING,)))
    units = None if estimate.influence is None else len(estimate.influence)
    return Effect(
        name, formula, tuple(labels), value, lower, upper, level, exact, units, coupling, flat, left_out, estimate.cost
    )

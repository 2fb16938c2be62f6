"""What is said of an effect: its value, its interval, what the interval leaves out, and what is not identified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import count, share
from ..errors import EffectError, nearest
from ..page.forms import Form, Interval, Shown
from ..page.spoken_numbers import signed
from .contraction import Cost
from .estimate import Estimate, lopsided, unseen, unvaried
from .estimate import quantile as student

if TYPE_CHECKING:
    import pandas as pd

# What no interval over simulated units contains.
_LEFT_OUT = ("the wording of the templates and options", "the scoring of options", "another language model or graph")
_COUPLING = "how worlds share noise (the coupling)"


@dataclass(frozen=True, eq=False, repr=False)
class Effect(Shown):
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
        bounds: values that no coupling goes beyond (float64 ``[L]`` each), where the value depends on it and they are
            known; with mediators, PN, PS and PNS need not reach them. Estimated ones have no interval of their own.
        left_out: errors that the interval does not contain.
        cost: what the contraction was planned to take, where it is exact.
        group_units: float64 ``[L]``: of how many of the units each number is (those of its group; where units count in
            part, their effective number). None where it is exact. There is no interval (nan) for one unit.
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
    group_units: np.ndarray | None = None

    def __float__(self) -> float:
        """The value, where there is one number."""
        if self.value.size != 1:
            raise TypeError(f"{self.name} is {self.value.size} numbers, of {', '.join(self.labels)}; see .value")
        return float(self.value.ravel()[0])

    def __getitem__(self, label: str | int) -> float:
        """The value of one label, such as an option of the outcome, or of a position (from the end, if negative).

        Raises:
            EffectError: there is no such label or position.
        """
        return float(self.value[position(label, self.labels, self.name)])

    def interval_of(self, label: str | int | None = None) -> tuple[float, float]:
        """Lower and upper limit of one number; without a label, of the only one.

        Raises:
            EffectError: there is no such label or position, or there are several numbers and none is named.
        """
        return self._ends(label, (self.lower, self.upper))

    def bounds_of(self, label: str | int | None = None) -> tuple[float, float] | None:
        """``bounds`` of one number; without a label, of the only one. None: there are none, or none are known.

        Raises:
            EffectError: see ``interval_of``.
        """
        return None if self.bounds is None else self._ends(label, self.bounds)

    def _ends(self, label: str | int | None, ends: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
        if label is None and len(self.labels) != 1:
            raise EffectError(f"{self.name} is {len(self.labels)} numbers; say of which: {', '.join(self.labels)}")
        place = 0 if label is None else position(label, self.labels, self.name)
        return float(ends[0][place]), float(ends[1][place])

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[float]:
        return iter(self.value.tolist())

    def _form(self) -> Form:
        headings, facts = ["of", "value"], list[tuple[str, str]]()
        rows: list[list[Any]] = [[label, float(x)] for label, x in zip(self.labels, self.value, strict=True)]
        intervals: list[Interval] = []
        if self.exact:
            facts.append(("computed", "exactly"))
        else:
            facts.append(("estimated", f"over {self.units:,} units"))
            headings += [f"{self.level:.0%} interval", "to"]
            rows = [[*row, float(a), float(b)] for row, a, b in zip(rows, self.lower, self.upper, strict=True)]
            intervals = [(row[1], row[2], row[3]) for row in rows]
        if self.bounds is not None:
            headings += ["any coupling", "to "]
            rows = [[*row, float(a), float(b)] for row, a, b in zip(rows, *self.bounds, strict=True)]
        if self.coupling is not None:
            facts.append(("depends on", f"how worlds share noise (here: {self.coupling}), which no data can tell"))
        return Form(f"{self.name}: {self.formula}", facts, headings, rows, intervals=intervals)

    def to_pandas(self) -> pd.DataFrame:
        """One row for each number.

        Columns ``value``, ``lower``, ``upper``; ``units`` (see ``group_units``) where units were drawn;
        ``bound_lower``, ``bound_upper`` where they are known.
        """
        import pandas as pd

        columns = {"value": self.value, "lower": self.lower, "upper": self.upper}
        if self.group_units is not None:
            columns["units"] = self.group_units
        if self.bounds is not None:
            columns |= {"bound_lower": self.bounds[0], "bound_upper": self.bounds[1]}
        return pd.DataFrame(columns, index=pd.Index(self.labels, name=self.name))

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.formula}"]
        width = max(map(len, self.labels), default=0)
        units = None if self.group_units is None else self.group_units.round(1)
        for i, label in enumerate(self.labels):
            interval = "" if self.exact else f"  [{_told(self.lower[i])}, {_told(self.upper[i])}]"
            if units is not None and np.isnan(self.lower[i]):
                interval = f"  no interval ({units[i]:g} unit{'s' if units[i] != 1 else ''})"
            ends = "" if self.bounds is None else "  couplings: " + " to ".join(_told(end[i]) for end in self.bounds)
            lines.append(f"  {label:<{width}}  {_told(self.value[i])}{interval}{ends}")
        if self.exact:
            cost = "" if self.cost is None else f", {self.cost.operations:.2g} operations planned"
            lines.append(f"  exact{cost}")
        else:
            own = ""
            if units is not None and len(units) and units.min() < (self.units or 0):
                few = f"{units.min():g}" if units.min() == units.max() else f"{units.min():g} to {units.max():g}"
                own = f" (each number is of {few} of them)"
            lines.append(
                f"  {self.level:.0%} intervals over {self.units} units{own}; not in them: {'; '.join(self.left_out)}"
            )
        if self.coupling is not None:
            lines.append(f"  depends on how worlds share noise (here: {self.coupling}), which no data can tell")
        return "\n".join(lines)


def _told(number: float) -> str:
    return signed(number, 4)


def position(label: str | int, labels: Sequence[str], name: str) -> int:
    """The place of a label among others; a number is one already.

    Raises:
        EffectError: there is no such label or place.
    """
    if not isinstance(label, str):
        most = len(labels)
        return count(label, f"the position of a number of {name}", EffectError, least=-most, most=most - 1) % most
    if label not in labels:
        raise EffectError(f"{name} has no number of {label!r}; {nearest(label, labels)}")
    return labels.index(label)


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
    inside: tuple[float | np.ndarray, float | np.ndarray] | None = None,
    coupling: str | None = None,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
    quantile: float | None = None,
) -> Effect:
    """An effect from an estimate, with an interval by Student's t.

    Units that are alike say nothing of how much units vary, unless the graph says that all are alike
    (``Estimate.settled``): there the interval has room for as many others as may have been missed. So it has, on the
    side of the rare ones, where few units make most of the value (``lopsided``).

    Args:
        name, formula, labels, level, coupling, bounds: see ``Effect``.
        estimate: value ``[L]`` or a scalar.
        inside: the range of what is estimated and of what a unit adds to it, which the interval is clipped to; None:
            it is not known, and units that are alike have no interval.
        quantile: standard errors on each side of the value; None: those of Student's t with the units of each number.
    """
    value = np.atleast_1d(np.asarray(estimate.value, np.float64)).ravel()
    covariance, units = estimate.covariance, estimate.units_of_each
    if covariance is None or units is None:
        return finished(name, formula, labels, estimate, value, value, value, level, coupling, bounds)
    variance = np.diag(covariance)
    half = (student(units, level) if quantile is None else quantile) * np.sqrt(variance)
    lower, upper = value - half, value + half
    least, most = (np.full_like(value, np.nan),) * 2 if inside is None else np.broadcast_arrays(*inside, value)[:2]
    reach = np.where(np.isnan(least), np.abs(value), most - least)
    alike = unvaried(variance, units, reach) & ~estimate.settled_of_each
    share = unseen(np.maximum(units, 1.0), level)
    below, above = value - share * (value - least), value + share * (most - value)
    side = lopsided(estimate)
    lower, upper = np.where(side < 0, np.fmin(lower, below), lower), np.where(side > 0, np.fmax(upper, above), upper)
    lower = np.where(alike, below, np.fmax(lower, least))
    upper = np.where(alike, above, np.fmin(upper, most))
    known = np.isfinite(variance)
    lower, upper = np.where(known, lower, np.nan), np.where(known, upper, np.nan)
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
    units, own = None if estimate.influence is None else len(estimate.influence), estimate.units_of_each
    return Effect(
        name, formula, tuple(labels), value, lower, upper, level, exact, units, coupling, flat, left_out, estimate.cost,
        group_units=None if own is None else own[: len(value)],
    )  # fmt: skip

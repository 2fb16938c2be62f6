"""The value of an estimand in the observational distribution of a discrete program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import EffectError
from .contraction import contract
from .counterfactual_graph import Target
from .estimand import Estimand, Fraction, Probability, Product, Sum, free, text
from .exact_source import Exact

# What two ways to fill in undefined probabilities may differ by and still count as equal.
_EQUAL = 1e-9


def observational(source: Exact, estimand: Estimand, outcome: str, fixed: Mapping[str, int]) -> np.ndarray:
    """An estimand as a law of the outcome.

    Only the factual world's distribution is looked at. A conditional probability given what never occurs is
    undefined; that is an error if and only if the value depends on it.

    Args:
        source: the program.
        estimand: a function of the outcome and of the sites of ``fixed``.
        outcome: a site.
        fixed: sites and the option number that each has.

    Returns:
        float64 ``[K]``, for each option of the outcome.

    Raises:
        EffectError: positivity fails; the message names the group that never occurs. Or the tables are too large.

    >>> from sdscm_jax.effects.factors import Factor, Network
    >>> t = Factor("t", (), np.array([0.5, 0.5]), ("no", "yes"))
    >>> y = Factor("y", ("t",), np.array([[0.75, 0.25], [0.25, 0.75]]), ("no", "yes"))
    >>> observational(Exact(Network((t, y))), Probability(("y",), ("t",)), "y", {"t": 1}).tolist()
    [0.25, 0.75]
    """
    reader = _Reader(source, outcome, fixed)
    low = reader.law(estimand, 0.0)
    if not reader.undefined:
        return low
    high = reader.law(estimand, 1.0)
    if np.allclose(low, high, rtol=0, atol=_EQUAL):
        return low
    holes = [(part, tuple(index)) for part, (where, _) in reader.undefined.items() for index in np.argwhere(where)]
    matters = (h for h in holes if not np.allclose(high, reader.law(estimand, 1.0, spared=h), rtol=0, atol=_EQUAL))
    raise EffectError(reader.complaint(next(matters, holes[0])))


# An undefined entry of an estimand's part: the part, and where its denominator is 0.
_Hole = tuple[Estimand, tuple[int, ...]]


@dataclass
class _Reader:
    """Arrays of estimands' parts.

    Attributes:
        source, outcome, fixed: see ``observational``.
        joints: joint probabilities that were asked for already.
        fill: what stands for an undefined entry.
        spared: the undefined entry that is 0 in any case.
        undefined: parts with undefined entries: where their denominator is 0, and the sites of its axes.
    """

    source: Exact
    outcome: str
    fixed: Mapping[str, int]
    joints: dict[tuple[str, ...], np.ndarray] = field(default_factory=dict)
    fill: float = 0.0
    spared: _Hole | None = None
    undefined: dict[Estimand, tuple[np.ndarray, tuple[str, ...]]] = field(default_factory=dict)

    def law(self, estimand: Estimand, fill: float, spared: _Hole | None = None) -> np.ndarray:
        """The estimand at the fixed values, with undefined entries filled in."""
        self.fill, self.spared = fill, spared
        array, axes = self.array(estimand)
        wanted = array[tuple(slice(None) if name == self.outcome else self.fixed[name] for name in axes)]
        size = len(self.source.options(self.outcome))
        return wanted if self.outcome in axes else np.broadcast_to(wanted, (size,))

    def array(self, estimand: Estimand) -> tuple[np.ndarray, tuple[str, ...]]:
        """An array with an axis for every free site, in program order."""
        axes = self.ordered(free(estimand))
        match estimand:
            case Probability(sites):
                joint = self.joint(axes)
                summed = tuple(axes.index(name) for name in sites)
                return self.ratio(estimand, joint, joint.sum(summed, keepdims=True), axes), axes
            case Product(factors):
                return self.contracted(factors, axes), axes
            case Sum(_, of):
                return self.contracted(of.factors if isinstance(of, Product) else (of,), axes), axes
            case Fraction(numerator, denominator):
                top, bottom = (self.spread(part, axes) for part in (numerator, denominator))
                return self.ratio(estimand, top, bottom, axes), axes

    def contracted(self, factors: Sequence[Estimand], keep: Sequence[str]) -> np.ndarray:
        """The product of factors, summed over every axis that is not kept."""
        if not factors:
            return np.ones(())
        numbers = {name: i for i, name in enumerate(self.source.names)}
        operands = [(array, [numbers[name] for name in axes]) for array, axes in map(self.array, factors)]
        return contract(operands, [numbers[name] for name in keep], self.source.limits)[0]

    def spread(self, estimand: Estimand, axes: Sequence[str]) -> np.ndarray:
        """An array with all of some axes, of length 1 where it does not vary."""
        array, own = self.array(estimand)
        shape = iter(array.shape)
        return array.reshape([next(shape) if name in own else 1 for name in axes])

    def ratio(self, part: Estimand, top: np.ndarray, bottom: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        """A ratio; 0 / 0 is filled in."""
        undefined = bottom == 0
        if not undefined.any():
            return top / bottom
        self.undefined[part] = undefined, axes
        fill = np.where(undefined, self.fill, 0.0)
        if self.spared is not None and self.spared[0] == part:
            fill[self.spared[1]] = 0.0
        return np.where(undefined, fill, top / np.where(undefined, 1.0, bottom))

    def joint(self, axes: tuple[str, ...]) -> np.ndarray:
        """``P(axes)`` in the factual world."""
        if axes not in self.joints:
            self.joints[axes] = self.source.joint([Target(name) for name in axes]).value
        return self.joints[axes]

    def ordered(self, names: frozenset[str]) -> tuple[str, ...]:
        return tuple(name for name in self.source.names if name in names)

    def complaint(self, hole: _Hole) -> str:
        """What is missing, and what to change."""
        part, index = hole
        where, axes = self.undefined[part]
        at = [(name, k) for name, k, size in zip(axes, index, where.shape, strict=True) if size > 1]
        group = ", ".join(f"{name}={self.source.options(name)[k]}" for name, k in at)
        why = f"no unit has {group}" if isinstance(part, Probability) else f"its denominator is 0 at {group}"
        return (
            f"positivity fails: the estimand needs {text(part)}, and {why}; compare options that occur in every "
            "group, or use another set of sites"
        )

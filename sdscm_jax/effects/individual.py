"""Individual effects: of every unit that was simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EffectError
from .copies import Target
from .sampled import Sampled
from .source import as_source, check_outcome, choice_options, contrasted, prepare, shared_noise


@dataclass(frozen=True, eq=False)
class IndividualEffects:
    """Both potential outcomes of units.

    Attributes:
        treatment, outcome, low, high: names of the sites and the two levels.
        options: the K options of the outcome.
        probabilities: float64 ``[n, 2, K]``: probabilities of the outcome given the unit's other values under
            do(low) and do(high); they do not depend on the coupling of the outcome's noise.
        outcomes: int ``[n, 2]``: what is drawn with the unit's own noise; how the two go together depends on the
            coupling, which no data can tell.
        coupling: how the worlds share noise; None where the outcome cannot differ.
    """

    treatment: str
    outcome: str
    low: str
    high: str
    options: tuple[str, ...]
    probabilities: np.ndarray
    outcomes: np.ndarray
    coupling: str | None

    @property
    def expected(self) -> np.ndarray:
        """Effect on the probability of each option, float64 ``[n, K]``."""
        return self.probabilities[:, 1] - self.probabilities[:, 0]

    @property
    def changed(self) -> np.ndarray:
        """Is the outcome another one? Bool ``[n]``."""
        return np.asarray(self.outcomes[:, 0] != self.outcomes[:, 1])


def ite(source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None) -> IndividualEffects:
    """Individual treatment effects of the units of a simulation.

    Args:
        source: a ``Simulation`` or ``effects.sampled(…)``. Exact sources have no units: see ``potential_outcomes``
            for the law of their effects.
        treatment, outcome, low, high: see ``ate``.

    Raises:
        EffectError: the source has no units, or the outcome no options.

    >>> import sdscm_jax as sd
    >>> from sdscm_jax import effects
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> effects.ite(effects.sampled(model, 0, 30, lm), "pdl1", "drug").expected.shape
    (30, 2)
    """
    source = as_source(source)
    if not isinstance(source, Sampled):
        raise EffectError("exact sources have no units; potential_outcomes gives the joint law of both outcomes")
    low, high = contrasted(source, treatment, low, high)
    check_outcome(source, treatment, outcome)
    options = choice_options(source, outcome)
    worlds = [Target(outcome, {treatment: value}) for value in (low, high)]
    prepare(source, worlds)
    return IndividualEffects(
        treatment,
        outcome,
        low,
        high,
        options,
        np.stack([source.probabilities(world) for world in worlds], 1),
        np.stack([source.values(world) for world in worlds], 1),
        shared_noise(source, worlds),
    )

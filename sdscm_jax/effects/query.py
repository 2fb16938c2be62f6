"""What is asked: the effect of a treatment on an outcome. What all effects check, compute and say alike stands here.

A new effect is a query, the worlds that it compares, an estimate and a formula::

    q = Query.of(source, treatment, outcome, low, high, score=score, level=level)
    above, below = q.world(q.high), q.world(q.low)
    return q.answer("ATE", "P(y | do(t=high)) - P(y | do(t=low))", q.difference(above, below), [above], [below])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .counterfactual_graph import Target
from .effect import Effect, effect, parse_level
from .estimate import Estimate
from .sampled_source import Sampled
from .source import Score, Source, as_source, check_outcome, choice_options, contrasted, law, scored, shared_noise

Ends = tuple[float | np.ndarray, float | np.ndarray]


@dataclass(frozen=True, eq=False)
class Query:
    """Two levels of a treatment, an outcome, and how sure the answer is to be.

    Attributes:
        source: where the answer comes from.
        treatment, outcome: sites.
        low, high: texts of the two levels that are compared.
        score: numbers of the outcome's options, whose mean is then the outcome; None: the probability of each.
        level: confidence of intervals.
    """

    source: Source
    treatment: str
    outcome: str
    low: str
    high: str
    score: Score = None
    level: float = 0.95

    @classmethod
    def of(
        cls, source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, score: Score = None,
        level: Any = 0.95,
    ) -> Query:  # fmt: skip
        """A query of what a user gave, before anything is computed.

        Raises:
            EffectError, SiteError, InterventionError: see ``effects.ate``.
        """
        level = parse_level(level)
        source = as_source(source)
        low, high = contrasted(source, treatment, low, high)
        check_outcome(source, treatment, outcome)
        return cls(source, treatment, outcome, low, high, score, level)

    @property
    def options(self) -> tuple[str, ...]:
        """The options of the outcome, in an effect that is of these.

        Raises:
            EffectError: it has none.
        """
        return choice_options(self.source, self.outcome)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the numbers of the outcome's law are of."""
        options = self.source.options(self.outcome)
        return options if options and self.score is None else (f"mean {self.outcome}",)

    @property
    def inside(self) -> Ends | None:
        """The range of what a unit may add to a difference of two laws; None where the outcome is a number."""
        if not self.source.options(self.outcome):
            return None
        numbers = scored(self.source, self.outcome, self.score)
        width = 1.0 if numbers is None else float(np.ptp(numbers))
        return -width, width

    def world(self, value: str, more: Mapping[str, Any] | None = None) -> Target:
        """The outcome where the treatment is set to a level, and other sites to what ``more`` says."""
        return Target(self.outcome, {self.treatment: value, **(more or {})})

    def natural(self, value: str) -> list[tuple[Target, int]]:
        """The evidence that the treatment had a level by itself."""
        return [(Target(self.treatment), self.source.number(self.treatment, value))]

    def prepare(self, targets: Sequence[Target], given: Sequence[tuple[Target, int]] = ()) -> None:
        """Have all worlds that are needed simulated together."""
        if isinstance(self.source, Sampled):
            self.source.prepare([*targets, *(target for target, _ in given)])

    def law(self, target: Target, given: Sequence[tuple[Target, int]] = ()) -> Estimate:
        """Probabilities of the outcome's options in a world given evidence, or the mean of their scores, or its own."""
        return law(self.source, target, self.score, given)

    def difference(self, above: Target, below: Target, given: Sequence[tuple[Target, int]] = ()) -> Estimate:
        """The law of the outcome in a world less that in another."""
        self.prepare([above, below], given)
        copies = self.source.copies()
        estimate = self.law(above, given) - self.law(below, given)
        # The same version of the site in both worlds differs in no unit.
        return replace(estimate, settled=True) if copies.of(above) == copies.of(below) else estimate

    def coupling(self, *laws: Sequence[Target]) -> str | None:
        """How worlds share the noise that some joint laws depend on; None: they depend on none."""
        return shared_noise(self.source, *laws)

    def answer(
        self, name: str, formula: str, estimate: Estimate, *laws: Sequence[Target], labels: Sequence[str] | None = None,
        inside: Ends | None = None, bounds: tuple[np.ndarray, np.ndarray] | None = None, quantile: float | None = None,
    ) -> Effect:  # fmt: skip
        """An effect.

        Args:
            name, formula: see ``Effect``; probabilities in a formula become means where the outcome is a number.
            estimate: its value and how units vary.
            *laws: the joint laws that it is made of, each as the sites in worlds that it is of.
            labels: what each number is of; None: one for each number of the outcome's law.
            inside, bounds, quantile: see ``effect``; without ``inside`` a unit adds a difference of two laws at most.
        """
        probabilities = self.score is None and self.source.options(self.outcome)
        return effect(
            name, formula if probabilities else formula.replace("P(", "E("), self.labels if labels is None else labels,
            estimate, self.level, inside=self.inside if inside is None else inside, coupling=self.coupling(*laws),
            bounds=bounds, quantile=quantile,
        )  # fmt: skip

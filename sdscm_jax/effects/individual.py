"""Individual effects: both potential outcomes of every unit that was simulated, and what the factual data suggest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import instance, one_of
from ..dsl.worlds.worlds import world_label
from ..engine.simulation import Simulation
from ..errors import EffectError, SiteError
from ..page.forms import Form, Shown, counted
from .effect import Effect, effect, parse_level, position
from .estimate import Estimate
from .query import Query
from .sampled_source import Sampled
from .source import as_source

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class _BothWorlds(Shown):
    """What units are in two worlds; the subclasses say what the fields are."""

    treatment: str
    outcome: str
    low: str
    high: str
    options: tuple[str, ...]
    probabilities: np.ndarray
    outcomes: np.ndarray

    @property
    def expected(self) -> np.ndarray:
        """Effect on the probability of each option, float64 ``[n, K]``."""
        return self.probabilities[:, 1] - self.probabilities[:, 0]

    @property
    def _change(self) -> str:
        return f"do({self.treatment}={self.low}) → do({self.treatment}={self.high}) on {self.outcome}"


@dataclass(frozen=True, eq=False, repr=False)
class IndividualEffects(_BothWorlds):
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

    coupling: str | None

    @property
    def changed(self) -> np.ndarray:
        """Is the outcome another one? Bool ``[n]``."""
        return np.asarray(self.outcomes[:, 0] != self.outcomes[:, 1])

    def _form(self) -> Form:
        found = self.expected
        rows = zip(self.options, found.mean(0).tolist(), found.min(0).tolist(), found.max(0).tolist(), strict=True)
        headings = (self.outcome, "mean effect", "least", "greatest")
        facts = [("changed", f"{self.changed.mean():.1%} of the units have another outcome")]
        return Form(f"IndividualEffects: {self._change}, {counted(len(found), 'unit')}", facts, headings, list(rows))


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
    q = Query.of(source, treatment, outcome, low, high)
    options, worlds = q.options, [q.world(q.low), q.world(q.high)]
    q.prepare(worlds)
    return IndividualEffects(
        treatment,
        outcome,
        q.low,
        q.high,
        options,
        np.stack([source.probabilities(world) for world in worlds], 1),
        np.stack([source.values(world) for world in worlds], 1),
        q.coupling(worlds),
    )


@dataclass(frozen=True, eq=False, repr=False)
class Contrast(_BothWorlds):
    """What is true of a treatment, and what the factual data alone suggest.

    Attributes:
        treatment, outcome, low, high: names of the sites and of the treatment's two levels.
        options: the K options of the outcome.
        probabilities: float64 ``[n, 2, K]``: each unit's outcome probabilities under do(low) and
            do(high).
        outcomes: int ``[n, 2]``: each unit's potential outcomes, with the unit's own noise.
        naive: float64 ``[K]``: share of each option among factual units with the high level minus
            that among units with the low level; nan where a group is empty.
        propensity: float64 ``[n]``: each unit's probability of the high level.
        draws: rows of each unit, which are no units of their own.
        lms: what the language models are, as people read it.
        absent: levels that no factual unit has, so that there is no naive difference.
    """

    naive: np.ndarray
    propensity: np.ndarray
    draws: int = 1
    lms: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def reason(self) -> str | None:
        """Why the naive difference is not known; None: it is."""
        if not self.absent:
            return None
        low, high = self.propensity.min(), self.propensity.max()
        levels = " or ".join(f"{self.treatment}={level}" for level in self.absent)
        return f"no factual unit has {levels} (P({self.treatment}={self.high}) is from {low:.1e} to {high:.1e})"

    def __getitem__(self, option: str | int) -> float:
        """The average effect on the probability of an option of the outcome, by its text or its position.

        Raises:
            EffectError: there is no such option.
        """
        return float(self.average[position(option, self.options, f"the contrast of {self.outcome!r}")])

    def __len__(self) -> int:
        return len(self.options)

    def __iter__(self) -> Iterator[float]:
        return iter(self.average.tolist())

    def effect(self, level: float = 0.95) -> Effect:
        """The average effect with an interval: what more units of the kind would tell, by Student's t.

        Raises:
            EffectError: ``level`` is not between 0 and 1.
        """
        level = parse_level(level)
        units = self.expected.reshape(-1, self.draws, len(self.options)).mean(1)
        low, high = (f"P({self.outcome} | do({self.treatment}={x}))" for x in (self.low, self.high))
        return effect("ATE", f"{high} - {low}", self.options, Estimate.of_units(units), level, inside=(-1.0, 1.0))

    def to_pandas(self, level: float = 0.95) -> pd.DataFrame:
        """One row for each option of the outcome: the table that ``sdscm demo`` prints.

        Columns: ``p_low`` and ``p_high``, its mean probability in the two worlds; ``ate``, their difference, with an
        interval (``lower``, ``upper``); and ``naive``, the difference of its shares among factual units, which
        confounding is in.

        Args:
            level: confidence of the interval.

        Raises:
            EffectError: ``level`` is not between 0 and 1.
        """
        import pandas as pd

        means, found = self.probabilities.mean(0), self.effect(level)
        columns = {
            "p_low": means[0], "p_high": means[1], "ate": self.average, "lower": found.lower, "upper": found.upper,
            "naive": self.naive,
        }  # fmt: skip
        return pd.DataFrame(columns, pd.Index(self.options, name=self.outcome))

    def _form(self) -> Form:
        table = self.to_pandas()
        units = len(self.propensity) // self.draws
        least, most = self.propensity.min(), self.propensity.max()
        facts = [
            ("changed", f"{self.changed:.1%} of the units have another outcome in the other world"),
            ("propensity", f"P({self.treatment}={self.high}) from {least:.3f} to {most:.3f}"),
        ]
        if self.reason is not None:
            facts.append(("naive difference", f"not known: {self.reason}"))
        if self.lms:
            facts.append(("language model", "; ".join(self.lms)))
        worlds = (f"do({level})" for level in (self.low, self.high))
        headings = (self.outcome, *worlds, "ATE", "95% interval", "to", "naive difference")
        numbers = table.to_numpy(float).tolist()
        rows = [[option, *row] for option, row in zip(self.options, numbers, strict=True)]
        intervals = [(row[2], row[3], row[4]) for row in numbers]
        return Form(f"Contrast: {self._change}, {counted(units, 'unit')}", facts, headings, rows, intervals=intervals)

    @property
    def individual(self) -> np.ndarray:
        """Individual effects on the probability of each option, float64 ``[n, K]``."""
        return self.expected

    @property
    def average(self) -> np.ndarray:
        """Sample average treatment effect on the probability of each option, float64 ``[K]``."""
        return self.expected.mean(0)

    @property
    def changed(self) -> float:
        """Share of units whose outcome differs between the two worlds."""
        return float((self.outcomes[:, 0] != self.outcomes[:, 1]).mean())


def contrast(data: Simulation, treatment: str, outcome: str, low: str, high: str) -> Contrast:
    """Compare do(treatment=low) with do(treatment=high).

    Args:
        data: a simulation with the worlds ``{treatment: low}`` and ``{treatment: high}``.
        treatment, outcome: choice sites whose log-probabilities were kept.
        low, high: two options of the treatment.

    Raises:
        SiteError: a world, a site or its log-probabilities are missing; or the two sites or levels are one.

    >>> import jax, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> data = sd.simulate(model, jax.random.key(0), 50, lm, worlds=[{"pdl1": "low"}, {"pdl1": "high"}])
    >>> contrast(data, "pdl1", "drug", "low", "high").average.shape
    (2,)
    """
    instance(data, Simulation, "data")
    for name in (treatment, outcome):
        one_of(name, data.graph.names, "site", SiteError)
        if name not in data.log_probs:
            raise SiteError(f"the simulation kept no log-probabilities of site {name!r}")
    if treatment == outcome:
        raise SiteError(f"treatment and outcome are both {outcome!r}")
    levels = data.graph[treatment].options
    low, high = (one_of(level, levels, f"option of {treatment!r}", SiteError) for level in (low, high))
    if low == high:
        raise SiteError(f"treatment {treatment!r}: low and high are both {low!r}")
    worlds = [data.world(world_label({treatment: level})) for level in (low, high)]
    options = data.graph[outcome].options
    factual = data.values[outcome][:, 0]
    given = data.values[treatment][:, 0]
    shares = []
    for level in (low, high):
        group = factual[given == levels.index(level)]
        counts = np.bincount(group, minlength=len(options)).astype(np.float64)
        shares.append(counts / len(group) if len(group) else np.full(len(options), np.nan))
    return Contrast(
        treatment,
        outcome,
        low,
        high,
        options,
        np.exp(data.log_probs[outcome][:, worlds].astype(np.float64)),
        data.values[outcome][:, worlds],
        shares[1] - shares[0],
        np.exp(data.log_probs[treatment][:, 0, levels.index(high)].astype(np.float64)),
        data.draws,
        tuple(data.provenance.get("language_models", ())),
        tuple(level for level, share in zip((low, high), shares, strict=True) if np.isnan(share).any()),
    )

"""Effects from the observational distribution alone, by adjustment, beside the truth."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import count, items, one_of
from ..errors import EffectError, SiteError
from ..page.spoken_numbers import signed
from .average import ate
from .estimand import Estimand, Probability, Product, product, text, total
from .exact_source import Exact
from .observational import observational
from .query import Query
from .separation import backdoor_criterion, frontdoor_criterion, without_effects
from .source import Score, as_source, scored


@dataclass(frozen=True, eq=False)
class Adjustment:
    """An effect as observations give it, and as interventions do.

    Attributes:
        method: how observations are turned into an effect.
        adjust: the sites that are adjusted for, or the mediators.
        contrast: the two options of the treatment that are compared, as text.
        estimand: what is computed for each of them, as text.
        labels: what each number is of: an option of the outcome, or the mean of its scores.
        value: float64 ``[L]``: the difference that the estimand has between the two options.
        truth: float64 ``[L]``: the average effect of the intervention.
        valid: does the graph say that the two are equal, whatever the mechanisms?
        reason: why, or which path is open.
    """

    method: str
    adjust: tuple[str, ...]
    contrast: str
    estimand: str
    labels: tuple[str, ...]
    value: np.ndarray
    truth: np.ndarray
    valid: bool
    reason: str

    @property
    def difference(self) -> np.ndarray:
        """float64 ``[L]``: by how much the value misses the truth."""
        return self.value - self.truth

    def __str__(self) -> str:
        width = max(map(len, self.labels))
        # Rounded first, so that what is as good as 0 has no sign of its own.
        numbers = np.stack([self.value, self.truth, self.difference]).round(4) + 0.0
        return "\n".join(
            [
                f"{self.method}, {self.contrast}",
                f"  {self.estimand}",
                f"  {'':<{width}}    value    truth  difference",
                *(
                    f"  {k:<{width}}  {signed(v, 4)}  {signed(t, 4)}     {signed(d, 4)}"
                    for k, (v, t, d) in zip(self.labels, numbers.T, strict=True)
                ),
                f"  {'valid' if self.valid else 'not valid'}: {self.reason}",
            ]
        )


def naive(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, score: Score = None
) -> Adjustment:
    """The association: ``P(Y | T = high) - P(Y | T = low)``.

    Arguments and errors are those of ``backdoor``.

    >>> from sdscm_jax.effects.factors import Factor, Network
    >>> c = Factor("c", (), np.array([0.5, 0.5]), ("no", "yes"))
    >>> t = Factor("t", ("c",), np.array([[0.75, 0.25], [0.25, 0.75]]), ("no", "yes"))
    >>> y = Factor("y", ("c",), np.array([[0.75, 0.25], [0.25, 0.75]]), ("no", "yes"))
    >>> print(naive(Network((c, t, y)), "t", "y"))
    no adjustment, t=yes minus t=no
      P(y | t)
             value    truth  difference
      no   -0.2500  +0.0000     -0.2500
      yes  +0.2500  +0.0000     +0.2500
      not valid: t <- c -> y is open
    """
    exact = exact_source(source)
    check_roles(exact.names, treatment, outcome, ())
    valid, reason = backdoor_criterion(exact.network.dag, treatment, outcome, ())
    estimand = Probability((outcome,), (treatment,))
    q = Query.of(exact, treatment, outcome, low, high, score=score)
    return compared(q, "no adjustment", (), estimand, valid=valid, reason=reason)


def backdoor(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, adjust: str | Sequence[str],
    hidden: Sequence[str] = (), score: Score = None,
) -> Adjustment:  # fmt: skip
    """Adjustment for covariates: ``Σ_c P(Y | T, C = c) P(C = c)`` (Pearl 2009, definition 3.3.1 and theorem 3.3.2).

    It is computed whether or not the covariates satisfy the back-door criterion: none is caused by the treatment, and
    they block every path between treatment and outcome that has an arrow into the treatment. Where they do not, the
    graph can't vouch for the value, which may be right nevertheless.

    Args:
        source: ``effects.exact(model, …)``, or what may stand for it (see ``as_source``).
        treatment, outcome: sites.
        low, high: options of the treatment; may be left out where it has two.
        adjust: the covariates.
        hidden: sites that are not observed, which the covariates may not be.
        score: numbers of the outcome's options, whose mean is then the outcome; None: the probability of each.

    Raises:
        EffectError: a covariate is hidden, the treatment or the outcome; or positivity fails: in some group of units
            an option of the treatment does not occur; the message names the group.
        SiteError, InterventionError: something is not in the model.

    >>> from sdscm_jax.effects.factors import Factor, Network
    >>> c = Factor("c", (), np.array([0.5, 0.5]), ("no", "yes"))
    >>> t = Factor("t", ("c",), np.array([[0.75, 0.25], [0.25, 0.75]]), ("no", "yes"))
    >>> y = Factor("y", ("c",), np.array([[0.75, 0.25], [0.25, 0.75]]), ("no", "yes"))
    >>> print(backdoor(Network((c, t, y)), "t", "y", adjust=["c"]))
    back-door adjustment, t=yes minus t=no
      Σ_{c} P(c) P(y | t, c)
             value    truth  difference
      no   +0.0000  +0.0000     +0.0000
      yes  +0.0000  +0.0000     +0.0000
      valid: every back-door path from t to y is blocked
    """
    exact = exact_source(source)
    names = _visible(exact, "adjust", adjust, treatment, outcome, hidden)
    valid, reason = backdoor_criterion(exact.network.dag, treatment, outcome, names)
    weight = Probability(names) if names else Product(())
    estimand = total(names, product([weight, Probability((outcome,), (treatment, *names))]))
    q = Query.of(exact, treatment, outcome, low, high, score=score)
    return compared(q, "back-door adjustment", names, estimand, valid=valid, reason=reason)


def frontdoor(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, mediators: str | Sequence[str],
    hidden: Sequence[str] = (), score: Score = None,
) -> Adjustment:  # fmt: skip
    """Front-door adjustment: ``Σ_m P(m | T) Σ_t P(Y | t, m) P(t)`` (Pearl 2009, definition 3.3.3 and theorem 3.3.4).

    It is computed whether or not the mediators satisfy the front-door criterion: they intercept every directed path
    from treatment to outcome, no back-door path from the treatment to them is open, and the treatment blocks every
    back-door path from them to the outcome.

    Args:
        mediators: sites between treatment and outcome.
        source, treatment, outcome, low, high, hidden, score: see ``backdoor``.

    Raises:
        EffectError: a mediator is hidden, the treatment or the outcome; or positivity fails.
        SiteError, InterventionError: something is not in the model.

    >>> from sdscm_jax.effects.factors import Factor, Network
    >>> t = Factor("t", (), np.array([0.5, 0.5]), ("no", "yes"))
    >>> m = Factor("m", ("t",), np.array([[0.75, 0.25], [0.25, 0.75]]), ("no", "yes"))
    >>> y = Factor("y", ("m",), np.array([[1.0, 0.0], [0.0, 1.0]]), ("no", "yes"))
    >>> print(frontdoor(Network((t, m, y)), "t", "y", mediators=["m"]))
    front-door adjustment, t=yes minus t=no
      Σ_{m} P(m | t) (Σ_{t'} P(t') P(y | t', m))
             value    truth  difference
      no   -0.5000  -0.5000     +0.0000
      yes  +0.5000  +0.5000     +0.0000
      valid: every effect of t on y is through m, and nothing confounds m
    """
    exact = exact_source(source)
    names = _visible(exact, "mediators", mediators, treatment, outcome, hidden)
    valid, reason = frontdoor_criterion(exact.network.dag, treatment, outcome, names)
    inner = total((treatment,), product([Probability((treatment,)), Probability((outcome,), (treatment, *names))]))
    reached = Probability(names, (treatment,)) if names else Product(())
    estimand = total(names, product([reached, inner]))
    q = Query.of(exact, treatment, outcome, low, high, score=score)
    return compared(q, "front-door adjustment", names, estimand, valid=valid, reason=reason)


def adjustment_sets(
    source: Any, treatment: str, outcome: str, *, hidden: Sequence[str] = (), largest: int = 4
) -> tuple[tuple[str, ...], ...]:
    """Sets of observed sites that satisfy the back-door criterion, and of which no subset does.

    Args:
        source, treatment, outcome, hidden: see ``backdoor``.
        largest: all sets of at most that many sites are looked at. Where none of them is one, some larger set is
            looked for.

    Returns:
        Sets of sites in program order, small ones first; empty where there is none. ``((),)``: nothing confounds.

    >>> from sdscm_jax.effects.factors import Factor, Network
    >>> c = Factor("c", (), np.array([0.5, 0.5]), ("no", "yes"))
    >>> t = Factor("t", ("c",), np.array([[0.75, 0.25], [0.25, 0.75]]), ("no", "yes"))
    >>> y = Factor("y", ("c",), np.array([[0.75, 0.25], [0.25, 0.75]]), ("no", "yes"))
    >>> adjustment_sets(Network((c, t, y)), "t", "y"), adjustment_sets(Network((c, t, y)), "t", "y", hidden=["c"])
    ((('c',),), ())
    """
    import networkx as nx

    largest = count(largest, "largest", EffectError, least=0)
    exact = exact_source(source)
    check_roles(exact.names, treatment, outcome, hidden)
    graph = exact.network.dag
    back = without_effects(graph, {treatment})
    # No minimal separator has a member that is a cause of neither.
    causes = nx.ancestors(back, treatment) | nx.ancestors(back, outcome)
    candidates = causes - nx.descendants(graph, treatment) - {treatment, outcome, *hidden}
    ordered = [name for name in exact.names if name in candidates]
    found: list[tuple[str, ...]] = []
    for size in range(min(largest, len(ordered)) + 1):
        for names in itertools.combinations(ordered, size):
            if not any(set(less) <= set(names) for less in found) and nx.is_d_separator(
                back, {treatment}, {outcome}, set(names)
            ):
                found.append(names)
    if not found:
        larger = nx.find_minimal_d_separator(back, {treatment}, {outcome}, restricted=candidates)
        found = [] if larger is None else [tuple(name for name in ordered if name in larger)]
    return tuple(found)


def compared(
    q: Query, method: str, adjust: tuple[str, ...], estimand: Estimand, *, valid: bool, reason: str,
    others: Sequence[tuple[str, int]] = (),
) -> Adjustment:  # fmt: skip
    """The value of an estimand and the truth; ``others`` are values of sites that it mentions besides."""
    source = exact_source(q.source)
    numbers = scored(source, q.outcome, q.score)
    laws = [
        observational(source, estimand, q.outcome, {q.treatment: source.number(q.treatment, level), **dict(others)})
        for level in (q.low, q.high)
    ]
    value = laws[1] - laws[0]
    truth = ate(source, q.treatment, q.outcome, q.low, q.high, score=q.score).value
    contrast = f"{q.treatment}={q.high} minus {q.treatment}={q.low}"
    value = value if numbers is None else np.atleast_1d(value @ numbers)
    return Adjustment(method, adjust, contrast, text(estimand), q.labels, value, truth, valid, reason)


def exact_source(source: Any) -> Exact:
    """A source that has tables.

    Raises:
        EffectError: it has simulated units only, or is no source.
    """
    found = as_source(source)
    if not isinstance(found, Exact):
        raise EffectError(
            "the observational distribution is computed from the tables of a program, effects.exact(model, …), not "
            f"from {type(source).__name__}"
        )
    return found


def check_roles(names: Sequence[str], treatment: str, outcome: str, hidden: Sequence[str]) -> None:
    """Refuse sites that the model has not, and a treatment or an outcome that is hidden or the other one."""
    hidden = items(hidden, "hidden", EffectError, single=str)
    for name in (treatment, outcome, *hidden):
        one_of(name, names, "site", SiteError)
    if treatment == outcome:
        raise EffectError(f"treatment and outcome are both {outcome!r}")
    for name in (treatment, outcome):
        if name in hidden:
            raise EffectError(f"{name!r} is the treatment or the outcome, and hidden; take it out of hidden=")


def _visible(
    source: Exact, argument: str, names: str | Sequence[str], treatment: str, outcome: str, hidden: Sequence[str]
) -> tuple[str, ...]:
    """Sites that may be adjusted for, in program order."""
    check_roles(source.names, treatment, outcome, hidden)
    wanted = items(names, argument, EffectError, single=str)
    for name in wanted:
        source.options(name)
        if name in (treatment, outcome, *hidden):
            what = "hidden" if name in hidden else "the treatment" if name == treatment else "the outcome"
            raise EffectError(f"{argument}: {name!r} is {what}; take it out")
    return tuple(name for name in source.names if name in wanted)

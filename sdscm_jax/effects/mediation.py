"""Effects along paths: controlled, natural direct and indirect, and of any set of edges."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..checks import instance, items, mapping
from ..dsl.handlers.intervention import nested
from ..errors import EffectError, nearest
from .bounds import transport_bounds
from .counterfactual_graph import PathWorld, Target
from .effect import Effect
from .exact_source import Exact
from .query import Query
from .sampled_source import Sampled
from .source import Score, Source


def cde(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, mediators: Mapping[str, Any],
    score: Score = None, level: float = 0.95,
) -> Effect:  # fmt: skip
    """Controlled direct effect: ``E[Y | do(T = high, M = m)] - E[Y | do(T = low, M = m)]`` (Pearl 2001).

    Args:
        source, treatment, outcome, low, high, score, level: see ``ate``.
        mediators: site -> the option that it is set to in both worlds.

    Raises:
        EffectError: the treatment, the outcome or an exogenous site is among the mediators.
    """
    q = Query.of(source, treatment, outcome, low, high, score=score, level=level)
    for name in mapping(mediators, "mediators", EffectError):
        if name in (treatment, outcome) or q.source.exogenous(name):
            what = "exogenous" if q.source.exogenous(name) else "the treatment or the outcome"
            raise EffectError(f"{name!r} is {what}; it is no mediator")
    above, below = q.world(q.high, mediators), q.world(q.low, mediators)
    fixed = "".join(f", {name}={value}" for name, value in mediators.items())
    formula = f"P({outcome} | do({treatment}={q.high}{fixed})) - P({outcome} | do({treatment}={q.low}{fixed}))"
    return q.answer("CDE", formula, q.difference(above, below), [above], [below])


def nde(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *,
    mediators: Sequence[str] | None = None, score: Score = None, level: float = 0.95,
) -> Effect:  # fmt: skip
    """Natural direct effect: ``E[Y(high, M(low)) - Y(low)]`` (Pearl 2001, "Direct and indirect effects").

    Args:
        source, treatment, outcome, low, high, score, level: see ``ate``.
        mediators: sites that keep the value that they have under ``low``; None: all between treatment and outcome.

    Raises:
        EffectError: a mediator is on no path from the treatment to the outcome.
    """
    q = Query.of(source, treatment, outcome, low, high, score=score, level=level)
    return _natural(q, "NDE", q.high, q.low, mediators)


def nie(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *,
    mediators: Sequence[str] | None = None, score: Score = None, level: float = 0.95,
) -> Effect:  # fmt: skip
    """Natural indirect effect: ``E[Y(low, M(high)) - Y(low)]`` (Pearl 2001).

    The total effect is ``nde(low, high) - nie(high, low)``, not the sum of both. Arguments are those of ``nde``.
    """
    q = Query.of(source, treatment, outcome, low, high, score=score, level=level)
    return _natural(q, "NIE", q.low, q.high, mediators)


def path_effect(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *,
    edges: Iterable[tuple[str, str]], score: Score = None, level: float = 0.95,
) -> Effect:  # fmt: skip
    """Effect along the paths that some edges make: ``E[Y(edges feel high, others low) - Y(low)]``.

    Of Avin, Shpitser and Pearl (2005), "Identifiability of path-specific effects". Where a site is read both as
    it is with the treatment and as it is without (a recanting witness), the value depends on the coupling.

    Args:
        source, treatment, outcome, low, high, score, level: see ``ate``.
        edges: (parent, child) pairs of the causal graph.

    Raises:
        EffectError: there is no such edge, or the edges make no path from the treatment to the outcome.
    """
    import networkx as nx

    q = Query.of(source, treatment, outcome, low, high, score=score, level=level)
    pairs = [items(edge, "an edge", EffectError) for edge in items(_listed(edges), "edges", EffectError)]
    if not all(len(pair) == 2 and all(isinstance(end, str) for end in pair) for pair in pairs):
        raise EffectError(f"edges are pairs of sites, (parent, child), got {checks.told(edges)}")
    chosen = frozenset((parent, child) for parent, child in pairs)
    known = {(parent, name) for name in q.source.names for parent in q.source.parents(name)}
    for parent, child in sorted(chosen - known):
        hint = nearest(f"{parent} -> {child}", sorted(f"{a} -> {b}" for a, b in known))
        raise EffectError(f"the model has no edge {parent!r} -> {child!r}; {hint}")
    graph = nx.DiGraph(list(chosen))
    if not (graph.has_node(treatment) and graph.has_node(outcome) and nx.has_path(graph, treatment, outcome)):
        raise EffectError(f"the edges make no path from {treatment!r} to {outcome!r}")
    along = Target(outcome, PathWorld({treatment: q.low}, {treatment: q.high}, chosen))
    told = ", ".join(f"{a} -> {b}" for a, b in sorted(chosen))
    formula = f"P({outcome} where only {told} feel {treatment}={q.high}) - P({outcome} | do({treatment}={q.low}))"
    return _against(q, "path-specific effect", formula, along)


def _listed(edges: Any) -> Any:
    """A set of edges, or what networkx has of them, as a list."""
    scalar = isinstance(edges, str | Mapping) or getattr(edges, "ndim", 1) == 0
    return edges if scalar or not isinstance(edges, Collection) else list(edges)


def mediators_between(source: Source, treatment: str, outcome: str) -> tuple[str, ...]:
    """Sites on a directed path from treatment to outcome, in program order."""
    instance(source, (Exact, Sampled), "source", EffectError, " (effects.exact or effects.sampled)")
    source.options(outcome)
    above = {outcome}
    for name in reversed(source.names):
        if name in above:
            above.update(source.parents(name))
    return tuple(n for n in source.descendants(treatment) if n in above and n != outcome)


def _natural(q: Query, name: str, level: str, others: str, mediators: Sequence[str] | None) -> Effect:
    """The outcome under a level of the treatment with mediators as under another one, less that under ``low``."""
    between = mediators_between(q.source, q.treatment, q.outcome)
    names = between if mediators is None else items(mediators, "mediators", EffectError, single=str)
    for site in names:
        if site not in between:
            known = ", ".join(map(repr, between)) or "none"
            raise EffectError(
                f"mediator {checks.told(site)} is on no path from {q.treatment!r} to {q.outcome!r}; mediators are: "
                f"{known}"
            )
    target = q.world(level, {site: nested({q.treatment: others}) for site in names})
    told = ", ".join(names) or "no mediator"
    formula = (
        f"P({q.outcome}({q.treatment}={level}, {told} as under {others})) - P({q.outcome} | do({q.treatment}={q.low}))"
    )
    return _against(q, name, formula, target)


def _against(q: Query, name: str, formula: str, target: Target) -> Effect:
    """The law of the outcome in a world less that under ``low``, with bounds over couplings."""
    below, bounds = q.world(q.low), None
    estimate = q.difference(target, below)
    if q.coupling([target], [below]) is not None:
        bounds = transport_bounds(q.source, target, q.score)
        if bounds is not None:
            basis = q.law(below).value
            bounds = np.asarray(bounds[0] - basis), np.asarray(bounds[1] - basis)
    return q.answer(name, formula, estimate, [target], [below], bounds=bounds)

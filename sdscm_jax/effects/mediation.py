"""Effects along paths: controlled, natural direct and indirect, and of any set of edges."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..checks import instance, items, mapping
from ..dsl.intervention import nested
from ..errors import EffectError, nearest
from .bounds import transport_bounds
from .copies import PathWorld, Target
from .effect import Effect, effect, parse_level
from .exact_source import Exact
from .sampled_source import Sampled
from .source import (
    Score,
    Source,
    as_source,
    check_outcome,
    contrasted,
    difference,
    formula_of,
    law,
    outcome_labels,
    prepare,
    shared_noise,
    span,
)


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
    level = parse_level(level)
    source = as_source(source)
    low, high = contrasted(source, treatment, low, high)
    check_outcome(source, treatment, outcome)
    for name in mapping(mediators, "mediators", EffectError):
        if name in (treatment, outcome) or source.exogenous(name):
            what = "exogenous" if source.exogenous(name) else "the treatment or the outcome"
            raise EffectError(f"{name!r} is {what}; it is no mediator")
    worlds = [Target(outcome, {treatment: value, **mediators}) for value in (high, low)]
    prepare(source, worlds)
    found = difference(source, *worlds, score)
    fixed = "".join(f", {name}={value}" for name, value in mediators.items())
    formula = f"P({outcome} | do({treatment}={high}{fixed})) - P({outcome} | do({treatment}={low}{fixed}))"
    formula, labels = formula_of(source, outcome, formula, score), outcome_labels(source, outcome, score)
    coupling = shared_noise(source, *([world] for world in worlds))
    return effect("CDE", formula, labels, found, level, inside=span(source, outcome, score), coupling=coupling)


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
    return _natural("NDE", source, treatment, outcome, low, high, mediators, score, level)


def nie(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *,
    mediators: Sequence[str] | None = None, score: Score = None, level: float = 0.95,
) -> Effect:  # fmt: skip
    """Natural indirect effect: ``E[Y(low, M(high)) - Y(low)]`` (Pearl 2001).

    The total effect is ``nde(low, high) - nie(high, low)``, not the sum of both. Arguments are those of ``nde``.
    """
    return _natural("NIE", source, treatment, outcome, low, high, mediators, score, level)


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

    level = parse_level(level)
    source = as_source(source)
    low, high = contrasted(source, treatment, low, high)
    check_outcome(source, treatment, outcome)
    pairs = [items(edge, "an edge", EffectError) for edge in items(_listed(edges), "edges", EffectError)]
    if not all(len(pair) == 2 and all(isinstance(end, str) for end in pair) for pair in pairs):
        raise EffectError(f"edges are pairs of sites, (parent, child), got {checks.told(edges)}")
    chosen = frozenset((parent, child) for parent, child in pairs)
    known = {(parent, name) for name in source.names for parent in source.parents(name)}
    for parent, child in sorted(chosen - known):
        hint = nearest(f"{parent} -> {child}", sorted(f"{a} -> {b}" for a, b in known))
        raise EffectError(f"the model has no edge {parent!r} -> {child!r}; {hint}")
    graph = nx.DiGraph(list(chosen))
    if not (graph.has_node(treatment) and graph.has_node(outcome) and nx.has_path(graph, treatment, outcome)):
        raise EffectError(f"the edges make no path from {treatment!r} to {outcome!r}")
    along = Target(outcome, PathWorld({treatment: low}, {treatment: high}, chosen))
    told = ", ".join(f"{a} -> {b}" for a, b in sorted(chosen))
    formula = f"P({outcome} where only {told} feel {treatment}={high}) - P({outcome} | do({treatment}={low}))"
    return _against(source, "path-specific effect", formula, along, {treatment: low}, score, level)


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


def _natural(
    name: str, source: Any, treatment: str, outcome: str, low: Any, high: Any, mediators: Sequence[str] | None,
    score: Score, level: float,
) -> Effect:  # fmt: skip
    level = parse_level(level)
    source = as_source(source)
    low, high = contrasted(source, treatment, low, high)
    check_outcome(source, treatment, outcome)
    between = mediators_between(source, treatment, outcome)
    names = between if mediators is None else items(mediators, "mediators", EffectError, single=str)
    for site in names:
        if site not in between:
            found = ", ".join(map(repr, between)) or "none"
            raise EffectError(
                f"mediator {checks.told(site)} is on no path from {treatment!r} to {outcome!r}; mediators are: {found}"
            )
    own, others = (high, low) if name == "NDE" else (low, high)
    world = {treatment: own, **{site: nested({treatment: others}) for site in names}}
    told = ", ".join(names) or "no mediator"
    formula = f"P({outcome}({treatment}={own}, {told} as under {others})) - P({outcome} | do({treatment}={low}))"
    return _against(source, name, formula, Target(outcome, world), {treatment: low}, score, level)


def _against(
    source: Source, name: str, formula: str, target: Target, base: dict[str, Any], score: Score, level: float
) -> Effect:
    """The law of an outcome in a world less that in a base world."""
    below = Target(target.site, base)
    prepare(source, [target, below])
    found = difference(source, target, below, score)
    coupling, bounds = shared_noise(source, [target], [below]), None
    if coupling is not None:
        bounds = transport_bounds(source, target, score)
        if bounds is not None:
            basis = law(source, below, score)
            bounds = np.asarray(bounds[0] - basis.value), np.asarray(bounds[1] - basis.value)
    labels = outcome_labels(source, target.site, score)
    formula = formula_of(source, target.site, formula, score)
    inside = span(source, target.site, score)
    return effect(name, formula, labels, found, level, inside=inside, coupling=coupling, bounds=bounds)

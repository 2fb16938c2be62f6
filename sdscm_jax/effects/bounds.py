"""Bounds over couplings: what can be said of two worlds of one unit without knowing how they share noise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from .contraction import contract
from .counterfactual_graph import Target
from .exact_source import Exact
from .sampled_source import Sampled
from .source import Score, Source, scored

# Groups of units that bounds are computed in, and linear programs that are solved.
MOST_GROUPS = 1 << 18
MOST_PROGRAMS = 2000

Event = tuple[Target, Sequence[int]]


def event_bounds(
    source: Source, treatment: str, first: Event, second: Event, evidence: Sequence[tuple[Target, int]] = ()
) -> tuple[float, float]:
    """Bounds of ``P(first, second, evidence)`` that no coupling of the sites' noise goes beyond.

    Fréchet's bounds, in each group of units that are alike in what the treatment does not cause but what it causes
    reads (or, where these are too many or unknown, in the natural level of the treatment: the bounds of Tian and
    Pearl 2000, "Probabilities of causation"). They are the least and the largest value where nothing stands
    between treatment and outcome; with mediators they hold, but need not be reached.

    Args:
        source: where the laws come from.
        treatment: whose worlds are compared.
        first, second: a site in a world, and the option numbers that make the event.
        evidence: sites that the treatment does not cause, or the treatment itself, with their option numbers.
    """
    copies = source.copies()
    if copies.of(first[0]) == copies.of(second[0]):
        both = [k for k in first[1] if k in second[1]]
        value = float(source.joint([first[0]], evidence).value[both].sum())
        return value, value
    if isinstance(source, Sampled):
        by_unit = _of_units(source, first, second, evidence)
        if by_unit is not None:
            return by_unit
        groups = [treatment]
    else:
        groups = source.network.read_beside(treatment, first[0].site)
        if np.prod([len(source.options(name)) for name in groups], dtype=float) > MOST_GROUPS:
            groups = [treatment]
    known = {target.site for target, _ in evidence}
    by = [Target(name) for name in groups if name not in known]
    (a, whole), (b, _) = (_share(source, event, by, evidence) for event in (first, second))
    return float(np.maximum(a + b - whole, 0.0).sum()), float(np.minimum(a, b).sum())


def _share(
    source: Source, event: Event, by: list[Target], evidence: Sequence[tuple[Target, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """``P(event, group, evidence)`` and ``P(group, evidence)`` of each group."""
    target, numbers = event
    if isinstance(source, Exact) or not by:
        joint = source.joint([target, *by], evidence).value
    else:
        # Group by group, each unit's law of the event is averaged, as in the effect that the bounds are of.
        groups = itertools.product(*([(g, k) for k in range(len(source.options(g.site)))] for g in by))
        joint = np.stack([source.joint([target], [*evidence, *group]).value for group in groups], -1)
    return np.asarray(joint[list(numbers)].sum(0)), np.asarray(joint.sum(0))


def _of_units(
    source: Sampled, first: Event, second: Event, evidence: Sequence[tuple[Target, int]]
) -> tuple[float, float] | None:
    """The bounds from each unit's own laws, where only the outcome's noise is shared."""
    copies = source.copies()
    targets = [copies.of(first[0]), copies.of(second[0])]
    if any(len(versions) > 1 for site, versions in copies.responses(targets).items() if site != first[0].site):
        return None
    if any(target.site in source.descendants(first[0].site) for target, _ in evidence):
        return None
    a, b = (source.probabilities(target)[:, list(numbers)].sum(1) for target, numbers in (first, second))
    seen = source.seen(evidence)
    return float((seen * np.maximum(a + b - 1, 0)).mean()), float((seen * np.minimum(a, b)).mean())


def transport_bounds(source: Source, target: Target, score: Score) -> tuple[np.ndarray, np.ndarray] | None:
    """Least and largest law of an outcome over couplings, where one site has two versions (a recanting witness).

    In every context of the two versions, their joint law is any with the right margins: a transport problem.

    Returns:
        two float64 ``[K]`` (or scalars, with a score), each number bounded by itself; None where it is not known:
        units are simulated, several sites have two versions, or the linear programs are too many.
    """
    if not isinstance(source, Exact):
        return None
    copies = source.copies()
    wanted = copies.of(target)
    several = {site: v for site, v in copies.responses([wanted]).items() if len(v) > 1}
    if len(several) != 1 or any(len(versions) > 2 for versions in several.values()):
        return None
    ((site, (one, other)),) = several.items()
    tables = {v: source.given_constants(copies, v) for v in (one, other)}
    axes = list(dict.fromkeys(axis for _, own in tables.values() for axis in own))
    sizes = [len(source.options(copies.copies[axis].site)) for axis in axes]
    numbers = scored(source, target.site, score)
    outputs = len(source.options(target.site)) if numbers is None else 1
    if 2 * outputs * int(np.prod(sizes)) > MOST_PROGRAMS or wanted in (one, other):
        return None
    operands = source.operands(copies, [wanted], without=site)
    rest, _ = contract(operands, [*axes, one, other, wanted], source.limits)
    gain = rest if numbers is None else (rest @ numbers)[..., None]
    lower, upper = np.zeros(outputs), np.zeros(outputs)
    for context in itertools.product(*map(range, sizes)):
        value = dict(zip(axes, context, strict=True))
        p, q = (table[tuple(value[a] for a in own)] for table, own in (tables[one], tables[other]))
        for k in range(outputs):
            worth = gain[context][..., k]
            lower[k] += _transport(worth, p, q)
            upper[k] -= _transport(-worth, p, q)
    return (lower, upper) if numbers is None else (lower[0], upper[0])


def _transport(cost: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """Least mean of a cost ``[K, K]`` over the joint laws with margins p and q."""
    from scipy.optimize import linprog

    size = len(p)
    margins = np.concatenate([np.kron(np.eye(size), np.ones(size)), np.kron(np.ones(size), np.eye(size))])
    found = linprog(cost.ravel(), A_eq=margins[:-1], b_eq=np.concatenate([p, q])[:-1], method="highs")
    return float(found.fun)

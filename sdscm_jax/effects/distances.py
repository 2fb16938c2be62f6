"""Effects on a whole outcome distribution: how far the law under one level is from that under another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .effect import Effect, finished
from .estimate import Estimate, errors, unseen, unvaried
from .query import Query
from .source import Score, choice_options, scored


def total_variation(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, level: float = 0.95
) -> Effect:
    """Total variation between the outcome's laws: half the sum of the options' absolute effects, from 0 to 1.

    Where it is estimated, its interval is the estimate plus and minus the ``level`` quantile of the distance that
    sampling alone makes (it holds by the triangle inequality, also where the effect is 0; it is conservative), with
    errors of Student's t. nan where there is one unit.

    Args:
        source, treatment, outcome, low, high, level: see ``ate``.
    """
    q = Query.of(source, treatment, outcome, low, high, level=level)
    return _distance(q, "total variation", lambda x: 0.5 * np.abs(x).sum(-1), 1.0)


def wasserstein(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, score: Score = None,
    level: float = 0.95,
) -> Effect:  # fmt: skip
    """Wasserstein-1 distance between the outcome's laws: how far probability must move, along ordered options.

    Args:
        source, treatment, outcome, low, high, level: see ``ate``; the interval is as in ``total_variation``.
        score: where each option stands; None: options are in their order, one apart.
    """
    q = Query.of(source, treatment, outcome, low, high, level=level)
    numbers = scored(q.source, outcome, score)
    places = np.arange(len(q.options), dtype=float) if numbers is None else numbers
    order = np.argsort(places)
    gaps = np.diff(places[order])

    def distance(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(np.cumsum(x[..., order], -1)[..., :-1]) @ gaps)

    return _distance(q, "Wasserstein-1", distance, float(gaps.sum()))


def _distance(q: Query, name: str, distance: Callable[[np.ndarray], np.ndarray], most: float) -> Effect:
    """A distance of the outcome's laws, which is ``most`` at most; an outcome without options has none."""
    choice_options(q.source, q.outcome)
    above, below = q.world(q.high), q.world(q.low)
    estimate = q.difference(above, below)
    value = np.atleast_1d(distance(estimate.value))
    radius = _radius(estimate, distance, most, q.level)
    formula = f"between P({q.outcome} | do({q.treatment}={q.high})) and P({q.outcome} | do({q.treatment}={q.low}))"
    lower, upper = np.maximum(value - radius, 0.0), np.minimum(value + radius, most)
    coupling = q.coupling([above], [below])
    return finished(name, formula, [name], estimate, value, lower, upper, q.level, coupling)


def _radius(found: Estimate, distance: Callable[[np.ndarray], np.ndarray], most: float, level: float) -> float:
    """The distance that sampling alone makes with probability ``level`` at most; nan where one unit is all there is."""
    covariance, units = found.covariance, found.units_of_each
    if covariance is None or units is None:
        return 0.0
    count = float(units.min())
    if count <= 1:
        return float("nan")
    if found.settled_of_each.all() or not unvaried(np.diag(covariance), units, 1.0).all():
        return float(np.quantile(distance(errors(covariance, count)), level))
    # Two laws' difference moves by twice the share that was not seen, at most.
    return float(2 * most * unseen(count, level))

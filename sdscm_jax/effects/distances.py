"""Effects on a whole outcome distribution: how far the law under one level is from that under another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .copies import Target
from .effect import Effect, finished, parse_level
from .estimate import Estimate, errors, unseen, unvaried
from .source import (
    Score,
    as_source,
    check_outcome,
    choice_options,
    contrasted,
    difference,
    prepare,
    scored,
    shared_noise,
)


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
    return _distance(
        "total variation", source, treatment, outcome, low, high, lambda x: 0.5 * np.abs(x).sum(-1), 1.0, level
    )


def wasserstein(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, score: Score = None,
    level: float = 0.95,
) -> Effect:  # fmt: skip
    """Wasserstein-1 distance between the outcome's laws: how far probability must move, along ordered options.

    Args:
        source, treatment, outcome, low, high, level: see ``ate``; the interval is as in ``total_variation``.
        score: where each option stands; None: options are in their order, one apart.
    """
    level = parse_level(level)
    source = as_source(source)
    numbers = scored(source, outcome, score)
    places = np.arange(len(choice_options(source, outcome)), dtype=float) if numbers is None else numbers
    order = np.argsort(places)
    gaps = np.diff(places[order])

    def distance(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(np.cumsum(x[..., order], -1)[..., :-1]) @ gaps)

    return _distance("Wasserstein-1", source, treatment, outcome, low, high, distance, float(gaps.sum()), level)


def _distance(
    name: str, source: Any, treatment: str, outcome: str, low: Any, high: Any,
    distance: Callable[[np.ndarray], np.ndarray], most: float, level: float,
) -> Effect:  # fmt: skip
    level = parse_level(level)
    source = as_source(source)
    low, high = contrasted(source, treatment, low, high)
    check_outcome(source, treatment, outcome)
    choice_options(source, outcome)
    worlds = [Target(outcome, {treatment: value}) for value in (high, low)]
    prepare(source, worlds)
    found = difference(source, *worlds, None)
    value = np.atleast_1d(distance(found.value))
    radius = _radius(found, distance, most, level)
    formula = f"between P({outcome} | do({treatment}={high})) and P({outcome} | do({treatment}={low}))"
    lower, upper = np.maximum(value - radius, 0.0), np.minimum(value + radius, most)
    return finished(
        name, formula, [name], found, value, lower, upper, level, shared_noise(source, *([world] for world in worlds))
    )


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

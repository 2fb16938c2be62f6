"""Average effects: on everybody, on those who were treated, on groups; and between many levels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import items, mapping, real, told
from ..errors import EffectError
from .counterfactual_graph import Target
from .effect import Effect, parse_level
from .estimate import Estimate, errors, stack
from .query import Query
from .source import Score, as_source, check_outcome


def ate(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, score: Score = None,
    level: float = 0.95,
) -> Effect:  # fmt: skip
    """Average treatment effect: ``E[Y | do(T = high)] - E[Y | do(T = low)]``.

    Args:
        source: see ``as_source``.
        treatment, outcome: sites.
        low, high: options of the treatment; may be left out where it has two.
        score: numbers of the outcome's options, whose mean is then the outcome; None: the probability of each.
        level: confidence of the interval over units.

    Raises:
        EffectError, SiteError, InterventionError: something is not in the model, or was not simulated; or the level
            is not between 0 and 1.

    >>> import numpy as np
    >>> from sdscm_jax.effects.factors import Factor, Network
    >>> t = Factor("t", (), np.array([0.5, 0.5]), ("no", "yes"))
    >>> y = Factor("y", ("t",), np.array([[0.75, 0.25], [0.25, 0.75]]), ("no", "yes"))
    >>> print(ate(Network((t, y)), "t", "y"))
    ATE: P(y | do(t=yes)) - P(y | do(t=no))
      no   -0.5000
      yes  +0.5000
      exact, 4 operations planned
    """
    q = Query.of(source, treatment, outcome, low, high, score=score, level=level)
    above, below = q.world(q.high), q.world(q.low)
    formula = f"P({outcome} | do({treatment}={q.high})) - P({outcome} | do({treatment}={q.low}))"
    return q.answer("ATE", formula, q.difference(above, below), [above], [below])


def att(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, score: Score = None,
    level: float = 0.95,
) -> Effect:  # fmt: skip
    """Average effect on the treated: ``E[Y_high - Y_low | T = high]``, of units whose natural level is ``high``.

    Arguments and errors are those of ``ate``.
    """
    q = Query.of(source, treatment, outcome, low, high, score=score, level=level)
    above, below = q.world(q.high), q.world(q.low)
    formula = f"P({outcome}_{{{treatment}={q.high}}} | {treatment}={q.high}) - P({outcome}_{{{treatment}={q.low}}} | …)"
    return q.answer("ATT", formula, q.difference(above, below, q.natural(q.high)), [above], [below])


def cate(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, by: str | Sequence[str],
    score: Score = None, level: float = 0.95,
) -> Effect:  # fmt: skip
    """Average effect on each group of units that some covariates make.

    Args:
        source, treatment, outcome, low, high, score, level: see ``ate``.
        by: covariates: sites that the treatment does not cause.

    Returns:
        labels such as ``"age=25: wait"``; nan for a group that does not occur. Intervals are of the group's own units
        (``group_units``; a column ``units`` of ``to_pandas()``), and nan for a group of one.

    Raises:
        EffectError: a covariate is caused by the treatment, so that it differs between the worlds; or there is none.
    """
    q = Query.of(source, treatment, outcome, low, high, score=score, level=level)
    source = q.source
    names = items(by, "by=", EffectError, single=str)
    if not names:
        raise EffectError("by= names no covariate that could make groups; the effect on everybody is ate")
    for name in names:
        source.options(name)
        if name in (treatment, *source.descendants(treatment)):
            raise EffectError(
                f"{name!r} is caused by {treatment!r}, so it is no covariate: it differs between the worlds that "
                "are compared"
            )
        if not source.options(name):
            raise EffectError(f"covariate {name!r} has no options that could make groups")
    above, below = q.world(q.high), q.world(q.low)
    parts, labels = [], []
    for group in itertools.product(*(range(len(source.options(name))) for name in names)):
        evidence = [(Target(name), k) for name, k in zip(names, group, strict=True)]
        parts.append(q.difference(above, below, evidence))
        told = ", ".join(f"{name}={source.options(name)[k]}" for name, k in zip(names, group, strict=True))
        labels += [f"{told}: {label}" for label in q.labels]
    formula = (
        f"P({outcome} | do({treatment}={q.high}), {', '.join(names)}) - "
        f"P({outcome} | do({treatment}={q.low}), {', '.join(names)})"
    )
    return q.answer("CATE", formula, stack(parts), [above], [below], labels=labels)


def contrasts(
    source: Any, treatment: str, outcome: str, levels: Sequence[Any] | None = None, *,
    weights: Mapping[str, Mapping[Any, float]] | None = None, score: Score = None, level: float = 0.95,
) -> Effect:  # fmt: skip
    """Effects between many levels of a treatment, with simultaneous intervals.

    Args:
        source, treatment, outcome, score: see ``ate``.
        levels: options of the treatment; None: all. Each is compared with each before it.
        weights: contrasts of your own instead: name -> (level -> weight), weights that sum to 0.
        level: probability that all intervals hold together (that of the largest standardised error, of jointly
            normal ones).

    Raises:
        EffectError: weights of a contrast do not sum to 0, or there are fewer than two levels.
    """
    level = parse_level(level)
    source = as_source(source)
    check_outcome(source, treatment, outcome)
    options = source.options(treatment)
    chosen = list(
        options
        if levels is None
        else (options[source.number(treatment, value)] for value in items(levels, "levels", EffectError))
    )
    if weights is None:
        pairs = list(itertools.combinations(chosen, 2))
        weights = {f"{b} - {a}": {b: 1.0, a: -1.0} for a, b in pairs}
    else:
        for name, of in mapping(weights, "weights of contrasts", EffectError).items():
            if not isinstance(of, Mapping):
                raise EffectError(f"weights of contrast {name!r} are a mapping from levels to numbers, got {told(of)}")
        chosen = [
            o for o in options if any(o == options[source.number(treatment, v)] for w in weights.values() for v in w)
        ]
    if len(chosen) < 2:
        raise EffectError(f"contrasts of {treatment!r} need two levels or more, got {chosen}")
    q = Query.of(source, treatment, outcome, chosen[0], chosen[1], score=score, level=level)
    matrix = np.zeros((len(weights), len(chosen)))
    for row, (name, of) in enumerate(weights.items()):
        for value, weight in of.items():
            weight = real(weight, f"the weight of {value!r} in contrast {name!r}", EffectError)
            matrix[row, chosen.index(options[source.number(treatment, value)])] += weight
        if abs(matrix[row].sum()) > 1e-9:
            raise EffectError(f"the weights of contrast {name!r} sum to {matrix[row].sum():g}, not to 0")
    worlds = [q.world(value) for value in chosen]
    q.prepare(worlds)
    means = stack([q.law(world) for world in worlds])
    value = np.tensordot(matrix, means.value, 1)
    influence = None if means.influence is None else np.moveaxis(np.tensordot(means.influence, matrix, (1, 1)), -1, 1)
    copies = source.copies()
    alike = len({copies.of(world) for world in worlds}) == 1
    settled = np.array([alike or bool(np.all(means.settled | (row == 0))) for row in matrix])
    units = None if means.units is None else np.full(len(matrix), means.units.min())
    found = Estimate(value, influence, means.cost, units, settled)
    labels = [f"{name}: {label}" for name in weights for label in q.labels]
    width = q.inside
    # A contrast with weights that sum to 0 is at most half their absolute sum times the width of the outcome's range.
    reach = None if width is None else np.repeat(np.abs(matrix).sum(1) / 2 * width[1], value.size // len(matrix))
    return q.answer(
        "contrasts", f"contrasts of P({outcome} | do({treatment}=…))", found, *([world] for world in worlds),
        labels=labels, inside=None if reach is None else (-reach, reach), quantile=_simultaneous(found, level),
    )  # fmt: skip


def _simultaneous(estimate: Estimate, level: float) -> float | None:
    """The quantile of the largest of jointly t-distributed standardised errors."""
    covariance, units = estimate.covariance, estimate.units_of_each
    if covariance is None or units is None:
        return None
    scale = np.sqrt(np.diag(covariance))
    varies = scale > 0
    if not varies.any():
        return None
    correlation = covariance[np.ix_(varies, varies)] / np.outer(scale[varies], scale[varies])
    return float(np.quantile(np.abs(errors(correlation, units.min())).max(1), level))

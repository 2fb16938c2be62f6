"""Probabilities of causation: of necessity, of sufficiency, and of both; and the joint law of potential outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import mapping
from ..errors import EffectError
from .bounds import Event, event_bounds
from .counterfactual_graph import Target
from .effect import Effect
from .estimate import Estimate
from .query import Query
from .sampled_source import Sampled


def pns(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, option: Any, level: float = 0.95
) -> Effect:
    """Probability of necessity and sufficiency: ``P(Y_high = option, Y_low != option)`` (Pearl 1999).

    It depends on how worlds share noise; ``bounds`` are over all ways (Tian and Pearl 2000).

    Args:
        source, treatment, outcome, low, high, level: see ``ate``.
        option: the option of the outcome that makes the event.
    """
    q = Query.of(source, treatment, outcome, low, high, level=level)
    k, rest, y = _event(q, option)
    with_it, without = q.world(q.high), q.world(q.low)
    q.prepare([with_it, without])
    estimate = q.source.joint([with_it, without]).linear(lambda x: x[..., k, rest].sum(-1))
    formula = f"P({outcome}_{{{treatment}={q.high}}} = {y}, {outcome}_{{{treatment}={q.low}}} != {y})"
    return _effect(q, "PNS", formula, ["PNS"], estimate, [((with_it, [k]), (without, rest))])


def pn(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, option: Any, level: float = 0.95
) -> Effect:
    """Probability of necessity: ``P(Y_low != option | T = high, Y = option)``.

    Of units in which treatment and event occurred: would the event not have, without it? Arguments are those of
    ``pns``.
    """
    q = Query.of(source, treatment, outcome, low, high, level=level)
    k, rest, y = _event(q, option)
    factual, other, natural = Target(outcome), q.world(q.low), q.natural(q.high)
    q.prepare([factual, other])
    joint = q.source.joint([factual, other], natural)
    estimate = joint.linear(lambda x: x[..., k, rest].sum(-1)) / joint.linear(lambda x: x[..., k, :].sum(-1))
    scale = float(joint.value[k].sum())
    formula = f"P({outcome}_{{{treatment}={q.low}}} != {y} | {treatment} = {q.high}, {outcome} = {y})"
    return _effect(q, "PN", formula, ["PN"], estimate, [((factual, [k]), (other, rest))], natural, scale)


def ps(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, option: Any, level: float = 0.95
) -> Effect:
    """Probability of sufficiency: ``P(Y_high = option | T = low, Y != option)``.

    Of units in which neither treatment nor event occurred: would the event have, with it? Arguments are those of
    ``pns``.
    """
    q = Query.of(source, treatment, outcome, low, high, level=level)
    k, rest, y = _event(q, option)
    factual, other, natural = Target(outcome), q.world(q.high), q.natural(q.low)
    q.prepare([factual, other])
    joint = q.source.joint([factual, other], natural)
    estimate = joint.linear(lambda x: x[..., rest, k].sum(-1)) / joint.linear(lambda x: x[..., rest, :].sum((-2, -1)))
    scale = float(joint.value[rest].sum())
    formula = f"P({outcome}_{{{treatment}={q.high}}} = {y} | {treatment} = {q.low}, {outcome} != {y})"
    return _effect(q, "PS", formula, ["PS"], estimate, [((factual, rest), (other, [k]))], natural, scale)


def potential_outcomes(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *,
    evidence: Mapping[str, Any] | None = None, level: float = 0.95,
) -> Effect:  # fmt: skip
    """Joint law of the two potential outcomes, ``P(Y_low = a, Y_high = b | evidence)``: what is known of the ITE.

    Args:
        source, treatment, outcome, low, high, level: see ``ate``.
        evidence: factual values of sites that the treatment does not cause, or of the treatment.

    Returns:
        labels ``"a -> b"``; ``bounds`` of each cell over couplings.

    Raises:
        EffectError: evidence of what the treatment causes; abduct it, ``effects.sampled(…, evidence=…)``.
    """
    q = Query.of(source, treatment, outcome, low, high, level=level)
    options, given = q.options, []
    observed = {} if evidence is None else mapping(evidence, "evidence", EffectError)
    for name, value in observed.items():
        if name in q.source.descendants(treatment):
            raise EffectError(
                f"evidence on {name!r}, which {treatment!r} causes, tells of the noise; abduct it: "
                "effects.sampled(model, key, n, …, evidence=…, draws=…)"
            )
        given.append((Target(name), q.source.number(name, value)))
    worlds = [q.world(q.low), q.world(q.high)]
    q.prepare(worlds, given)
    joint = q.source.joint(worlds, given)
    total = joint.linear(lambda x: x.sum((-2, -1), keepdims=True))
    scale = float(total.value.ravel()[0])
    told = "".join(f", {name}={value}" for name, value in observed.items()).replace(", ", " | ", 1)
    formula = f"P({outcome}_{{{treatment}={q.low}}}, {outcome}_{{{treatment}={q.high}}}{told})"
    labels = [f"{a} -> {b}" for a in options for b in options]
    numbers = range(len(options))
    cells = [((worlds[0], [a]), (worlds[1], [b])) for a in numbers for b in numbers]
    return _effect(q, "potential outcomes", formula, labels, joint / total, cells, given, scale)


def _event(q: Query, option: Any) -> tuple[int, list[int], str]:
    """The number of the option that makes the event, those of all others, and its text."""
    options, k = q.options, q.source.number(q.outcome, option)
    return k, [i for i in range(len(options)) if i != k], options[k]


def _effect(
    q: Query, name: str, formula: str, labels: list[str], estimate: Estimate, cells: Sequence[tuple[Event, Event]],
    evidence: Sequence[tuple[Target, int]] = (), scale: float = 1.0,
) -> Effect:  # fmt: skip
    """Probabilities of pairs of events, each over ``scale``, with bounds over couplings."""
    worlds = [target for target, _ in cells[0]]
    # The law of what was observed of units below the treatment has a coupling in it already.
    below = isinstance(q.source, Sampled) and set(q.source.evidence) & set(q.source.descendants(q.treatment))
    bounds = None
    if q.coupling(worlds) is not None and not below:
        ends = np.array([event_bounds(q.source, q.treatment, *events, evidence) for events in cells])
        value = estimate.value
        bounds = (ends[:, 0] / scale, np.minimum(ends[:, 1] / scale, 1.0)) if scale > 0 else (value, value)
    return q.answer(name, formula, estimate, worlds, labels=labels, inside=(0.0, 1.0), bounds=bounds)

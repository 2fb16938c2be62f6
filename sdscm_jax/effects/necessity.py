"""Probabilities of causation: of necessity, of sufficiency, and of both; and the joint law of potential outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import mapping
from ..errors import EffectError
from .bounds import Event, event_bounds
from .copies import Target
from .effect import Effect, effect, parse_level
from .estimate import Estimate
from .sampled_source import Sampled
from .source import Source, as_source, check_outcome, choice_options, contrasted, prepare, shared_noise


def pns(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, option: Any, level: float = 0.95
) -> Effect:
    """Probability of necessity and sufficiency: ``P(Y_high = option, Y_low != option)`` (Pearl 1999).

    It depends on how worlds share noise; ``bounds`` are over all ways (Tian and Pearl 2000).

    Args:
        source, treatment, outcome, low, high, level: see ``ate``.
        option: the option of the outcome that makes the event.
    """
    level = parse_level(level)
    source, low, high, k, rest = _checked(source, treatment, outcome, low, high, option)
    with_it, without = (Target(outcome, {treatment: value}) for value in (high, low))
    prepare(source, [with_it, without])
    found = source.joint([with_it, without]).linear(lambda x: x[..., k, rest].sum(-1))
    y = source.options(outcome)[k]
    formula = f"P({outcome}_{{{treatment}={high}}} = {y}, {outcome}_{{{treatment}={low}}} != {y})"
    return _effect("PNS", formula, ["PNS"], found, level, source, treatment, [((with_it, [k]), (without, rest))])


def pn(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, option: Any, level: float = 0.95
) -> Effect:
    """Probability of necessity: ``P(Y_low != option | T = high, Y = option)``.

    Of units in which treatment and event occurred: would the event not have, without it? Arguments are those of
    ``pns``.
    """
    level = parse_level(level)
    source, low, high, k, rest = _checked(source, treatment, outcome, low, high, option)
    factual, other = Target(outcome), Target(outcome, {treatment: low})
    natural = [(Target(treatment), source.number(treatment, high))]
    prepare(source, [factual, other])
    joint = source.joint([factual, other], natural)
    found = joint.linear(lambda x: x[..., k, rest].sum(-1)) / joint.linear(lambda x: x[..., k, :].sum(-1))
    scale = float(joint.value[k].sum())
    y = source.options(outcome)[k]
    formula = f"P({outcome}_{{{treatment}={low}}} != {y} | {treatment} = {high}, {outcome} = {y})"
    events = (factual, [k]), (other, rest)
    return _effect("PN", formula, ["PN"], found, level, source, treatment, [events], natural, scale)


def ps(
    source: Any, treatment: str, outcome: str, low: Any = None, high: Any = None, *, option: Any, level: float = 0.95
) -> Effect:
    """Probability of sufficiency: ``P(Y_high = option | T = low, Y != option)``.

    Of units in which neither treatment nor event occurred: would the event have, with it? Arguments are those of
    ``pns``.
    """
    level = parse_level(level)
    source, low, high, k, rest = _checked(source, treatment, outcome, low, high, option)
    factual, other = Target(outcome), Target(outcome, {treatment: high})
    natural = [(Target(treatment), source.number(treatment, low))]
    prepare(source, [factual, other])
    joint = source.joint([factual, other], natural)
    found = joint.linear(lambda x: x[..., rest, k].sum(-1)) / joint.linear(lambda x: x[..., rest, :].sum((-2, -1)))
    scale = float(joint.value[rest].sum())
    y = source.options(outcome)[k]
    formula = f"P({outcome}_{{{treatment}={high}}} = {y} | {treatment} = {low}, {outcome} != {y})"
    events = (factual, rest), (other, [k])
    return _effect("PS", formula, ["PS"], found, level, source, treatment, [events], natural, scale)


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
    level = parse_level(level)
    source = as_source(source)
    low, high = contrasted(source, treatment, low, high)
    check_outcome(source, treatment, outcome)
    options = choice_options(source, outcome)
    given = []
    for name, value in ({} if evidence is None else mapping(evidence, "evidence", EffectError)).items():
        if name in source.descendants(treatment):
            raise EffectError(
                f"evidence on {name!r}, which {treatment!r} causes, tells of the noise; abduct it: "
                "effects.sampled(model, key, n, …, evidence=…, draws=…)"
            )
        given.append((Target(name), source.number(name, value)))
    worlds = [Target(outcome, {treatment: value}) for value in (low, high)]
    prepare(source, [*worlds, *(target for target, _ in given)])
    joint = source.joint(worlds, given)
    total = joint.linear(lambda x: x.sum((-2, -1), keepdims=True))
    found = joint / total
    scale = float(total.value.ravel()[0])
    told = "".join(
        f", {name}={value}"
        for name, value in ({} if evidence is None else mapping(evidence, "evidence", EffectError)).items()
    ).replace(", ", " | ", 1)
    formula = f"P({outcome}_{{{treatment}={low}}}, {outcome}_{{{treatment}={high}}}{told})"
    labels = [f"{a} -> {b}" for a in options for b in options]
    numbers = range(len(options))
    cells = [((worlds[0], [a]), (worlds[1], [b])) for a in numbers for b in numbers]
    return _effect("potential outcomes", formula, labels, found, level, source, treatment, cells, given, scale)


def _checked(
    source: Any, treatment: str, outcome: str, low: Any, high: Any, option: Any
) -> tuple[Source, str, str, int, list[int]]:
    source = as_source(source)
    low, high = contrasted(source, treatment, low, high)
    check_outcome(source, treatment, outcome)
    options, k = choice_options(source, outcome), source.number(outcome, option)
    return source, low, high, k, [i for i in range(len(options)) if i != k]


def _effect(
    name: str, formula: str, labels: list[str], found: Estimate, level: float, source: Source, treatment: str,
    cells: Sequence[tuple[Event, Event]], evidence: Sequence[tuple[Target, int]] = (), scale: float = 1.0,
) -> Effect:  # fmt: skip
    """Probabilities of pairs of events, each over ``scale``, with bounds over couplings."""
    coupling = shared_noise(source, [cells[0][0][0], cells[0][1][0]])
    # The law of what was observed of units below the treatment has a coupling in it already.
    below = isinstance(source, Sampled) and set(source.evidence) & set(source.descendants(treatment))
    bounds = None
    if coupling is not None and not below:
        ends = np.array([event_bounds(source, treatment, *events, evidence) for events in cells])
        bounds = (ends[:, 0] / scale, np.minimum(ends[:, 1] / scale, 1.0)) if scale > 0 else (found.value, found.value)
    return effect(name, formula, labels, found, level, inside=(0.0, 1.0), coupling=coupling, bounds=bounds)

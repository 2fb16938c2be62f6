"""Exact effects of units: what stands between treatment and outcome is summed over, not drawn."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from ..dsl.worlds.worlds import World
from ..engine.simulation import Simulation
from ..families import Family

# Worlds that are simulated to sum over mediators; more are not worth their tokens.
MOST_WORLDS = 512


def worlds_of(family: Family) -> list[World]:
    """Worlds whose log-probabilities are all that the exact effects need.

    The first two set the treatment alone, to its low and high arm; the others set mediators besides: the first,
    the first two, and so on, to every combination of options. Where that would be more than ``MOST_WORLDS``, the
    first two are all: exact effects are not to be had then, nor where a mediator is free text.

    >>> from sdscm_jax.families import family
    >>> worlds_of(family("oncology"))
    [{'PD-L1 level': 'low'}, {'PD-L1 level': 'high'}]
    >>> len(worlds_of(family("court")))
    26
    """
    assert family.treatment
    assert family.arms
    arms: list[World] = [{family.treatment: arm} for arm in family.arms]
    if any(family[name].written is not None for name in family.mediators):
        return arms
    found = list(arms)
    for count in range(1, len(family.mediators) + 1):
        names = family.mediators[:count]
        for arm in arms:
            for options in itertools.product(*(family[name].options for name in names)):
                found.append({**arm, **dict(zip(names, options, strict=True))})
                if len(found) > MOST_WORLDS:
                    return arms
    return found


def exact_probabilities(family: Family, data: Simulation, worlds: list[World]) -> np.ndarray | None:
    """``P(outcome = option | do(treatment = arm), what the treatment does not cause)``, by total probability.

    Args:
        family: with treatment, arms and outcome.
        data: a simulation whose worlds, after the factual one, are ``worlds``, with the log-probabilities of the
            mediators and of the outcome.
        worlds: as ``worlds_of`` gives them.

    Returns:
        float64 ``[n, 2, K]`` for the low and the high arm, or None where the worlds do not suffice.
    """
    if family.mediators and len(worlds) == 2:
        return None
    number = {_key(world): i + 1 for i, world in enumerate(worlds)}
    outcome, mediators = family.outcome, family.mediators
    assert family.treatment
    assert family.arms
    assert outcome
    found = []
    for arm in family.arms:
        total = np.zeros((len(data), len(family[outcome].options)))
        for options in itertools.product(*(range(len(family[name].options)) for name in mediators)):
            world: dict[str, str] = {family.treatment: arm}
            log_weight = np.zeros(len(data))
            for name, k in zip(mediators, options, strict=True):
                log_weight += data.log_probs[name][:, number[_key(world)], k]
                world[name] = family[name].options[k]
            total += np.exp(log_weight[:, None] + data.log_probs[outcome][:, number[_key(world)]].astype(np.float64))
        found.append(total)
    return np.stack(found, axis=1)


def _key(world: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(world.items()))

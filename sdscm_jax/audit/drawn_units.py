"""What one wording says where something is free text: nobody sums over all texts, so units are drawn."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import numpy as np

from ..dsl.handlers.intervention import nested
from ..dsl.worlds.worlds import World
from ..engine.plan import plan
from ..engine.simulate import simulate
from ..engine.simulation import Simulation
from ..models.language_model import LanguageModel
from .roles import Roles, roles_of
from .spec import AuditSpec
from .wordings import Wording


def worlds_of(roles: Roles, levels: tuple[str, ...]) -> list[World]:
    """Worlds of a program that ``measure`` needs: every level, and every level with mediators as under the first.

    Args:
        roles: what is asked.
        levels: phrases of the attribute's levels, the reference first.
    """
    base = {roles.attribute: levels[0]}
    found: list[World] = [{roles.attribute: level} for level in levels]
    for held in dict.fromkeys(names for names in (roles.mediators, roles.legitimate) if names):
        found += [{roles.attribute: level, **{name: nested(base) for name in held}} for level in levels[1:]]
    return found


def units_of(
    spec: AuditSpec, lm: LanguageModel, wording: Wording, scoring: str, draws: int, seed: int, memory: int | None
) -> Simulation:
    """Units of a wording's program, each in all worlds with the same noise: its texts are in ``values``.

    The noise of a wording is its own. If two had the same, their numbers would not be independent, which repetitions
    of an audit are.
    """
    member, roles = wording.member(spec, scoring), roles_of(spec)
    levels = tuple(wording.phrases[level] for level in spec.levels)
    key = jax.random.fold_in(jax.random.key(seed), _number(wording))
    worlds = worlds_of(roles, levels)
    return simulate(
        member, key, draws, lm, worlds=worlds, logp=[roles.outcome], memory=memory, execution="staged", progress=False
    )


def drawn_tokens(spec: AuditSpec, lm: LanguageModel, wording: Wording, scoring: str, draws: int) -> int:
    """How many tokens ``units_of`` takes, at most."""
    levels = tuple(wording.phrases[level] for level in spec.levels)
    worlds = worlds_of(roles_of(spec), levels)
    return plan(wording.member(spec, scoring), draws, lm, worlds=worlds, measure=False).tokens


def greatest_probabilities(units: Simulation, site: str) -> np.ndarray:
    """The greatest probability of each option of a site, over units and worlds, float64 ``[K]``."""
    return np.exp(units.log_probs[site].astype(np.float64)).reshape(-1, units.log_probs[site].shape[-1]).max(0)


def _number(wording: Wording) -> int:
    """A number of 31 bits of what a wording says, whatever it is called."""
    content: Any = [wording.proxy.name, wording.templates, wording.phrases, wording.options]
    return int.from_bytes(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()[:4], "big") >> 1

"""Counterfactual pairs of texts, for people to read: one unit at every level of the attribute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from ..dsl.phrase import Phrase
from ..dsl.site import sample
from ..dsl.tabulate import Scorer, tabulate
from ..dsl.text import Text
from ..engine.simulate import simulate
from ..engine.simulation import Simulation
from ..families import Member
from ..models.language_model import LanguageModel
from .result import Pair
from .spec import AuditSpec
from .wordings import Wording

# Units among which examples are looked for, and the site of the free text.
UNITS = 200
NOTE = "free text"


@dataclass(frozen=True)
class _WithNote:
    """A member whose language model writes a free text after all its sentences."""

    member: Member
    spec: AuditSpec

    def __call__(self, lm: LanguageModel) -> Phrase:
        text = self.spec.text
        assert text is not None
        given = list(self.member.phrases(lm).values())
        note = Text(lm, text.template, given=given, max_tokens=text.max_tokens, pattern=text.pattern)
        return sample(NOTE, note)


def example_pairs(
    spec: AuditSpec, name: str, lm: LanguageModel, wording: Wording, scoring: str, scorer: Scorer, count: int, seed: int
) -> list[Pair]:
    """Units with their texts at every level of the attribute, the same noise in each.

    Units whose outcome is not the same at all levels come first: they are what the effect is about. They are no
    typical units.

    Args:
        spec, name, lm, wording, scoring, scorer: see ``cells.measured``.
        count: number of units.
        seed: of the units.
    """
    member = wording.member(spec, scoring)
    worlds = [{spec.attribute: wording.phrases[level]} for level in spec.levels]
    data = simulate(tabulate(member, lm, scorer=scorer), seed, UNITS, worlds=worlds)
    outcomes = data.values[spec.outcome][:, 1:]
    differs = (outcomes != outcomes[:, :1]).any(1)
    units = np.concatenate([np.flatnonzero(differs), np.flatnonzero(~differs)])[:count]
    notes = _notes(spec, member, lm, data, units, seed)
    # In the specification's words, whatever the wording's.
    options = spec.variable(spec.outcome).options
    return [
        Pair(
            name,
            wording.proxy.name,
            int(unit),
            spec.levels,
            tuple(data.text(int(unit), w) for w in range(1, len(data.worlds))),
            tuple(options[k] for k in outcomes[unit]),
            notes[i],
        )
        for i, unit in enumerate(units)
    ]


def _notes(
    spec: AuditSpec, member: Member, lm: LanguageModel, data: Simulation, units: np.ndarray, seed: int
) -> list[tuple[str, ...]]:
    """Free text of each unit at every level, from the same noise."""
    if spec.text is None:
        return [("",) * len(spec.levels)] * len(units)
    model: Callable = _WithNote(member, spec)
    texts = []
    for world in range(1, len(data.worlds)):
        # Every sentence is set to what it is; one value for each unit, so that all worlds are one compiled program.
        values = {v: array[units, world] for v, array in data.values.items()}
        run = simulate(model, jax.random.key(seed), len(units), lm, do=values, logp=())
        texts.append(run.to_pandas(logp=False)[NOTE].tolist())
    return list(zip(*texts, strict=True))

"""Counterfactual pairs of texts, for people to read: one unit at every level of the attribute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from ..dsl.language.phrase import Phrase
from ..dsl.language.site import sample
from ..dsl.language.text import Text
from ..dsl.language.text_phrase import TextPhrase
from ..dsl.tables.tabulate import tabulate
from ..engine.simulate import simulate
from ..engine.simulation import Simulation
from ..engine.tabulation import TrieScorer
from ..families import Member
from ..models.language_model import LanguageModel
from .keeper import Keeper
from .result import FreeTexts, Pair
from .spec import AuditSpec
from .wording_effects import content_of
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


def examples_of(
    drawn: Sequence[Wording], rows: Sequence[Mapping[str, Any]], name: str, spec: AuditSpec, count: int
) -> list[Wording]:
    """Wordings of every proxy that examples come from: those whose total effects are nearest to the proxy's.

    Args:
        drawn: all wordings.
        rows: what they said, as in ``AuditResult.cells``, with ``scoring``.
        name: of the language model.
        spec: the audit.
        count: of wordings.
    """
    found: list[Wording] = []
    for proxy in spec.proxies:
        own = [w for w in drawn if w.proxy == proxy]
        totals: dict[tuple[int, int], list[float]] = {(w.wording, w.option_wording): [] for w in own}
        for row in rows:
            if row["lm"] == name and row["proxy"] == proxy.name and row["scoring"] == spec.scorings[0]:
                totals[row["wording"], row["option_wording"]].append(row["total"])
        effects = np.array([totals[w.wording, w.option_wording] for w in own])
        far = np.abs(effects - effects.mean(0)).sum(1)
        found += [own[i] for i in np.argsort(far, kind="stable")[:count]]
    return found


def example_pairs(
    spec: AuditSpec, name: str, lm: LanguageModel, wording: Wording, scoring: str, scorer: TrieScorer, seed: int,
    keeper: Keeper, count: int = 1,
) -> tuple[list[Pair], int]:  # fmt: skip
    """Units with their texts at every level of the attribute, the same noise in each.

    Units whose outcome is not the same at all levels come first: they are what the effect is about. They are no
    typical units. Of these, those come first whose outcome changes in the way in which it changes more often.

    Args:
        spec, name, lm, wording, scoring, scorer, keeper: see ``cells.measured``.
        seed: of the units.
        count: number of units.

    Returns:
        the pairs, and how many tokens the sentences took (without the free text).
    """

    def compute() -> dict[str, Any]:
        scorer.forget()
        before = scorer.counts(lm).tokens
        rows = _found(spec, lm, wording, scoring, scorer, count, seed)
        return {"rows": rows, "tokens": scorer.counts(lm).tokens - before}

    def fits(found: Any) -> bool:
        lengths = [[len(texts) for texts in row[1:]] for row in found["rows"]]
        expected = [[len(spec.levels)] * (3 + 2 * len(spec.written))] * min(count, UNITS)
        return lengths == expected and type(found["tokens"]) is int

    text = None if spec.text is None else asdict(spec.text)
    asked = {
        "pairs": count, "first": "most frequent change", "of": UNITS, "seed": seed, "scoring": scoring, "text": text,
        **content_of(spec, wording),
    }  # fmt: skip
    kept = keeper(asked, fits, compute)
    # In the specification's words, whatever the wording's.
    options = spec.variable(spec.outcome).options
    pairs = [
        Pair(
            name,
            wording.proxy.name,
            unit,
            spec.levels,
            tuple(texts),
            tuple(options[k] for k in outcomes),
            tuple(notes),
            wording.wording,
            tuple(
                FreeTexts(variable, tuple(said), tuple(parts))
                for variable, said, parts in zip(spec.written, written[::2], written[1::2], strict=True)
            ),
        )
        for unit, texts, outcomes, notes, *written in kept["rows"]
    ]
    return pairs, kept["tokens"]


def _found(
    spec: AuditSpec, lm: LanguageModel, wording: Wording, scoring: str, scorer: TrieScorer, count: int, seed: int
) -> list[list[Any]]:
    """Units, each with its texts, numbers of outcomes and notes at every level, as JSON values."""
    member = wording.member(spec, scoring)
    worlds = [{spec.attribute: wording.phrases[level]} for level in spec.levels]
    if spec.written:
        data = simulate(member, seed, UNITS, lm, worlds=worlds, memory=scorer.memory, logp=(), progress=False)
    else:
        data = simulate(tabulate(member, lm, scorer=scorer), seed, UNITS, worlds=worlds)
    outcomes = data.values[spec.outcome][:, 1:]
    differs = (outcomes != outcomes[:, :1]).any(1)
    # The more units have the same outcomes, the earlier.
    _, alike, numbers = np.unique(outcomes, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((np.arange(UNITS), -numbers[alike.ravel()], ~differs))
    units = order[:count]
    notes = _notes(spec, member, lm, data, units, seed)
    return [
        [
            int(unit), [data.text(int(unit), w) for w in range(1, len(data.worlds))], outcomes[unit].tolist(),
            list(notes[i]), *(part for name in spec.written for part in _free_texts(data, name, int(unit))),
        ]
        for i, unit in enumerate(units)
    ]  # fmt: skip


def _free_texts(data: Simulation, name: str, unit: int) -> tuple[list[str], list[int]]:
    """What a unit's free text says in every world but the factual one, and where each parts from the first."""
    tokens, phrase = data.values[name][unit, 1:], data.graph[name].phrase
    assert isinstance(phrase, TextPhrase)
    said = phrase.at(tokens)
    return np.ravel(said.text).tolist(), np.asarray(said.first_difference(phrase.at(tokens[:1]))).tolist()


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

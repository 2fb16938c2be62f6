"""What single wordings say of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from ..dsl.tables.tabulate import Scorer, tabulate
from ..effects.factors import Network, network
from ..effects.sampled_source import Sampled, of_simulation
from ..engine.tabulation import TrieScorer
from ..models.language_model import LanguageModel
from .drawn_units import greatest_probabilities, units_of
from .fits_model import check_options
from .keeper import Keeper
from .measure import BOUNDS, EFFECTS, compared_couplings, measure, measure_couplings
from .roles import roles_of
from .spec import AuditSpec
from .wordings import Wording


def _numbers() -> tuple[str, ...]:
    """What is measured in every wording."""
    ends = "lower_bound", "upper_bound"
    return "p_reference", "p_level", *EFFECTS, "sd_unit", *BOUNDS, *compared_couplings(), *ends


def measured(
    spec: AuditSpec, name: str, lm: LanguageModel, wording: Wording, scorings: Sequence[str], scorer: TrieScorer,
    keeper: Keeper, draws: int = 1, seed: int = 0,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Effects of every level in one wording, one row for each and for each scoring.

    Args:
        spec: the audit.
        name: of the language model, for messages.
        lm: the language model.
        wording: how it is asked.
        scorings: of every choice.
        scorer: asks it. It begins anew, so that the numbers do not depend on what was asked before.
        keeper: of what the language model answered.
        draws, seed: of units, where something that bears on the outcome is free text.

    Returns:
        rows as in ``AuditResult.cells``, with ``scoring`` and the shares of ``measure_couplings``; without ``lm``.
        And how many tokens they took, be it now or when they were kept.

    Raises:
        ResumeError: what was kept is damaged.
    """
    names = _numbers()
    places = [(scoring, level) for scoring in scorings for level in spec.levels[1:]]

    options = wording.options.get(spec.outcome, spec.variable(spec.outcome).options)

    def program(scoring: str) -> tuple[Network | Sampled, int]:
        """Tables or units, and what they took."""
        if spec.written:
            units = units_of(spec, lm, wording, scoring, draws, seed, scorer.memory)
            check_options(spec, name, options, greatest_probabilities(units, spec.outcome))
            return of_simulation(units), int(units.stats["tokens"])
        before = scorer.counts(lm).tokens
        tables = tables_of(spec, lm, wording, scoring, scorer)
        table = tables[spec.outcome].table
        check_options(spec, name, options, table.reshape(-1, table.shape[-1]).max(0))
        return tables, scorer.counts(lm).tokens - before

    def compute() -> dict[str, Any]:
        scorer.forget()
        rows, tokens, roles = [], 0, roles_of(spec)
        for scoring in scorings:
            found, took = program(scoring)
            tokens += took
            for number in range(1, len(spec.levels)):
                told = {**measure(found, roles, number), **measure_couplings(found, roles, number)}
                rows.append([told[name] for name in names])
        return {"rows": rows, "tokens": tokens}

    def fits(found: Any) -> bool:
        return [len(row) for row in found["rows"]] == [len(names)] * len(places) and type(found["tokens"]) is int

    asked = {"cell": list(names), "scorings": list(scorings), **content_of(spec, wording)}
    if spec.written:
        asked |= {"draws": draws, "seed": seed}
    kept = keeper(asked, fits, compute)
    # What a wording is called is no part of what was asked: it has another number in another audit.
    rows = [
        {
            "proxy": wording.proxy.name, "level": level, "wording": wording.wording,
            "option_wording": wording.option_wording, "repetition": wording.repetition,
            "templates": wording.templates, "phrases": (wording.phrases[spec.levels[0]], wording.phrases[level]),
            "scoring": scoring,
            **dict(zip(names, map(float, numbers), strict=True)),
        }
        for (scoring, level), numbers in zip(places, kept["rows"], strict=True)
    ]  # fmt: skip
    return rows, kept["tokens"]


def tables_of(spec: AuditSpec, lm: LanguageModel, wording: Wording, scoring: str, scorer: Scorer) -> Network:
    """The program of a wording as tables."""
    return network(tabulate(wording.member(spec, scoring), lm, scorer=scorer))


def content_of(spec: AuditSpec, wording: Wording) -> dict[str, Any]:
    """All that a wording's program is, and what is asked of it, as JSON values.

    Every field of a variable is there, whatever fields it has: of its templates, the one that is used.
    """
    family = spec.family(wording.proxy, wording.phrases, wording.options)
    variables = [
        asdict(replace(v, templates=(v.templates[t],)))
        for v, t in zip(family.variables, wording.templates, strict=True)
    ]
    return {"program": variables, "levels": list(spec.levels), "roles": asdict(roles_of(spec))}

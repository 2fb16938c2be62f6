"""What single wordings say of a language model, kept so that a killed audit goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..dsl.tabulate import Scorer, tabulate
from ..effects.factors import Network, network
from ..engine.tabulation import TrieScorer
from ..models.language_model import LanguageModel
from .fit import check_options
from .measure import measure, measure_couplings
from .roles import roles_of
from .spec import AuditSpec
from .wordings import Wording

# Part of every cell's name: what is measured has another one when it is measured otherwise.
_VERSION = 1


def measured(
    spec: AuditSpec, name: str, lm: LanguageModel, wording: Wording, scorings: Sequence[str], scorer: TrieScorer,
    directory: Path | None, fingerprint: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """Effects of every level in one wording, one row for each and for each scoring.

    Args:
        spec: the audit.
        name: of the language model, for messages.
        lm: the language model.
        wording: how it is asked.
        scorings: of every choice.
        scorer: asks it. It begins anew, so that the numbers do not depend on what was asked before.
        directory: where finished cells are, or None.
        fingerprint: of the language model.

    Returns:
        rows as in ``AuditResult.cells``, with ``scoring`` and the shares of ``measure_couplings``; without ``lm``.
    """

    def compute() -> list[dict[str, Any]]:
        scorer.forget()
        rows = []
        for scoring in scorings:
            tables = tables_of(spec, lm, wording, scoring, scorer)
            check_options(spec, name, tables)
            roles = roles_of(spec)
            for number, level in enumerate(spec.levels[1:], start=1):
                found = {**measure(tables, roles, number), **measure_couplings(tables, roles, number)}
                rows.append({
                    "proxy": wording.proxy.name, "level": level, "wording": wording.wording,
                    "option_wording": wording.option_wording, "templates": list(wording.templates),
                    "scoring": scoring, **found,
                })  # fmt: skip
        return rows

    if directory is None:
        return compute()
    return _kept(directory / f"{_identity(spec, wording, scorings, fingerprint)}.json", compute)


def tables_of(spec: AuditSpec, lm: LanguageModel, wording: Wording, scoring: str, scorer: Scorer) -> Network:
    """The program of a wording as tables."""
    return network(tabulate(wording.member(spec, scoring), lm, scorer=scorer))


def _identity(spec: AuditSpec, wording: Wording, scorings: Sequence[str], fingerprint: str) -> str:
    """A name for all that a cell depends on."""
    family = spec.family(wording.proxy, wording.phrases, wording.options)
    sentences: Sequence[Any] = [
        [v.name, str(v.templates[t]), list(v.options), list(v.parents)]
        for v, t in zip(family.variables, wording.templates, strict=True)
    ]
    roles = roles_of(spec)
    parts = [
        _VERSION, fingerprint, list(scorings), sentences, list(spec.levels), roles.outcome, roles.option,
        list(roles.mediators), list(roles.legitimate), wording.wording, wording.option_wording, wording.proxy.name,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _kept(path: Path, compute: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows from a file, which is written whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps(compute()), encoding="utf-8")
        os.replace(partial, path)
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found

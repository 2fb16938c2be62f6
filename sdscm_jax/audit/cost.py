"""``audit_cost``: what an audit takes of each language model, before it is asked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import checks
from ..dsl.language.choice import Choice
from ..engine.tabulation import CountingScorer, TrieScorer
from ..errors import AuditError
from ..models.language_model import LanguageModel
from ..vignettes import Vignette
from .drawn_units import drawn_tokens
from .fits_model import check_context
from .loaded import loaded_lms
from .spec import AuditSpec, audit_spec
from .wording_effects import tables_of
from .wordings import Wording, draw_wordings

# Wordings of each proxy whose tokens are counted; the others have about as many.
COUNTED = 2
# Tokens that are timed, about.
TIMED = 1024


def audit_cost(
    spec: AuditSpec | str | Path,
    lms: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    wordings: int = 16,
    option_wordings: int = 2,
    seed: int = 0,
    truth: Vignette | None = None,
    memory: int | None = None,
    measure: bool = True,
    draws: int = 100,
) -> pd.DataFrame:
    """How many tokens an audit takes of each language model, and about how long.

    Args:
        spec, lms, wordings, option_wordings, seed, truth, memory, draws: see ``audit``.
        measure: time some thousand tokens on each language model, for ``seconds``.

    Returns:
        one row for each language model: ``lm``; ``cells`` (wordings that are asked); ``tokens`` (about: two wordings of
        each proxy are counted); ``seconds`` on this machine, if it does nothing else, without compilation, free texts
        and reports (nan where it was not measured).

    Raises:
        AuditError, LoadError: as ``audit``.

    >>> found = audit_cost("hiring", wordings=2, option_wordings=1, measure=False)
    >>> found["lm"].tolist(), int(found["cells"].iloc[0]), bool(found["tokens"].iloc[0] > 1000)
    (['embedded'], 2, True)
    """
    wordings = checks.count(wordings, "wordings", AuditError, least=2)
    option_wordings = checks.count(option_wordings, "option_wordings", AuditError)
    seed, measure = checks.seed(seed, error=AuditError), checks.flag(measure, "measure")
    memory = None if memory is None else checks.count(memory, "memory, a number of bytes,", AuditError)
    draws = checks.count(draws, "draws", AuditError, least=2)
    spec = spec if isinstance(spec, AuditSpec) else audit_spec(spec)
    spec = spec if truth is None else spec.known_to(checks.instance(truth, Vignette, "truth", AuditError))
    drawn = draw_wordings(spec, wordings, option_wordings, seed)
    rows = []
    for name, (_, lm) in loaded_lms(spec, lms).items():
        check_context(spec, name, lm)
        tokens = _tokens(spec, lm, drawn, memory, draws)
        seconds = tokens * _seconds_per_token(_told(spec), lm, drawn[0], memory) if measure else float("nan")
        rows.append({"lm": name, "cells": len(drawn), "tokens": tokens, "seconds": seconds})
    return pd.DataFrame(rows)


def _told(spec: AuditSpec) -> AuditSpec:
    """The audit with something told in place of each free text: a token takes as long to read as to write."""
    if not spec.written:
        return spec
    stand_in = [v if v.written is None else replace(v, options=("...",), written=None) for v in spec.variables]
    return replace(spec, variables=tuple(stand_in))


def _tokens(
    spec: AuditSpec, lm: LanguageModel, drawn: Sequence[Wording], memory: int | None, draws: int
) -> int:  # fmt: skip
    if spec.written:
        first = {wording.proxy.name: wording for wording in reversed(drawn)}
        each = {
            name: sum(drawn_tokens(spec, lm, wording, scoring, draws) for scoring in spec.scorings)
            for name, wording in first.items()
        }
        return sum(each[wording.proxy.name] for wording in drawn)
    scorer, total = CountingScorer(memory=memory), 0.0
    for proxy in spec.proxies:
        of_proxy = [wording for wording in drawn if wording.proxy.name == proxy.name]
        counted = of_proxy[:COUNTED]
        before = scorer.counts(lm).tokens
        for wording in counted:
            scorer.forget()
            for scoring in spec.scorings:
                tables_of(spec, lm, wording, scoring, scorer)
        total += (scorer.counts(lm).tokens - before) / len(counted) * len(of_proxy)
    return round(total)


class _Timed(TrieScorer):
    """Asks until enough tokens were timed; of the rest every option is as likely as another."""

    def __call__(self, choice: Choice, indices: np.ndarray) -> np.ndarray:
        if not choice.scoring.asks_lm:
            return super().__call__(choice, indices)
        left = TIMED - self.counts(choice.lm).tokens
        rows = 0 if left <= 0 else 1 + left // max(1, choice.question.own)
        found = np.zeros((len(indices), len(choice.options)), np.float32)
        if rows:
            found[:rows] = super().__call__(choice, indices[:rows])
        return found


def _seconds_per_token(spec: AuditSpec, lm: LanguageModel, wording: Wording, memory: int | None) -> float:
    """Of the second of two runs: in the first it compiles."""
    for _ in range(2):
        scorer = _Timed(memory=memory)
        started, before = time.perf_counter(), CountingScorer(memory=memory)
        tables_of(spec, lm, wording, spec.scorings[0], before)
        # What the host does besides is a part of both.
        host, started = time.perf_counter() - started, time.perf_counter()
        tables_of(spec, lm, wording, spec.scorings[0], scorer)
        passed = time.perf_counter() - started
        total, timed = before.counts(lm).tokens, scorer.counts(lm).tokens
    if not timed:
        return 0.0
    return max(passed - host, 0.0) / timed + host / max(1, total)

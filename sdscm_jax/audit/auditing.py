"""``audit``: which effect has an attribute on an outcome, according to language models?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from .. import checks
from ..durable import make_directory, refuse_others, writing
from ..engine.progress import progress_bar
from ..engine.subject import warn_of_foreign_subject
from ..engine.tabulation import TrieScorer
from ..errors import AuditError
from ..vignettes import Vignette
from .fits_model import check_context
from .infer import couplings_table, differences_table, effects_table, scorings_table, variance_table
from .keeper import Keeper
from .loaded import loaded_lms
from .measure import BOUNDS, compared_couplings
from .pairs import example_pairs, examples_of
from .prompts import asked_table, chats_table
from .result import AuditResult, Pair
from .spec import AuditSpec, audit_spec
from .truth import truth_of
from .wording_effects import measured
from .wordings import design_table, draw_wordings

CELLS = "cells"
_VERSIONS = ("sdscm-jax", "jax", "numpyro", "numpy")


def audit(
    spec: AuditSpec | str | Path,
    lms: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    wordings: int = 16,
    option_wordings: int = 2,
    seed: int = 0,
    level: float = 0.95,
    rate: float = 0.05,
    margin: float = 0.005,
    pairs: int = 3,
    draws: int = 100,
    out: str | Path | None = None,
    truth: Vignette | None = None,
    memory: int | None = None,
    progress: bool | None = None,
) -> AuditResult:
    """Audit language models for an effect.

    For every proxy, wordings are drawn; in each, the language model is asked once in every context that may occur,
    and effects are exact sums over these answers. Intervals are over names and wordings, since these are what is
    sampled: these are divided into repetitions of the audit that share nothing that was drawn (see ``AuditResult``).

    Args:
        spec: a specification, the name of one of ``AUDITS``, or a YAML file.
        lms: sources for ``load_lm`` or language models; or name -> one of these. None: those of the specification,
            or the embedded one.
        wordings: choices of templates for each proxy, 2 or more; at most so many are asked.
        option_wordings: choices of phrases and option texts within each, as many at most.
        seed: of wordings and of example units.
        level: confidence of intervals.
        rate: false discovery rate over all effects of the audit, and over all differences between language models.
        margin: change of a probability that is too small to matter: a discovery is farther from 0. With 0, whatever a
            language model has learned imperfectly is discovered, since its own effects are measured without noise.
        pairs: example units for each language model and proxy.
        draws: units for each wording, where a variable is free text: nobody sums over all texts, so effects are means
            over this many units, whose noise is the same at all levels. More make each wording surer.
        out: a directory that keeps what single wordings said; a killed audit goes on there, and one of more wordings
            or language models pays for what is new. Finished, it gives the same tables and report to the last byte.
        truth: mechanisms that the language models' training text was generated from, to compare with. Only those
            phrases of the attribute are asked about that such text has, where every level has some
            (``AuditSpec.known_to``).
        memory: bytes for keys and values; see ``simulate``.
        progress: show a bar on stderr; by default where stderr is a terminal.

    Raises:
        AuditError: a number is out of its range, the specification is unusable, a language model's context is too short
            for it, or it gives an option of the outcome no probability. All but the last are found before a language
            model is run.
        LoadError: a language model cannot be loaded.
        ResumeError: another process writes to ``out``, or a file in it is damaged (the message says which to delete).

    >>> from sdscm_jax.audit import AuditSpec
    >>> small = AuditSpec.from_dict({
    ...     "name": "drug", "title": "A drug", "question": "Does the level matter?",
    ...     "attribute": {"name": "level", "levels": ["low", "high"], "proxies": {"word": {
    ...         "templates": ["The tumor exhibits {} levels of PD-L1.", "PD-L1 is {}."],
    ...         "phrases": {"low": ["low"], "high": ["high"]}}}},
    ...     "variables": [{"name": "drug", "options": ["wait", "treat"], "templates": ["The choice is to {}."],
    ...                    "parents": ["level"]}],
    ...     "outcome": {"name": "drug", "option": "treat"}, "scorings": ["mean"]})
    >>> result = audit(small, wordings=2, pairs=0)
    >>> result.effects["effect"].tolist(), len(result.cells)
    (['total', 'direct', 'illegitimate', 'legitimate', 'unfair'], 2)
    >>> result.design["levels"].tolist(), int(result.effects["repetitions"].iloc[0])
    ([2, 1, 1], 2)
    """
    wordings = checks.count(wordings, "wordings", AuditError, least=2)
    option_wordings = checks.count(option_wordings, "option_wordings", AuditError)
    pairs = checks.count(pairs, "pairs", AuditError, least=0)
    draws = checks.count(draws, "draws", AuditError, least=2)
    seed = checks.seed(seed, error=AuditError)
    level, rate = checks.share(level, "level", AuditError), checks.share(rate, "rate", AuditError)
    margin = checks.real(margin, "margin", AuditError, least=0, below=1)
    memory = None if memory is None else checks.count(memory, "memory, a number of bytes,", AuditError)
    directory = None if out is None else checks.as_path(out, "out", AuditError) / CELLS
    if directory is not None:
        refuse_others(directory.parent, "an audit")
    spec = spec if isinstance(spec, AuditSpec) else audit_spec(spec)
    spec = spec if truth is None else spec.known_to(checks.instance(truth, Vignette, "truth", AuditError))
    loaded = loaded_lms(spec, lms)
    for name, (_, lm) in loaded.items():
        check_context(spec, name, lm)
    warn_of_foreign_subject([lm for _, lm in loaded.values()], spec.texts())
    drawn = draw_wordings(spec, wordings, option_wordings, seed)
    rows: list[dict[str, Any]] = []
    examples: list[Pair] = []
    asked_of: list[dict[str, Any]] = []
    with (
        nullcontext() if out is None else writing(Path(out)),
        progress_bar("wordings", len(loaded) * len(drawn), progress) as told,
    ):
        if directory is not None:
            make_directory(directory)
        for number, (name, (source, lm)) in enumerate(loaded.items()):
            scorer, keeper = TrieScorer(memory=memory), Keeper.of_lm(directory, lm, memory)
            tokens = 0
            for done, wording in enumerate(drawn):
                found, asked = measured(spec, name, lm, wording, spec.scorings, scorer, keeper, draws, seed)
                rows += [{"lm": name, **row} for row in found]
                tokens += asked
                told(number * len(drawn) + done + 1)
            for wording in examples_of(drawn, rows, name, spec, pairs):
                told_of, asked = example_pairs(spec, name, lm, wording, spec.scorings[0], scorer, seed, keeper)
                examples += told_of
                tokens += asked
            asked_of.append({
                "lm": name, "source": source, "fingerprint": lm.fingerprint(),
                "parameters": sum(x.size for x in jax.tree.leaves(lm.params)), "context": lm.config.max_positions,
                "tokens": tokens,
            })  # fmt: skip
    table = pd.DataFrame(rows)
    main = table[table["scoring"] == spec.scorings[0]].drop(columns="scoring").reset_index(drop=True)
    known = None if truth is None else truth_of(spec, truth)
    settings = {
        "level": level, "wordings": wordings, "option_wordings": option_wordings, "seed": seed, "rate": rate,
        "margin": margin, **({"draws": draws} if spec.written else {}),
        "versions": {name: version(name) for name in _VERSIONS},
    }  # fmt: skip
    return AuditResult(
        spec=spec,
        lms=pd.DataFrame(asked_of),
        cells=main.drop(columns=[*compared_couplings(), *BOUNDS, "lower_bound", "upper_bound"]),
        effects=effects_table(main, level, rate, margin, spec.absent, drawn=bool(spec.written)),
        differences=differences_table(main, list(loaded), level, rate, margin, spec.absent),
        variance=variance_table(main),
        scorings=scorings_table(table, level),
        couplings=couplings_table(main, [name for name in compared_couplings() if main[name].notna().any()]),
        pairs=tuple(examples),
        asked=asked_table(spec, drawn),
        settings=settings,
        truth=known,
        chats=chats_table({name: lm for name, (_, lm) in loaded.items()}),
        design=design_table(spec, wordings, option_wordings),
    )

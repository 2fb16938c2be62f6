"""Fitting the mechanisms of a language model to a table of categorical data, or to given probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from .. import checks
from ..dsl.language.choice import Choice
from ..dsl.language.phrase import Phrase
from ..dsl.scoring.scorings.registry import SCORINGS, parse_scoring
from ..dsl.tables.tabulate import score_contexts
from ..errors import DataError, ProgramError
from ..models.adapters import Adapter
from ..models.codec import Codec
from ..models.corpus import Document, packed_batches
from ..models.language_model import LanguageModel
from ..models.training import Batch, OnStep, train_lm
from ..models.training_sentences import Sentence, sentences_of
from .frequency_tables import Conditional, Data, Weights, conditionals
from .members import Family, Member

# Rows have at least so many tokens: several short documents each.
LENGTH = 128


class FitWarning(UserWarning):
    """The mechanisms of a language model are not those of the table that it was fitted to."""


class TableWriter:
    """Writes what a mechanism is to learn as texts: the sentences of a variable's parents, and its own.

    Only what a choice scores has weight: the option and what follows it. Each token's target is its conditional
    distribution, since it is known how often each option is drawn in the context.

    Args:
        codec: the tokenizer.
        program: a member, or a family: the wordings are then drawn anew for each text.
        table: variable -> its conditional frequencies. Those with parents have four times as many texts as those
            without, which have little to learn.

    Attributes:
        width: number of candidates per token in the documents.
        length: tokens of the longest document.
    """

    def __init__(self, codec: Codec, program: Family | Member, table: dict[str, Conditional]):
        self.codec, self.table, self.names = codec, table, tuple(table)
        self.family = program.family if isinstance(program, Member) else program
        self.chosen = program.wordings if isinstance(program, Member) else None
        self.position = {v.name: i for i, v in enumerate(self.family.variables)}
        self.width = max(len(v.options) for v in self.family.variables)
        # A cell is an option of a variable in a context.
        sizes = [np.shape(table[name].weights) for name in self.names]
        self.cells = [(i, c, k) for i, (rows, columns) in enumerate(sizes) for c in range(rows) for k in range(columns)]
        texts = [4.0 if self.family[name].parents else 1.0 for name in self.names]
        cells = [table[name].weights.reshape(-1) / table[name].weights.sum() for name in self.names]
        shares = [count * own for count, own in zip(texts, cells, strict=True)]
        self.until = np.cumsum(np.concatenate(shares)) / sum(texts)
        self.sentences = cache(self._sentences)
        self.length = max(1, len(self.codec.begin)) + max(
            sum(self._longest(parent, i == 0) for i, parent in enumerate((*self.family[name].parents, name)))
            for name in self.names
        )

    def _sentences(self, name: str, wording: int, first: bool) -> list[Sentence]:
        variable = self.family[name]
        template = str(variable.templates[wording])
        return sentences_of(self.codec, template, variable.options, first=first, width=self.width)

    def _wordings(self, name: str) -> list[int]:
        if self.chosen is not None:
            return [self.chosen[self.position[name]]]
        return list(range(len(self.family[name].templates)))

    def _longest(self, name: str, first: bool) -> int:
        return max(len(s.tokens) for w in self._wordings(name) for s in self.sentences(name, w, first))

    def documents(self, rng: np.random.Generator, units: int) -> Iterator[Document]:
        """``units`` texts, each cell as often as its weight says, but for rounding."""
        points = (rng.random() + np.arange(units)) / units
        for cell in np.searchsorted(self.until[:-1], points, side="right"):
            i, context, option = self.cells[cell]
            yield self._document(rng, self.names[i], context, option)

    def _document(self, rng: np.random.Generator, name: str, context: int, option: int) -> Document:
        parents = self.family[name].parents
        drawn = [rng.choice(self._wordings(v)) for v in (*parents, name)]
        before = [
            self.sentences(parent, int(drawn[i]), i == 0)[self.table[name].contexts[context, i]]
            for i, parent in enumerate(parents)
        ]
        own = self.sentences(name, int(drawn[-1]), not parents)[option]
        begin = self._begin(not parents and own.start == 0)
        tokens = np.concatenate([begin, *(s.tokens for s in before), own.tokens])
        start = len(tokens) - len(own.tokens)
        target_tokens = np.zeros((len(tokens), self.width), np.int32)
        target_probs = np.zeros((len(tokens), self.width), np.float32)
        target_tokens[:, 0], target_probs[:, 0] = tokens, 1.0
        target_tokens[start:] = own.candidates
        target_probs[start:] = own.target_probs(self.table[name].probs[context])
        weights = (np.arange(len(tokens)) >= start + own.start).astype(np.float32)
        return Document(tokens, weights, target_tokens, target_probs)

    def _begin(self, scored_at_once: bool) -> np.ndarray:
        """What begins the text, or a start token where nothing does and the first token is scored."""
        start = (self.codec.start,) if scored_at_once and self.codec.start is not None else ()
        return np.array(self.codec.begin or start, np.int32)


# Of a step; arrays are that long.
MOST_ROWS = 1 << 24


def table_batches(
    lm: LanguageModel,
    program: Family | Member,
    data: Data,
    *,
    steps: int,
    rows: int = 8,
    length: int | None = None,
    seed: int = 0,
    weights: Weights = None,
) -> Iterator[Batch]:
    """Batches for ``train_lm``, from a table.

    Args:
        lm: the model, for its tokenizer.
        program: the wordings of a member, or all those of a family.
        data: what the mechanisms are to be; see ``conditionals``.
        steps: number of batches.
        rows: rows of a batch.
        length: tokens of a row, which several texts share; None: those of the longest text, at least 128.
        seed: of the draw of texts.
        weights: of the units; see ``conditionals``.

    Raises:
        DataError: ``data`` does not fit the family, the member's scoring has another law than its text, or a number is
            out of its range.
    """
    steps, rows = checks.count(steps, "steps", DataError), checks.count(rows, "rows", DataError, most=MOST_ROWS)
    length = None if length is None else checks.count(length, "length", DataError)
    seed = checks.seed(seed, error=DataError)
    checks.instance(lm, LanguageModel, "lm", ProgramError)
    checks.instance(program, (Member, Family), "program", DataError)
    if isinstance(program, Member) and not parse_scoring(program.scoring).learnt:
        learnt = ", ".join(scoring for scoring in SCORINGS if scoring.learnt)
        raise DataError(f"scoring={program.scoring!r} is not the law of a text; it is one of {learnt}")
    family = program.family if isinstance(program, Member) else program
    writer = TableWriter(lm.codec, program, conditionals(family, data, weights))
    length = max(LENGTH, writer.length) if length is None else length
    return packed_batches([writer], [1.0], rows, length, steps, seed)


def fit_table(
    lm: LanguageModel,
    program: Family | Member,
    data: Data,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    rows: int = 8,
    length: int | None = None,
    seed: int = 0,
    adapter: Adapter | None = None,
    accumulate: int = 1,
    average: float | None = None,
    checkpoint: str | Path | None = None,
    every: int = 100,
    on_step: OnStep | None = None,
    weights: Weights = None,
    tolerance: float | None = 0.05,
) -> LanguageModel:
    """Train a language model until its mechanisms are those of a table: maximum likelihood.

    The texts are those that the program shows the model: the sentences of a variable's parents, then its own. What
    counts is the probability of the option and of what follows it, as in ``scoring="sequence"``.

    Args:
        lm: the model to start from (left unchanged).
        program: a member, whose wordings are fitted; or a family, all of whose wordings are.
        data: a table of units (a data frame, or the path of a CSV file), or probabilities; see ``conditionals``.
        optimizer: an optax transformation.
        steps: number of steps.
        rows, length, seed: see ``table_batches``; a step has ``accumulate`` times ``rows`` rows.
        adapter, accumulate, average, checkpoint, every, on_step: see ``train_lm``.
        weights: of the units; see ``conditionals``.
        tolerance: how far the fitted probabilities may be from the table's (the total variation distance, half the sum
            of the absolute differences) in a context; beyond it, ``FitWarning`` says where. None: nothing is compared.

    Raises:
        DataError: ``data``, ``weights`` or ``tolerance`` cannot be used.
        SDSCMError: the training has diverged.
        ContextLengthError: a text needs more positions than the model has.
        ResumeError: the checkpoint is of another run.

    >>> from sdscm_jax.families import table_family
    >>> from sdscm_jax.models.language_model import load_lm
    >>> frame = pd.DataFrame({"sky": ["clear", "clear", "grey", "grey"], "coat": ["off", "off", "on", "off"]})
    >>> member = table_family(frame, {"sky": "The sky is {}.", "coat": "My coat is {}."}).member(0)
    >>> lm = load_lm()
    >>> fitted = fit_table(lm, member, frame, optax.adam(3e-3), steps=40, rows=1, tolerance=0.4)
    >>> far, near = (compare_table(x, member, frame) for x in (lm, fitted))
    >>> bool((far.table - far.lm).abs().mean() > 2 * (near.table - near.lm).abs().mean())
    True
    """
    steps, accumulate = (
        checks.count(steps, "steps", DataError),
        checks.count(accumulate, "accumulate", DataError, most=MOST_ROWS),
    )
    tolerance = None if tolerance is None else checks.real(tolerance, "tolerance", DataError, above=0, most=1)
    batches = table_batches(
        lm, program, data, steps=steps * accumulate, rows=rows, length=length, seed=seed, weights=weights
    )
    fitted = train_lm(
        lm,
        batches,
        optimizer,
        adapter=adapter,
        accumulate=accumulate,
        average=average,
        checkpoint=checkpoint,
        every=every,
        on_step=on_step,
    )
    if tolerance is not None:
        _warn_if_far(fitted, program, data, weights, steps, tolerance)
    return fitted


def _warn_if_far(
    lm: LanguageModel, program: Family | Member, data: Data, weights: Weights, steps: int, tolerance: float
) -> None:
    """Say where the probabilities are farther from the table's than they may be."""
    members = [program] if isinstance(program, Member) else _all_wordings(program)
    found = pd.concat([compare_table(lm, member, data, weights) for member in members], keys=range(len(members)))
    found["far"] = (found.table - found.lm).abs()
    contexts = ["member", "variable", "given"]
    distances = found.rename_axis(["member", None]).groupby(contexts, sort=False)["far"].sum() / 2
    far = int((distances > tolerance).sum())
    if not far:
        return
    rows = found.reset_index(names=["member", "row"]).set_index(contexts).loc[[distances.idxmax()]].reset_index()
    worst = rows.nlargest(1, "far").iloc[0]
    told = f"{worst.variable}={worst.option!r}" + (f" given {worst.given}" if worst.given else "")
    warnings.warn(
        f"after {steps} steps the mechanisms are not those of the table: {far} of {len(distances)} contexts are off by "
        f"more than {tolerance:g}, by {distances.max():.2g} at most; the probability of {told} is {worst.lm:.3f}, in "
        f"the table {worst.table:.3f} (weight {worst.weight:g}). More steps, a larger rate, or more parameters may "
        "help",
        FitWarning,
        stacklevel=3,
    )


def _all_wordings(family: Family) -> list[Member]:
    """Members that between them have every wording of every variable."""
    counts = [len(v.templates) for v in family.variables]
    return [Member(family, tuple(k % count for count in counts)) for k in range(max(counts))]


def compare_table(lm: LanguageModel, member: Member, data: Data, weights: Weights = None) -> pd.DataFrame:
    """The mechanisms of a language model beside those of a table, in the contexts of the table.

    Args:
        lm: the model.
        member: the program; its wordings and its scoring are what the model is asked with.
        data, weights: see ``conditionals``.

    Returns:
        one row for each variable, context and option: ``variable``, ``given`` (the parents' options), ``option``,
        ``weight`` (the number of units, or the sum of their weights), ``table`` and ``lm`` (the two probabilities).

    Raises:
        DataError: ``data`` does not fit the program.
    """
    checks.instance(lm, LanguageModel, "lm", ProgramError)
    checks.instance(member, Member, "member", DataError)
    family, rows = member.family, []
    wordings = {v.name: v.templates[w] for v, w in zip(family.variables, member.wordings, strict=True)}
    for name, conditional in conditionals(family, data, weights).items():
        variable, parents = family[name], [family[parent] for parent in family[name].parents]
        given = [Phrase(0, wordings[v.name], v.options, v.name) for v in parents]
        choice = Choice(lm, wordings[name], variable.options, given=given, scoring=member.scoring)
        probs = np.asarray(jax.nn.softmax(jnp.asarray(score_contexts(choice, conditional.contexts)), -1))
        for c, context in enumerate(conditional.contexts):
            told = ", ".join(f"{v.name}={v.options[k]}" for v, k in zip(parents, context, strict=True))
            for k, option in enumerate(variable.options):
                weight, share = conditional.weights[c, k], conditional.probs[c, k]
                rows.append((name, told, option, weight, share, float(probs[c, k])))
    return pd.DataFrame(rows, columns=["variable", "given", "option", "weight", "table", "lm"])

"""Staged: level by level over many rows, the language models asked once for each distinct token."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import jax
import numpy as np

from ..dsl.handlers.external_scores import Visit, language_models
from ..dsl.language.scores import check_scores
from ..dsl.language.text_phrase import PADDING
from ..dsl.language.text_query import Reading, Writing
from ..dsl.worlds.run_worlds import WorldResults
from .counts import Counts
from .program import Outputs, Program, compiled, digest
from .reader import Reader
from .run import Explained, Progress, Run, joined
from .scorer import Scorer
from .store import Store
from .writer import Writer

# Rows that the program runs together: it is small once the language models are out.
ROWS = 1 << 12


class Staged:
    """Runs rows of a simulation, with the language models taken out of the program.

    A level holds the sites whose contexts are known once those of the levels before are answered.
    Rows go through a level together as long as what is new fits in memory next to what was encoded;
    where it does not, they are sorted by their contexts and finished group by group, so that the texts
    of a group share as much as they can.

    Args:
        run: the simulation.
        program: what it asks.
        size: rows that go together.
        memory: bytes for keys and values.
        store: directory of scores of earlier runs, or None.
        scorer: what answers the questions.
        writer: what writes texts.

    Attributes:
        by_visit: figures of each visit.
    """

    execution = "staged"

    def __init__(
        self,
        run: Run,
        program: Program,
        size: int,
        memory: int,
        store: Any = None,
        scorer: Callable[..., Scorer] = Scorer,
        writer: Callable[[Scorer], Writer] = Writer,
    ):
        self.run, self.program, self.size, self.memory = run, program, min(size, run.rows), memory
        self.by_visit = dict.fromkeys(program.visits, Counts())
        self._programs: dict[int, Callable[..., Outputs]] = {}
        self._compile_seconds = 0.0
        self._done, self._all = 0, 1
        lms = language_models(run.args)
        used = sorted({visit.lm for visit in program.visits.values()})
        self._scorers: dict[int, Scorer] = {}
        for i in used:
            same = next((j for j in self._scorers if lms[j] is lms[i]), None)
            kept = None if store is None else Store(store, lms[i])
            self._scorers[i] = (
                self._scorers[same]
                if same is not None
                else scorer(lms[i], memory // len(used), self._most(i), store=kept)
            )
        for visit in program.visits.values():
            self._scorers[visit.lm].check(visit.question)
        self._writers = {i: writer(scorer) for i, scorer in self._scorers.items()}
        self._readers = {i: Reader(scorer) for i, scorer in self._scorers.items()}

    def __call__(self, rows: np.ndarray, progress: Progress = lambda _: None) -> tuple[WorldResults, Explained]:
        """Results of rows, as NumPy arrays ``[R, worlds, ...]``, and how they explain their evidence."""
        self._done, self._all, self._progress = 0, max(1, len(rows) * len(self.program.levels)), progress
        parts = [self._chunk(rows[start : start + self.size]) for start in range(0, len(rows), self.size)]
        return joined(parts)

    def forget(self) -> None:
        """Begin anew: what follows does not depend on what was asked before."""
        for scorer in self._scorers.values():
            scorer.forget()

    def digest(self) -> str:
        """SHA-256 of the program, whatever the language models' parameters."""
        return digest(self.run, self.program, self.size)

    def finish(self) -> None:
        """Write new scores to the store."""
        for scorer in self._scorers.values():
            if scorer.store is not None:
                scorer.store.flush()

    def stats(self) -> dict[str, float]:
        """Figures of the run: ``compile_seconds`` and those of ``Counts``."""
        scorers = list({id(scorer): scorer for scorer in self._scorers.values()}.values())
        total = Counts()
        for scorer in scorers:
            total = total + scorer.counts
        seconds = self._compile_seconds + sum(scorer.forward.compile_seconds for scorer in scorers)
        return {"compile_seconds": seconds, **asdict(total)}

    # -- levels ---------------------------------------------------------------------------------

    def _chunk(self, rows: np.ndarray) -> tuple[WorldResults, Explained]:
        answers = {name: self._no_answers(visit, name, len(rows)) for name, visit in self.program.visits.items()}
        self._levels(rows, answers, np.arange(len(rows)), 0, self.size)
        found = self._outputs(rows, answers, np.arange(len(rows)), self.size)
        return jax.tree.map(lambda x: np.asarray(x)[: len(rows)], (found.results, found.evidence))

    def _levels(self, rows: np.ndarray, answers: dict[str, np.ndarray], own: np.ndarray, level: int, size: int) -> None:
        """Answer the rows ``own`` from a level on."""
        for number in range(level, len(self.program.levels)):
            names = self.program.levels[number]
            outputs = self._outputs(rows, answers, own, size)
            contexts = {name: np.asarray(outputs.contexts[name])[: len(own)] for name in names}
            group = self._group(number)
            if group < len(own) and not self._fits(contexts):
                # Rows whose contexts are alike go together.
                flat = np.concatenate([x.reshape(len(own), -1) for x in contexts.values()], axis=1)
                order = own[np.lexsort(flat.T[::-1])] if flat.shape[1] else own
                for start in range(0, len(order), group):
                    self._levels(rows, answers, order[start : start + group], number, group)
                return
            for name in names:
                self._ask(name, contexts[name], answers[name], own)
            self._done += len(own)
            self._progress(self._done / self._all)

    def _ask(self, name: str, contexts: np.ndarray, answers: np.ndarray, rows: np.ndarray) -> None:
        visit = self.program.visits[name]
        scorer, site = self._scorers[visit.lm], f"site {visit.site!r}"
        lm = language_models(self.run.args)[visit.lm]
        question, flat = visit.question.listed(_flat(contexts))
        before = replace(scorer.counts)
        again = self.run.worlds if self.program.same_in_worlds(name) else 1
        if isinstance(question, Writing):
            found = self._writers[visit.lm](question, flat, site)
            own: Any = (found != PADDING).sum(-1)
            scorer.counts.written += again * int(own.sum())
        elif isinstance(question, Reading):
            found = self._readers[visit.lm](question, flat, site)
            own = (flat[:, -question.further : -1] != PADDING).sum(-1)
        else:
            own = sum(map(len, question.rows))
            found = question.scoring.scores_on_host(question.tree, scorer.edges(question, flat))
            check_scores(found, site, lambda row: question.context(flat[row], lm.codec.decode), lm)
        answers[rows] = found.reshape(len(rows), *answers.shape[1:])
        scorer.note_reference(question, flat, again, own)
        self.by_visit[name] = self.by_visit[name] + (scorer.counts - before)

    def _outputs(self, rows: np.ndarray, answers: dict[str, np.ndarray], own: np.ndarray, size: int) -> Outputs:
        if size not in self._programs:
            started = time.perf_counter()
            self._programs[size] = compiled(self.run, self.program, size)
            self._compile_seconds += time.perf_counter() - started
        padded = np.concatenate([own, np.full(size - len(own), own[-1])])
        return self._programs[size](rows[padded], {name: x[padded] for name, x in answers.items()})

    def _no_answers(self, visit: Visit, name: str, count: int) -> np.ndarray:
        worlds = (self.run.worlds,) if name in self.program.in_worlds else ()
        return np.full((count, *worlds, *visit.answer_shape), visit.question.nothing, visit.question.dtype)

    # -- memory ---------------------------------------------------------------------------------

    def _most(self, lm: int) -> int:
        """Tokens that rows which go together can have at most."""
        questions = [visit.question for visit in self.program.visits.values() if visit.lm == lm]
        texts = {(question.start, question.pieces) for question in questions}
        most = 0
        for name, visit in self.program.visits.items():
            if visit.lm == lm:
                question = visit.question
                # What goes on from the text of another site adds its own tokens only.
                goes_on = question.pieces and (question.start, question.pieces[:-1]) in texts
                contexts = min(self.size * self._copies(name), question.most_contexts)
                most += contexts * (question.own if goes_on else question.longest + question.own)
        return most

    def _copies(self, name: str) -> int:
        """Contexts of a visit in one row."""
        shape = self.program.visits[name].shape
        return math.prod(shape) * (self.run.worlds if name in self.program.in_worlds else 1)

    def _group(self, level: int) -> int:
        """Rows that can be finished from a level on without losing anything they share; a power of two."""
        remaining: dict[int, int] = {}
        for names in self.program.levels[level:]:
            for name in names:
                visit = self.program.visits[name]
                remaining[visit.lm] = remaining.get(visit.lm, 0) + self._copies(name) * visit.question.own
        fitting = min(self._scorers[lm].budget * self._scorers[lm].lanes // need for lm, need in remaining.items())
        return 1 << max(0, (fitting // 2).bit_length() - 1)

    def _fits(self, contexts: dict[str, np.ndarray]) -> bool:
        """Is what a level adds small next to the memory?"""
        for lm, scorer in self._scorers.items():
            new = 0
            for name, numbers in contexts.items():
                visit = self.program.visits[name]
                if visit.lm == lm:
                    new += scorer.estimate(*visit.question.listed(_flat(numbers)))
            if 8 * new > scorer.budget * scorer.lanes:
                return False
        return True


def _flat(contexts: np.ndarray) -> np.ndarray:
    """Contexts ``[C, m]``; m may be 0."""
    return contexts.reshape(int(np.prod(contexts.shape[:-1])), contexts.shape[-1])

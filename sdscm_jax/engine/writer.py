"""Writes the free texts of many units with one language model, a token of all at a time, each distinct one once.

Texts are paths in the scorer's trie. Those that have not parted (units and worlds with one context) are one node, whose
distribution is read once; each has noise of its own. A text that ends makes room for the next of those that wait.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..dsl.language.text_phrase import PADDING, UNKNOWN
from ..dsl.language.text_query import Writing, WritingBeside
from ..dsl.scoring.contexts import unique_contexts
from .forward import Pick
from .known_texts import Factual, factual_texts, places_of
from .packing import padded_to
from .scorer import Lane, Scorer
from .token_calls import distributions, no_probabilities, together


@dataclass
class _Texts:
    """Texts that are written in one lane.

    Attributes:
        lane: where.
        nodes: int64 ``[J]``, the last node of each so far.
        own: int32 ``[J, 7]``: keys, share, place and temperature; see ``Writing``.
        tokens: int32 ``[J, T]``, padded with -1.
        states, steps: int64 ``[J]``: of the automaton, and how many tokens there are.
        waiting: numbers of those that are not begun, in order of their contexts.
        live: numbers of those that are being written.
        factual: the factual texts that their noise is relative to, or None.
    """

    lane: Lane
    nodes: np.ndarray
    own: np.ndarray
    tokens: np.ndarray
    states: np.ndarray
    steps: np.ndarray
    waiting: deque[int]
    live: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    factual: Factual | None = None

    @classmethod
    def begin(cls, lane: Lane, nodes: np.ndarray, own: np.ndarray, length: int, factual: Factual | None) -> _Texts:
        """Texts that go on from nodes; none has been begun, and what is the factual text is there."""
        count = len(nodes)
        tokens, zeros = np.full((count, length), PADDING, np.int32), np.zeros(count, np.int64)
        waiting, own = np.ones(count, bool), own.astype(np.int32)
        if factual is not None:
            waiting = ~factual.same(nodes, own)
            tokens[~waiting] = factual.known.tokens[~waiting]
        begun = deque(np.flatnonzero(waiting).tolist())
        return cls(lane, nodes, own, tokens, zeros, zeros.copy(), begun, factual=factual)

    def admit(self, capacity: int) -> None:
        """Begin as many of those that wait as surely fit, however long they and those being written get."""
        fitting = 0
        while fitting < len(self.waiting):
            # Twice as many as far as it goes, then halves.
            more = next((n for n in _steps(len(self.waiting) - fitting) if self._fit(fitting + n, capacity)), 0)
            if not more:
                break
            fitting += more
        if fitting:
            begun = [self.waiting.popleft() for _ in range(fitting)]
            self.live = np.concatenate([self.live, np.array(begun, np.int64)])

    def _fit(self, more: int, capacity: int) -> bool:
        texts = np.concatenate([self.live, np.array([self.waiting[i] for i in range(more)], np.int64)])
        left = self.tokens.shape[1] - self.steps[texts]
        ends = self.nodes[texts]
        if self.factual is not None:
            ends = np.concatenate([ends, self.factual.known.nodes[texts].ravel()])
        return len(self.lane.trie.above(np.unique(ends))) + int(left.sum()) <= capacity

    def reads(self, some: np.ndarray) -> np.ndarray:
        """The distinct nodes whose distributions are read for the next tokens of some texts."""
        ends = self.nodes[some]
        if self.factual is not None:
            ends = np.concatenate([ends, self.factual.at(self.steps[some], some, ends)])
        return np.unique(ends)

    def take(self, writing: Writing, texts: np.ndarray, tokens: np.ndarray) -> None:
        """Go on with a token of each of these texts; those that end are live no more."""
        automaton, most = writing.law.form.automaton, self.tokens.shape[1]
        self.tokens[texts, self.steps[texts]] = tokens
        self.states[texts] = automaton.next[self.states[texts], automaton.classes[tokens]]
        self.steps[texts] += 1
        over = (automaton.ending[self.states[texts]] > 0) | (self.steps[texts] == most)
        on, further = texts[~over], tokens[~over].astype(np.int32)[:, None]
        self.nodes[on] = self.lane.trie.extend_all(self.nodes[on], further, np.ones(len(on), np.int64))
        self.live = np.setdiff1d(self.live, texts[over])


def _steps(most: int) -> list[int]:
    """Powers of two, the greatest first, none above ``most``."""
    return [1 << n for n in reversed(range(most.bit_length()))]


class Writer:
    """Writes texts in the trie and the pool of a scorer.

    Args:
        scorer: what runs the language model.
    """

    def __init__(self, scorer: Scorer):
        self.scorer = scorer

    def __call__(self, writing: Writing, contexts: np.ndarray, site: str) -> np.ndarray:
        """Tokens int32 ``[C, T]``, padded with -1 after the end.

        Args:
            writing: what is asked; all its pieces are listed.
            contexts: int ``[C, m + further]``; equal ones are one text.
            site: what a message calls the site.

        Raises:
            ScoreError: the language model gives a token no probabilities.
        """
        distinct, _, which = unique_contexts(contexts)
        scorer, further = self.scorer, writing.further
        shares = np.array_split(np.arange(len(distinct)), scorer.lanes)
        texts = []
        for lane, share in zip(scorer.places, shares, strict=True):
            ends, rest = scorer.ends(lane, writing, distinct[share, :-further]), distinct[share, -further:]
            factual = None
            if isinstance(writing, WritingBeside):
                factual, rest = factual_texts(scorer, lane, writing, rest)
            texts.append(_Texts.begin(lane, ends, rest, writing.answers, factual))
        begun = [of_lane.nodes.copy() for of_lane in texts]
        self._from_store(writing, texts)
        asked = [np.array(of_lane.waiting, np.int64) for of_lane in texts]
        self._write(writing, texts, site)
        for of_lane, new, start in zip(texts, asked, begun, strict=True):
            scorer.counts.contexts += len(new)
            if scorer.store is not None and len(new):
                scorer.store.add(writing, self._keys(of_lane, new, start), of_lane.tokens[new])
        return np.concatenate([of_lane.tokens for of_lane in texts])[which]

    def _keys(self, texts: _Texts, some: np.ndarray, nodes: np.ndarray) -> list[np.ndarray]:
        """What the tokens of some texts depend on, beside the law: the tokens before them, and their noise."""
        path, factual = texts.lane.trie.path, texts.factual
        beside = [() if factual is None else factual.key(path, i) for i in some]
        return [
            np.concatenate([path(int(nodes[i])), *more, texts.own[i]]) for i, more in zip(some, beside, strict=True)
        ]

    def _from_store(self, writing: Writing, texts: list[_Texts]) -> None:
        """Take what the store knows."""
        if self.scorer.store is None:
            return
        for of_lane in texts:
            asked = np.array(of_lane.waiting, np.int64)
            known = self.scorer.store.read(writing, self._keys(of_lane, asked, of_lane.nodes))
            for text, tokens in zip(asked, known, strict=True):
                if tokens is not None:
                    of_lane.tokens[text] = tokens
            of_lane.waiting = deque(int(text) for text, x in zip(asked, known, strict=True) if x is None)
            self.scorer.counts.stored += len(asked) - len(of_lane.waiting)

    def _write(self, writing: Writing, texts: list[_Texts], site: str) -> None:
        """Write all that wait."""
        scorer = self.scorer
        while True:
            for of_lane in texts:
                of_lane.admit(scorer.capacity)
            if not any(len(of_lane.live) for of_lane in texts):
                return
            # A token beside a factual one is picked where the distributions of both are at hand.
            now = [of_lane.live[: scorer.sizes.most // 2] if of_lane.factual else of_lane.live for of_lane in texts]
            reads = [of_lane.reads(some) for of_lane, some in zip(texts, now, strict=True)]
            needed = [of_lane.lane.trie.above(nodes) for of_lane, nodes in zip(texts, reads, strict=True)]
            for of_lane, nodes in zip(texts, needed, strict=True):
                of_lane.lane.slots.hold(nodes)

            def read(
                buffer: Any, waiting: list[list[np.ndarray]], now: list[np.ndarray] = now
            ) -> list[tuple[list[np.ndarray], Any]]:
                return self._picks(writing, texts, now, buffer, waiting)

            found = [(which, np.asarray(array)) for which, array in scorer.compute(reads, needed, read, singles=True)]
            for which, array in found:
                for of_lane, some, tokens in zip(texts, which, array, strict=True):
                    self._check(writing, of_lane, some, tokens[: len(some)], site)
                    of_lane.take(writing, some, tokens[: len(some)])

    def _picks(
        self,
        writing: Writing,
        texts: list[_Texts],
        now: list[np.ndarray],
        buffer: Any,
        waiting: list[list[np.ndarray]],
    ) -> list[tuple[list[np.ndarray], Any]]:
        """Tokens of those texts that go on from the nodes in the buffer: which texts, and tokens on the device."""
        size = self.scorer.lm.config.vocab_size
        most, ready = together(size), []
        for of_lane, live, nodes in zip(texts, now, waiting, strict=True):
            there = np.concatenate([*nodes, np.zeros(0, np.int64)])
            rows, here = places_of(of_lane.nodes[live], there)
            beside = rows
            if of_lane.factual is not None:
                factual = of_lane.factual.at(of_lane.steps[live], live, of_lane.nodes[live])
                beside, also = places_of(factual, there)
                here &= also
            rows, beside, some = rows[here], beside[here], live[here]
            by_row = np.argsort(rows, kind="stable")
            ready.append((rows[by_row], beside[by_row], some[by_row]))
        found = []
        for start in range(0, max(len(some) for *_, some in ready), most):
            parts = [tuple(x[start : start + most] for x in lane) for lane in ready]
            distinct = [[np.unique(rows, return_inverse=True) for rows in both] for *both, _ in parts]
            count = distributions(size, max(len(rows) for both in distinct for rows, _ in both))
            picks: Any = [
                _pick(of_lane, some, *own, count, most)
                for of_lane, (own, _), (*_, some) in zip(texts, distinct, parts, strict=True)
            ]
            what: Any = writing.law
            if isinstance(writing, WritingBeside):
                what = writing.law, writing.coupling
                picks = [
                    of_lane.factual.follow(pick, of_lane.steps[some], some, *beside, count)
                    for of_lane, pick, (_, beside), (*_, some) in zip(texts, picks, distinct, parts, strict=True)
                    if of_lane.factual is not None
                ]
            found.append(([some for *_, some in parts], self.scorer.forward.tokens(buffer, picks, what)))
        return found

    def _check(self, writing: Writing, texts: _Texts, some: np.ndarray, tokens: np.ndarray, site: str) -> None:
        bad = np.flatnonzero(tokens == UNKNOWN)
        if bad.size:
            before = texts.lane.trie.path(int(texts.nodes[some[bad[0]]]))
            raise no_probabilities(self.scorer.lm, before, site)


def _pick(texts: _Texts, some: np.ndarray, rows: np.ndarray, which: np.ndarray, count: int, most: int) -> Pick:
    """What picks the next tokens of some texts, padded to ``count`` distributions and ``most`` texts."""

    def padded(values: np.ndarray) -> np.ndarray:
        return padded_to(values, most)

    words = np.zeros((most, 5), np.int32)
    words[: len(some)] = texts.own[some, :5]
    temperatures = np.ones(most, np.float32)
    temperatures[: len(some)] = texts.own[some, 6].copy().view(np.float32)
    return Pick(
        rows=padded_to(rows, count),
        which=padded(which),
        words=words,
        places=padded(texts.own[some, 5]),
        temperatures=temperatures,
        states=padded(texts.states[some]),
        steps=padded(texts.steps[some]),
    )


class CountingWriter(Writer):
    """Counts what texts would cost, at most: all are as long as they may be, and part at the first token."""

    def __init__(self, scorer: Scorer):
        super().__init__(scorer)
        self._counted = 0

    def __call__(self, writing: Writing, contexts: np.ndarray, site: str) -> np.ndarray:
        """Tokens that stand for those of texts."""
        scorer, length = self.scorer, writing.answers
        distinct, _, which = unique_contexts(contexts)
        shares = np.array_split(np.arange(len(distinct)), scorer.lanes)
        size = scorer.lm.config.vocab_size
        found = []
        for lane, share in zip(scorer.places, shares, strict=True):
            ends, rest = np.split(distinct[share], [-writing.further], axis=1)
            ends = scorer.ends(lane, writing, ends)
            # Numbers of the texts, written in tokens; no two have the same.
            numbers = self._counted + share
            digits = np.array([numbers // size ** min(i, 6) % size for i in range(length)], np.int32).T
            new, beside = np.arange(len(share)), 0
            if isinstance(writing, WritingBeside):
                factual, own = factual_texts(scorer, lane, writing, rest)
                same, tokens = factual.same(ends, own), factual.known.tokens
                digits[same], new = tokens[same], np.flatnonzero(~same)
                # Each is read again with what is written beside it.
                beside = int((tokens[new] != PADDING).sum())
            first, _ = lane.slots.note(lane.trie.above(ends[new]))
            nodes = lane.trie.extend_all(ends[new], digits[new], np.full(len(new), length))
            lane.slots.note(lane.trie.above(nodes))
            scorer.counts.trie_tokens += first + len(new) * length
            scorer.counts.tokens += first + len(new) * length + beside
            scorer.counts.recomputed += beside
            scorer.counts.reads += len(new) * length + beside
            scorer.counts.contexts += len(new)
            found.append(digits)
        self._counted += len(distinct)
        return np.concatenate(found)[which]

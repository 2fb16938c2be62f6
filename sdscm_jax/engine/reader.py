"""Reads the observed texts of many units with one language model, each distinct token once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dsl.language.text_phrase import PADDING
from ..dsl.language.text_query import Reading
from ..dsl.scoring.contexts import unique_contexts
from .forward import Along
from .known_texts import Known, places_of
from .lane import Lane
from .packing import padded_to
from .scorer import Scorer
from .token_calls import distributions, no_probabilities, together


class Reader:
    """Reads texts in the trie and the pool of a scorer.

    Args:
        scorer: what runs the language model.
    """

    def __init__(self, scorer: Scorer):
        self.scorer = scorer

    def __call__(self, reading: Reading, contexts: np.ndarray, site: str) -> np.ndarray:
        """Log-probabilities of the tokens of texts, float32 ``[C, T]``; 0 after the end.

        Args:
            reading: what is asked; all its pieces are listed.
            contexts: int ``[C, m + further]``.
            site: what a message calls the site.

        Raises:
            ScoreError: the language model gives a token no probabilities.
        """
        distinct, _, which = unique_contexts(contexts)
        scorer, further = self.scorer, reading.further
        shares = np.array_split(np.arange(len(distinct)), scorer.lanes)
        texts, found, todo, named = [], [], [], []
        for lane, share in zip(scorer.places, shares, strict=True):
            starts, rest = scorer.ends(lane, reading, distinct[share, :-further]), distinct[share, -further:]
            own = Known.after(starts, lane.trie, reading.law, rest[:, :-1], rest[:, -1])
            log_probs = np.zeros(own.tokens.shape, np.float32)
            names = [row.tobytes() for row in np.column_stack([starts, rest]).astype(np.int32)]
            before = lane.read.setdefault(reading.law, {})
            new = self._without(log_probs, np.arange(len(share)), [before.get(name) for name in names])
            if scorer.store is not None:
                asked = len(new)
                new = self._without(log_probs, new, scorer.store.read(reading, self._keys(lane, own, new)))
                scorer.counts.stored += asked - len(new)
            texts.append(own)
            found.append(log_probs)
            todo.append(new)
            named.append((before, names))
        self._read(reading, texts, todo, found, site)
        for lane, own, new, log_probs, (before, names) in zip(scorer.places, texts, todo, found, named, strict=True):
            scorer.counts.contexts += len(new)
            if scorer.store is not None and len(new):
                scorer.store.add(reading, self._keys(lane, own, new), log_probs[new])
            before.update(zip(names, log_probs, strict=True))
        return np.concatenate(found)[which]

    def _without(self, log_probs: np.ndarray, some: np.ndarray, known: Sequence[np.ndarray | None]) -> np.ndarray:
        """Take what is known of some texts; the others."""
        for text, row in zip(some, known, strict=True):
            if row is not None:
                log_probs[text] = row
        return some[[row is None for row in known]] if len(some) else some

    def _keys(self, lane: Lane, texts: Known, some: np.ndarray) -> list[np.ndarray]:
        """What log-probabilities depend on, beside the law."""
        return [np.concatenate(texts.key(lane.trie.path, int(text))) for text in some]

    def _read(
        self, reading: Reading, texts: list[Known], todo: list[np.ndarray], found: list[np.ndarray], site: str
    ) -> None:
        """Read texts, as many at a time as the pool holds."""
        scorer, stack = self.scorer, [todo]
        while stack:
            part = stack.pop()
            # Which token of which text.
            real = [own.tokens[some] != PADDING for own, some in zip(texts, part, strict=True)]
            places = [(some[x.nonzero()[0]], x.nonzero()[1]) for some, x in zip(part, real, strict=True)]
            nodes = [own.nodes[place] for own, place in zip(texts, places, strict=True)]
            if not sum(map(len, nodes)):
                continue
            reads = [np.unique(x) for x in nodes]
            needed = [lane.trie.above(x) for lane, x in zip(scorer.places, reads, strict=True)]
            if max(map(len, needed)) > scorer.capacity:
                halves = [np.array_split(some, 2) for some in part]
                stack += [[half[1] for half in halves], [half[0] for half in halves]]
                continue
            for lane, x in zip(scorer.places, needed, strict=True):
                lane.slots.hold(x)

            def read(
                buffer: Any, waiting: list[list[np.ndarray]],
                places: list[Any] = places, nodes: list[np.ndarray] = nodes,
            ) -> list[Any]:  # fmt: skip
                return self._along(reading, texts, places, nodes, buffer, waiting)

            for which, array in scorer.compute(reads, needed, read):
                for lane, own, log_probs, place, row in zip(
                    scorer.places, texts, found, which, np.asarray(array), strict=True
                ):
                    row = row[: len(place[0])]
                    if (bad := np.flatnonzero(np.isnan(row))).size:
                        node = own.nodes[place[0][bad[0]], place[1][bad[0]]]
                        raise no_probabilities(scorer.lm, lane.trie.path(int(node)), site)
                    log_probs[place] = row

    def _along(
        self,
        reading: Reading,
        texts: list[Known],
        places: list[tuple[np.ndarray, np.ndarray]],
        nodes: list[np.ndarray],
        buffer: Any,
        waiting: list[list[np.ndarray]],
    ) -> list[tuple[list[tuple[np.ndarray, np.ndarray]], Any]]:
        """Those tokens that come after nodes in the buffer: which of which texts, and their log-probabilities."""
        size = self.scorer.lm.config.vocab_size
        most, ready = together(size), []
        for (some, steps), after, there in zip(places, nodes, waiting, strict=True):
            rows, here = places_of(after, np.concatenate([*there, np.zeros(0, np.int64)]))
            order = np.flatnonzero(here)[np.argsort(rows[here], kind="stable")]
            ready.append((rows[order], some[order], steps[order]))
        found = []
        for start in range(0, max(len(rows) for rows, *_ in ready), most):
            parts = [tuple(x[start : start + most] for x in lane) for lane in ready]
            distinct = [np.unique(rows, return_inverse=True) for rows, *_ in parts]
            count = distributions(size, max(len(rows) for rows, _ in distinct))
            asked = []
            for own, (_, some, steps), (rows, which) in zip(texts, parts, distinct, strict=True):
                temperatures = np.ones(most, np.float32)
                temperatures[: len(some)] = own.temperatures[some]
                asked.append(
                    Along(
                        rows=padded_to(rows, count),
                        which=padded_to(which, most),
                        temperatures=temperatures,
                        states=padded_to(own.states[some, steps], most),
                        steps=padded_to(steps, most),
                        tokens=padded_to(own.tokens[some, steps], most),
                    )
                )
            told = [(some, steps) for _, some, steps in parts]
            found.append((told, self.scorer.forward.along(buffer, asked, reading.law)))
        return found

"""Text drawn from vignettes, as packed rows of tokens: what the embedded model is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ..vignettes import Vignette
from ..vignettes.conditionals import Conditionals
from .codec import Codec
from .training import Batch
from .training_sentences import sentences_of


class Document(NamedTuple):
    """A text as tokens, with training weights and the distribution that each was drawn from."""

    tokens: np.ndarray
    weights: np.ndarray
    target_tokens: np.ndarray
    target_probs: np.ndarray


class Writer(Protocol):
    """Draws texts at random; their targets have ``width`` candidates per token."""

    width: int

    def documents(self, rng: np.random.Generator, units: int) -> Iterator[Document]: ...


def sentences(vignette: Vignette, values: np.ndarray, wordings: np.ndarray) -> list[str]:
    """The sentences of one unit, in causal order.

    >>> from sdscm_jax.vignettes import confounder
    >>> sentences(confounder, np.zeros(5, int), np.zeros(5, int))[0].count("John")
    1
    """
    return [v.wordings[w].format(v.options[k]) for v, k, w in zip(vignette.variables, values, wordings, strict=True)]


def write_texts(vignettes: tuple[Vignette, ...], units: int, seed: int) -> Iterator[str]:
    """Whole texts, for training a tokenizer: ``units`` from each vignette."""
    rng = np.random.default_rng(seed)
    for vignette in vignettes:
        for values in vignette.sample(rng, units):
            wordings = rng.integers([len(v.wordings) for v in vignette.variables])
            yield " ".join(sentences(vignette, values, wordings))


class DocumentWriter:
    """Draws units of one vignette and writes them as tokens.

    The option that a sentence tells is drawn from a known distribution given the sentences that the
    text shows before it, so the expected loss over that draw is known too: it is what a document's
    targets hold.

    Args:
        vignette: the ground truth.
        codec: the tokenizer; it must begin texts with BOS.
        wording_weight: weight of a token outside the options; the options' tokens weigh 1, since
            they carry the mechanisms and the wording is chosen by a fair die.
        drop: share of the texts that leave sentences out, so that the model also knows what to say
            when it is shown some of the parents only: half of them show each sentence with a
            probability that is uniform itself, half a sentence with its parents.
        width: number of candidates A per token in the documents.
    """

    def __init__(self, vignette: Vignette, codec: Codec, wording_weight: float, drop: float, width: int):
        self.vignette, self.codec, self.drop, self.width = vignette, codec, drop, width
        self.wording_weight = wording_weight
        self.conditionals = Conditionals(vignette)
        self.pieces = {
            (j, first): [sentences_of(codec, w, v.options, first=first, width=width) for w in v.wordings]
            for j, v in enumerate(vignette.variables)
            for first in (True, False)
        }

    def _shown(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Which variables a text tells, in causal order."""
        variables = self.vignette.variables
        among = rng.random()
        if among < self.drop / 2:
            keep = np.flatnonzero(rng.random(len(variables)) < rng.random())
            return tuple(keep.tolist()) or (int(rng.integers(len(variables))),)
        if self.vignette.given_all and among > self.drop:
            return tuple(range(len(variables)))
        # A variable with its parents; those that have some more often, since roots have little to learn.
        odds = np.array([4.0 if v.parents else 1.0 for v in variables])
        target = int(rng.choice(len(variables), p=odds / odds.sum()))
        return tuple(sorted([target, *(self.vignette.index(p) for p in variables[target].parents)]))

    def documents(self, rng: np.random.Generator, units: int) -> Iterator[Document]:
        """``units`` texts."""
        values = self.vignette.sample(rng, units)
        showing: dict[tuple[int, ...], list[int]] = {}
        for unit in range(units):
            showing.setdefault(self._shown(rng), []).append(unit)
        begin = np.zeros((len(self.codec.begin), self.width), np.int32)
        assert len(begin)
        begin[:, 0] = self.codec.begin
        for shown, them in showing.items():
            probs = self.conditionals(values[them], shown)
            for row, unit in enumerate(them):
                pieces, targets = [], [np.eye(1, self.width, dtype=np.float32).repeat(len(begin), 0)]
                weights = [np.zeros(len(begin), np.float32)]
                for position, j in enumerate(shown):
                    wordings = self.pieces[j, position == 0]
                    piece = wordings[rng.integers(len(wordings))][values[unit, j]]
                    pieces.append(piece)
                    targets.append(piece.target_probs(probs[position][row]))
                    weights.append(np.where(piece.open, np.float32(1), np.float32(self.wording_weight)))
                yield Document(
                    np.concatenate([begin[:, 0], *(p.tokens for p in pieces)]),
                    np.concatenate(weights),
                    np.concatenate([begin, *(p.candidates for p in pieces)]),
                    np.concatenate(targets),
                )


def packed_batches(
    writers: Sequence[Writer], shares: list[float], rows: int, length: int, steps: int, seed: int
) -> Iterator[Batch]:
    """``steps`` batches of ``rows`` rows of ``length`` tokens, several documents a row.

    Documents are put where they fit first; a text longer than a row is an error.
    """
    rng = np.random.default_rng(seed)

    def endless() -> Iterator[Document]:
        while True:
            counts = rng.multinomial(256, shares)
            block = [d for w, n in zip(writers, counts, strict=True) for d in w.documents(rng, int(n))]
            for i in rng.permutation(len(block)):
                yield block[i]

    source = endless()
    waiting: list[Document] = []
    for _ in range(steps):
        tokens = np.zeros((rows, length), np.int32)
        positions, segments = np.zeros_like(tokens), np.zeros_like(tokens)
        weights = np.zeros((rows, length), np.float32)
        target_tokens = np.zeros((rows, length, writers[0].width), np.int32)
        target_probs = np.zeros(target_tokens.shape, np.float32)
        for r in range(rows):
            used, segment = 0, 0
            while len(waiting) < 64:
                waiting.append(next(source))
            while (fit := next((i for i, d in enumerate(waiting) if len(d.tokens) <= length - used), None)) is not None:
                document = waiting.pop(fit)
                size = len(document.tokens)
                segment += 1
                span = slice(used, used + size)
                tokens[r, span], weights[r, span] = document.tokens, document.weights
                target_tokens[r, span], target_probs[r, span] = document.target_tokens, document.target_probs
                positions[r, span], segments[r, span] = np.arange(size), segment
                used += size
            if segment == 0:
                raise ValueError(f"a text of {len(waiting[0].tokens)} tokens does not fit a row of {length}")
        yield Batch(tokens, positions, segments, weights, target_tokens, target_probs)

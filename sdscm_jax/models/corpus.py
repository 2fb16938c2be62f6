"""Text drawn from vignettes, as packed rows of tokens: what the embedded model is trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..vignettes import Variable, Vignette
from .codec import Codec, Tokens
from .options import option_tokens
from .training import Batch

Document = tuple[list[int], list[float]]


def sentences(vignette: Vignette, values: np.ndarray, wordings: np.ndarray) -> list[str]:
    """The sentences of one unit, in causal order.

    >>> from sdscm_jax.vignettes import confounder
    >>> sentences(confounder, np.zeros(5, int), np.zeros(5, int))[0].count("John")
    1
    """
    return [
        v.wordings[w].format(v.options[k])
        for v, k, w in zip(vignette.variables, values, wordings, strict=True)
    ]


def write_texts(vignettes: tuple[Vignette, ...], units: int, seed: int) -> Iterator[str]:
    """Whole texts, for training a tokenizer: ``units`` from each vignette."""
    rng = np.random.default_rng(seed)
    for vignette in vignettes:
        for values in vignette.sample(rng, units):
            wordings = rng.integers([len(v.wordings) for v in vignette.variables])
            yield " ".join(sentences(vignette, values, wordings))


class DocumentWriter:
    """Draws units of one vignette and writes them as tokens with training weights.

    Args:
        vignette: the ground truth.
        codec: the tokenizer; it must begin texts with BOS.
        wording_weight: weight of a token outside the options; the options' tokens weigh 1, since
            they carry the mechanisms and the wording is chosen by a fair die.
        drop: share of the texts in which each sentence is left out with probability one half, so
            that the model also knows what to say when it is shown some of the parents only.
    """

    def __init__(self, vignette: Vignette, codec: Codec, wording_weight: float, drop: float):
        self.vignette, self.codec, self.drop = vignette, codec, drop
        self.pieces = {
            (j, first): [self._pieces(v, template, first, wording_weight) for template in v.wordings]
            for j, v in enumerate(vignette.variables)
            for first in (True, False)
        }

    def _pieces(self, v: Variable, template: str, first: bool, wording_weight: float) -> list[tuple[Tokens, Tokens]]:
        prefix, suffix = template.split("{}")
        with_suffix = option_tokens(self.codec, prefix, v.options, suffix, with_suffix=True, first=first)
        option_only = option_tokens(self.codec, prefix, v.options, suffix, with_suffix=False, first=first)
        pieces = []
        for sentence, row in zip(with_suffix.sentences, option_only.rows, strict=True):
            start = len(option_only.shared)
            inside = range(start, start + len(row))
            pieces.append((sentence, tuple(1.0 if i in inside else wording_weight for i in range(len(sentence)))))
        return pieces

    def _shown(self, rng: np.random.Generator) -> np.ndarray:
        """Which variables a text tells, in causal order."""
        count = len(self.vignette.variables)
        if self.vignette.given_all:
            keep = rng.random(count) < 0.5 if rng.random() < self.drop else np.ones(count, bool)
            return np.flatnonzero(keep) if keep.any() else np.arange(count)
        target = rng.integers(count)
        parents = self.vignette.variables[target].parents
        return np.sort([target, *(self.vignette.index(p) for p in parents)])

    def documents(self, rng: np.random.Generator, units: int) -> Iterator[Document]:
        for values in self.vignette.sample(rng, units):
            tokens, weights = [self.codec.bos], [0.0]
            for position, j in enumerate(self._shown(rng)):
                wordings = self.pieces[int(j), position == 0]
                piece, weight = wordings[rng.integers(len(wordings))][values[j]]
                tokens.extend(piece)
                weights.extend(weight)
            yield tokens, weights


def packed_batches(
    writers: list[DocumentWriter], shares: list[float], rows: int, length: int, steps: int, seed: int
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
        for r in range(rows):
            used, segment = 0, 0
            while len(waiting) < 64:
                waiting.append(next(source))
            while (fit := next((i for i, d in enumerate(waiting) if len(d[0]) <= length - used), None)) is not None:
                ids, weight = waiting.pop(fit)
                segment += 1
                span = slice(used, used + len(ids))
                tokens[r, span], weights[r, span] = ids, weight
                positions[r, span], segments[r, span] = np.arange(len(ids)), segment
                used += len(ids)
            if segment == 0:
                raise ValueError(f"a text of {len(waiting[0][0])} tokens does not fit a row of {length}")
        yield Batch(tokens, positions, segments, weights)

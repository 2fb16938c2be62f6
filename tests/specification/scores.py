"""Scores of options from whole texts, one at a time: a mock language model's hash in plain NumPy, no cache, tree or
trace (docs/scoring.md has the definitions, DESIGN §4 the rule of tokens)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdscm_jax.testing.mock_decoder import SPREAD

Tokens = list[int]


@dataclass(frozen=True)
class PlainLM:
    """What a ``mock_lm()`` says, from its tokenizer, seed and bias."""

    tokenizer: Any
    seed: int
    bias: np.ndarray
    table: dict[Any, list[float]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, lm: Any) -> PlainLM:
        return cls(lm.tokenizer, int(lm.params["seed"][...]), np.asarray(lm.params["bias"][...], np.float64))

    def next_token(self, text: Tokens) -> np.ndarray:
        """Log-probabilities of all tokens after a text, float64 ``[V]``."""
        words = np.array(text, np.uint32)
        places = np.arange(len(text), dtype=np.uint32)
        token = _mixed(words * np.uint32(0x9E3779B1) + np.uint32(self.seed))
        text_hash = _mixed(token + places * np.uint32(0x85157AF5)).sum(dtype=np.uint32)
        every = np.arange(len(self.bias), dtype=np.uint32)
        noise = _mixed(_mixed(np.array([text_hash], np.uint32)) + every * np.uint32(0x9E3779B1)) >> np.uint32(8)
        logits = SPREAD * (2 * noise / 2.0**24 - 1) + self.bias
        return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()

    def scores(self, context: Sequence[str], template: str, options: Sequence[str], scoring: str) -> list[float]:
        """The score of each option after the texts of a context, in nats (each question is written down once)."""
        asked = tuple(context), template, tuple(options), scoring
        if asked not in self.table:
            self.table[asked] = self._scores(*asked)
        return self.table[asked]

    def _scores(self, context: Sequence[str], template: str, options: Sequence[str], scoring: str) -> list[float]:
        prefix, suffix = template.split("{}")
        if scoring == "uniform":
            return [0.0] * len(options)
        if scoring == "reference":
            before = self.encode(" " + " ".join([*context, prefix]))
            return [float(np.mean(self.next_token(before + own)[own])) for own in map(self.encode, options)]
        if scoring == "pmi":
            if not context:
                return [0.0] * len(options)
            with_context, alone = (self.scores(c, template, options, "sequence") for c in (context, ()))
            return [a - b for a, b in zip(with_context, alone, strict=True)]
        text = " ".join([*context, prefix])
        wholes = [self.encode(text + option + (suffix if scoring != "option" else "")) for option in options]
        begin = min(_common(self.encode(text), whole) for whole in wholes)
        begin = min(begin, *(len(whole) - 1 for whole in wholes))
        before, rows = wholes[0][:begin], [whole[begin:] for whole in wholes]
        if not before:
            before = [self.tokenizer.eos_token_id]
        if scoring == "masked":
            return [self._walk(before, row, rows) for row in rows]
        assert scoring in ("sequence", "option", "mean"), "the specification does not know it"
        sums = [sum(self.next_token(before + row[:i])[row[i]] for i in range(len(row))) for row in rows]
        return [total / len(row) if scoring == "mean" else total for total, row in zip(sums, rows, strict=True)]

    def _walk(self, before: Tokens, row: Tokens, rows: list[Tokens]) -> float:
        """Log-probability of constrained decoding: each token among those with which some option goes on; where an
        option ends inside another one, ending is what no option goes on with."""
        total = 0.0
        for i in range(len(row) + 1):
            along = [other for other in rows if other[:i] == row[:i]]
            onward = sorted({other[i] for other in along if len(other) > i})
            probs = np.exp(self.next_token(before + row[:i]))
            if any(len(other) == i for other in along):
                total += np.log(probs[row[i]] if i < len(row) else 1 - probs[onward].sum()) if onward else 0.0
            elif len(onward) > 1:
                total += np.log(probs[row[i]] / probs[onward].sum())
            if len(along) == 1:
                break
        return float(total)

    def encode(self, text: str) -> Tokens:
        return list(self.tokenizer.encode(text, add_special_tokens=False))


def _common(a: Tokens, b: Tokens) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return count


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of MurmurHash3."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))

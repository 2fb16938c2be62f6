"""What was asked of a language model, in numbers."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass
class Counts:
    """What a run asked of a language model.

    Attributes:
        tokens: tokens that went through it.
        positions: the same with the padding.
        trie_tokens: distinct ones that had to (the lower bound).
        recomputed: of ``tokens``, those that had been computed before.
        calls: how many times it was called.
        reads: tokens whose next-token distribution was read.
        contexts: questions that were asked of it.
        stored: questions that the store answered.
        written: tokens of free texts, those of every unit and world counted.
        reference_tokens: what one forward over its context and one over each option (or one over a text, token by
            token), anew for every unit, world and site, would take.
    """

    tokens: int = 0
    positions: int = 0
    trie_tokens: int = 0
    recomputed: int = 0
    calls: int = 0
    reads: int = 0
    contexts: int = 0
    stored: int = 0
    written: int = 0
    reference_tokens: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

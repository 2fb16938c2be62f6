"""Sentences whose blank is filled in by chance, as tokens with what each of them is drawn from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .codec import Codec
from .options import option_tokens


class Sentence(NamedTuple):
    """One sentence as tokens, with one of K options in its blank.

    Attributes:
        tokens: int32 ``[L]``.
        start: number of tokens before those that a choice among the options scores.
        candidates: int32 ``[L, A]``: tokens that could have stood at each place, had another of
            the options that agree with the sentence so far been drawn; the first is the token.
        shares: float32 ``[L, A, K]``: 1 where option k has candidate a there and agrees so far.
    """

    tokens: np.ndarray
    start: int
    candidates: np.ndarray
    shares: np.ndarray

    @property
    def open(self) -> np.ndarray:
        """Could another token have stood there? bool ``[L]``."""
        return self.shares.any(-1).sum(-1) > 1

    def target_probs(self, probs: np.ndarray) -> np.ndarray:
        """Distribution of each token given those before: float32 ``[L, A]``, for options' ``probs`` ``[K]``."""
        mass = self.shares @ probs.astype(np.float32)
        return mass / mass.sum(1, keepdims=True)


def sentences_of(codec: Codec, template: str, options: tuple[str, ...], *, first: bool, width: int) -> list[Sentence]:
    """The sentence of each option.

    Args:
        codec: the tokenizer.
        template: text with one blank ``{}``.
        options: the K texts that may fill it.
        first: True where the sentence begins the text, False where a space and it follow others.
        width: the number A of candidates: no place of the sentence has more tokens that could stand there.

    Raises:
        OptionError: two options have the same tokens.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> codec = load_lm().codec
    >>> low, high = sentences_of(codec, "It is {}.", ("low", "high"), first=True, width=2)
    >>> codec.decode(low.tokens), codec.decode(low.tokens[low.start :])
    ('It is low.', ' low.')
    >>> low.target_probs(np.array([0.25, 0.75]))[low.start :].tolist()
    [[0.25, 0.75], [1.0, 0.0]]
    """
    prefix, suffix = template.split("{}")
    blank = option_tokens(codec, prefix, options, suffix, with_suffix=True, first=first)
    start = len(blank.shared)
    found = []
    for k, row in enumerate(blank.rows):
        tokens = np.array(blank.sentences[k], np.int32)
        candidates = np.zeros((len(tokens), width), np.int32)
        shares = np.zeros((len(tokens), width, len(options)), np.float32)
        candidates[:, 0], shares[:, 0] = tokens, 1.0
        for i, token in enumerate(row):
            agree = [k for k, other in enumerate(blank.rows) if other[:i] == row[:i] and len(other) > i]
            nexts = list(dict.fromkeys([token, *(blank.rows[k][i] for k in agree)]))
            if len(nexts) > width:
                raise ValueError(f"{template!r}: {len(nexts)} tokens can stand in one place, {width} are kept")
            candidates[start + i, : len(nexts)] = nexts
            shares[start + i] = 0.0
            for k in agree:
                shares[start + i, nexts.index(blank.rows[k][i]), k] = 1.0
        found.append(Sentence(tokens, start, candidates, shares))
    return found

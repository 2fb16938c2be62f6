"""Calls for the next tokens of many texts: how many go together, and what is said where there is nothing to be read."""

from __future__ import annotations

import numpy as np

from ..errors import ScoreError
from ..models.language_model import LanguageModel

# Numbers (texts times vocabulary) of one call, and texts in it at most.
_PICKED, _MOST_PICKED = 1 << 24, 256
# Distributions of such a call where few are read, and from how large a vocabulary on that is worth compiling for.
_FEW, _LARGE = 8, 1 << 15


def together(size: int) -> int:
    """Texts of one call, where the vocabulary has ``size`` tokens."""
    return max(_FEW, min(_MOST_PICKED, 1 << max(0, (_PICKED // size).bit_length() - 1)))


def distributions(size: int, needed: int) -> int:
    """Distributions that a call which needs so many is padded to: few or all, each is compiled."""
    return _FEW if size >= _LARGE and needed <= _FEW else together(size)


def no_probabilities(lm: LanguageModel, before: np.ndarray, site: str) -> ScoreError:
    """A language model's logits after some tokens are no numbers."""
    named = f"the language model ({lm.config.family}, {lm.fingerprint()[:12]})"
    text = lm.codec.decode(tuple(before.tolist()))
    return ScoreError(f"{site}: {named} gives the token after {text!r} no probabilities; are its weights finite?")

"""The words that the embedded language model has read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from ..vignettes import SHIPPED


@cache
def embedded_words() -> frozenset[str]:
    """The words of the texts that the embedded language model was trained on."""
    variables = [v for vignette in SHIPPED for v in vignette.variables]
    return frozenset(word for v in variables for word in words((*v.wordings, *v.options)))


def words(texts: Iterable[str]) -> list[str]:
    """Words of three letters or more.

    >>> words(["It was a sunny day, {}."])
    ['was', 'sunny', 'day']
    """
    return re.findall(r"[a-z]{3,}", " ".join(texts).lower())

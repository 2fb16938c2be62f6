"""What the embedded language model knows of, and a word to who asks it of something else."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

from ..dsl.analysis.structure import Site
from ..models.embedded_words import embedded_words, words
from ..models.language_model import LanguageModel, load_lm

PAGE = "docs/limits.md"
# Of a program's words, the share that the embedded model has read; with less it is asked of what it does not know.
LEAST = 0.6
_said: list[bool] = []


def known_share(texts: Sequence[str]) -> float:
    """Which share of the different words of some texts the embedded model has read; 1 where there are none.

    >>> known_share(["The tumor exhibits {} levels of PD-L1."])
    1.0
    >>> known_share(["The dragon flew over {}."]) < LEAST
    True
    """
    different = set(words(texts))
    return len(different & embedded_words()) / len(different) if different else 1.0


def texts_of(sites: Iterable[Site]) -> list[str]:
    """What a program has its language model read."""
    return [text for site in sites if site.template is not None for text in (str(site.template), *site.options)]


def warn_of_foreign_subject(lms: Sequence[LanguageModel], texts: Sequence[str]) -> None:
    """Say once in a process that the embedded model is asked of what it has not read.

    Args:
        lms: those that are asked.
        texts: that they are to read.
    """
    if _said or (share := known_share(texts)) >= LEAST:
        return
    embedded = load_lm()
    # (Another one that was trained from it has other parameters.)
    alike = [lm for lm in lms if lm.published == embedded.published and lm.parameter_count == embedded.parameter_count]
    if not any(lm.fingerprint() == embedded.fingerprint() for lm in alike):
        return
    _said.append(True)
    unknown = sorted({*words(texts)} - embedded_words())
    warnings.warn(
        f"the embedded language model has read {share:.0%} of this program's words (new to it: "
        f"{', '.join(unknown[:4])}): it knows its own four subjects alone, and elsewhere its choices are arbitrary; "
        f"load another one, by sd.load_lm(…) or --lm ({PAGE})",
        stacklevel=3,
    )

"""The exceptions of the package: one hierarchy, so that ``except SDSCMError`` catches them all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

# A message is read by a person: of a longer one the middle is left out.
MOST_CHARACTERS = 4000


class SDSCMError(Exception):
    """Base class of every error that this package raises about its input."""

    def __init__(self, *args: Any):
        super().__init__(*(_readable(x) if isinstance(x, str) else x for x in args))


def _readable(message: str) -> str:
    """A message that every terminal can print, not longer than a few pages."""
    if len(message) > MOST_CHARACTERS:
        head, tail = message[: MOST_CHARACTERS - 400], message[-300:]
        message = f"{head} … [{len(message) - len(head) - len(tail):,} characters left out] … {tail}"
    return message.encode("utf-8", "backslashreplace").decode()


class ProgramError(SDSCMError, TypeError):
    """What should be a model is no function, takes other arguments, or is given what is no language model."""


class TemplateError(SDSCMError, ValueError):
    """A template has no blank ``{}``, or more than one, or is not text."""


class OptionError(SDSCMError, ValueError):
    """Options are empty, repeated or indistinguishable to the tokenizer, or one is unknown."""


class GivenError(SDSCMError, TypeError):
    """Something in ``given`` is neither a phrase nor a string."""


class SiteError(SDSCMError, ValueError):
    """Two sites share a name, or a site is asked for that the model does not have."""


class InterventionError(SDSCMError, ValueError):
    """An intervention names an unknown or exogenous site, or a value that the site cannot take."""


class EvidenceError(SDSCMError, ValueError):
    """Evidence is impossible under the model, or cannot be abduced."""


class ContextLengthError(SDSCMError, ValueError):
    """A site needs more positions than the language model has."""


class ScoreError(SDSCMError, ArithmeticError):
    """Scores of a site's options are no numbers: weights, a bias or a temperature that are not finite."""


class RandomKeyError(SDSCMError, ValueError):
    """What should be one PRNG key, or an int seed, is something else."""


class FamilyError(SDSCMError, ValueError):
    """A family of SD-SCMs is malformed; the message names the file and the key."""


class DataError(SDSCMError, ValueError):
    """A data set or a file of estimates cannot be used; the message names the file and the column."""


class EstimatorError(SDSCMError, ValueError):
    """An estimator is unknown, needs an extra that is missing, or cannot be fitted to so few units."""


class EffectError(SDSCMError, ValueError):
    """An effect is not defined for a model, cannot be had from a simulation, or is too large to compute exactly."""


class AuditError(SDSCMError, ValueError):
    """An audit's specification or input is unusable; the message names what to change."""


class LoadError(SDSCMError):
    """A language model directory is missing or malformed; the message lists what is wrong."""


class ResumeError(SDSCMError):
    """A run cannot be resumed because its manifest differs; the message says in what."""


def install(extra: str) -> str:
    """The command that installs an extra, from a clone of the repository, as the package itself was.

    >>> install("gguf")
    "pip install '.[gguf]' (in the clone)"
    """
    return f"pip install '.[{extra}]' (in the clone)"


_MOST_LISTED = 40


def nearest(word: Any, known: Iterable[str]) -> str:
    """Hint for an error message: the nearest known spelling and the list of what is known.

    >>> nearest("hihg", ["low", "high"])
    "did you mean 'high'? (known: 'low', 'high')"
    """
    known = list(known)
    # (Of a very long word nothing is near, and looking for it takes minutes.)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4) if isinstance(word, str) and len(word) < 200 else []
    listing = ", ".join(map(repr, known[:_MOST_LISTED])) or "none"
    if len(known) > _MOST_LISTED:
        listing += f", … ({len(known):,} in all)"
    return f"did you mean {close[0]!r}? (known: {listing})" if close else f"known: {listing}"

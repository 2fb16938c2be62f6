"""The scorings that there are, by name."""

from __future__ import annotations

from typing import Any

from ....errors import OptionError, SDSCMError
from ...registered import Registry
from .base import Scoring
from .masked import Masked
from .mean import Mean
from .option import Option
from .pmi import PMI
from .reference import Reference
from .sequence import Sequence
from .uniform import Uniform

GROUP = "sdscm_jax.scorings"
SCORINGS: Registry[Scoring] = Registry(
    Scoring, "scoring", GROUP, (Sequence(), Option(), Mean(), Masked(), PMI(), Reference(), Uniform())
)


def parse_scoring(value: Any, where: str | None = None, error: type[SDSCMError] = OptionError) -> Scoring:
    """A scoring, as every function takes it: by its name, or the object itself.

    Args:
        value: what was given.
        where: what a message begins with.
        error: the caller's.

    Raises:
        SDSCMError: it is none; the message has the nearest that is.

    >>> parse_scoring("mean")
    'mean'
    >>> parse_scoring("option").with_suffix
    False
    """
    return SCORINGS.parse(value, where, error)

"""``"hindsight(share)"``: a share of the noise is the same in all worlds, the rest is drawn anew."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from ....checks import real
from ....errors import OptionError, SDSCMError
from .gumbel import races
from .independent import Independent


class Hindsight(Independent):
    """Between ``"gumbel"`` (a share of 1) and ``"independent"`` (0).

    Each draw, of a choice or of a token of free text, keeps its Gumbels in all worlds with the chance ``share``, and
    has fresh ones below an intervention else. Which do is decided by a uniform of the draw's own key, apart from its
    Gumbels, so laws in single worlds stay; and a draw that is kept at a share is kept at every larger one. How much of
    luck is the same in another world is nothing that data tell (``docs/counterfactuals.md``), so an effect at several
    shares says how far it hangs on that.

    Args:
        share: from 0 to 1.

    Raises:
        OptionError: it is no such number.

    >>> Hindsight(0.25)
    'hindsight(0.25)'
    >>> Hindsight(1).joint(np.array([0.5, 0.5]), np.array([0.5, 0.5])).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """

    name = "hindsight"
    says = "a share of luck is the same in the worlds, the rest is drawn anew"
    takes = "share"

    def __new__(cls, share: float) -> Self:
        return str.__new__(cls, f"{cls.name}({real(share, 'share', OptionError, least=0, most=1) + 0.0})")

    def __init__(self, share: float):
        self.kept = float(share) + 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kept,)

    @classmethod
    def of(cls, number: str, where: str, error: type[SDSCMError]) -> Self:
        """The one of this share."""
        try:
            share = float(number)
        except ValueError:
            share = float("nan")
        return cls(real(share, f"{where}: the share", error, least=0, most=1))

    def joint(self, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Of both kinds of draws, as often as there are."""
        return self.kept * races(p, q) + (1 - self.kept) * super().joint(p, q)

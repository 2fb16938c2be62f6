"""Which units estimators learn from, and which they are judged on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import count, share
from ..errors import DataError


@dataclass(frozen=True)
class HeldOut:
    """How units are held out.

    Attributes:
        test_share: share of the units of either arm that are held out; 0: none are, and effects are judged on the
            units that they were learned from, as in the paper.
        cross_fit: into how many parts units are divided, each judged by what was learned from the others; 1: no
            division.

    Raises:
        DataError: one of them is no such number, or both are asked for.

    >>> HeldOut(test_share=0.2, cross_fit=5)
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.DataError: test_share and cross_fit are two ways to hold units out: give one of them
    """

    test_share: float = 0.0
    cross_fit: int = 1

    def __post_init__(self) -> None:
        # In a manifest, a number of NumPy is the same as a plain one.
        none = (
            isinstance(self.test_share, int | float) and not isinstance(self.test_share, bool) and not self.test_share
        )
        object.__setattr__(self, "test_share", 0.0 if none else share(self.test_share, "test_share", DataError))
        object.__setattr__(self, "cross_fit", count(self.cross_fit, "cross_fit", DataError))
        if self.test_share and self.cross_fit > 1:
            raise DataError("test_share and cross_fit are two ways to hold units out: give one of them")

    @property
    def some(self) -> bool:
        """Are units held out?"""
        return self.test_share > 0 or self.cross_fit > 1

    def told(self) -> str:
        """In words.

        >>> HeldOut().told(), HeldOut(cross_fit=5).told()
        ('those that estimators learn from', 'all, each by what was learned from the other 4 of 5 parts')
        """
        if self.test_share:
            return f"{self.test_share:.0%} of either arm, held out; average effects: of the others"
        if self.cross_fit > 1:
            return f"all, each by what was learned from the other {self.cross_fit - 1} of {self.cross_fit} parts"
        return "those that estimators learn from"


def splits(how: HeldOut, t: np.ndarray, name: str, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Places of units to learn from, and of those to judge, ascending; the same for all estimators.

    Args:
        how: they are held out.
        t: treatments, 0 or 1, ``[n]``; both arms are divided alike.
        name: of the data set.
        seed: of the evaluation.

    Returns:
        One pair, or as many as there are parts.

    Raises:
        DataError: an arm has too few units.

    >>> splits(HeldOut(test_share=0.5), np.array([0, 0, 1, 1]), "a", 0)
    [(array([1, 3]), array([0, 2]))]
    """
    whole = np.arange(len(t))
    if not how.some:
        return [(whole, whole)]
    digest = hashlib.sha256(f"held out {seed} {name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
    part = np.empty(len(t), np.int64)
    for arm in (0, 1):
        there = rng.permutation(np.flatnonzero(t == arm))
        if how.test_share:
            held = round(how.test_share * len(there))
            few = min(held, len(there) - held) < 1
            part[there] = np.arange(len(there)) >= held
        else:
            few = len(there) < how.cross_fit
            # The arms' odd units go to different parts.
            part[there] = (np.arange(len(there)) + arm * how.cross_fit // 2) % how.cross_fit
        if few:
            what = "treated" if arm else "controls"
            raise DataError(f"data set {name}: {len(there)} {what} cannot be divided: {how.told()}")
    judged = range(1 if how.test_share else how.cross_fit)
    return [(np.flatnonzero(part != i), np.flatnonzero(part == i)) for i in judged]


def judged_places(unit: np.ndarray, estimated: Any) -> tuple[np.ndarray, np.ndarray]:
    """Places of the units that have estimates, and of the others.

    >>> judged_places(np.array([7, 8, 9]), [9, 7])
    (array([0, 2]), array([1]))
    """
    there = np.isin(unit, np.asarray(estimated))
    return np.flatnonzero(there), np.flatnonzero(~there)

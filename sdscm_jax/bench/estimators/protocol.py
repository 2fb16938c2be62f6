"""What an estimator of treatment effects is: a few methods, numpy in, numpy out."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from ...checks import share
from ...errors import EstimatorError

Interval = tuple[np.ndarray, np.ndarray]


@runtime_checkable
class Estimator(Protocol):
    """Learns effects of a binary treatment from observed units.

    One that is registered (see ``registry``) is a callable without arguments that makes an unfitted
    estimator. Further members are used where an estimator has them: ``interval_of``, ``"cate"`` (the
    default) or ``"ite"``, says what its intervals are of; ``ate_interval(level)`` gives lower and upper
    limits of the average effect, or None. One that reads texts has ``columns_of(texts)``, of a data frame with a column
    for each covariate that is a text (there may be none): the float64 ``[n, q]`` that stand behind the other columns
    of ``x``, q being the same for all data sets.
    """

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Any:
        """Learn.

        Args:
            key: JAX PRNG key; the same key gives the same estimates.
            x: float64 ``[n, p]`` covariates; p may be 0.
            t: int ``[n]``, 0 or 1.
            y: float64 ``[n]`` outcomes.
        """

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Estimated effects of units with these covariates, float64 ``[m]``."""

    def interval(self, x: np.ndarray, level: float) -> Interval | None:
        """Lower and upper limits, float64 ``[m]`` each, that are to hold a share ``level`` of the effects; None: no
        such intervals."""

    def ate(self) -> float:
        """Estimated average effect over the units it was fitted to."""


def parse_level(level: Any) -> float:
    """The share of effects that intervals are to hold.

    Raises:
        EstimatorError: it is no number between 0 and 1.
    """
    return share(level, "level", EstimatorError)


def seed_of(key: Any) -> int:
    """A seed below 2**31 for libraries that take one.

    >>> seed_of(jax.random.key(0)) == seed_of(jax.random.key(0)) != seed_of(jax.random.key(1))
    True
    """
    return int(jax.random.bits(key, dtype=np.uint32)) >> 1


def check_units(name: str, t: np.ndarray, needed: int) -> None:
    """Refuse fewer than ``needed`` units in one of the treatment's arms.

    Raises:
        EstimatorError: says how many there are.

    >>> check_units("forest", np.array([0, 1, 1]), 2)
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.EstimatorError: forest needs 2 units in each arm; there are 1 controls and 2 treated
    """
    treated = int((t == 1).sum())
    controls = len(t) - treated
    if min(treated, controls) < needed:
        raise EstimatorError(
            f"{name} needs {needed} units in each arm; there are {controls} controls and {treated} treated"
        )

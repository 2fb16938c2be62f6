"""The same budget of tuning for every estimator: configurations that are tried, and how one of them is chosen."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .estimators.extra import extra
from .estimators.propensity import fit_propensity
from .estimators.protocol import seed_of
from .held_out import HeldOut, splits

_PARTS = HeldOut(cross_fit=2)
_LEAST = 0.01  # of propensities, as in estimators/orthogonal.py


def told_budget(budget: int) -> str:
    """In words.

    >>> told_budget(1)
    'none: every estimator at its defaults'
    """
    if budget == 1:
        return "none: every estimator at its defaults"
    return f"{budget} configurations for each estimator that has some, chosen by R-loss among the units learned from"


def candidates(make: Callable[[], Any], budget: int) -> list[Any]:
    """Unfitted estimators to choose from: the default, and what its ``variants()`` names, ``budget`` in all at most."""
    default = make()
    variants = getattr(default, "variants", None)
    return [default, *(variants() if variants is not None and budget > 1 else ())][:budget]


def chosen(candidates: list[Any], key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> int:
    """Which of the candidates has the least R-loss on units that it was not fitted to.

    The R-loss, mean of ``(y - m(x) - (t - e(x)) tau(x))²``, needs no effect to be known, and picks better estimates of
    effects than errors of outcomes do (Nie and Wager 2021; Schuler et al. 2018). Units are divided in two: each half
    is judged by what was learned from the other, the outcome's mean ``m`` (boosted trees) and the propensity ``e``
    (logistic) too. A candidate that fails loses.

    Args:
        candidates: unfitted estimators; they are fitted here, and so of no use afterwards.
        key: as for ``fit``.
        x, t, y: units to learn from.

    Raises:
        EstimatorError: scikit-learn is missing.
        DataError: an arm has fewer than two units.
    """
    if len(candidates) < 2:
        return 0
    extra("tuning", "sklearn.ensemble", "scikit-learn")
    boosted = importlib.import_module("sklearn.ensemble").GradientBoostingRegressor
    loss = np.zeros(len(candidates))
    for part, (learned, judged) in enumerate(splits(_PARTS, t, "tuning", seed_of(key))):
        seen, asked = x[learned], x[judged]
        if x.shape[1]:
            mean = boosted(random_state=0).fit(seen, y[learned]).predict(asked)
        else:
            mean = np.full(len(judged), y[learned].mean())
        e = np.clip(fit_propensity(seen, t[learned])(asked), _LEAST, 1 - _LEAST)
        for i, candidate in enumerate(candidates):
            try:
                candidate.fit(jax.random.fold_in(key, part), seen, t[learned], y[learned])
                effect = np.asarray(candidate.effect(asked), np.float64)
                loss[i] += np.square(y[judged] - mean - (t[judged] - e) * effect).sum()
            except Exception:
                loss[i] = np.inf
    # What is no number is no estimate.
    return int(np.where(np.isfinite(loss), loss, np.inf).argmin())

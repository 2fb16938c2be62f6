"""What effect an audit could find: the least one that it would call different from 0 in four of five cases."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special, stats

POWER = 0.8
# Values that a variance may have, each as likely; steps of a bisection.
_VALUES, _STEPS = 100, 30


def detectable(
    error: float, repetitions: int, rate: float, margin: float = 0.0, power: float = POWER, known: bool = False
) -> float:
    """The least effect that an audit with such an error would find with probability ``power``.

    To find is to have a p of at most ``rate``, before any correction for many tests.

    Args:
        error: of the mean over repetitions.
        repetitions: how many there are.
        rate: of effects that are no farther from 0 than the margin and that are found.
        margin: see ``audit``.
        power: how often it is found.
        known: the error is the true one. Else it is an estimate, from the wordings at hand, and the power is that of
            another audit of the same design, averaged over what the true error may be.

    Returns:
        the effect, no less than the margin; nan where there is no error.

    >>> round(detectable(0.01, 10, 0.05, known=True), 4), round(detectable(0.01, 10, 0.05), 4)
    (0.0315, 0.0346)
    """
    if np.isnan(error):
        return float("nan")
    freedom, edge = repetitions - 1, margin / error
    # Of an estimate of the error to the error: its quantiles.
    ratio = np.sqrt(stats.chi2.ppf((np.arange(_VALUES) + 0.5) / _VALUES, freedom) / freedom)
    true = (np.ones(1) if known else 1 / ratio)[:, None]
    least = _found_from(true * ratio, freedom, rate, edge)

    def short(effect: float) -> float:
        found = special.ndtr((effect - least) / true) + special.ndtr((-least - effect) / true)
        return float(found.mean()) - power

    if short(edge) >= 0:
        return margin
    highest = edge + 1.0
    while short(highest) < 0:
        highest *= 2
    return error * float(optimize.brentq(short, edge, highest, xtol=1e-6))


def _found_from(errors: np.ndarray, freedom: int, rate: float, margin: float) -> np.ndarray:
    """How far from 0 a mean with such an error is whose p is the rate (see ``p_value``)."""
    if margin == 0:
        return errors * stats.t.isf(rate / 2, freedom)
    grid = np.geomspace(errors.min(), errors.max(), _VALUES)
    # One tail's quantile beyond the margin is too near, both tails' too far.
    low, high = (margin + grid * stats.t.isf(tail, freedom) for tail in (rate, rate / 2))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        p = special.stdtr(freedom, (margin - middle) / grid) + special.stdtr(freedom, -(middle + margin) / grid)
        low, high = np.where(p > rate, middle, low), np.where(p > rate, high, middle)
    return np.asarray(np.interp(errors, grid, high))

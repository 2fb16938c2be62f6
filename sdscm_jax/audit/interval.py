"""The interval of an audit and its test: Student's, over independent repetitions.

The repetitions of an audit share nothing that was drawn (see ``design``), so that the mean of each is an independent
draw with the same expectation, whatever wordings have in common within one. The interval over them is Student's, with
one degree of freedom less than repetitions. Where they vary by different amounts it is conservative at usual levels
(Bakirov and Székely 2006, "Student's t-test for Gaussian scale mixtures", Journal of Mathematical Sciences 139;
Ibragimov and Müller 2010, "t-statistic based correlation and heterogeneity robust inference", Journal of Business &
Economic Statistics 28(4)).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

# Probabilities that differ by less are the same: they come from float32 scores.
ROUNDING = 1e-6


class Mean(NamedTuple):
    """A mean over repetitions.

    Attributes:
        value: float64 ``[...]``.
        error: its standard error, float64 ``[...]``; nan with one repetition, and where repetitions do not differ,
            which is no evidence that others would not.
        repetitions: how many there are.
    """

    value: np.ndarray
    error: np.ndarray
    repetitions: int


def mean_of(values: np.ndarray, repetitions: np.ndarray) -> Mean:
    """The mean over repetitions of the means within them.

    Args:
        values: ``[..., N]``, what N combinations of wordings say.
        repetitions: int ``[N]``, the repetition that each belongs to.

    >>> found = mean_of(np.array([1.0, 2.0, 3.0, 6.0]), np.array([0, 0, 1, 1]))
    >>> float(found.value), float(found.error), found.repetitions
    (3.0, 1.5, 2)
    """
    member = np.unique(repetitions)[:, None] == np.asarray(repetitions)
    means = np.asarray(values, np.float64) @ (member / member.sum(1, keepdims=True)).T
    count = len(member)
    error = means.std(-1, ddof=1) / np.sqrt(count) if count > 1 else np.full(means.shape[:-1], np.nan)
    return Mean(means.mean(-1), np.where(error > ROUNDING, error, np.nan), count)


def interval(found: Mean, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limit, float64 ``[...]``."""
    half = stats.t.ppf(0.5 + level / 2, found.repetitions - 1) * found.error
    return found.value - half, found.value + half


def p_value(found: Mean, margin: float = 0.0) -> np.ndarray:
    """How likely a mean of this size or more is, if the truth is as far from 0 as the margin; float64 ``[...]``."""
    size, freedom = np.abs(found.value), found.repetitions - 1
    above, below = ((size + edge) / found.error for edge in (-margin, margin))
    return np.asarray(stats.t.sf(above, freedom) + stats.t.sf(below, freedom))

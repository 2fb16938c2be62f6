"""Average effects by weighting: inverse propensities, their augmentation by regressions, and targeted learning.

Propensities are a logistic regression's, kept off 0 and 1; outcomes are least squares' in either arm. None says how
effects vary: their effects are the average for every unit, without intervals. Limits of the average are normal, by
the estimator's influence function.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit, logit

from .linear import check_overlap, least_squares
from .propensity import fit_propensity
from .protocol import check_units, parse_level
from .without_intervals import AverageOnly

# Bounded outcomes are kept this far from their bounds, where their logit is infinite.
_EDGE = 1e-3


@dataclass(eq=False)
class _Weighting(AverageOnly):
    """An average effect and its standard error.

    Args:
        min_propensity: propensities are kept at least so far from 0 and 1, as in ``LinearDR``.
    """

    name: ClassVar[str]

    min_propensity: float = 0.01
    _ate: float = field(init=False, repr=False)
    _stderr: float = field(init=False, repr=False)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Self:
        """Learn; see ``protocol.Estimator``. The key is not used.

        Raises:
            EstimatorError: an arm has fewer than two units, or none like some unit of the other.
        """
        check_units(self.name, t, 2)
        check_overlap(self.name, x, t)
        e = fit_propensity(x, t, ridge=1e-4, steps=50)(x)
        e = np.clip(e, self.min_propensity, 1 - self.min_propensity)
        self._ate, influence = self._average(x, t.astype(np.float64), y, e)
        self._stderr = float(influence.std(ddof=1)) / len(t) ** 0.5
        return self

    @abstractmethod
    def _average(self, x: np.ndarray, t: np.ndarray, y: np.ndarray, e: np.ndarray) -> tuple[float, np.ndarray]:
        """The average effect, and what each unit has to do with it: the influence function, ``[n]``."""

    def ate(self) -> float:
        """The average effect."""
        return self._ate

    def ate_interval(self, level: float) -> tuple[float, float]:
        """Normal limits of the average effect."""
        reach = NormalDist().inv_cdf((1 + parse_level(level)) / 2) * self._stderr
        return self._ate - reach, self._ate + reach


def _regressions(x: np.ndarray, t: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fitted outcomes of all units ``[n]`` in either arm, by least squares in it."""
    controls, treated = (least_squares(x[t == arm], y[t == arm]).predict(x) for arm in (0, 1))
    return controls, treated


@dataclass(eq=False)
class IPW(_Weighting):
    """Inverse propensity weighting with weights that sum to 1 in either arm (Hájek 1971).

    The influence function allows for propensities being estimated: what their scores explain of it is left out
    (Lunceford and Davidian 2004, section 3.2), which makes limits shorter than those of known propensities.

    >>> x, t = np.array([[0.0], [0], [0], [1], [1], [1]]), np.array([0, 0, 1, 0, 1, 1])
    >>> round(IPW().fit(None, x, t, x[:, 0] + 2 * t).ate(), 2)
    2.0
    """

    name = "ipw"

    def _average(self, x: np.ndarray, t: np.ndarray, y: np.ndarray, e: np.ndarray) -> tuple[float, np.ndarray]:
        parts, means = [], []
        for weight in ((1 - t) / (1 - e), t / e):
            means.append(float(weight @ y / weight.sum()))
            parts.append(weight * (y - means[-1]) / weight.mean())
        influence = parts[1] - parts[0]
        scores = (t - e)[:, None] * np.column_stack([np.ones(len(t)), x])
        explained = scores @ np.linalg.lstsq(scores, influence, rcond=None)[0]
        return means[1] - means[0], influence - explained


@dataclass(eq=False)
class AIPW(_Weighting):
    """Augmented inverse propensity weighting (Robins, Rotnitzky and Zhao 1994): what the regressions of both arms
    predict, corrected by their weighted residuals. Right if the propensities or the regressions are.

    >>> x, t = np.array([[0.0], [0], [0], [1], [1], [1]]), np.array([0, 0, 1, 0, 1, 1])
    >>> round(AIPW().fit(None, x, t, x[:, 0] + 2 * t).ate(), 6)
    2.0
    """

    name = "aipw"

    def _average(self, x: np.ndarray, t: np.ndarray, y: np.ndarray, e: np.ndarray) -> tuple[float, np.ndarray]:
        low, high = _regressions(x, t, y)
        each = high - low + t / e * (y - high) - (1 - t) / (1 - e) * (y - low)
        return float(each.mean()), each - each.mean()


@dataclass(eq=False)
class TMLE(_Weighting):
    """Targeted maximum likelihood (van der Laan and Rubin 2006) of an outcome within its observed range.

    The regressions' logits are moved along the clever covariate t/e − (1−t)/(1−e) until the weighted residuals sum to 0
    (Gruber and van der Laan 2010), so that estimates stay in range where weights are large.

    >>> x, t = np.array([[0.0], [0], [0], [1], [1], [1]]), np.array([0, 0, 1, 0, 1, 1])
    >>> round(float(TMLE().fit(None, x, t, x[:, 0] + 2 * t + np.array([0.5, -0.5, 0, 0, 0.5, -0.5])).ate()), 2)
    2.0
    """

    name = "tmle"

    def _average(self, x: np.ndarray, t: np.ndarray, y: np.ndarray, e: np.ndarray) -> tuple[float, np.ndarray]:
        least, spread = y.min(), np.ptp(y) or 1.0
        low, high = (logit(np.clip((m - least) / spread, _EDGE, 1 - _EDGE)) for m in _regressions(x, t, y))
        share, clever = (y - least) / spread, t / e - (1 - t) / (1 - e)
        seen, step = np.where(t == 1, high, low), 0.0
        for _ in range(50):
            fitted = expit(seen + step * clever)
            step += float(clever @ (share - fitted)) / float(clever**2 @ (fitted * (1 - fitted)))
        fitted = expit(seen + step * clever)
        each = expit(high + step / e) - expit(low - step / (1 - e))
        influence = clever * (share - fitted) + each - each.mean()
        return float(each.mean()) * spread, influence * spread

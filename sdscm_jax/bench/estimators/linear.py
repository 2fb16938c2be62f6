"""Estimators by least squares: difference in means, regression, and its S- and T-learners.

Standard errors are of the HC2 kind: squared residuals over one minus their leverage, which for a difference
in means is Neyman's variance. Columns that are constant or collinear get the coefficients of least norm: that changes
no prediction for units like those seen. Of others, as of an option that one arm lacks, a regression says nothing; where
an effect would rest on such a prediction, there is an error and no estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import stdtrit

from ...errors import EstimatorError
from .protocol import Interval, check_units, parse_level
from .without_intervals import AverageOnly, UnitsOnly

# A leverage above 1 - TINY leaves no residual, and a share of variance below TINY is rounding.
TINY = 1e-9


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """A fitted regression on an intercept and the columns of x.

    Attributes:
        coef: float64 ``[1 + p]``, the intercept first.
        cov: float64 ``[1 + p, 1 + p]``, the HC2 covariance of ``coef``.
        dof: units less the rank of the design.
        mean: float64 ``[p]``, of the columns.
        rows: float64 ``[rank - 1, p]``, orthonormal; rows that differ from the mean by a combination of these have a
            fitted value that the data determine.
    """

    coef: np.ndarray
    cov: np.ndarray
    dof: int
    mean: np.ndarray
    rows: np.ndarray

    def determines(self, x: np.ndarray) -> np.ndarray:
        """Whose fitted values the data determine, bool ``[m]``, of rows ``[m, p]``: of combinations of the rows seen.

        >>> line = least_squares(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([1.0, 2.0]))
        >>> line.determines(np.array([[7.0, 0.0], [0.0, 1.0]]))
        array([ True, False])
        """
        apart = x - self.mean
        outside = apart - (apart @ self.rows.T) @ self.rows
        size = np.linalg.norm(x, axis=1) + np.linalg.norm(self.mean)
        return np.linalg.norm(outside, axis=1) <= 1e-8 * np.maximum(size, np.finfo(float).tiny)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Fitted values of rows ``[m, p]``, float64 ``[m]``."""
        return self.coef[0] + x @ self.coef[1:]


def least_squares(x: np.ndarray, y: np.ndarray) -> LeastSquares:
    """Regress y ``[n]`` on an intercept and x ``[n, p]``.

    Columns are centred first, so that a constant one is ignored rather than shares in the intercept.

    >>> line = least_squares(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]))
    >>> line.coef.round(6), line.dof
    (array([1., 2.]), 1)
    """
    n, p = x.shape
    mean = x.mean(0)
    u, s, vt = np.linalg.svd(x - mean, full_matrices=False)
    # Rounding in the columns is relative to their size before centring.
    large = s > max(n, p) * np.finfo(float).eps * np.linalg.norm(x)
    u, s, vt = u[:, large], s[large], vt[large]
    slopes = (vt.T / s) @ u.T
    solve = np.concatenate([1 / n - mean[None] @ slopes, slopes])
    coef = solve @ y
    leverage = 1 / n + (u**2).sum(1)
    residual = y - coef[0] - x @ coef[1:]
    spare = 1 - leverage
    weight = np.where(spare > TINY, residual**2 / np.maximum(spare, TINY), 0.0)
    return LeastSquares(coef, (solve * weight) @ solve.T, n - 1 - len(s), mean, vt)


def check_determined(name: str, determined: np.ndarray, arm: str) -> None:
    """Refuse units that a regression of one arm says nothing of.

    Raises:
        EstimatorError: says how many there are, and which is the first.
    """
    if not determined.all():
        raise EstimatorError(
            f"{name}: {(~determined).sum()} of {len(determined)} units have covariates that the {arm} say nothing of, "
            f"an option that none of them has, say (row {determined.argmin()}): the data leave their effects open"
        )


def check_overlap(name: str, x: np.ndarray, t: np.ndarray) -> None:
    """Refuse units ``[n, p]`` that a regression of the other arm says nothing of.

    Raises:
        EstimatorError: says how many there are, and which is the first.
    """
    for arm, what in enumerate(("controls", "treated")):
        check_determined(name, least_squares(x[t == arm], np.zeros(int((t == arm).sum()))).determines(x), what)


def check_unexplained(name: str, x: np.ndarray, t: np.ndarray) -> None:
    """Refuse a treatment ``[n]`` that is a linear function of the covariates ``[n, p]``.

    Raises:
        EstimatorError: it is.
    """
    treated = t.astype(np.float64)
    unexplained = treated - least_squares(x, treated).predict(x)
    if (unexplained**2).mean() < TINY * treated.var():
        raise EstimatorError(
            f"{name}: the treatment is a linear function of the covariates, so no coefficient of its own can be "
            "estimated"
        )


def student(estimate: np.ndarray, variance: np.ndarray, dof: float, level: float) -> Interval:
    """Limits of Student's t around estimates.

    >>> [limit.round(2) for limit in student(np.array([0.0]), np.array([1.0]), 1e9, 0.95)]
    [array([-1.96]), array([1.96])]
    """
    reach = stdtrit(dof, (1 + parse_level(level)) / 2) * np.sqrt(variance)
    return estimate - reach, estimate + reach


@dataclass(eq=False)
class DifferenceInMeans(AverageOnly):
    """The treated units' mean outcome less the controls'; covariates are ignored ("T-only OLS" in the paper).

    The interval of the average effect is Welch's: Neyman's variance, with Welch and Satterthwaite's degrees
    of freedom. There is none of single units' effects.

    >>> t, y = np.array([0, 0, 1, 1]), np.array([1.0, 3.0, 4.0, 8.0])
    >>> DifferenceInMeans().fit(None, np.zeros((4, 0)), t, y).ate()
    4.0
    """

    _ate: float = field(init=False, repr=False)
    _shares: tuple[float, float] = field(init=False, repr=False)  # of the variance, by arm
    _dofs: tuple[int, int] = field(init=False, repr=False)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> DifferenceInMeans:
        """Learn; see ``protocol.Estimator``. The key is not used.

        Raises:
            EstimatorError: an arm has fewer than two units.
        """
        check_units("difference_in_means", t, 2)
        controls, treated = y[t == 0], y[t == 1]
        self._ate = float(treated.mean() - controls.mean())
        self._shares = (float(controls.var(ddof=1) / len(controls)), float(treated.var(ddof=1) / len(treated)))
        self._dofs = (len(controls) - 1, len(treated) - 1)
        return self

    def ate(self) -> float:
        """The difference."""
        return self._ate

    def ate_interval(self, level: float) -> tuple[float, float]:
        """Lower and upper limit of the average effect."""
        variance = sum(self._shares)
        spread = sum(v**2 / d for v, d in zip(self._shares, self._dofs, strict=True))
        dof = variance**2 / spread if spread > 0 else float(sum(self._dofs))
        lower, upper = student(np.array(self._ate), np.array(variance), dof, level)
        return float(lower), float(upper)


@dataclass(eq=False)
class LinearRegression(AverageOnly):
    """The treatment's coefficient in a regression of the outcome on covariates and treatment.

    The interval of the average effect is HC2's with Student's t, or None where the regression leaves no
    residual. There is none of single units' effects.

    >>> x, t = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 1, 1, 0])
    >>> round(LinearRegression().fit(None, x, t, 5 * x[:, 0] + 2 * t).ate(), 6)
    2.0
    """

    _ols: LeastSquares = field(init=False, repr=False)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> LinearRegression:
        """Learn; see ``protocol.Estimator``. The key is not used.

        Raises:
            EstimatorError: an arm has fewer than two units, or the treatment is a linear function of the
                covariates, which leaves its coefficient undetermined.
        """
        check_units("linear_regression", t, 2)
        check_unexplained("linear_regression", x, t)
        self._ols = least_squares(np.column_stack([x, t]), y)
        return self

    def ate(self) -> float:
        """The coefficient."""
        return float(self._ols.coef[-1])

    def ate_interval(self, level: float) -> tuple[float, float] | None:
        """Lower and upper limit of the average effect."""
        if self._ols.dof < 1:
            return None
        lower, upper = student(self._ols.coef[-1], self._ols.cov[-1, -1], self._ols.dof, level)
        return float(lower), float(upper)


@dataclass(eq=False)
class LinearS(UnitsOnly):
    """S-learner: one regression on covariates and treatment.

    The effect is what it predicts for a treated unit less what it predicts for an untreated one. With no
    products of treatment and covariates, that difference is ``LinearRegression``'s coefficient.

    >>> x, t = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 1, 1, 0])
    >>> LinearS().fit(None, x, t, 5 * x[:, 0] + 2 * t).effect(x).round(6)
    array([2., 2., 2., 2.])
    """

    _ols: LeastSquares = field(init=False, repr=False)

    name = "linear_s"

    def _learn(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> None:
        check_unexplained(self.name, x, t)
        self._ols = least_squares(np.column_stack([x, t]), y)

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Difference of predictions, float64 ``[m]``."""
        treated, untreated = np.ones(len(x)), np.zeros(len(x))
        return self._ols.predict(np.column_stack([x, treated])) - self._ols.predict(np.column_stack([x, untreated]))


@dataclass(eq=False)
class LinearT:
    """T-learner: a regression of each arm; the effect is the difference of their predictions.

    Intervals are of conditional average effects: the arms are independent, so the HC2 covariances of their
    coefficients add. None where an arm has no more units than coefficients. Where the regression of an arm says
    nothing of a unit, whose option no unit of that arm has, say, there is no estimate of its effect, nor of an average
    that it is in: ``fit``, ``effect`` and ``interval`` refuse.

    >>> x, t = np.array([[0.0], [1.0], [0.0], [1.0]]), np.array([0, 0, 1, 1])
    >>> LinearT().fit(None, x, t, np.array([0.0, 0.0, 1.0, 3.0])).effect(x).round(6)
    array([1., 3., 1., 3.])
    """

    _arms: tuple[LeastSquares, LeastSquares] = field(init=False, repr=False)
    _mean: np.ndarray = field(init=False, repr=False)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> LinearT:
        """Learn; see ``protocol.Estimator``. The key is not used.

        Raises:
            EstimatorError: an arm has fewer than two units, or says nothing of units of the other.
        """
        check_units("linear_t", t, 2)
        self._arms = least_squares(x[t == 0], y[t == 0]), least_squares(x[t == 1], y[t == 1])
        self._rows(x)
        self._mean = np.concatenate([[1.0], x.mean(0)])
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Difference of predictions, float64 ``[m]``.

        Raises:
            EstimatorError: an arm says nothing of some of these units.
        """
        return self._rows(x) @ self._coef

    def interval(self, x: np.ndarray, level: float) -> Interval | None:
        """Lower and upper limits of conditional average effects, float64 ``[m]`` each.

        Raises:
            EstimatorError: an arm says nothing of some of these units.
        """
        return self._limits(self._rows(x), level)

    def ate(self) -> float:
        """Mean effect of the units it was fitted to."""
        return float(self._mean @ self._coef)

    @property
    def _coef(self) -> np.ndarray:
        controls, treated = self._arms
        return treated.coef - controls.coef

    def _rows(self, x: np.ndarray) -> np.ndarray:
        for arm, what in zip(self._arms, ("controls", "treated"), strict=True):
            check_determined("linear_t", arm.determines(x), what)
        return np.column_stack([np.ones(len(x)), x])

    def ate_interval(self, level: float) -> tuple[float, float] | None:
        """Lower and upper limit of the average effect over the units it was fitted to."""
        limits = self._limits(self._mean[None], level)
        return None if limits is None else (float(limits[0][0]), float(limits[1][0]))

    def _limits(self, rows: np.ndarray, level: float) -> Interval | None:
        dofs = [arm.dof for arm in self._arms]
        if min(dofs) < 1:
            return None
        variance = np.einsum("ij,jk,ik->i", rows, self._arms[0].cov + self._arms[1].cov, rows)
        # Rounding can leave a variance of zero just below it.
        return student(rows @ self._coef, np.maximum(variance, 0.0), sum(dofs), level)

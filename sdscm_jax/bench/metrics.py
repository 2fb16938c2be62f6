"""How far estimated effects of one data set are from the true ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from ..checks import finite, instance, one_of, real, share, told
from ..errors import EstimatorError
from .dataset import Dataset
from .estimators.protocol import Interval

METRICS = (
    "pehe",
    "pehe_sd_y",
    "pehe_sd_ite",
    "pehe_floor_sd_y",
    "cate_rmse",
    "cate_r2",
    "cate_r2_reference",
    "cate_coverage",
    "cate_width",
    "cate_score",
    "ite_coverage",
    "ite_width",
    "ite_score",
    "regret",
    "rank_correlation",
    "auuc",
    "qini",
    "beats_zero",
    "beats_constant",
)

# What an interval may be of.
INTERVALS = ("cate", "ite")
_ROUNDING = 1e-9  # Relative; what differs by less counts as equal.


def parse_interval_of(value: Any) -> str:
    """What intervals are of.

    Raises:
        EstimatorError: nothing that they can be of.
    """
    return one_of(value, INTERVALS, "target of intervals", EstimatorError)


def _aligned(**given: Any) -> tuple[np.ndarray, ...]:
    """Numbers of the same units, ``[n]`` each; what is called by the name of a limit may be infinite.

    Raises:
        EstimatorError: something is no array of such numbers, or they are of several shapes.
    """
    arrays = {name: finite(x, name, EstimatorError, infinite=name in ("lower", "upper")) for name, x in given.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1 or any(len(shape) != 1 or not shape[0] for shape in shapes):
        told = ", ".join(f"{name} has shape {array.shape}" for name, array in arrays.items())
        raise EstimatorError(f"{told}; expected one number for each unit, (n,), of one unit or more")
    return tuple(arrays.values())


def _limits(interval: Any) -> dict[str, Any]:
    """The limits of intervals by name.

    Raises:
        EstimatorError: there are not two.
    """
    pair = isinstance(interval, list | tuple) or (isinstance(interval, np.ndarray) and interval.ndim > 0)
    if not pair or len(interval) != 2:
        raise EstimatorError(f"interval is a pair of lower and upper limits, got {told(interval)}")
    return {"lower": interval[0], "upper": interval[1]}


def _constant(values: np.ndarray) -> bool:
    # Differences of predictions are seldom equal to the last bit where a model says that effects are.
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())


def over(numerator: float, denominator: float) -> float:
    """Their ratio; NaN where the denominator is 0.

    >>> over(1.0, 2.0), over(1.0, 0.0)
    (0.5, nan)
    """
    return numerator / denominator if denominator > 0 else math.nan


def sd(values: np.ndarray) -> float:
    """Standard deviation of ``[n]`` numbers, divided by n; exactly 0 where they differ by rounding alone.

    >>> sd(np.array([1.0, 3.0]))
    1.0
    """
    (values,) = _aligned(values=values)
    return 0.0 if _constant(values) else float(values.std())


def pehe(truth: np.ndarray, effect: np.ndarray) -> float:
    """Precision in estimating heterogeneous effects: the root mean squared error over ``[n]`` units.

    >>> pehe(np.array([0.0, 2.0]), np.array([3.0, 6.0]))  # sqrt((9 + 16) / 2)
    3.5355339059327378
    """
    truth, effect = _aligned(truth=truth, effect=effect)
    return math.sqrt(np.mean(np.square(effect - truth)))


def r2(truth: np.ndarray, effect: np.ndarray) -> float:
    """Share of the variance of the truth that is explained, 1 - MSE / Var(truth); not clipped, so −∞ to 1.

    NaN where the truth is constant.

    >>> r2(np.array([1.0, 3.0]), np.array([1.0, 2.0]))  # 1 - 0.5 / 1
    0.5
    """
    truth, effect = _aligned(truth=truth, effect=effect)
    return math.nan if _constant(truth) else 1.0 - float(np.mean(np.square(effect - truth)) / truth.var())


def r2_reference(truth: np.ndarray, effect: np.ndarray) -> float:
    """What the code of the paper calls R²: estimate and truth exchanged, 1 - MSE / Var(estimate).

    It rewards estimates for varying much, and is here for comparison with the published figures, which clip
    it at 0. Of a constant estimate it is 1 if that is right and 0 if not, as in scikit-learn, which they use.

    >>> r2_reference(np.array([1.0, 3.0]), np.array([1.0, 2.0]))  # 1 - 0.5 / 0.25
    -1.0
    """
    truth, effect = _aligned(truth=truth, effect=effect)
    if _constant(effect):
        return float(pehe(truth, effect) == 0)
    return r2(effect, truth)


def coverage(truth: np.ndarray, interval: Interval) -> float:
    """Share of units whose effect lies in their interval, limits included.

    >>> coverage(np.array([0.0, 2.0]), (np.array([0.0, 0.0]), np.array([1.0, 1.0])))
    0.5
    """
    truth, lower, upper = _aligned(truth=truth, **_limits(interval))
    return float(np.mean((lower <= truth) & (truth <= upper)))


def mean_width(interval: Interval) -> float:
    """Mean width of intervals; one whose limits have crossed is empty, of width 0. Infinite where one is.

    >>> mean_width((np.array([0.0, 0.0]), np.array([1.0, 2.0])))
    1.5
    """
    lower, upper = _aligned(**_limits(interval))
    return float(np.mean(np.maximum(upper - lower, 0.0)))


def interval_score(truth: np.ndarray, interval: Interval, level: float) -> float:
    """Mean interval score (Winkler 1972; Gneiting and Raftery 2007, eq. 43): coverage and width judged together.

    Width plus 2 / (1 - level) times the distance by which an effect is missed; smaller is better, and the true
    quantiles are best in expectation.

    >>> round(interval_score(np.array([0.5, 2.0]), (np.array([0.0, 0.0]), np.array([1.0, 1.0])), 0.9), 9)
    11.0
    """
    level = share(level, "level", EstimatorError)
    truth, lower, upper = _aligned(truth=truth, **_limits(interval))
    missed = np.maximum(lower - truth, 0.0) + np.maximum(truth - upper, 0.0)
    return float(np.mean(upper - lower + 2.0 / (1.0 - level) * missed))


def policy_regret(truth: np.ndarray, effect: np.ndarray, sd_y: float) -> float:
    """What treating where the estimate is positive loses against treating where the truth is, per unit.

    Args:
        truth: float64 ``[n]``, true effects; a larger outcome is a better one.
        effect: float64 ``[n]``, their estimates.
        sd_y: standard deviation of the outcome, the unit of the answer.

    >>> policy_regret(np.array([1.0, -2.0, 3.0]), np.array([-1.0, 1.0, 1.0]), 2.0)  # (1 + 2 + 0) / 3 / 2
    0.5
    """
    truth, effect = _aligned(truth=truth, effect=effect)
    sd_y = real(sd_y, "sd_y", EstimatorError, least=0)
    return over(float(np.mean(np.abs(truth) * ((truth > 0) != (effect > 0)))), sd_y)


def rank_correlation(truth: np.ndarray, effect: np.ndarray) -> float:
    """Spearman's rank correlation, with mean ranks for ties; NaN where either is constant.

    >>> rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0.0, 3.0, 2.0]))
    0.5
    """
    truth, effect = _aligned(truth=truth, effect=effect)
    if _constant(truth) or _constant(effect):
        return math.nan
    first, second = (pd.Series(values).rank().to_numpy(dtype=np.float64) for values in (truth, effect))
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / math.sqrt((first @ first) * (second @ second)))


def uplift_area(truth: np.ndarray, effect: np.ndarray) -> float:
    """Area under the uplift curve: what is gained per unit by treating the units with the greatest estimates, averaged
    over the share that is treated (Rzepakowski and Jaroszewicz 2012; Gutierrez and Gérardy 2017).

    The curve is made of the true effects, which those papers have to estimate from the outcomes of both arms. Units of
    equal estimates are treated in random order, so that a constant has the area of the diagonal, half the mean effect.

    >>> uplift_area(np.array([3.0, 1.0]), np.array([1.0, 0.0]))  # 0, 3/2, 4/2 at 0, 1/2, 1
    1.25
    """
    truth, effect = _aligned(truth=truth, effect=effect)
    if _constant(effect):
        return float(truth.mean()) / 2
    _, tied = np.unique(-effect, return_inverse=True)
    sums, sizes = np.bincount(tied, weights=truth), np.bincount(tied)
    before = np.cumsum(sums) - sums
    # Within a tie the curve is straight: its area is the tie's size times its middle.
    return float((sizes * (before + sums / 2)).sum() / len(truth) ** 2)


def qini(truth: np.ndarray, effect: np.ndarray) -> float:
    """Qini coefficient (Radcliffe 2007), of true effects: the area between uplift curve and diagonal, in that of the
    perfect order. 1 where units are in the order of their effects, 0 on average where in no order; NaN where all
    effects are the same.

    >>> qini(np.array([3.0, 1.0, 2.0]), np.array([9.0, 5.0, 6.0])), qini(np.array([3.0, 1.0]), np.array([0.0, 1.0]))
    (1.0, -1.0)
    """
    truth, effect = _aligned(truth=truth, effect=effect)
    if _constant(truth):
        return math.nan
    diagonal = float(truth.mean()) / 2
    return (uplift_area(truth, effect) - diagonal) / (uplift_area(truth, truth) - diagonal)


def _beats(truth: np.ndarray, effect: np.ndarray, baseline: float) -> float:
    return float(pehe(truth, effect) < (1 - _ROUNDING) * pehe(truth, np.full(len(truth), baseline)))


def unscored(data: Dataset) -> dict[str, float]:
    """What ``score`` says of an estimator that failed: the truth, and NaN for the estimates and metrics."""
    nan = math.nan
    known = {"ate": nan, "ate_true": data.ate, "ate_lower": nan, "ate_upper": nan}
    sd_ite = sd(data.ite) if data.known else nan
    return {**known, "sd_y": sd(data.y), "sd_ite": sd_ite, **dict.fromkeys(METRICS, nan)}


def _numbers(values: Any, what: str) -> np.ndarray:
    """An array of floats, of whatever shape and values: ``_check`` says which unit's is wrong."""
    try:
        return np.asarray(values, np.float64)
    except Exception as error:
        raise EstimatorError(f"{what} are numbers, got {told(values)}") from error


def _check(data: Dataset, effect: np.ndarray, interval: Interval | None) -> None:
    named = [("effects", effect)]
    if interval is not None:
        named += [("lower limits", interval[0]), ("upper limits", interval[1])]
    for what, values in named:
        if values.shape != (len(data),):
            raise EstimatorError(f"{data.name}: {what} have shape {values.shape}, expected ({len(data)},)")
        # An unbounded interval is an answer; an unbounded effect is none.
        kind, wrong = ("finite numbers", ~np.isfinite(values)) if what == "effects" else ("numbers", np.isnan(values))
        if wrong.any():
            first = data.unit[wrong.argmax()]
            raise EstimatorError(
                f"{data.name}: {wrong.sum()} of {len(data)} {what} are not {kind}; the first is that of unit {first}"
            )


def score(
    data: Dataset,
    effect: np.ndarray,
    interval: Interval | None = None,
    ate: float | None = None,
    ate_interval: tuple[float, float] | None = None,
    *,
    interval_of: str = "cate",
    level: float = 0.95,
    ate_true: float | None = None,
) -> dict[str, float]:
    """Judge the estimates of one data set.

    Args:
        data: the units and their true effects.
        effect: float ``[n]``, estimated effects.
        interval: lower and upper limits, float ``[n]`` each; infinite ones are allowed.
        ate: the estimated average effect; without it, the mean of ``effect``.
        ate_interval: its lower and upper limit.
        interval_of: what ``interval`` is to hold, ``"cate"`` or ``"ite"``; columns of the other are NaN.
        level: share that intervals are to hold.
        ate_true: the true average effect of the units that ``ate`` is about; without it, that of ``data``.

    Returns:
        The columns ``ate, ate_true, ate_lower, ate_upper, sd_y, sd_ite`` and ``METRICS``, as floats. Undefined
        ones are NaN, and those that need a truth that is not known. ``pehe`` and what is made of it (also
        ``beats_zero`` and ``beats_constant``: 1 if PEHE is below that of no effect and below that of everybody
        having the true average effect) are of individual effects; ``pehe_floor_sd_y`` is the PEHE of the exact
        expected effects. ``cate_*``, ``regret``, ``rank_correlation``, ``auuc`` and ``qini`` are of the expected
        effects given *all* covariates, which no rule can do better than, whatever the estimator was shown. Where
        the outcome is a probability without mediators both are the same. Widths, interval scores, the regret and
        ``auuc`` are in units of sd(y), as are ``pehe_sd_y``; standard deviations divide by n.

    Raises:
        EstimatorError: estimates of the wrong shape, or that are no numbers (names the data set and the unit);
            intervals of something else; or the level is not between 0 and 1.

    >>> data = Dataset("a", "0", pd.DataFrame({"w": pd.Categorical(["sun", "rain"])}), (), np.array([0, 1]),
    ...     np.array([1.0, 3.0]), np.array([[1.0, 2.0], [0.0, 3.0]]), np.array([1.0, 3.0]), np.array([0.5, 0.5]),
    ...     np.array([0, 1]))
    >>> found = score(data, np.array([2.0, 2.0]))
    >>> found["ate_true"], found["pehe"], found["beats_zero"], found["beats_constant"]
    (2.0, 1.0, 1.0, 0.0)
    """
    interval_of, level = parse_interval_of(interval_of), share(level, "level", EstimatorError)
    instance(data, Dataset, "data", EstimatorError)
    effect = _numbers(effect, f"{data.name}: effects")
    if interval is not None:
        limits = _limits(interval).items()
        interval = tuple(_numbers(x, f"{data.name}: {side} limits") for side, x in limits)  # type: ignore[assignment]
    if ate is not None:
        ate = real(ate, f"{data.name}: the estimated average effect", EstimatorError)
    if ate_interval is not None:
        for side, limit in _limits(ate_interval).items():
            finite(limit, f"{data.name}: the {side} limit of the average effect", EstimatorError, infinite=True)
        if any(np.ndim(limit) for limit in ate_interval):
            raise EstimatorError(f"{data.name}: ate_interval is a pair of numbers, got {told(ate_interval)}")
    _check(data, effect, interval)
    ate = float(effect.mean()) if ate is None else ate
    with np.errstate(over="ignore", invalid="ignore"):  # Squares of an estimate that exploded are infinite.
        found = _judge(data, effect, interval, ate, ate_interval, interval_of, level)
    return found if ate_true is None else found | {"ate_true": real(ate_true, "ate_true", EstimatorError)}


def _judge(
    data: Dataset,
    effect: np.ndarray,
    interval: Interval | None,
    ate: float,
    ate_interval: tuple[float, float] | None,
    interval_of: str,
    level: float,
) -> dict[str, float]:
    ite, found = data.ite, unscored(data)
    # Of a log-probability that has mediators, the expected effect is not known; of data from elsewhere, neither may be.
    known = bool(np.isfinite(data.cate).all())
    sd_y = found["sd_y"]
    if ate_interval is not None:
        found |= {"ate_lower": float(ate_interval[0]), "ate_upper": float(ate_interval[1])}
    if interval is not None:
        found[f"{interval_of}_width"] = over(mean_width(interval), sd_y)
        truth = data.cate if interval_of == "cate" else ite
    if interval is not None and (known if interval_of == "cate" else data.known):
        found |= {
            f"{interval_of}_coverage": coverage(truth, interval),
            f"{interval_of}_score": over(interval_score(truth, interval, level), sd_y),
        }
    if known:
        found |= {
            "cate_rmse": pehe(data.cate, effect),
            "cate_r2": r2(data.cate, effect),
            "cate_r2_reference": r2_reference(data.cate, effect),
            "regret": policy_regret(data.cate, effect, sd_y),
            "rank_correlation": rank_correlation(data.cate, effect),
            "auuc": over(uplift_area(data.cate, effect), sd_y),
            "qini": qini(data.cate, effect),
        }
    if data.known:
        error = pehe(ite, effect)
        found |= {
            "pehe": error,
            "pehe_sd_y": over(error, sd_y),
            "pehe_sd_ite": over(error, found["sd_ite"]),
            "pehe_floor_sd_y": over(pehe(ite, data.cate), sd_y) if known else math.nan,
            "beats_zero": _beats(ite, effect, 0.0),
            "beats_constant": _beats(ite, effect, data.ate),
        }
    return found | {"ate": ate}

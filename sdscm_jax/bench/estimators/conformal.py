"""Conformal intervals of individual effects (Lei & Candès 2021, "Conformal inference of counterfactuals and
individual treatment effects"), as ``cfcausal::conformalIte(algo="counterfactual")`` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...errors import EstimatorError
from .extra import extra
from .forests import with_constant
from .protocol import Interval, check_units, parse_level, seed_of

NEEDED = 20


@dataclass(frozen=True)
class Options:
    """How intervals are made.

    Attributes:
        trees: of each quantile forest.
        leaf: fewest units in a leaf of it.
        train: share of each arm that forests and propensities are learned from; the rest calibrates.
        clip: propensities are kept this far from 0 and 1.
        margin: an interval that would be infinite reaches at least this share of the outcome's range beyond it.
        weighted: whether calibration allows for the arms' different covariates. Without, intervals of missing
            outcomes are too short or too long wherever treatment depends on covariates.
    """

    trees: int = 100
    leaf: int = 2
    train: float = 0.75
    clip: float = 0.01
    margin: float = 0.1
    weighted: bool = True


def weighted_quantile(values: np.ndarray, weights: np.ndarray, q: float | np.ndarray) -> np.ndarray:
    """Least value below or at which at least a share q of the weight lies; inf where there is none.

    Args:
        values: float64 ``[k]``, ascending.
        weights: float64 ``[..., k]``, none negative; one that sums to less than 1 leaves the rest at infinity.
        q: between 0 and 1.

    Returns:
        float64 ``[...]``.

    >>> weighted_quantile(np.array([1.0, 2.0, 3.0]), np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.1]]), 0.75)
    array([ 2., inf])
    """
    below = np.cumsum(weights, axis=-1) >= q - 1e-12
    return np.where(below.any(axis=-1), values[below.argmax(axis=-1)], np.inf)


class QuantileForest:
    """Quantiles by the weights that a random forest gives to the units it was fitted to (Meinshausen 2006)."""

    def __init__(self, x: np.ndarray, y: np.ndarray, trees: int, leaf: int, seed: int) -> None:
        from sklearn.ensemble import RandomForestRegressor

        order = np.argsort(y, kind="stable")
        self.y = y[order]
        self.forest = RandomForestRegressor(
            n_estimators=trees, min_samples_leaf=min(leaf, len(y)), max_features=0.34, random_state=seed
        ).fit(x[order], self.y)
        self.leaves = self.forest.apply(x[order])

    def weights(self, x: np.ndarray) -> np.ndarray:
        """Of each fitted unit, ascending in its outcome, float64 ``[m, k]``; they sum to 1."""
        total = np.zeros((len(x), len(self.y)))
        for mine, theirs in zip(self.leaves.T, self.forest.apply(x).T, strict=True):
            sizes = np.bincount(mine)
            total += (theirs[:, None] == mine) / sizes[theirs][:, None]
        return total / self.leaves.shape[1]


class Arm(NamedTuple):
    """What is needed to predict outcomes of one arm at any level.

    A unit whose own weight is more than ``1 - level`` has the whole line as its interval. Here it has the least
    interval that contains both ``reach`` and what the greatest score would give, hence contains every finite one.
    """

    forest: QuantileForest
    calibration: np.ndarray  # weights of the forest at the units that calibrate
    y: np.ndarray  # of those
    ratio: np.ndarray  # of those: how much likelier the other arm is
    reach: tuple[float, float]

    def interval(self, forest: np.ndarray, ratio: np.ndarray, level: float) -> Interval:
        """Intervals of outcomes, finite, at units with these weights of the forest and ratios."""
        tails = ((1 - level) / 2, (1 + level) / 2)
        lower, upper = (weighted_quantile(self.forest.y, self.calibration, q) for q in tails)
        score = np.maximum(lower - self.y, self.y - upper)
        order = np.argsort(score, kind="stable")
        # the unit's own weight counts as if its score were infinite
        shares = self.ratio[order] / (self.ratio.sum() + ratio[:, None])
        widen = weighted_quantile(score[order], shares, level)
        finite = np.isfinite(widen)
        widen = np.where(finite, widen, score.max())
        lower, upper = (weighted_quantile(self.forest.y, forest, q) for q in tails)
        lower, upper = lower - widen, upper + widen
        least, most = self.reach
        return np.where(finite, lower, np.minimum(lower, least)), np.where(finite, upper, np.maximum(upper, most))


class Cqr:
    """Weighted split-conformal quantile regression of each arm; intervals of the individual effects.

    A quarter of each arm calibrates forests that were fitted to the rest. The interval of an outcome in the arm that
    a unit was not in covers with probability ``level`` on average over such units, if the propensity is right; the
    weights (1 - e) / e and e / (1 - e) carry calibration from one arm to the other. For a unit that it was fitted to,
    the effect's interval is that of the missing outcome against the observed one. For another unit it is the
    difference of the two outcomes' intervals, each at level ``(1 + level) / 2`` (Bonferroni) and weighted for units
    of either arm, by 1 / e and 1 / (1 - e).

    Where the weight of the unit itself is more than ``1 - level``, the paper's interval of an outcome is the whole
    line. It is cut here to the range of the outcomes and a margin, or to the widest finite interval where that is
    wider, because one infinite width would hide what the others are; the guarantee is kept for outcomes therein.

    The estimate of an effect is the difference of the forests' medians, or, for a unit that it was fitted to, of the
    observed outcome and the median of the missing one; the average effect is the mean of these.
    """

    name = "cqr"
    interval_of = "ite"

    def __init__(self, options: Options = Options()) -> None:
        self.options = options
        self._x: np.ndarray | None = None

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Cqr:
        """Learn forests, propensities and scores; see ``Estimator.fit``.

        Raises:
            EstimatorError: scikit-learn is missing, or an arm has fewer than 20 units.
        """
        extra(self.name, "sklearn", "scikit-learn")
        t, y = np.asarray(t).astype(int), np.asarray(y, np.float64)
        check_units(self.name, t, NEEDED)
        options, seed = self.options, seed_of(key)
        rng = np.random.default_rng(seed)
        train = np.zeros(len(t), bool)
        for arm in (0, 1):
            members = rng.permutation(np.flatnonzero(t == arm))
            train[members[: round(options.train * len(members))]] = True
        self._x, self._t, self._y = np.array(x, np.float64).reshape(len(t), -1), t, y
        self._classifier = self._propensities(train, seed)
        margin = options.margin * np.ptp(y)
        reach = (y.min() - margin, y.max() + margin)
        self._arms = []
        for arm in (0, 1):
            mine, held = train & (t == arm), ~train & (t == arm)
            forest = QuantileForest(with_constant(self._x[mine]), y[mine], options.trees, options.leaf, seed + arm)
            calibration = forest.weights(with_constant(self._x[held]))
            self._arms.append(Arm(forest, calibration, y[held], self._odds(self._x[held], arm), reach))
        self._known = self._predictions(self._x)
        return self

    def _propensities(self, train: np.ndarray, seed: int) -> Any:
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.ensemble import RandomForestClassifier

        assert self._x is not None
        base = RandomForestClassifier(n_estimators=100, min_samples_leaf=10, random_state=seed)
        classifier = CalibratedClassifierCV(base, method="sigmoid", cv=3)
        return classifier.fit(with_constant(self._x[train]), self._t[train])

    def _odds(self, x: np.ndarray, arm: int) -> np.ndarray:
        """How much likelier units are to be in the other arm than in this one, float64 ``[m]``."""
        if not self.options.weighted:
            return np.ones(len(x))
        treated = self._classifier.predict_proba(with_constant(x))[:, 1]
        here = np.clip(treated if arm else 1 - treated, self.options.clip, 1 - self.options.clip)
        return (1 - here) / here

    def _predictions(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights of the forest and odds of units, for each arm."""
        return [(self._arms[arm].forest.weights(with_constant(x)), self._odds(x, arm)) for arm in (0, 1)]

    def _at(self, x: np.ndarray) -> tuple[list[tuple[np.ndarray, np.ndarray]], bool]:
        if self._x is None:
            raise EstimatorError(f"{self.name} is not fitted")
        x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != self._x.shape[1]:
            raise EstimatorError(f"{self.name} was fitted to {self._x.shape[1]} covariates, got {x.shape}")
        if np.array_equal(x, self._x):
            return self._known, True
        return self._predictions(x), False

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Differences of medians, float64 ``[m]``."""
        predictions, known = self._at(x)
        medians = [weighted_quantile(self._arms[arm].forest.y, predictions[arm][0], 0.5) for arm in (0, 1)]
        if not known:
            return medians[1] - medians[0]
        return np.where(self._t == 1, self._y - medians[0], medians[1] - self._y)

    def interval(self, x: np.ndarray, level: float) -> Interval:
        """Conformal intervals of the individual effects, float64 ``[m]`` each, finite."""
        level = parse_level(level)
        predictions, known = self._at(x)
        if known:
            (lower0, upper0), (lower1, upper1) = (self._arms[arm].interval(*predictions[arm], level) for arm in (0, 1))
            treated = self._t == 1
            return (
                np.where(treated, self._y - upper0, lower1 - self._y),
                np.where(treated, self._y - lower0, upper1 - self._y),
            )
        limits = []
        for arm, (forest, odds) in enumerate(predictions):
            # 1 / e is the odds of the other arm and 1
            fitted = self._arms[arm]._replace(ratio=self._arms[arm].ratio + 1)
            limits.append(fitted.interval(forest, odds + 1, (1 + level) / 2))
        return limits[1][0] - limits[0][1], limits[1][1] - limits[0][0]

    def ate(self) -> float:
        """Mean of the estimated effects of the units it was fitted to."""
        if self._x is None:
            raise EstimatorError(f"{self.name} is not fitted")
        return float(self.effect(self._x).mean())

"""Estimators of other libraries: models of scikit-learn's kind (``fit``, ``predict``), estimators of econml's kind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from ...checks import instance, one_of, share, told
from ...dsl.noise.streams import as_key
from ...errors import EstimatorError
from .forests import with_constant
from .protocol import Interval, check_units, seed_of
from .without_intervals import UnitsOnly

LEARNERS = ("t", "s")


@dataclass(eq=False)
class FromSklearn(UnitsOnly):
    """Effects by any regressor with ``fit(X, y)`` and ``predict(X)``: scikit-learn's, XGBoost's, a pipeline of them.

    Predictions under both treatments are subtracted (Künzel et al. 2019, "Metalearners for estimating heterogeneous
    treatment effects using machine learning", section 2). There are no intervals.

    Args:
        model: an unfitted regressor; copies of it are fitted. Each ``random_state`` of its parameters that is None is
            set from the key.
        learner: ``"t"``, two models, one of each arm; or ``"s"``, one whose last column is the treatment.

    Raises:
        EstimatorError: ``model`` is none, or predicts classes; or there is no such learner.

    >>> from sklearn.linear_model import Ridge
    >>> x, t = np.arange(8.0)[:, None] // 2, np.arange(8) % 2
    >>> fitted = FromSklearn(Ridge(alpha=1e-9)).fit(jax.random.key(0), x, t, x[:, 0] * t)
    >>> fitted.effect(np.array([[1.0], [2.0]])).round(3)
    array([1., 2.])
    """

    model: Any
    learner: str = "t"
    _predict: tuple[Callable[[np.ndarray], np.ndarray], ...] = field(init=False, repr=False)

    name = "FromSklearn"

    def __post_init__(self) -> None:
        _has(self.model, ("fit", "predict"), "a model of scikit-learn's kind")
        if hasattr(self.model, "predict_proba"):
            raise EstimatorError(
                f"{told(self.model)} predicts classes; effects are differences of numbers: a regressor"
            )
        self.learner = one_of(self.learner, LEARNERS, "learner", EstimatorError)

    @property
    def label(self) -> str:
        """What it is called on a leaderboard."""
        return f"{_label(self.model)}_{self.learner}"

    def _learn(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> None:
        key = as_key(key)
        if self.learner == "s":
            self._predict = (self._fitted(key, np.column_stack([x, t]), y),)
        else:
            keys = jax.random.split(key)
            self._predict = tuple(self._fitted(keys[a], with_constant(x[t == a]), y[t == a]) for a in (0, 1))

    def _fitted(self, key: Any, x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        model = _seeded(copy.deepcopy(self.model), key)
        model.fit(x, y)
        return lambda rows: np.asarray(model.predict(rows), np.float64).reshape(len(rows))

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Difference of predictions, float64 ``[m]``."""
        if self.learner == "s":
            untreated, treated = (self._predict[0](np.column_stack([x, np.full(len(x), a)])) for a in (0.0, 1.0))
        else:
            untreated, treated = (predict(with_constant(x)) for predict in self._predict)
        return treated - untreated


@dataclass(eq=False)
class FromEconml:
    """An estimator with econml's methods: ``fit(Y, T, X=X)``, ``effect(X)`` and, where it has them, intervals.

    Args:
        estimator: unfitted; a copy of it is fitted. Its ``random_state``, if None, is set from the key (not those of
            the models inside it). The treatment is 0 or 1: say ``discrete_treatment=True`` where econml asks.
        fit_options: further arguments of ``fit``, such as ``{"inference": "bootstrap"}``.

    Intervals are ``effect_interval(X, alpha=1 - level)`` of units' expected effects, and ``ate_interval``; where the
    estimator was fitted without inference there are none.

    Raises:
        EstimatorError: ``estimator`` is none.

    >>> from econml.dml import LinearDML
    >>> rng = np.random.default_rng(0)
    >>> x, t = rng.normal(size=(80, 1)), np.arange(80) % 2
    >>> from sklearn.linear_model import LinearRegression, LogisticRegression
    >>> dml = LinearDML(model_y=LinearRegression(), model_t=LogisticRegression(), discrete_treatment=True)
    >>> round(FromEconml(dml).fit(jax.random.key(0), x, t, x[:, 0] + 3.0 * t).ate(), 1)
    3.0
    """

    estimator: Any
    fit_options: Mapping[str, Any] = field(default_factory=dict)
    _fitted: Any = field(init=False, repr=False)
    _x: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _has(self.estimator, ("fit", "effect"), "an estimator of econml's kind")
        instance(self.fit_options, Mapping, "fit_options", EstimatorError)

    @property
    def label(self) -> str:
        """What it is called on a leaderboard."""
        return _label(self.estimator)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> FromEconml:
        """Learn; see ``protocol.Estimator``.

        Raises:
            EstimatorError: an arm has fewer than two units.
        """
        check_units(self.label, t, 2)
        seed = seed_of(as_key(key))
        self._x, self._fitted = with_constant(x), copy.deepcopy(self.estimator)
        if getattr(self._fitted, "random_state", 0) is None:
            self._fitted.random_state = seed
        self._fitted.fit(y, t, X=self._x, **self.fit_options)
        return self

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Estimated effects, float64 ``[m]``."""
        return np.asarray(self._fitted.effect(with_constant(x)), np.float64).reshape(len(x))

    def interval(self, x: np.ndarray, level: float) -> Interval | None:
        """Limits of units' expected effects, or None where there is no inference."""
        ends = self._ends("effect_interval", with_constant(x), level)
        return None if ends is None else (ends[0].reshape(len(x)), ends[1].reshape(len(x)))

    def ate(self) -> float:
        """The mean estimated effect of the units that it was fitted to."""
        return float(self.effect(self._x).mean())

    def ate_interval(self, level: float) -> tuple[float, float] | None:
        """Limits of the average effect, or None where there is no inference."""
        ends = self._ends("ate_interval", self._x, level)
        return None if ends is None else (float(ends[0].item()), float(ends[1].item()))

    def _ends(self, method: str, x: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray] | None:
        level = share(level, "level", EstimatorError)
        # (Without inference econml raises AttributeError, also where the method is there.)
        with suppress(AttributeError):
            lower, upper = getattr(self._fitted, method)(x, alpha=1 - level)
            return np.asarray(lower, np.float64), np.asarray(upper, np.float64)
        return None


def _has(value: Any, methods: tuple[str, ...], what: str) -> None:
    if isinstance(value, type):
        raise EstimatorError(f"{what} is an object, got the class {value.__qualname__}; make one: {value.__name__}()")
    if missing := [name for name in methods if not callable(getattr(value, name, None))]:
        raise EstimatorError(f"{what} has {' and '.join(methods)}; {told(value)} has no {', '.join(missing)}")


def _label(value: Any) -> str:
    return type(value).__name__


def _seeded(model: Any, key: Any) -> Any:
    """The model with a seed in every ``random_state`` that is None."""
    parameters = model.get_params() if hasattr(model, "get_params") else {}
    unseeded = [
        name for name, value in parameters.items() if name.rpartition("__")[2] == "random_state" and value is None
    ]
    return model.set_params(**dict.fromkeys(unseeded, seed_of(key))) if unseeded else model

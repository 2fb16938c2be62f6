"""econml's X-, R- and domain-adaptation learners with gradient boosting by scikit-learn.

Trees are boosted on one thread: many data sets run in parallel outside. None of these has intervals: econml offers
bootstrapped ones, at a hundred times the cost.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np

from .crossfitted import quiet
from .extra import extra
from .forests import with_constant
from .protocol import seed_of
from .without_intervals import UnitsOnly


@dataclass(eq=False)
class _Boosted(UnitsOnly):
    """A learner of several boosted regressions.

    Args:
        trees: of each regression.
        depth: of each tree.
        rate: how far each tree goes.
    """

    module: ClassVar[str]
    needed = 4

    trees: int = 100
    depth: int = 3
    rate: float = 0.1
    _model: Any = field(init=False, repr=False)

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """Other configurations, in the order in which a tuning budget tries them: see ``bench.tuning``."""
        tried = (
            (100, 1, 0.1),
            (100, 2, 0.1),
            (300, 2, 0.03),
            (50, 2, 0.1),
            (300, 3, 0.03),
            (300, 1, 0.1),
            (300, 4, 0.03),
        )
        return tuple(cls(*parameters) for parameters in tried)

    @abstractmethod
    def _make(self, econml: ModuleType, seed: int) -> Any:
        """The unfitted learner."""

    def _regression(self, seed: int) -> Any:
        boosted = importlib.import_module("sklearn.ensemble").GradientBoostingRegressor
        return boosted(n_estimators=self.trees, max_depth=self.depth, learning_rate=self.rate, random_state=seed)

    def _propensity(self, seed: int) -> Any:
        boosted = importlib.import_module("sklearn.ensemble").GradientBoostingClassifier
        return boosted(n_estimators=self.trees, max_depth=self.depth, learning_rate=self.rate, random_state=seed)

    def _learn(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> None:
        self._model = self._make(extra(self.name, self.module, "econml"), seed_of(key))
        with quiet():
            self._model.fit(y, t, X=with_constant(x))

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Estimated conditional average effects, float64 ``[m]``."""
        return np.ravel(self._model.effect(with_constant(x))).astype(np.float64)


@dataclass(eq=False)
class XLearner(_Boosted):
    """X-learner (Künzel, Sekhon, Bickel and Yu 2019): each arm's effects are what the other arm's regression leaves of
    its outcomes, regressed in turn, and averaged by the propensity.

    >>> import jax
    >>> x, t = np.arange(40.0)[:, None] % 4, np.arange(40) // 4 % 2
    >>> round(XLearner(trees=20).fit(jax.random.key(0), x, t, x[:, 0] + 3.0 * t).ate(), 1)
    3.0
    """

    name = "x_learner"
    module = "econml.metalearners"

    def _make(self, econml: ModuleType, seed: int) -> Any:
        return econml.XLearner(models=self._regression(seed), propensity_model=self._propensity(seed))


@dataclass(eq=False)
class RLearner(_Boosted):
    """R-learner (Nie and Wager 2021), as econml's non-parametric double machine learning: outcome and treatment less
    what cross-fitted regressions predict of them; the effect is the one by which their products fit best."""

    name = "r_learner"
    module = "econml.dml"

    def _make(self, econml: ModuleType, seed: int) -> Any:
        return econml.NonParamDML(
            model_y=self._regression(seed),
            model_t=self._propensity(seed),
            model_final=self._regression(seed),
            discrete_treatment=True,
            random_state=seed,
        )


@dataclass(eq=False)
class DomainAdaptation(_Boosted):
    """Domain-adaptation learner (econml): as the X-learner, but each arm's regression is weighted by the propensity
    towards the units of the other arm, whose outcomes it is to predict, and one regression is made of all effects."""

    name = "domain_adaptation"
    module = "econml.metalearners"

    def _make(self, econml: ModuleType, seed: int) -> Any:
        return econml.DomainAdaptationLearner(
            models=self._regression(seed),
            final_models=self._regression(seed),
            propensity_model=self._propensity(seed),
        )

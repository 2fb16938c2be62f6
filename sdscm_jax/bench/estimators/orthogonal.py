"""Estimators of econml: causal forests, double machine learning and doubly robust learning.

Options not named here are econml's defaults; nuisances are chosen as by its ``"auto"``, the better of a random
forest and a regularised linear model. Everything runs on one thread: many data sets run in parallel outside.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from .crossfitted import CrossfittedForest, CrossfittedLinear, Inference, Inferring, one_pass
from .extra import extra
from .forests import with_constant
from .protocol import check_units, seed_of


def _candidates(nuisance: str, seed: int, *, discrete: bool) -> Any:
    """The model, or those among which econml chooses one by cross-validation.

    Its ``"auto"`` and ``"forest"`` are spelled out: by those words the forest goes through a grid search of a
    single point, which at the end fits it once more to all units, for nobody (a quarter of the whole time).
    """
    if nuisance not in ("auto", "forest"):
        return nuisance
    ensemble = importlib.import_module("sklearn.ensemble")
    forest = (ensemble.RandomForestClassifier if discrete else ensemble.RandomForestRegressor)(random_state=seed)
    return forest if nuisance == "forest" else [forest, "linear"]


@dataclass(eq=False)
class CausalForest(Inferring):
    """econml's honest causal forest of raw outcomes on the raw treatment, as in the paper.

    Nothing is partialled out, so confounding is met by the forest's splits alone. A variance that
    econml says is negative is 0 (``crossfitted.one_pass``).

    Args:
        trees: in the forest.

    >>> import jax
    >>> x, t = np.arange(40.0)[:, None] % 4, np.arange(40) // 4 % 2
    >>> forest = CausalForest(trees=8).fit(jax.random.key(0), x, t, x[:, 0] + 3.0 * t)
    >>> bool(2 < forest.ate() < 4)
    True
    """

    trees: int = 100
    _model: Any = field(init=False, repr=False)
    _last: Inference | None = field(init=False, repr=False)
    _ate: float = field(init=False, repr=False)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> CausalForest:
        """Learn; see ``protocol.Estimator``.

        Raises:
            EstimatorError: an arm has fewer than ten units, or econml is missing.
        """
        check_units("causal_forest", t, 10)
        grf = extra("causal_forest", "econml.grf", "econml")
        self._last = None
        self._model = grf.CausalForest(n_estimators=self.trees, n_jobs=1, random_state=seed_of(key))
        self._model.fit(with_constant(x), t, y)
        self._ate = float(self._remember(x).effect.mean())
        return self

    def _infer(self, x: np.ndarray) -> Inference:
        return one_pass(self._model, x)


@dataclass(eq=False)
class CausalForestDML(CrossfittedForest):
    """Double machine learning with an honest causal forest for the effects.

    Limits of the average effect are econml's upper bound: wider than they need be. A variance that
    econml says is negative is 0 (``crossfitted.one_pass``).

    Args:
        trees: in the forest, a multiple of 4.
        nuisance: models of outcome and treatment: ``"auto"``, ``"forest"`` or ``"linear"``.
    """

    trees: int = 100
    nuisance: str = "auto"

    name = "causal_forest_dml"
    module = "econml.dml"

    def _make(self, econml: ModuleType, seed: int) -> Any:
        # drate adds a second estimate of the average effect, out of bag, which nobody reads here.
        return econml.CausalForestDML(
            model_y=_candidates(self.nuisance, seed, discrete=False),
            model_t=_candidates(self.nuisance, seed, discrete=True),
            discrete_treatment=True,
            drate=False,
            n_estimators=self.trees,
            n_jobs=1,
            random_state=seed,
        )

    def _infer(self, x: np.ndarray) -> Inference:
        return one_pass(self._model.model_cate, x)


@dataclass(eq=False)
class LinearDML(CrossfittedLinear):
    """Double machine learning with effects linear in the covariates.

    Args:
        nuisance: models of outcome and treatment: ``"auto"``, ``"forest"`` or ``"linear"``.

    >>> import jax
    >>> rng = np.random.default_rng(0)
    >>> x, t = rng.normal(size=(80, 1)), np.arange(80) % 2
    >>> model = LinearDML(nuisance="linear").fit(jax.random.key(0), x, t, x[:, 0] + 3.0 * t)
    >>> round(model.ate(), 1)
    3.0
    """

    nuisance: str = "auto"

    name = "linear_dml"
    module = "econml.dml"

    def _make(self, econml: ModuleType, seed: int) -> Any:
        return econml.LinearDML(
            model_y=_candidates(self.nuisance, seed, discrete=False),
            model_t=_candidates(self.nuisance, seed, discrete=True),
            discrete_treatment=True,
            random_state=seed,
        )


@dataclass(eq=False)
class LinearDR(CrossfittedLinear):
    """Doubly robust learning with effects linear in the covariates.

    Args:
        nuisance: models of outcome and propensity: ``"auto"``, ``"forest"`` or ``"linear"``.
        min_propensity: propensities are kept at least so far from 0 and 1. econml's own 1e-6 lets a forest that
            is sure of a unit's treatment give it a weight of a million.
    """

    nuisance: str = "auto"
    min_propensity: float = 0.01

    name = "linear_dr"
    module = "econml.dr"

    def _make(self, econml: ModuleType, seed: int) -> Any:
        return econml.LinearDRLearner(
            model_propensity=_candidates(self.nuisance, seed, discrete=True),
            model_regression=_candidates(self.nuisance, seed, discrete=False),
            min_propensity=self.min_propensity,
            random_state=seed,
        )


@dataclass(eq=False)
class ForestDR(CrossfittedForest):
    """Doubly robust learning with an honest forest for the effects.

    Limits of the average effect are econml's upper bound: wider than they need be. Negative variances are 0.

    Args:
        trees: in the forest, a multiple of 4.
        nuisance: models of outcome and propensity: ``"auto"``, ``"forest"`` or ``"linear"``.
        min_propensity: as in ``LinearDR``.
    """

    trees: int = 1000
    nuisance: str = "auto"
    min_propensity: float = 0.01

    name = "forest_dr"
    module = "econml.dr"

    def _make(self, econml: ModuleType, seed: int) -> Any:
        return econml.ForestDRLearner(
            model_propensity=_candidates(self.nuisance, seed, discrete=True),
            model_regression=_candidates(self.nuisance, seed, discrete=False),
            min_propensity=self.min_propensity,
            n_estimators=self.trees,
            n_jobs=1,
            random_state=seed,
        )

    def _infer(self, x: np.ndarray) -> Inference:
        # The same as effect_inference, which makes three passes.
        return one_pass(self._model.model_cate(T=1), x)

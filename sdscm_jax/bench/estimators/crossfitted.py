"""What econml's forests and its learners with cross-fitted nuisances have in common."""

from __future__ import annotations

import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import NormalDist
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np

from ...errors import EstimatorError
from .extra import extra
from .forests import with_constant
from .protocol import Interval, check_units, parse_level, seed_of

# econml's words where its last regression is short of rank.
UNDETERMINED = "Co-variance matrix is underdetermined"


@contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Silence what users can do nothing about: arguments that econml passes and scikit-learn is to change, and
    nuisance models whose search did not converge, which cross-validation judges as they are, and divisions by
    zero in a sensitivity analysis that nobody reads. Hands over what was said of rank; other warnings are passed
    on."""
    convergence = importlib.import_module("sklearn.exceptions").ConvergenceWarning
    short: list[warnings.WarningMessage] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"sklearn\.")
        warnings.filterwarnings("ignore", category=convergence)
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"econml\.validate\.")
        warnings.filterwarnings("always", message=UNDETERMINED)
        yield short
    for warning in said:
        if str(warning.message).startswith(UNDETERMINED):
            short.append(warning)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@dataclass(frozen=True, eq=False)
class Inference:
    """Estimated effects of some units, ``[m]``, with the standard errors of each and of their mean."""

    x: np.ndarray
    effect: np.ndarray
    stderr: np.ndarray
    stderr_of_mean: float


def _reach(level: float) -> float:
    """Standard errors from a normal estimate to its limits."""
    return NormalDist().inv_cdf((1 + parse_level(level)) / 2)


class Inferring(ABC):
    """An estimator whose effects and standard errors come from one pass over the units, which is kept: a
    forest's pass is not cheap, and the same units are asked about again."""

    _last: Inference | None
    _ate: float

    @abstractmethod
    def _infer(self, x: np.ndarray) -> Inference:
        """The pass."""

    def _remember(self, x: np.ndarray) -> Inference:
        if self._last is None or not np.array_equal(self._last.x, x):
            self._last = self._infer(x.copy())
        return self._last

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Estimated conditional average effects, float64 ``[m]``."""
        return self._remember(x).effect.copy()

    def interval(self, x: np.ndarray, level: float) -> Interval | None:
        """Normal limits of conditional average effects, float64 ``[m]`` each."""
        inference = self._remember(x)
        reach = _reach(level) * inference.stderr
        return inference.effect - reach, inference.effect + reach

    def ate(self) -> float:
        """Mean estimated effect of the units it was fitted to."""
        return self._ate


def one_pass(forest: Any, x: np.ndarray) -> Inference:
    """What an econml forest says of effects and, by econml's upper bound, of their mean: the root of the units'
    mean variance.

    econml's corrected variance is positive, but where the uncorrected one is below 1e-9 or so: there it takes a
    larger number in its place and may end below 0. Such a unit's variance is 0.
    """
    effect, variance = (np.reshape(a, len(x)) for a in forest.predict_and_var(with_constant(x)))
    variance = np.maximum(variance, 0)
    return Inference(x, effect, np.sqrt(variance), float(np.sqrt(variance.mean())))


@dataclass(eq=False)
class Crossfitted(Inferring):
    """What econml's learners with cross-fitted nuisances have in common."""

    name: ClassVar[str]
    module: ClassVar[str]
    fewest: ClassVar[int]  # units in an arm: two for either fold, or what the final forest's leaves need

    _model: Any = field(init=False, repr=False)
    _last: Inference | None = field(init=False, repr=False)
    _ate: float = field(init=False, repr=False)
    _ate_stderr: float = field(init=False, repr=False)
    _short: bool = field(init=False, repr=False)

    @abstractmethod
    def _make(self, econml: ModuleType, seed: int) -> Any:
        """The unfitted learner."""

    @abstractmethod
    def _modifiers(self, x: np.ndarray) -> np.ndarray | None:
        """Covariates along which effects vary."""

    def _controls(self, x: np.ndarray) -> np.ndarray | None:
        """Covariates that only the nuisances see."""
        return None

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Self:
        """Learn; see ``protocol.Estimator``.

        Raises:
            EstimatorError: there are too few units in an arm or for so many columns, the nuisances predict the
                treatment without error, or econml is missing.
        """
        check_units(self.name, t, self.fewest)
        self._last = None
        self._model = self._make(extra(self.name, self.module, "econml"), seed_of(key))
        with quiet() as short:
            try:
                self._model.fit(y, t, X=self._modifiers(x), W=self._controls(x))
            except np.linalg.LinAlgError as singular:
                raise EstimatorError(
                    f"{self.name}: nothing is left of the treatment or the outcome once the nuisances have predicted it"
                ) from singular
        self._short = bool(short)
        own = self._remember(x)
        self._ate, self._ate_stderr = float(own.effect.mean()), own.stderr_of_mean
        return self

    def _infer(self, x: np.ndarray) -> Inference:
        found = self._model.effect_inference(self._modifiers(x))
        effect, stderr = (
            np.broadcast_to(np.ravel(a), len(x)).astype(np.float64) for a in (found.point_estimate, found.stderr)
        )
        return Inference(x, effect, stderr, float(np.ravel(found.population_summary().stderr_mean)[0]))

    def ate_interval(self, level: float) -> tuple[float, float] | None:
        """Normal limits of the average effect over the units it was fitted to."""
        reach = _reach(level) * self._ate_stderr
        return self._ate - reach, self._ate + reach


@dataclass(eq=False)
class CrossfittedForest(Crossfitted):
    """econml's standard error of the average effect is, for forests, an upper bound: the root of the units' mean
    variance."""

    fewest = 10

    def _modifiers(self, x: np.ndarray) -> np.ndarray:
        return with_constant(x)


@dataclass(eq=False)
class CrossfittedLinear(Crossfitted):
    """The last regression gets an intercept and linearly independent columns; nuisances see the others too.

    Where it is short of rank all the same (as when the nuisances predict the treatments of a rare option's units
    without error), there are effects and no intervals.
    """

    fewest = 4

    _kept: np.ndarray = field(init=False, repr=False)

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Self:
        """Learn; see ``protocol.Estimator``.

        Raises:
            EstimatorError: as of every such learner, and there are too few units for so many columns.
        """
        self._kept = self._varying(x)
        if len(x) < 3 + self._kept.sum():
            raise EstimatorError(
                f"{self.name} needs at least {3 + self._kept.sum()} units for {self._kept.sum()} independent columns; "
                f"there are {len(x)}"
            )
        return super().fit(key, x, t, y)

    def _varying(self, x: np.ndarray) -> np.ndarray:
        """Columns along which effects may vary, bool ``[p]``."""
        return independent(x)

    def _modifiers(self, x: np.ndarray) -> np.ndarray | None:
        return x[:, self._kept] if self._kept.any() else None

    def _controls(self, x: np.ndarray) -> np.ndarray | None:
        # LinearDRLearner wants a column of one kind or the other.
        return None if self._kept.any() and self._kept.all() else with_constant(x[:, ~self._kept])

    def interval(self, x: np.ndarray, level: float) -> Interval | None:
        """Normal limits of conditional average effects, float64 ``[m]`` each; None where they are undetermined."""
        return None if self._short else super().interval(x, level)

    def ate_interval(self, level: float) -> tuple[float, float] | None:
        """Normal limits of the average effect over the units it was fitted to; None where they are undetermined."""
        return None if self._short else super().ate_interval(level)


def independent(x: np.ndarray) -> np.ndarray:
    """Which columns are not linear functions of those before them and a constant, bool ``[p]``.

    >>> independent(np.array([[1.0, 0, 1, 5], [0, 1, 1, 5], [0, 0, 0, 5], [1, 1, 2, 5]]))
    array([ True,  True, False, False])
    """
    basis = np.full((len(x), 1), len(x) ** -0.5)
    kept = np.zeros(x.shape[1], bool)
    for j, column in enumerate(x.T):
        rest = column
        for _ in range(2):  # projected twice, as rounding leaves something after the first time
            rest = rest - basis @ (basis.T @ rest)
        size = np.linalg.norm(rest)
        if size > 1e-8 * np.linalg.norm(column):
            kept[j] = True
            basis = np.column_stack([basis, rest / size])
    return kept

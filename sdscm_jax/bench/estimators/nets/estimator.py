"""What the networks share as estimators: standardising, padding, compiling once for many data sets."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ....errors import EstimatorError
from ..protocol import Interval, check_units
from .train import SLOW, Params, Training, Units

COLUMNS, UNITS = 16, 256
"""Data are padded to multiples of these, so that few shapes are ever compiled."""

MANY = 64
"""Data sets that an accelerator trains at once by default."""


@dataclass(frozen=True)
class Options:
    """Widths and training of a network.

    Attributes:
        representation: widths of the layers that read the covariates.
        head: widths of the layers before a value.
        training: see ``Training``.

    The defaults are smaller than those of catenets 0.2.4, which are ``catenets()``.
    """

    representation: tuple[int, ...] = (64, 64)
    head: tuple[int, ...] = (32,)
    training: Training = field(default_factory=Training)

    @classmethod
    def catenets(cls) -> Self:
        """Widths and training as in catenets 0.2.4: about a hundred times slower.

        >>> Options.catenets().representation
        (200, 200, 200)
        """
        return cls(representation=(200, 200, 200), head=(100, 100), training=SLOW)


class NetEstimator:
    """A network as an ``Estimator``: covariates and outcome are standardised, estimates are put back in units of y.

    A subclass says how it learns and what effects it then gives, as pure functions. Columns are padded to a
    multiple of 16 and units to a multiple of 256; one compilation per padded shape and options serves all data
    sets.
    """

    name: ClassVar[str]
    options_class: ClassVar[type[Any]] = Options
    least_units: ClassVar[int] = 2

    def __init__(self, options: Any = None):
        self.options = self.options_class() if options is None else options
        self._params: Params = None

    @staticmethod
    def learn(options: Any, key: Array, units: Units) -> Params:
        """Weights learned from standardised, padded units."""
        raise NotImplementedError

    @staticmethod
    def effects(options: Any, params: Params, x: Array) -> Array:
        """Effects, ``[n]``, of standardised, padded covariates, in standard deviations of the outcome."""
        raise NotImplementedError

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Self:
        """Learn; see ``Estimator.fit``.

        Raises:
            EstimatorError: an arm has too few units.
        """
        units = self._prepare(x, t, y)
        params, effects = _fit(type(self), self.options, key, units)
        return self._finish(params, np.asarray(effects))

    def fit_many(
        self, keys: Array, x: np.ndarray, t: np.ndarray, y: np.ndarray, batch: int | None = None
    ) -> list[Self]:
        """Fit many data sets of one size.

        Args:
            keys: ``[D]`` PRNG keys.
            x: ``[D, n, p]``, or a list of D.
            t: ``[D, n]``.
            y: ``[D, n]``.
            batch: how many are trained at once, by ``vmap``; None: 1 on a CPU, where more are no faster, and 64
                on an accelerator.

        Returns:
            D fitted estimators, each equal (to floating-point tolerance if ``batch`` is not 1) to the one that
            ``fit`` makes of its data set. This one is left as it was.

        Raises:
            EstimatorError: an arm of a data set has too few units, or the data sets' sizes differ.
        """
        if not len(keys) == len(x) == len(t) == len(y):
            raise EstimatorError(f"{len(keys)} keys, but x, t and y of {len(x)}, {len(t)} and {len(y)} data sets")
        if len({np.shape(one) for one in x}) > 1:
            raise EstimatorError(f"fit_many needs data sets of one size, got {sorted({np.shape(one) for one in x})}")
        if batch is None:
            batch = 1 if jax.default_backend() == "cpu" else MANY
        if batch < 1:
            raise EstimatorError(f"batch is at least 1, got {batch}")
        copies = [copy(self) for _ in range(len(x))]
        if batch == 1:
            return [c.fit(key, *data) for c, key, *data in zip(copies, keys, x, t, y, strict=True)]
        batch = min(batch, len(x))
        for start in range(0, len(x), batch):
            # The last batch is filled up with its last data set: another size would be another compilation.
            chosen = [min(i, len(x) - 1) for i in range(start, start + batch)]
            prepared = [copies[i]._prepare(x[i], t[i], y[i]) for i in chosen]
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *prepared)
            params, effects = _fit_batch(type(self), self.options, keys[np.array(chosen)], stacked)
            effects = np.asarray(effects)
            for place, i in enumerate(sorted(set(chosen))):
                copies[i]._finish(jax.tree.map(lambda leaf, place=place: leaf[place], params), effects[place])
        return copies

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Estimated effects of units with these covariates, float64 ``[m]``.

        Raises:
            EstimatorError: not fitted, or fitted to another number of covariates.
        """
        self._check_fitted()
        x = np.asarray(x, np.float64)
        if x.shape[1] != len(self._centre):
            raise EstimatorError(f"{self.name} was fitted to {len(self._centre)} covariates, got {x.shape[1]}")
        effects = _predict(type(self), self.options, self._params, _pad((x - self._centre) / self._spread))
        return np.asarray(effects, np.float64)[: len(x)] * self._unit

    def interval(self, x: np.ndarray, level: float) -> Interval | None:
        """None: the networks give no intervals."""
        return None

    def ate(self) -> float:
        """Mean of the estimated effects of the units it was fitted to."""
        self._check_fitted()
        return self._ate

    def _check_fitted(self) -> None:
        if self._params is None:
            raise EstimatorError(f"{self.name} is not fitted")

    def _prepare(self, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Units:
        """Standardise in float64, keep what undoes it, and pad."""
        x, y, t = np.asarray(x, np.float64), np.asarray(y, np.float64), np.asarray(t)
        check_units(self.name, t, self.least_units)
        self._units = len(t)
        self._centre, self._spread = x.mean(0), _spread(x)
        self._unit = float(_spread(y))
        scaled = ((x - self._centre) / self._spread, t, (y - y.mean()) / self._unit, np.ones(len(t)))
        covariates, treatments, outcomes, weight = (jnp.asarray(_pad(values)) for values in scaled)
        return Units(covariates, treatments, outcomes, weight, jnp.int32(len(self._centre)))

    def _finish(self, params: Params, effects: np.ndarray) -> Self:
        self._params = params
        self._ate = float(effects[: self._units].mean(dtype=np.float64)) * self._unit
        return self


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard deviations; 1 for what does not vary but for rounding."""
    spread = values.std(0)
    return np.where(spread > 1e-12 * np.abs(values).max(0, initial=0), spread, 1.0)


def _pad(values: np.ndarray) -> np.ndarray:
    """Zeros behind, to whole multiples of ``UNITS`` and ``COLUMNS``; float32."""
    steps = (UNITS, COLUMNS)[: values.ndim]
    sizes = [max(-(-n // step), 1) * step for n, step in zip(values.shape, steps, strict=True)]
    padded = np.zeros(sizes, np.float32)
    padded[tuple(slice(n) for n in values.shape)] = values
    return padded


@partial(jax.jit, static_argnums=(0, 1))
def _fit(kind: type[NetEstimator], options: Any, key: Array, units: Units) -> tuple[Params, Array]:
    params = kind.learn(options, key, units)
    return params, kind.effects(options, params, units.x)


@partial(jax.jit, static_argnums=(0, 1))
def _fit_batch(kind: type[NetEstimator], options: Any, keys: Array, units: Units) -> tuple[Params, Array]:
    return jax.vmap(partial(_fit, kind, options))(keys, units)


@partial(jax.jit, static_argnums=(0, 1))
def _predict(kind: type[NetEstimator], options: Any, params: Params, x: Array) -> Array:
    return kind.effects(options, params, x)

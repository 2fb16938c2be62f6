"""Estimators whose networks learn potential outcomes: effects are differences of what they predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array, lax

from .architectures import (
    DragonModule,
    FlexModule,
    FlexOptions,
    OffsetModule,
    Regression,
    SharedModule,
    SNet3Module,
    SNetModule,
    SplitOptions,
    maker,
    masked,
)
from .estimator import NetEstimator, Options
from .train import SLOW, Params, Units, rebuild, train


class TNet(NetEstimator):
    """Two networks, one for each arm, which know nothing of each other.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x, t = rng.normal(size=(200, 2)), rng.integers(2, size=200)
    >>> quick = Options(representation=(8,), head=())
    >>> net = TNet(quick).fit(jax.random.key(0), x, t, x[:, 0] + 5 * t)
    >>> 4 < net.ate() < 6, net.effect(x[:3]).shape
    (True, (3,))
    """

    name = "tnet"

    @staticmethod
    def learn(options: Any, key: Array, units: Units) -> Params:
        make = maker(Regression, options, units.x.shape[1])

        def arm(chosen: tuple[Array, Array]) -> Params:
            own, treated = chosen
            return train(own, make, masked(units, (units.t > 0) == treated), options.training)

        return lax.map(arm, (jax.random.split(key), jnp.array([False, True])))

    @staticmethod
    def effects(options: Any, params: Params, x: Array) -> Array:
        make = maker(Regression, options, x.shape[1])
        mu0, mu1 = (rebuild(make, jax.tree.map(lambda leaf, a=arm: leaf[a], params))(x) for arm in (0, 1))
        return mu1 - mu0


class OutcomeNet(NetEstimator):
    """A network with one loss for all its parts."""

    module: ClassVar[type[Any]]

    @classmethod
    def learn(cls, options: Any, key: Array, units: Units) -> Params:
        return train(key, maker(cls.module, options, units.x.shape[1]), units, options.training)

    @classmethod
    def effects(cls, options: Any, params: Params, x: Array) -> Array:
        mu0, mu1 = rebuild(maker(cls.module, options, x.shape[1]), params)(x)
        return mu1 - mu0


@dataclass(frozen=True)
class BalanceOptions(Options):
    """Options of ``CFR``.

    Attributes:
        balance: weight of the squared linear MMD between the arms' representations.
    """

    balance: float = 0.01


class TARNet(OutcomeNet):
    """A representation that the arms share, and a head for each (Shalit et al. 2017; SNet-1)."""

    name = "tarnet"
    module = SharedModule


class CFR(OutcomeNet):
    """TARNet whose representation is drawn to be alike in both arms (Shalit et al. 2017)."""

    name = "cfr"
    options_class = BalanceOptions
    module = SharedModule


@dataclass(frozen=True)
class PropensityOptions(Options):
    """Options of ``DragonNet``.

    Attributes:
        propensity: widths of the propensity's head; none: it is linear in the representation.
    """

    propensity: tuple[int, ...] = ()


class DragonNet(OutcomeNet):
    """TARNet whose representation must also predict the treatment (Shi et al. 2019, without targeting; SNet-2)."""

    name = "dragonnet"
    options_class = PropensityOptions
    module = DragonModule


@dataclass(frozen=True)
class OffsetOptions(Options):
    """Options of ``OffsetNet``.

    Attributes:
        l2: of the effect's weights, in place of ``training.l2``.
    """

    l2: float = 1e-4


class OffsetNet(OutcomeNet):
    """One network for the outcome of controls and one for the effect, which is penalised by itself."""

    name = "offsetnet"
    options_class = OffsetOptions
    module = OffsetModule


class SNet(OutcomeNet):
    """Representations of what affects treatment and outcome, both outcomes, either outcome, the treatment alone
    (Curth and van der Schaar 2021)."""

    name = "snet"
    options_class = SplitOptions
    module = SNetModule


@dataclass(frozen=True)
class SNet3Options(SplitOptions):
    """Options of ``SNet3``; see ``SplitOptions``."""

    @classmethod
    def catenets(cls) -> Self:
        """Widths and training as in catenets 0.2.4."""
        return cls(wide=(150,) * 3, narrow=(50,) * 3, head=(100, 100), training=SLOW)


class SNet3(OutcomeNet):
    """Representations of what affects treatment and outcome, the outcome alone, the treatment alone (Hassanpour and
    Greiner 2020, without their weights)."""

    name = "snet3"
    options_class = SNet3Options
    module = SNet3Module


class FlexTENet(OutcomeNet):
    """Arms share what they have in common in every layer (Curth and van der Schaar 2021)."""

    name = "flextenet"
    options_class = FlexOptions
    module = FlexModule

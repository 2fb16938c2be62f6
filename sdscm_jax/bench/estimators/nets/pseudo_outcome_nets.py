"""Networks that learn the effect itself, from what other networks predict of outcomes and treatments.

What those predict of a unit comes from networks that were not trained on it (cross-fitting), and propensities are
kept away from 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from .architectures import Regression, maker, masked
from .estimator import NetEstimator, Options
from .layers import MLP, cross_entropy, mean, squares
from .train import Params, Units, order_in_arms, rebuild, train


@dataclass(frozen=True)
class PseudoOptions(Options):
    """Options of networks that learn from pseudo-outcomes.

    Attributes:
        folds: of cross-fitting; 1: none, as in catenets.
        clip: propensities are kept at least this far from 0 and 1.
    """

    folds: int = 2
    clip: float = 0.01


class Propensity(nnx.Module):
    """Logit of the treatment."""

    def __init__(self, options: Any, inputs: int, rngs: nnx.Rngs):
        self.l2 = options.training.l2
        widths = (*options.representation, *options.head)
        self.logit = MLP(inputs, widths, head=True, reads=True, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.logit(x)

    def loss(self, units: Units) -> Array:
        return cross_entropy(self.logit(units.x), units.t, units.weight) + 0.5 * self.l2 * squares(self)


class ResidualModule(Regression):
    """The effect as what residuals of the outcome are, per residual of the treatment (Robinson 1988)."""

    def loss(self, units: Units) -> Array:
        misfit = units.y - units.t * self.value(units.x)
        return mean(jnp.square(misfit), units.weight) + 0.5 * self.l2 * squares(self)


def doubly_robust(y: Array, t: Array, propensity: Array, mu0: Array, mu1: Array) -> Array:
    """Pseudo-outcome whose mean given covariates is the effect if either the propensity or the outcomes are right.

    >>> doubly_robust(3.0, 1.0, 0.5, 1.0, 2.0)  # 2 - 1 + (3 - 2) / 0.5
    3.0
    """
    return (t / propensity - (1 - t) / (1 - propensity)) * y + (
        (1 - t / propensity) * mu1 - (1 - (1 - t) / (1 - propensity)) * mu0
    )


def regression_adjusted(y: Array, t: Array, mu0: Array, mu1: Array) -> Array:
    """Difference between the outcome and what it would be predicted to be under the other treatment.

    >>> regression_adjusted(3.0, 1.0, 1.0, 2.0), regression_adjusted(0.5, 0.0, 1.0, 2.0)
    (2.0, 1.5)
    """
    return t * (y - mu0) + (1 - t) * (mu1 - y)


def inversely_weighted(y: Array, t: Array, propensity: Array) -> Array:
    """Pseudo-outcome of Horvitz and Thompson: its mean given covariates is the effect if the propensity is right.

    >>> inversely_weighted(3.0, 1.0, 0.5), inversely_weighted(3.0, 0.0, 0.25)
    (6.0, -4.0)
    """
    return (t / propensity - (1 - t) / (1 - propensity)) * y


class Folds(NamedTuple):
    """Units that each fold's networks learn from, bool ``[folds, n]``, and the fold of each unit, int32 ``[n]``."""

    learn: Array
    of: Array


def fold_units(key: Array, units: Units, folds: int) -> Folds:
    """Split each arm into folds of one size; with one fold, all units learn and are predicted."""
    place, size = order_in_arms(key, units)
    of = place * folds // jnp.maximum(size, 1)
    learn = (of != jnp.arange(folds)[:, None]) | (folds == 1)
    return Folds(learn, jnp.minimum(of, folds - 1))


def _pick(predicted: Array, folds: Folds) -> Array:
    """Each unit's prediction by its own fold's network, of ``[folds, n]``."""
    return jnp.take_along_axis(predicted, folds.of[None], axis=0)[0]


def clipped(logits: Array, clip: float) -> Array:
    """Propensities from logits."""
    return jnp.clip(nnx.sigmoid(logits), clip, 1 - clip)


def cross_fit(
    module: type[Any], options: PseudoOptions, key: Array, units: Units, masks: Array
) -> tuple[Params, Array]:
    """Weights of one network for each mask of ``[m, n]``, and what each predicts of all units, ``[m, n]``."""
    make = maker(module, options, units.x.shape[1])

    def one(chosen: tuple[Array, Array]) -> tuple[Params, Array]:
        own, mask = chosen
        params = train(own, make, masked(units, mask), options.training)
        return params, rebuild(make, params)(units.x)

    return lax.map(one, (jax.random.split(key, len(masks)), masks))


def outcomes(options: PseudoOptions, key: Array, units: Units, folds: Folds) -> tuple[Array, Array]:
    """Both outcomes of each unit, predicted by networks of one arm each."""
    arms = jnp.stack([units.t <= 0, units.t > 0])
    masks = (arms[:, None] & folds.learn[None]).reshape(-1, len(units.t))
    predicted = cross_fit(Regression, options, key, units, masks)[1].reshape(2, -1, len(units.t))
    return _pick(predicted[0], folds), _pick(predicted[1], folds)


def propensities(options: PseudoOptions, key: Array, units: Units, folds: Folds) -> Array:
    """The propensity of each unit, clipped."""
    logits = cross_fit(Propensity, options, key, units, folds.learn)[1]
    return clipped(_pick(logits, folds), options.clip)


class Scaled(NamedTuple):
    """A network of a standardised target, and what undoes that."""

    params: Params
    centre: Array
    spread: Array


def regress(options: PseudoOptions, key: Array, units: Units, target: Array) -> Scaled:
    """Least squares of a target that is standardised first."""
    centre = mean(target, units.weight)
    spread = jnp.sqrt(mean(jnp.square(target - centre), units.weight))
    spread = jnp.where(spread > 0, spread, 1)
    make = maker(Regression, options, units.x.shape[1])
    params = train(key, make, units._replace(y=(target - centre) / spread), options.training)
    return Scaled(params, centre, spread)


def predict(options: PseudoOptions, scaled: Scaled, x: Array) -> Array:
    """What a network of ``regress`` predicts."""
    make = maker(Regression, options, x.shape[1])
    return scaled.centre + scaled.spread * rebuild(make, scaled.params)(x)


class PseudoOutcomeNet(NetEstimator):
    """Regresses a pseudo-outcome, whose mean is the effect, on covariates."""

    options_class = PseudoOptions
    least_units = 4

    @classmethod
    def pseudo_outcome(cls, options: PseudoOptions, key: Array, units: Units, folds: Folds) -> Array:
        """Pseudo-outcomes of all units."""
        raise NotImplementedError

    @classmethod
    def learn(cls, options: Any, key: Array, units: Units) -> Params:
        fold_key, first, second = jax.random.split(key, 3)
        folds = fold_units(fold_key, units, options.folds)
        return regress(options, second, units, cls.pseudo_outcome(options, first, units, folds))

    @classmethod
    def effects(cls, options: Any, params: Params, x: Array) -> Array:
        return predict(options, params, x)


class DRNet(PseudoOutcomeNet):
    """Doubly robust: right if either the outcomes or the propensity are (Kennedy 2020)."""

    name = "drnet"

    @classmethod
    def pseudo_outcome(cls, options: PseudoOptions, key: Array, units: Units, folds: Folds) -> Array:
        outcome_key, propensity_key = jax.random.split(key)
        propensity = propensities(options, propensity_key, units, folds)
        return doubly_robust(units.y, units.t, propensity, *outcomes(options, outcome_key, units, folds))


class RANet(PseudoOutcomeNet):
    """Regression adjustment: needs no propensity (Curth and van der Schaar 2021).

    Only networks of the other arm enter a unit's pseudo-outcome, so one fold is sound too, and trains on more units.
    """

    name = "ranet"

    @classmethod
    def pseudo_outcome(cls, options: PseudoOptions, key: Array, units: Units, folds: Folds) -> Array:
        return regression_adjusted(units.y, units.t, *outcomes(options, key, units, folds))


class PWNet(PseudoOutcomeNet):
    """Inverse propensity weights: needs no outcome model, and is very noisy."""

    name = "pwnet"

    @classmethod
    def pseudo_outcome(cls, options: PseudoOptions, key: Array, units: Units, folds: Folds) -> Array:
        return inversely_weighted(units.y, units.t, propensities(options, key, units, folds))


class RNet(NetEstimator):
    """Effects from residuals of outcome and treatment (Nie and Wager 2021)."""

    name = "rnet"
    options_class = PseudoOptions
    least_units = 4

    @staticmethod
    def learn(options: Any, key: Array, units: Units) -> Params:
        fold_key, outcome_key, propensity_key, effect_key = jax.random.split(key, 4)
        folds = fold_units(fold_key, units, options.folds)
        expected = _pick(cross_fit(Regression, options, outcome_key, units, folds.learn)[1], folds)
        propensity = propensities(options, propensity_key, units, folds)
        residuals = units._replace(y=units.y - expected, t=units.t - propensity)
        make = maker(ResidualModule, options, units.x.shape[1])
        return train(effect_key, make, residuals, options.training)

    @staticmethod
    def effects(options: Any, params: Params, x: Array) -> Array:
        return rebuild(maker(ResidualModule, options, x.shape[1]), params)(x)


class XNet(NetEstimator):
    """Effects imputed in each arm from the other arm's outcomes, weighted by the propensity (Kunzel et al. 2019).

    As in ``RANet``, one fold is sound too.
    """

    name = "xnet"
    options_class = PseudoOptions
    least_units = 4

    @staticmethod
    def learn(options: Any, key: Array, units: Units) -> Params:
        fold_key, outcome_key, propensity_key, effect_key = jax.random.split(key, 4)
        folds = fold_units(fold_key, units, options.folds)
        imputed = regression_adjusted(units.y, units.t, *outcomes(options, outcome_key, units, folds))

        def arm(chosen: tuple[Array, Array]) -> Scaled:
            own, treated = chosen
            return regress(options, own, masked(units, (units.t > 0) == treated), imputed)

        effects = lax.map(arm, (jax.random.split(effect_key), jnp.array([False, True])))
        everyone = jnp.ones((1, len(units.t)), bool)
        logits, _ = cross_fit(Propensity, options, propensity_key, units, everyone)
        return effects, jax.tree.map(lambda leaf: leaf[0], logits)

    @staticmethod
    def effects(options: Any, params: Params, x: Array) -> Array:
        arms, logits = params
        of_controls, of_treated = (
            predict(options, jax.tree.map(lambda leaf, a=arm: leaf[a], arms), x) for arm in (0, 1)
        )
        make = maker(Propensity, options, x.shape[1])
        propensity = clipped(rebuild(make, logits)(x), options.clip)
        return propensity * of_controls + (1 - propensity) * of_treated

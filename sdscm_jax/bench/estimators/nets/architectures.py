"""Networks of potential outcomes, with their losses.

Losses and architectures are those of the literature that the classes of ``outcome_nets`` name, in the form that
catenets gives them; a test holds them against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import jax.numpy as jnp
from flax import nnx
from jax import Array

from .layers import MLP, alignment, cross_entropy, dense, imbalance, mean, overlap, squares
from .train import SLOW, Make, Training, Units


def factual(mu0: Array, mu1: Array, units: Units) -> Array:
    """Mean squared error of the predicted outcome under each unit's own treatment.

    >>> one = jnp.ones(2)
    >>> float(factual(0 * one, 3 * one, Units(jnp.zeros((2, 1)), jnp.array([0.0, 1.0]), 2 * one, one, jnp.array(1))))
    2.5
    """
    return mean(jnp.square(units.y - jnp.where(units.t > 0, mu1, mu0)), units.weight)


class Regression(nnx.Module):
    """One value of the covariates, fitted by least squares."""

    def __init__(self, options: Any, inputs: int, rngs: nnx.Rngs):
        self.l2 = options.training.l2
        widths = (*options.representation, *options.head)
        self.value = MLP(inputs, widths, head=True, reads=True, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.value(x)

    def loss(self, units: Units) -> Array:
        return mean(jnp.square(units.y - self.value(units.x)), units.weight) + 0.5 * self.l2 * squares(self)


def maker(module: Callable[..., nnx.Module], options: Any, inputs: int) -> Make:
    """How to make a module that reads ``inputs`` columns."""
    return lambda rngs: module(options, inputs, rngs=rngs)


def masked(units: Units, mask: Array) -> Units:
    """The units for which the mask is true; the others have no weight."""
    return units._replace(weight=jnp.where(mask, units.weight, 0))


class SharedModule(nnx.Module):
    """A representation and a head for each arm."""

    def __init__(self, options: Any, inputs: int, rngs: nnx.Rngs):
        self.l2 = options.training.l2
        self.balance = getattr(options, "balance", 0.0)
        self.representation = MLP(inputs, options.representation, reads=True, rngs=rngs)
        width = options.representation[-1]
        self.heads = nnx.List([MLP(width, options.head, head=True, rngs=rngs) for _ in range(2)])

    def outcomes(self, representation: Array) -> tuple[Array, Array]:
        mu0, mu1 = (head(representation) for head in self.heads)
        return mu0, mu1

    def __call__(self, x: Array) -> tuple[Array, Array]:
        return self.outcomes(self.representation(x))

    def loss(self, units: Units) -> Array:
        representation = self.representation(units.x)
        total = factual(*self.outcomes(representation), units) + 0.5 * self.l2 * squares(self)
        if self.balance:
            total += self.balance * imbalance(representation, units.t, units.weight)
        return total


class DragonModule(SharedModule):
    """A representation with three heads: two outcomes and the propensity."""

    def __init__(self, options: Any, inputs: int, rngs: nnx.Rngs):
        super().__init__(options, inputs, rngs)
        self.propensity = MLP(options.representation[-1], options.propensity, head=True, rngs=rngs)

    def loss(self, units: Units) -> Array:
        representation = self.representation(units.x)
        return (
            factual(*self.outcomes(representation), units)
            + cross_entropy(self.propensity(representation), units.t, units.weight)
            + 0.5 * self.l2 * squares(self)
        )


class OffsetModule(nnx.Module):
    """An outcome without treatment and what the treatment adds."""

    def __init__(self, options: Any, inputs: int, rngs: nnx.Rngs):
        self.l2, self.effect_l2 = options.training.l2, options.l2
        widths = (*options.representation, *options.head)
        self.base = MLP(inputs, widths, head=True, reads=True, rngs=rngs)
        self.effect = MLP(inputs, widths, head=True, reads=True, rngs=rngs)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        base = self.base(x)
        return base, base + self.effect(x)

    def loss(self, units: Units) -> Array:
        decay = self.l2 * squares(self.base) + self.effect_l2 * squares(self.effect)
        return factual(*self(units.x), units) + 0.5 * decay


@dataclass(frozen=True)
class SplitOptions:
    """Options of ``SNet`` and ``SNet3``.

    Attributes:
        wide: widths of the layers of the representations that the propensity shares with the outcomes and, in
            ``SNet``, of the propensity's own.
        narrow: widths of the layers of all other representations.
        head: widths of the layers before a value.
        orthogonality: weight of ``overlap``, for representations are to read different covariates.
        balance: weight of the squared linear MMD between the arms in the representation of outcomes alone.
        training: see ``Training``.
    """

    wide: tuple[int, ...] = (48, 48)
    narrow: tuple[int, ...] = (24, 24)
    head: tuple[int, ...] = (32,)
    orthogonality: float = 0.01
    balance: float = 0.0
    training: Training = field(default_factory=Training)

    @classmethod
    def catenets(cls) -> Self:
        """Widths and training as in catenets 0.2.4."""
        return cls(wide=(100,) * 3, narrow=(50,) * 3, head=(100, 100), training=SLOW)


class SplitModule(nnx.Module):
    """Representations, each for some of three heads: two outcomes and the propensity."""

    reads0: ClassVar[tuple[str, ...]]
    reads1: ClassVar[tuple[str, ...]]
    reads_propensity: ClassVar[tuple[str, ...]]
    wide: ClassVar[tuple[str, ...]]

    def __init__(self, options: SplitOptions, inputs: int, rngs: nnx.Rngs):
        self.l2 = options.training.l2
        self.orthogonality, self.balance = options.orthogonality, options.balance
        groups = (self.reads0, self.reads1, self.reads_propensity)
        widths = {
            name: options.wide if name in self.wide else options.narrow
            for name in sorted({n for g in groups for n in g})
        }
        self.representations = nnx.Dict(
            {name: MLP(inputs, width, reads=True, rngs=rngs) for name, width in widths.items()}
        )
        self.head0, self.head1, self.propensity = (
            MLP(sum(widths[name][-1] for name in group), options.head, head=True, rngs=rngs) for group in groups
        )

    def read(self, x: Array) -> dict[str, Array]:
        """The representations of covariates by name."""
        return {name: representation(x) for name, representation in self.representations.items()}

    def outcomes(self, read: dict[str, Array]) -> tuple[Array, Array]:
        """Both outcomes, given representations."""
        return self.head0(_join(read, self.reads0)), self.head1(_join(read, self.reads1))

    def __call__(self, x: Array) -> tuple[Array, Array]:
        return self.outcomes(self.read(x))

    def loss(self, units: Units) -> Array:
        read = self.read(units.x)
        logits = self.propensity(_join(read, self.reads_propensity))
        total = (
            factual(*self.outcomes(read), units)
            + cross_entropy(logits, units.t, units.weight)
            + self.orthogonality * overlap(self.representations.values())
            + 0.5 * self.l2 * squares(self)
        )
        if self.balance:
            total += self.balance * imbalance(read["outcome"], units.t, units.weight)
        return total


def _join(read: dict[str, Array], names: tuple[str, ...]) -> Array:
    return jnp.concatenate([read[name] for name in names], axis=-1)


class SNetModule(SplitModule):
    """Five representations."""

    reads0 = ("confounder", "outcome", "control")
    reads1 = ("confounder", "outcome", "treated")
    reads_propensity = ("confounder", "treatment")
    wide = ("confounder", "treatment")


class SNet3Module(SplitModule):
    """Three representations."""

    reads0 = ("confounder", "outcome")
    reads1 = ("confounder", "outcome")
    reads_propensity = ("confounder", "treatment")
    wide = ("confounder",)


@dataclass(frozen=True)
class FlexOptions:
    """Options of ``FlexTENet``.

    Attributes:
        shared: widths of the shared sub-layers.
        private: widths of the sub-layers of each arm; as many layers.
        orthogonality: weight of the alignment of private with shared weights.
        private_l2: of the private weights, in place of ``training.l2``.
        training: see ``Training``.
    """

    shared: tuple[int, ...] = (32, 32, 16)
    private: tuple[int, ...] = (32, 32, 16)
    orthogonality: float = 0.01
    private_l2: float = 1e-4
    training: Training = field(default_factory=Training)

    @classmethod
    def catenets(cls) -> Self:
        """Widths and training as in catenets 0.2.4."""
        widths = (100, 100, 100, 50, 50)
        return cls(shared=widths, private=widths, training=SLOW)


class FlexModule(nnx.Module):
    """Layers of three sub-layers: one shared, and one for each arm, which also reads the shared one below it.

    Both arms start from the same private weights, so that at first there is no effect.
    """

    twins: ClassVar[dict[str, str]] = {"private1": "private0"}

    def __init__(self, options: FlexOptions, inputs: int, rngs: nnx.Rngs):
        self.l2, self.private_l2 = options.training.l2, options.private_l2
        self.orthogonality = options.orthogonality
        below = [inputs, *options.shared]
        beside = [0, *options.private]
        shared, private0, private1 = [], [], []
        for i, (width, own) in enumerate(zip((*options.shared, 1), (*options.private, 1), strict=True)):
            shared.append(dense(below[i], width, rngs, i == 0))
            private0.append(dense(below[i] + beside[i], own, rngs, i == 0))
            private1.append(nnx.clone(private0[i]))
        self.shared, self.private0, self.private1 = nnx.List(shared), nnx.List(private0), nnx.List(private1)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        hidden, arms = x, [x, x]
        last = len(self.shared) - 1
        for i, (shared, *private) in enumerate(zip(self.shared, self.private0, self.private1, strict=True)):
            arms = [layer(arm) for layer, arm in zip(private, arms, strict=True)]
            hidden = shared(hidden)
            if i < last:
                hidden = nnx.elu(hidden)
                arms = [jnp.concatenate([hidden, nnx.elu(arm)], axis=-1) for arm in arms]
        mu0, mu1 = ((hidden + arm)[..., 0] for arm in arms)
        return mu0, mu1

    def misalignment(self) -> Array:
        """Zero where what the arms' layers read of shared features is orthogonal to what the shared layers read, and
        in the first layer also the arms' to each other."""
        total = alignment(self.private0[0].kernel[...], self.private1[0].kernel[...])
        for shared, *private in zip(self.shared, self.private0, self.private1, strict=True):
            common = shared.kernel[...]
            total += sum(alignment(common, layer.kernel[...][: len(common)]) for layer in private)
        return total

    def loss(self, units: Units) -> Array:
        decay = self.l2 * squares(self.shared) + self.private_l2 * squares(self.private0, self.private1)
        return factual(*self(units.x), units) + self.orthogonality * self.misalignment() + 0.5 * decay

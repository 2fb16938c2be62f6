"""Building blocks of the networks, and the penalties on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array


class Reader(nnx.Linear):
    """A linear layer whose inputs are covariates, of which the last may be padding."""


def dense(inputs: int, outputs: int, rngs: nnx.Rngs, reads: bool = False) -> nnx.Linear:
    """Linear layer in float32; ``reads``: its inputs are covariates."""
    kind = Reader if reads else nnx.Linear
    init = nnx.initializers.glorot_uniform()
    return kind(inputs, outputs, kernel_init=init, dtype=jnp.float32, param_dtype=jnp.float32, rngs=rngs)


class MLP(nnx.Module):
    """Layers of the given widths, each followed by an ELU; a head ends in one linear unit, its value.

    ``reads``: its inputs are covariates.

    >>> MLP(3, (8, 4), rngs=nnx.Rngs(0))(jnp.ones((5, 3))).shape
    (5, 4)
    >>> MLP(3, (8, 4), head=True, rngs=nnx.Rngs(0))(jnp.ones((5, 3))).shape
    (5,)
    """

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        *,
        head: bool = False,
        reads: bool = False,
        rngs: nnx.Rngs,
    ):
        sizes = [inputs, *widths, *([1] if head else [])]
        self.head = head
        self.layers = nnx.List([dense(a, b, rngs, reads and i == 0) for i, (a, b) in enumerate(pairwise(sizes))])

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[: -1 if self.head else None]:
            x = nnx.elu(layer(x))
        return self.layers[-1](x)[..., 0] if self.head else x


def squares(*modules: nnx.Module) -> Array:
    """Sum of the squared weights of modules, their biases left out.

    >>> mlp = MLP(1, (), head=True, rngs=nnx.Rngs(0))
    >>> mlp.layers[0].kernel.set_value(jnp.array([[3.0]]))
    >>> float(squares(mlp))
    9.0
    """
    total = jnp.zeros((), jnp.float32)
    for module in modules:
        for path, leaf in nnx.to_flat_state(nnx.state(module, nnx.Param)):
            if path[-1] == "kernel":
                total += jnp.sum(jnp.square(leaf[...]))
    return total


def mean(values: Array, weight: Array) -> Array:
    """Weighted mean over units; 0 if no unit has weight.

    >>> float(mean(jnp.array([1.0, 3.0, 100.0]), jnp.array([1.0, 1.0, 0.0])))
    2.0
    """
    total = weight.sum()
    return (weight * values).sum() / jnp.where(total > 0, total, 1)


def cross_entropy(logits: Array, t: Array, weight: Array) -> Array:
    """Mean of minus the log-likelihood of treatments, given their logits."""
    return mean(jax.nn.softplus(logits) - t * logits, weight)


def imbalance(representation: Array, t: Array, weight: Array) -> Array:
    """Squared linear MMD between the arms: of the difference of their means, each feature in units of its sd.

    0 where an arm is empty.

    >>> r = jnp.array([[0.0], [2.0], [4.0], [6.0]])  # variance 5, means 1 and 5
    >>> float(imbalance(r, jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.ones(4)))
    3.2
    """
    over = jax.vmap(mean, in_axes=(1, None))
    centred = representation - over(representation, weight)
    variance = over(centred**2, weight)
    difference = over(centred, weight * t) - over(centred, weight * (1 - t))
    present = ((weight * t).sum() > 0) & ((weight * (1 - t)).sum() > 0)
    return jnp.where(present, jnp.sum(difference**2 / jnp.maximum(variance, 1e-12)), 0)


def overlap(representations: Iterable[MLP]) -> Array:
    """How far representations read the same covariates: products of their absolute first-layer weights per covariate,
    over all pairs.

    >>> a, b = (MLP(2, (2,), rngs=nnx.Rngs(i)) for i in range(2))
    >>> a.layers[0].kernel.set_value(jnp.array([[1.0, -2.0], [0.0, 1.0]]))
    >>> b.layers[0].kernel.set_value(jnp.array([[1.0, 1.0], [5.0, 0.0]]))
    >>> float(overlap([a, b]))  # 3 * 2 + 1 * 5
    11.0
    """
    reads = [jnp.abs(r.layers[0].kernel[...]).sum(1) for r in representations]
    return sum((jnp.sum(a * b) for a, b in combinations(reads, 2)), jnp.zeros(()))


def alignment(a: Array, b: Array) -> Array:
    """Squared Frobenius norm of ``a.T @ b``: 0 if the columns of the two are orthogonal.

    >>> float(alignment(jnp.array([[1.0], [2.0]]), jnp.array([[3.0, 2.0], [1.0, -1.0]])))
    25.0
    """
    return jnp.sum(jnp.square(a.T @ b))

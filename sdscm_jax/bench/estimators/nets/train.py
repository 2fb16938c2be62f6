"""One training loop for every network: mini-batches, Adam, early stopping; all of it inside one compiled function.

Data sets of different sizes share a compilation because units and columns are padded: padding has weight 0,
and nothing that is drawn depends on how much of it there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from .layers import Reader

Params = Any
_LAYER = 1 << 20
"""More rows than a layer has."""


class Units(NamedTuple):
    """Units to learn from; padding has weight 0 and stands last.

    Attributes:
        x: float32 ``[n, p]`` covariates.
        t: float32 ``[n]`` treatments, or what is left of them once they are predicted: positive if treated.
        y: float32 ``[n]`` outcomes, or pseudo-outcomes.
        weight: float32 ``[n]``.
        columns: int32, the number of columns that are not padding.
    """

    x: Array
    t: Array
    y: Array
    weight: Array
    columns: Array


# Makes a module with a ``loss(units)``: a mean over the weights, so that a batch estimates the whole.
Make = Callable[[nnx.Rngs], Any]


@dataclass(frozen=True)
class Training:
    """How networks are trained.

    Attributes:
        rate: of Adam.
        batch: units in a mini-batch.
        epochs: at most.
        least_steps: mini-batches before training may stop.
        patience: epochs without a better validation loss after which it stops.
        validation: share of each arm's units that are validated on; 0: on those that are trained on.
        l2: half of it times the sum of squared weights is added to the loss.
    """

    rate: float = 1e-3
    batch: int = 100
    epochs: int = 1000
    least_steps: int = 200
    patience: int = 10
    validation: float = 0.3
    l2: float = 1e-4


SLOW = Training(rate=1e-4, epochs=10_000)
"""As in catenets 0.2.4."""


def per_unit(key: Array, n: int) -> Array:
    """A number in [0, 1) for each unit, float32 ``[n]``, which does not depend on n.

    >>> bool((per_unit(jax.random.key(0), 8)[:3] == per_unit(jax.random.key(0), 3)).all())
    True
    """
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), dtype=jnp.float32))(jnp.arange(n))


def order_in_arms(key: Array, units: Units) -> tuple[Array, Array]:
    """Units of each arm in random order: the place of each unit, from 0, and how many its arm has; int32 ``[n]`` each.

    >>> t = jnp.array([0.0, 0.0, 1.0, 1.0, 1.0])
    >>> place, size = order_in_arms(jax.random.key(0), Units(jnp.zeros((5, 1)), t, t, jnp.ones(5), jnp.array(1)))
    >>> sorted(place[:2].tolist()), sorted(place[2:].tolist()), size.tolist()
    ([0, 1], [0, 1, 2], [2, 2, 3, 3, 3])
    """
    n = len(units.t)
    group = jnp.where(units.weight > 0, (units.t > 0).astype(jnp.int32), 2)
    order = jnp.argsort(per_unit(key, n) + group)
    rank = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32))
    controls, treated, padding = ((group == g).sum().astype(jnp.int32) for g in range(3))
    before = jnp.stack([jnp.zeros_like(controls), controls, controls + treated])
    return rank - before[group], jnp.stack([controls, treated, padding])[group]


def module_graph(make: Make) -> Any:
    """The static part of a module, without computing its weights."""
    return nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(0))))


def rebuild(make: Make, params: Params) -> Any:
    """The module with these weights."""
    return nnx.merge(module_graph(make), nnx.State(params))


def initial_weights(key: Array, make: Make, columns: ArrayLike) -> Params:
    """Initial weights of a module: uniform as Glorot and Bengio have it, biases 0.

    A row of a layer is drawn from a key of its own, and the scale of a layer that reads covariates counts only
    those that are not padding (the first ``columns``), so padding changes no weight. The padding's own weights
    are 0 and stay 0: neither the loss nor a penalty moves them. All rows are drawn in one call, which compiles
    several times faster than a call for each layer. Parts of a module that its ``twins`` names start with the
    weights of their twin.
    """
    module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    twins: dict[str, str] = getattr(module, "twins", {})
    layers = {path: part for path, part in nnx.iter_modules(module) if isinstance(part, nnx.Linear)}
    own = sorted((path for path in layers if path[0] not in twins), key=str)
    shapes = {path: layers[path].kernel.shape for path in own}
    number = np.concatenate([_LAYER * i + np.arange(shapes[path][0]) for i, path in enumerate(own)])
    width = max(shape[1] for shape in shapes.values())
    drawn = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), (width,), jnp.float32, -1, 1))(number)

    kernels, start = {}, 0
    for path, (rows, outputs) in shapes.items():
        inputs = jnp.asarray(columns if isinstance(layers[path], Reader) else rows)
        scale = jnp.sqrt(6 / (inputs + outputs).astype(jnp.float32))
        present = (jnp.arange(rows) < inputs)[:, None]
        kernels[path] = jnp.where(present, drawn[start : start + rows, :outputs] * scale, 0)
        start += rows
    weights = {}
    for path, layer in layers.items():
        source = (twins.get(path[0], path[0]), *path[1:])
        weights[*path, "kernel"] = kernels[source]
        weights[*path, "bias"] = jnp.zeros(layer.bias.shape, jnp.float32)
    return nnx.traversals.unflatten_mapping(weights)


class _State(NamedTuple):
    epoch: Array
    params: Array
    optimizer: Any
    best: Array
    lowest: Array
    waited: Array


def train(key: Array, make: Make, units: Units, training: Training) -> Params:
    """Weights with the lowest validation loss that training finds.

    A pure function, to be jitted, mapped and vmapped. Fewer than ``batch`` units are one batch; otherwise an
    epoch has as many batches as come closest to the number of units, in an order drawn anew.

    Args:
        key: decides initial weights, the validation split and the order of units.
        make: the module with a loss, from its random streams.
        units: padded.
        training: static.
    """
    n = len(units.t)
    init_key, split_key, order_key = jax.random.split(key, 3)
    graph = module_graph(make)
    # One vector, so that the optimiser's arithmetic is compiled once and not for every layer.
    initial, split = ravel_pytree(initial_weights(init_key, make, units.columns))
    adam = optax.adam(training.rate)

    def loss(params: Array, chosen: Units) -> Array:
        return nnx.merge(graph, nnx.State(split(params))).loss(chosen)

    def take(index: Array, weight: Array) -> Units:
        return Units(units.x[index], units.t[index], units.y[index], weight, units.columns)

    place, size = order_in_arms(split_key, units)
    held_out = (place < jnp.floor(training.validation * size + 0.5)) & (units.weight > 0)
    learned_from = jnp.where(held_out, 0, units.weight)
    validated = jnp.where(held_out.any(), jnp.where(held_out, units.weight, 0), units.weight)
    room = n if training.validation == 0 else min(n, ceil(training.validation * n) + 16)
    held_index = jnp.argsort(validated <= 0, stable=True)[:room]
    judged = take(held_index, validated[held_index])

    count = (learned_from > 0).sum()
    batch_size = min(training.batch, n)
    batches = jnp.maximum(jnp.floor(count / batch_size + 0.5), 1).astype(jnp.int32)

    def epoch(state: _State) -> _State:
        drawn = per_unit(jax.random.fold_in(order_key, state.epoch), n)
        order = jnp.argsort(jnp.where(learned_from > 0, drawn, 2.0))

        def step(number: Array, carry: tuple[Array, Any]) -> tuple[Array, Any]:
            params, optimizer = carry
            at = number * batch_size + jnp.arange(batch_size)
            index = order[jnp.minimum(at, n - 1)]
            batch = take(index, jnp.where(at < count, learned_from[index], 0))
            updates, optimizer = adam.update(jax.grad(loss)(params, batch), optimizer)
            return optax.apply_updates(params, updates), optimizer

        params, optimizer = lax.fori_loop(0, batches, step, (state.params, state.optimizer))
        now = loss(params, judged)
        better = now < state.lowest
        best = jnp.where(better, params, state.best)
        ripe = (state.epoch + 1) * batches > training.least_steps
        waited = jnp.where(better, 0, state.waited + ripe)
        return _State(state.epoch + 1, params, optimizer, best, jnp.where(better, now, state.lowest), waited)

    def unfinished(state: _State) -> Array:
        return (state.epoch < training.epochs) & (state.waited <= training.patience)

    zero = jnp.zeros((), jnp.int32)
    start = _State(zero, initial, adam.init(initial), initial, jnp.full((), jnp.inf, jnp.float32), zero)
    return split(lax.while_loop(unfinished, epoch, start).best)

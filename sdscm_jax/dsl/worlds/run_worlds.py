"""Running one unit in several worlds with the same noise, as a vectorised axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro.primitives import Messenger

from ..handlers.exogenous import exogenous
from ..handlers.intervened import Drawn, Fixed, intervened
from ..language.mechanism import mechanism_of
from ..language.messages import is_variable
from ..language.phrase import Phrase
from .do import in_world
from .worlds import Grid, World, Worlds


class WorldResults(NamedTuple):
    """Values of one unit, each with a leading axis of worlds, the factual one first."""

    returned: Any
    values: dict[str, Array]
    log_probs: dict[str, Array]


def run_worlds(
    fn: Callable,
    key: Array,
    worlds: Worlds,
    args: tuple,
    kwargs: Mapping[str, Any] | None = None,
    log_probs: Sequence[str] | None = None,
    noise: Mapping[str, Any] | None = None,
) -> WorldResults:
    """Run one unit in all worlds with the same noise.

    Args:
        fn: the model function.
        key: key of the unit.
        worlds: the worlds.
        args, kwargs: arguments of the model.
        log_probs: choice sites whose option log-probabilities are wanted; None: all.
        noise: site name -> noise that is at hand (abduced).
    """

    def one(which: dict[str, Array], constants: dict[str, Array]) -> WorldResults:
        return run_once(fn, key, worlds.data(which, constants), args, kwargs, log_probs, noise)

    if not worlds.which:
        return jax.tree.map(lambda x: jnp.asarray(x)[None], one({}, {}))
    if worlds.grid is not None:
        return _run_grid(fn, key, worlds.grid, args, kwargs, log_probs, noise)
    return jax.vmap(one)(worlds.which, worlds.constants)


def _run_grid(fn: Callable, key: Array, grid: Grid, *rest: Any) -> WorldResults:
    """Run one unit under all settings of some sites; the factual world is the one of the natural values.

    Each site is an axis of its own, so that what only some of them reach is not run again for the others.
    """

    def one(*numbers: Array) -> tuple[WorldResults, list[Array]]:
        natural: dict[str, Array] = {}

        def set_to(name: str, number: Array) -> Callable[[Phrase], Array]:
            def change(phrase: Phrase) -> Array:
                natural[name] = phrase.index
                return number

            return change

        data = {name: set_to(name, number) for name, number in zip(grid.sites, numbers, strict=True)}
        return run_once(fn, key, data, *rest), [natural[name] for name in grid.sites]

    run: Callable = one
    for axis in reversed(range(len(grid.sites))):
        run = jax.vmap(run, in_axes=[0 if i == axis else None for i in range(len(grid.sites))])
    results, natural = run(*(jnp.arange(size, dtype=jnp.int32) for size in grid.sizes))
    # The natural value of a site is the one where those before it have theirs.
    factual: tuple[Array, ...] = ()
    for values in natural:
        factual = (*factual, values[(*factual, *(0,) * (values.ndim - len(factual)))])
    place = jnp.ravel_multi_index(factual, grid.sizes, mode="clip")
    places = jnp.concatenate([place[None].astype(jnp.int32), jnp.array(grid.places, jnp.int32)])
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(grid.sizes) :])[places], results)


def run_once(
    fn: Callable,
    key: Array,
    data: World,
    args: tuple,
    kwargs: Mapping[str, Any] | None = None,
    log_probs: Sequence[str] | None = None,
    noise: Mapping[str, Any] | None = None,
) -> WorldResults:
    """Run one unit in one world; the arrays have no axis of worlds."""
    scored = _Scored(log_probs)
    # Handlers around this call see the worlds together, not the sites of each.
    with numpyro.handlers.block(), numpyro.handlers.trace() as trace, scored, exogenous(key=key, noise=noise):
        returned = in_world(fn, data)(*args, **(kwargs or {}))
    values, logits = {}, {}
    for name, msg in trace.items():
        if not is_variable(msg):
            continue
        values[name] = msg["value"]
        mechanism = scored.wanted(msg)
        if mechanism is not None:
            # In a plate whose members have one context too: one row for each of them.
            own = mechanism.logits
            shape = jnp.broadcast_shapes(jnp.shape(msg["value"]), own.shape[:-1])
            logits[name] = jnp.broadcast_to(own, (*shape, own.shape[-1]))
    return WorldResults(returned, values, logits)


class _Scored(Messenger):
    """Scores sites when they are met, also those that have a value: what reads one finds its text encoded."""

    def __init__(self, names: Sequence[str] | None):
        self.names = names
        super().__init__()

    def wanted(self, msg: dict[str, Any]) -> Any:
        """The choice whose log-probabilities are wanted, at its site."""
        if msg["type"] != "sample" or isinstance(intervened(msg["fn"]), Fixed | Drawn):
            return None
        mechanism = mechanism_of(msg["fn"])
        named = self.names is None or msg["name"] in self.names
        return mechanism if mechanism is not None and mechanism.kind == "choice" and named else None

    def process_message(self, msg: dict[str, Any]) -> None:
        mechanism = self.wanted(msg)
        if mechanism is not None:
            _ = mechanism.logits

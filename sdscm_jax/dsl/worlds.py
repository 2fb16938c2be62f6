"""Several worlds of one unit as a vectorised axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from ..errors import InterventionError, OptionError, nearest
from .do import do
from .exogenous import exogenous
from .intervention import UNIFORM, Alternatives, Fixed, base_choice, describe
from .phrase import Phrase
from .structure import Site
from .template import option_index

World = Mapping[str, Any]


class _ByIdentity(NamedTuple):
    """Makes any value usable as static data of a jitted function."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Worlds:
    """The factual world and W others, as arrays of length ``1 + W`` per intervened site.

    Attributes:
        which: site -> int32; see ``Alternatives``.
        constants: site -> the number that the site is set to.
        changes: site -> interventions that are no constants (static).
        labels: of the W other worlds, such as ``do(pdl1=low)`` (static).
    """

    which: dict[str, Array]
    constants: dict[str, Array]
    changes: tuple[tuple[str, tuple[_ByIdentity, ...]], ...] = field(metadata={"static": True})
    labels: tuple[str, ...] = field(metadata={"static": True})


class WorldResults(NamedTuple):
    """Values of one unit, each with a leading axis of worlds, the factual one first."""

    returned: Any
    values: dict[str, Array]
    log_probs: dict[str, Array]


def world_label(world: World) -> str:
    """Name of a world.

    >>> world_label({"pdl1": "low", "age": "55"})
    'do(pdl1=low, age=55)'
    """
    return "do(" + ", ".join(f"{name}={describe(value)}" for name, value in world.items()) + ")"


def check_world(world: World, sites: Sequence[Site]) -> None:
    """Refuse a world that names an unknown or exogenous site, or a value that is no option.

    Raises:
        InterventionError: what is wrong, with the nearest name or option.
    """
    if not isinstance(world, Mapping):
        raise InterventionError(f"a world is a mapping from site names to values, got {world!r}")
    known = {site.name: site for site in sites}
    for name, value in world.items():
        if name not in known:
            raise InterventionError(f"the model has no site {name!r}; {nearest(name, list(known))}")
        if known[name].exogenous:
            raise InterventionError(f"site {name!r} is exogenous: it is part of U and cannot be intervened on")
        _constant(value, known[name])


def _constant(value: Any, site: Site) -> Any:
    """A number, or None for an intervention that is no constant."""
    if isinstance(value, Phrase):
        value = value.index
    elif callable(value) or isinstance(value, dist.Distribution):
        return None
    options = site.options
    if isinstance(value, str):
        if not options:
            raise InterventionError(f"site {site.name!r} takes numbers, got {value!r}")
        if value == UNIFORM and UNIFORM not in options:
            return None
        try:
            return option_index(value, options, f"site {site.name!r}")
        except OptionError as error:
            raise InterventionError(str(error)) from error
    if options and not isinstance(value, jax.core.Tracer):
        array = np.asarray(value)
        if array.dtype.kind not in "iu" or not ((array >= 0) & (array < len(options))).all():
            raise InterventionError(f"site {site.name!r} has {len(options)} options, numbered from 0; got {value!r}")
    return value


def as_worlds(worlds: Sequence[World], structure: Sequence[Site]) -> Worlds:
    """Check worlds against a model's sites and lay them out as arrays.

    Raises:
        InterventionError: see ``check_world``; or two worlds are the same, or one is empty.
    """
    sites = {site.name: site for site in structure}
    if isinstance(worlds, Mapping) or not isinstance(worlds, Sequence):
        raise InterventionError(f"worlds is a list of mappings from site names to values, got {worlds!r}")
    for world in worlds:
        check_world(world, structure)
        if not world:
            raise InterventionError("the factual world {} is always there; leave it out of worlds")
    labels = tuple(world_label(world) for world in worlds)
    for label in labels:
        if labels.count(label) > 1:
            raise InterventionError(f"the world {label} is listed twice")
    which, constants, changes = {}, {}, []
    for name in sites:
        if not any(name in world for world in worlds):
            continue
        codes, numbers, others = [0], [0], []
        for world in worlds:
            number = _constant(world[name], sites[name]) if name in world else None
            if name not in world:
                codes.append(0)
            elif number is not None:
                codes.append(1)
            else:
                others.append(_ByIdentity(world[name]))
                codes.append(1 + len(others))
            numbers.append(0 if number is None else number)
        which[name] = jnp.array(codes, jnp.int32)
        constants[name] = jnp.stack([jnp.asarray(number) for number in jnp.broadcast_arrays(*numbers)])
        changes.append((name, tuple(others)))
    return Worlds(which, constants, tuple(changes), labels)


def run_worlds(
    fn: Callable,
    key: Array,
    worlds: Worlds,
    args: tuple,
    kwargs: Mapping[str, Any] | None = None,
    log_probs: Sequence[str] | None = None,
) -> WorldResults:
    """Run one unit in all worlds with the same noise.

    Args:
        fn: the model function.
        key: key of the unit.
        worlds: the worlds.
        args, kwargs: arguments of the model.
        log_probs: choice sites whose option log-probabilities are wanted; None: all.
    """
    changes = dict(worlds.changes)

    def one(which: dict[str, Array], constants: dict[str, Array]) -> WorldResults:
        data = {
            name: Alternatives(which[name], constants[name], tuple(c.value for c in changes[name])) for name in which
        }
        return run_once(fn, key, data, args, kwargs, log_probs)

    if not worlds.which:
        return jax.tree.map(lambda x: x[None], one({}, {}))
    return jax.vmap(one)(worlds.which, worlds.constants)


def run_once(
    fn: Callable,
    key: Array,
    data: World,
    args: tuple,
    kwargs: Mapping[str, Any] | None = None,
    log_probs: Sequence[str] | None = None,
) -> WorldResults:
    """Run one unit in one world; the arrays have no axis of worlds."""
    # Handlers around this call see the worlds together, not the sites of each.
    with numpyro.handlers.block(), numpyro.handlers.trace() as trace, exogenous(key=key), do(data=data):
        returned = fn(*args, **(kwargs or {}))
    values, logits = {}, {}
    for name, msg in trace.items():
        if msg["type"] not in ("sample", "deterministic"):
            continue
        values[name] = msg["value"]
        fixed = msg["type"] != "sample" or isinstance(msg["fn"], Fixed)
        choice = None if fixed else base_choice(msg["fn"])
        if choice is not None and (log_probs is None or name in log_probs):
            logits[name] = choice.logits
    return WorldResults(returned, values, logits)

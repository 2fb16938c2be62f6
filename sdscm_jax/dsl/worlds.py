"""Worlds: interventions that are checked against a model's sites and laid out as data that JAX can take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from ..errors import InterventionError, OptionError, nearest
from .intervention import UNIFORM, Alternatives, Nested, describe, is_callable
from .structure import Site

World = Mapping[str, Any]
# A number (and whether units differ), or None for an intervention that is no constant.
_Constant = tuple[Array, bool] | None


class _ByIdentity(NamedTuple):
    """Makes any value usable as static data of a jitted function."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Regime:
    """One world as data that JAX can take: what is intervened on in it.

    Attributes:
        constants: site -> the number that the site is set to.
        per_unit: the same with a leading axis of units, where units differ.
        changes: site -> an intervention that is no constant (static).
    """

    constants: dict[str, Array]
    per_unit: dict[str, Array]
    changes: tuple[tuple[str, _ByIdentity], ...] = field(metadata={"static": True})

    def data(self, of_unit: Mapping[str, Array]) -> dict[str, Any]:
        """What ``do`` takes, for a unit whose slices of ``per_unit`` are ``of_unit``."""
        return {**self.constants, **of_unit, **{name: change.value for name, change in self.changes}}


class Grid(NamedTuple):
    """Worlds that between them set some sites to all their options.

    One of them is the factual world (consistency), which need not be run beside them.

    Attributes:
        sites: the sites, in program order.
        sizes: how many options each has.
        places: of each world, its place among all settings; the last site's options vary fastest.
    """

    sites: tuple[str, ...]
    sizes: tuple[int, ...]
    places: tuple[int, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Worlds:
    """The factual world and W others, as arrays of length ``1 + W`` per intervened site.

    Attributes:
        which: site -> int32; see ``Alternatives``.
        constants: site -> the number that the site is set to.
        per_unit: site -> the same with a leading axis of units, where units differ.
        changes: site -> interventions that are no constants (static).
        labels: of the W other worlds, such as ``do(pdl1=low)`` (static).
        grid: where the W other worlds cover all that some sites can be set to (static).
    """

    which: dict[str, Array]
    constants: dict[str, Array]
    per_unit: dict[str, Array]
    changes: tuple[tuple[str, tuple[_ByIdentity, ...]], ...] = field(metadata={"static": True})
    labels: tuple[str, ...] = field(metadata={"static": True})
    grid: Grid | None = field(default=None, metadata={"static": True})

    def of_unit(self, values: Mapping[str, Array]) -> Worlds:
        """The worlds of a unit whose slices of ``per_unit`` are ``values``."""
        return replace(self, constants={**self.constants, **values}, per_unit={})

    def data(self, which: Mapping[str, Array], constants: Mapping[str, Array]) -> dict[str, Any]:
        """What ``do`` takes in the world that these slices are of."""
        changes = dict(self.changes)
        return {
            name: Alternatives(which[name], constants[name], tuple(c.value for c in changes[name])) for name in which
        }


def world_label(world: World) -> str:
    """Name of a world.

    >>> world_label({"pdl1": "low", "age": "55"})
    'do(pdl1=low, age=55)'
    """
    return "do(" + ", ".join(f"{name}={describe(value)}" for name, value in world.items()) + ")"


def _labels(worlds: Sequence[World]) -> tuple[str, ...]:
    """Names of worlds; those whose values have no name of their own are numbered.

    Raises:
        InterventionError: two worlds are the same.
    """
    labels: list[str] = []
    for world in worlds:
        label = plain = world_label(world)
        if label in labels and all(isinstance(value, (str, int, float)) for value in world.values()):
            raise InterventionError(f"the world {label} is listed twice")
        again = 1
        while label in labels:
            again += 1
            label = f"{plain} ({again})"
        labels.append(label)
    return tuple(labels)


def _constants(world: World, sites: Sequence[Site], units: int | None) -> dict[str, _Constant]:
    """The values of a world as numbers, checked.

    Args:
        world: site name -> value.
        sites: the sites of the model.
        units: how many units there are, where a value may be an array over them.

    Raises:
        InterventionError: it names an unknown or exogenous site, or a value that the site cannot
            take; with the nearest name or option.
    """
    if not isinstance(world, Mapping):
        raise InterventionError(f"a world is a mapping from site names to values, got {world!r}")
    known = {site.name: site for site in sites}
    found = {}
    for name, value in world.items():
        if name not in known:
            raise InterventionError(f"the model has no site {name!r}; {nearest(name, list(known))}")
        if known[name].exogenous:
            raise InterventionError(f"site {name!r} is exogenous: it is part of U and cannot be intervened on")
        if isinstance(value, Nested):
            _constants(value.world, sites, units)
        found[name] = _constant(value, known[name], units)
    return found


def site_value(value: Any, site: Site, units: int | None) -> tuple[Array, bool]:
    """A value that a site may take as an array, and whether it has a leading axis of units.

    Raises:
        OptionError: it is no option.
        TypeError, ValueError: it is no number, or has another shape.
    """
    where = f"site {site.name!r}"
    array = jnp.asarray(value if site.phrase is None else site.phrase.as_value(value, where))
    shapes = [(False, site.shape)] + ([] if units is None else [(True, (units, *site.shape))])
    for per_unit, shape in shapes:
        try:
            if jnp.broadcast_shapes(array.shape, shape) == shape and (not per_unit or array.ndim == len(shape)):
                return array, per_unit
        except ValueError:
            continue
    expected = f"{site.shape}" if units is None else f"{site.shape}, or {(units, *site.shape)} for each of the units"
    raise ValueError(f"{where} takes a value of shape {expected}; got {array.shape}")


def _constant(value: Any, site: Site, units: int | None) -> _Constant:
    if is_callable(value) or isinstance(value, (dist.Distribution, Nested)):
        if site.kind == "deterministic" and isinstance(value, dist.Distribution):
            raise InterventionError(f"site {site.name!r} is deterministic; set it to a value or a function")
        return None
    if isinstance(value, str) and site.phrase is None:
        raise InterventionError(f"site {site.name!r} takes numbers, got {value!r}")
    if isinstance(value, str) and value == UNIFORM and site.options and UNIFORM not in site.options:
        return None
    try:
        return site_value(value, site, units)
    except (OptionError, TypeError, ValueError) as error:
        raise InterventionError(str(error)) from error


def as_regime(world: World, structure: Sequence[Site], units: int | None = None) -> Regime:
    """Check one world against a model's sites and lay it out as data.

    Raises:
        InterventionError: the world names an unknown or exogenous site, or a value that the site
            cannot take.
    """
    constants: dict[str, Array] = {}
    per_unit: dict[str, Array] = {}
    changes = []
    for name, found in _constants(world, structure, units).items():
        if found is None:
            changes.append((name, _ByIdentity(world[name])))
        else:
            (per_unit if found[1] else constants)[name] = found[0]
    return Regime(constants, per_unit, tuple(changes))


def as_worlds(worlds: Sequence[World], structure: Sequence[Site], units: int | None = None) -> Worlds:
    """Check worlds against a model's sites and lay them out as arrays.

    Raises:
        InterventionError: see ``as_regime``; or two worlds are the same, or one is empty.
    """
    if isinstance(worlds, Mapping) or not isinstance(worlds, Sequence):
        raise InterventionError(f"worlds is a list of mappings from site names to values, got {worlds!r}")
    found_in = []
    for world in worlds:
        found_in.append(_constants(world, structure, units))
        if not world:
            raise InterventionError("the factual world {} is always there; leave it out of worlds")
    labels = _labels(worlds)
    which: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    per_unit: dict[str, Array] = {}
    changes = []
    for site in structure:
        name = site.name
        if not any(name in world for world in worlds):
            continue
        nothing = jnp.int32(0)
        codes, numbers, others, differ = [0], [nothing], [], False
        for world, constant_of in zip(worlds, found_in, strict=True):
            found = constant_of.get(name)
            if name not in world:
                codes.append(0)
            elif found is not None:
                codes.append(1)
                differ = differ or found[1]
            else:
                others.append(_ByIdentity(world[name]))
                codes.append(1 + len(others))
            numbers.append(nothing if found is None else found[0])
        which[name] = jnp.array(codes, jnp.int32)
        # Not the site's shape: inside a loop it has one axis fewer.
        shape = (units, *site.shape) if differ else jnp.broadcast_shapes(*map(jnp.shape, numbers))
        stacked = jnp.stack([jnp.broadcast_to(number, shape) for number in numbers], axis=1 if differ else 0)
        (per_unit if differ else constants)[name] = stacked
        changes.append((name, tuple(others)))
    return Worlds(which, constants, per_unit, tuple(changes), labels, _grid(worlds, found_in, structure))


def _grid(worlds: Sequence[World], found: Sequence[dict[str, _Constant]], structure: Sequence[Site]) -> Grid | None:
    """The grid that worlds make up, if they do.

    Args:
        worlds: the worlds.
        found: their values as numbers.
        structure: the sites of the model.
    """
    names = [site.name for site in structure if worlds and site.name in worlds[0]]
    start = min((i for i, site in enumerate(structure) if site.name in names), default=0)
    # A site whose noise depends on what is upstream breaks consistency.
    if not names or any(site.coupling == "independent" for site in structure[start + 1 :]):
        return None
    sites = [site for site in structure if site.name in names]
    if any(site.kind != "choice" or site.shape or site.looped for site in sites):
        return None
    sizes = tuple(len(site.options) for site in sites)
    places = []
    for world, constants in zip(worlds, found, strict=True):
        static = [_static_number(world.get(site.name), constants.get(site.name), site) for site in sites]
        numbers = [number for number in static if number is not None]
        if not len(world) == len(sites) == len(numbers):
            return None
        places.append(int(np.ravel_multi_index(numbers, sizes)))
    return Grid(tuple(names), sizes, tuple(places)) if len(set(places)) == math.prod(sizes) else None


def _static_number(value: Any, constant: _Constant, site: Site) -> int | None:
    """The option number of a value, if it is one for all units that is known before the program runs."""
    if constant is None or constant[1] or site.phrase is None:
        return None
    number = site.phrase.as_value(value, site.name)
    return None if isinstance(number, jax.core.Tracer) else int(number)

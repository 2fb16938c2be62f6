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

from ... import checks
from ...errors import InterventionError, nearest
from ..analysis.structure import Site
from ..handlers.alternatives import Alternatives
from ..handlers.intervention import Nested, Number, assignments, intervention_of
from ..language.fit import Slot, fit

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
    """Name of a world; names and texts that a label could not tell apart stand in quotes.

    >>> world_label({"pdl1": "low", "age": "55"}), world_label({"a": "low, b=go"})
    ('do(pdl1=low, age=55)', 'do(a="low, b=go")')
    """
    return f"do({assignments(world)})"


def told(world: World, sites: Sequence[Site], units: int | None) -> World:
    """A world as people would say it: options by their texts, what is the same for all units once."""
    known = {site.name: site for site in sites}
    constants = _constants(world, sites, units)
    said: dict[str, Any] = {}
    for name, value in world.items():
        number, options = constants[name], slot_of_site(known[name]).options
        if isinstance(value, Nested):
            said[name] = replace(value, world=dict(told(value.world, sites, units)))
            continue
        said[name] = value
        if number is None or isinstance(number[0], jax.core.Tracer):
            continue
        array = np.asarray(number[0])
        if number[1] and (array == array[:1]).all():
            array = array[0]
        if array.ndim == 0:
            said[name] = options[int(array)] if options else array.item()
    return said


def _labels(worlds: Sequence[World], sites: Sequence[Site], units: int | None) -> tuple[str, ...]:
    """Names of worlds; those that would have the same one are numbered.

    Raises:
        InterventionError: two worlds set the same sites to the same values.
    """
    labels: list[str] = []
    first: dict[Any, str] = {}
    for world in worlds:
        label = plain = world_label(world)
        again = 1
        while label in labels:
            again += 1
            label = f"{plain} ({again})"
        labels.append(label)
        key = _identity(world, sites, units)
        if key in first:
            other = "" if first[key] == plain else f" (once as {first[key]})"
            raise InterventionError(f"the world {plain} is listed twice{other}")
        first[key] = plain
    return tuple(labels)


def _identity(world: World, sites: Sequence[Site], units: int | None) -> Any:
    """What a world sets, hashable: worlds are the same where this is, whatever they are called."""
    constants = _constants(world, sites, units)
    return frozenset((name, _value_identity(world[name], constants[name], sites, units)) for name in world)


def _value_identity(value: Any, constant: Number, sites: Sequence[Site], units: int | None) -> Any:
    if constant is not None:
        if isinstance(constant[0], jax.core.Tracer):
            return _ByIdentity(constant[0])
        array = np.asarray(constant[0])
        if constant[1] and (array == array[:1]).all():
            array = array[0]
        return array.tobytes(), array.shape
    if isinstance(value, Nested):
        return "nested", _identity(value.world, sites, units)
    if isinstance(value, str):
        return value
    if isinstance(value, dist.Distribution):
        leaves = jax.tree.leaves(value)
        if not any(isinstance(x, jax.core.Tracer) for x in leaves):
            return type(value), tuple((np.asarray(x).tobytes(), np.shape(x)) for x in leaves)
    return _ByIdentity(value)


def _constants(world: World, sites: Sequence[Site], units: int | None) -> dict[str, Number]:
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
        raise InterventionError(f"a world is a mapping from site names to values, got {checks.told(world)}")
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


def slot_of_site(site: Site) -> Slot:
    """What a site takes; inside a loop that is one value for each step."""
    return Slot(site.name, site.shape, site.dtype, site.phrase, site.support)


def site_value(value: Any, site: Site, units: int | None) -> tuple[Array, bool]:
    """A value that a site may take as an array of its shape and dtype, and whether it has a leading axis of units.

    Raises:
        OptionError: it is no option.
        ValueError: it is no number, has another shape or dtype, or is out of the site's support.
    """
    return fit(value, slot_of_site(site), units)


def _constant(value: Any, site: Site, units: int | None) -> Number:
    slot = slot_of_site(site)._replace(event_dim=site.event_dim)
    return intervention_of(value).at(slot.options).check(slot, units, site.kind == "deterministic", site.looped)


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
        raise InterventionError(f"worlds is a list of mappings from site names to values, got {checks.told(worlds)}")
    found_in = []
    for world in worlds:
        found_in.append(_constants(world, structure, units))
        if not world:
            raise InterventionError("the factual world {} is always there; leave it out of worlds")
    labels = _labels(worlds, structure, units)
    which: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    per_unit: dict[str, Array] = {}
    changes = []
    for site in structure:
        name = site.name
        if not any(name in world for world in worlds):
            continue
        nothing = jnp.zeros(site.shape, site.dtype)
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
        shape = (units, *site.shape) if differ else site.shape
        stacked = jnp.stack([jnp.broadcast_to(number, shape) for number in numbers], axis=1 if differ else 0)
        (per_unit if differ else constants)[name] = stacked
        changes.append((name, tuple(others)))
    return Worlds(which, constants, per_unit, tuple(changes), labels, _grid(worlds, found_in, structure))


def _grid(worlds: Sequence[World], found: Sequence[dict[str, Number]], structure: Sequence[Site]) -> Grid | None:
    """The grid that worlds make up, if they do: every combination of options of the sites that they set, once.

    Args:
        worlds: the worlds.
        found: their values as numbers.
        structure: the sites of the model.
    """
    sites = [site for site in structure if worlds and site.name in worlds[0]]
    if not sites or not all(map(_has_options_alone, sites)) or not _consistent_below(sites[0], structure):
        return None
    sizes = tuple(len(site.options) for site in sites)
    places = [_place(world, constants, sites, sizes) for world, constants in zip(worlds, found, strict=True)]
    known = [place for place in places if place is not None]
    if len(known) < len(places) or len(set(known)) != math.prod(sizes):
        return None
    return Grid(tuple(site.name for site in sites), sizes, tuple(known))


def _has_options_alone(site: Site) -> bool:
    """Has the site one of finitely many values, the same for all members of no plate and steps of no loop?"""
    return site.kind == "choice" and not site.shape and not site.looped


def _consistent_below(first: Site, structure: Sequence[Site]) -> bool:
    """Is the factual world that of the grid in which sites have their factual values?

    A site whose noise depends on what is upstream of it breaks consistency.
    """
    below = structure[[site.name for site in structure].index(first.name) + 1 :]
    couplings = [site.coupling for site in below if site.coupling is not None]
    return not any(coupling.redraws or coupling.relative for coupling in couplings)


def _place(world: World, constants: Mapping[str, Number], sites: Sequence[Site], sizes: tuple[int, ...]) -> int | None:
    """The place in the grid of a world that sets exactly these sites to options that are known; else None."""
    static = [_static_number(constants.get(site.name), site) for site in sites]
    numbers = [number for number in static if number is not None]
    return int(np.ravel_multi_index(numbers, sizes)) if len(world) == len(sites) == len(numbers) else None


def _static_number(constant: Number, site: Site) -> int | None:
    """The option number of a value, if it is one for all units that is known before the program runs."""
    if constant is None or constant[1] or site.phrase is None:
        return None
    return None if isinstance(constant[0], jax.core.Tracer) else int(constant[0])

"""Sites in several worlds of one unit: which of them are one and the same, and which share only their noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..dsl.handlers.intervention import Nested
from ..dsl.worlds.worlds import World
from ..errors import EffectError, InterventionError, nearest


@dataclass(frozen=True)
class PathWorld:
    """The world in which a treatment acts along some edges only.

    Along an edge of ``edges`` a site reads its parent's value in this world, along any other edge its value in
    ``base`` (Avin, Shpitser and Pearl 2005, "Identifiability of path-specific effects").

    Attributes:
        base, active: the two interventions, such as ``{"t": "low"}`` and ``{"t": "high"}``.
        edges: (parent, child) pairs.
    """

    base: Mapping[str, Any]
    active: Mapping[str, Any]
    edges: frozenset[tuple[str, str]]


class Target(NamedTuple):
    """A site in a world; ``{}`` is the factual one."""

    site: str
    world: World | PathWorld = {}


class Copy(NamedTuple):
    """One version of a site.

    Attributes:
        site: its name.
        constant: the option number that it is set to, or None where it responds.
        parents: numbers of the copies that it reads.
    """

    site: str
    constant: int | None
    parents: tuple[int, ...]


class Copies:
    """The distinct versions of sites that worlds have.

    Two worlds share a site's version where nothing upstream of it differs between them.

    Args:
        names: the sites in program order.
        parents: site -> its parents.
        number: turns a site's option (a text or a number) into its number.

    >>> copies = Copies(("x", "y", "z"), {"x": (), "y": ("x",), "z": ()}, lambda site, value: value)
    >>> copies.of(Target("z", {"x": 1})) == copies.of(Target("z"))
    True
    >>> copies.of(Target("y", {"x": 1})) == copies.of(Target("y"))
    False
    """

    def __init__(self, names: Iterable[str], parents: Mapping[str, tuple[str, ...]], number: Callable[[str, Any], int]):
        self.names, self.parents, self.number = tuple(names), parents, number
        self.copies: list[Copy] = []
        self._known: dict[Copy, int] = {}

    def of(self, target: Target) -> int:
        """Number of the version that a site has in a world.

        Raises:
            InterventionError: the world sets a site that the model has not, or to no option.
        """
        site, world = target
        if isinstance(world, PathWorld):
            self._check(world.base)
            self._check(world.active)
            return self._in_paths(site, world, {}, {})
        self._check(world)
        return self._in(site, world, {})

    def above(self, copies: Iterable[int]) -> list[int]:
        """The copies and what they depend on, in program order."""
        found: set[int] = set()
        todo = list(copies)
        while todo:
            number = todo.pop()
            if number not in found:
                found.add(number)
                todo += self.copies[number].parents
        order = {name: i for i, name in enumerate(self.names)}
        return sorted(found, key=lambda i: (order[self.copies[i].site], i))

    def responses(self, copies: Iterable[int]) -> dict[str, list[int]]:
        """Site -> its versions that respond, among the copies and what they depend on."""
        found: dict[str, list[int]] = {}
        for number in self.above(copies):
            if self.copies[number].constant is None:
                found.setdefault(self.copies[number].site, []).append(number)
        return found

    def _add(self, copy: Copy) -> int:
        if copy not in self._known:
            self._known[copy] = len(self.copies)
            self.copies.append(copy)
        return self._known[copy]

    def _in(self, site: str, world: Mapping[str, Any], found: dict[str, int]) -> int:
        """The version in a world; ``found`` are those in this world that are known."""
        if site not in found:
            value = world.get(site)
            if isinstance(value, Nested):
                found[site] = self.of(Target(site, value.world))
            elif site in world:
                found[site] = self._add(Copy(site, self._constant(site, value), ()))
            else:
                read = tuple(self._in(parent, world, found) for parent in self.parents[site])
                found[site] = self._add(Copy(site, None, read))
        return found[site]

    def _in_paths(self, site: str, world: PathWorld, found: dict[str, int], in_base: dict[str, int]) -> int:
        if site not in found:
            if site in world.active:
                found[site] = self._in(site, world.active, {})
            else:
                read = tuple(
                    self._in_paths(parent, world, found, in_base)
                    if (parent, site) in world.edges
                    else self._in(parent, world.base, in_base)
                    for parent in self.parents[site]
                )
                found[site] = self._add(Copy(site, None, read))
        return found[site]

    def _check(self, world: Mapping[str, Any]) -> None:
        for name in world:
            if name not in self.parents:
                raise InterventionError(f"the model has no site {name!r}; {nearest(name, self.names)}")

    def _constant(self, site: str, value: Any) -> int:
        if callable(value) or (not isinstance(value, str | int) and not hasattr(value, "__index__")):
            raise EffectError(f"site {site!r}: effects are of worlds that set a site to an option, not to {value!r}")
        return self.number(site, value)

"""Laws that several worlds of the same units obey: consistency, effectiveness, locality, stability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import items, told
from ..dsl.analysis.structure import Site, structure
from ..dsl.worlds.worlds import World
from ..engine.simulate import simulate
from ..engine.simulation import Simulation
from ..errors import SiteError, nearest
from .failure import fail, same_rows, shown


@dataclass(frozen=True, eq=False)
class CheckedWorlds:
    """Units in worlds in each of which some sites are set.

    Attributes:
        data: the simulation.
        worlds: the worlds but for the factual one, in its order.
    """

    data: Simulation
    worlds: tuple[World, ...]

    def below(self, number: int) -> set[str]:
        """Sites that the interventions of a world can reach."""
        return {name for site in self.worlds[number - 1] for name in self.data.graph.descendants(site)}

    def redrawn(self, number: int) -> set[str]:
        """Those whose noise is another one there: ``coupling="independent"``, and what is downstream of that."""
        graph = self.data.graph
        anew = {name for name in self.below(number) if getattr(graph[name].coupling, "redraws", False)}
        return anew | {name for other in anew for name in graph.descendants(other)}

    def factual(self, number: int) -> np.ndarray:
        """Units of which every site that the world sets has its factual value in it."""
        values = self.data.values
        kept = [same_rows(values[site][:, number], values[site][:, 0]) for site in self.worlds[number - 1]]
        return np.logical_and.reduce(kept)

    def require_same(self, law: str, number: int, site: str, units: np.ndarray) -> None:
        """Values and log-probabilities of some units are in a world what they are in the factual one."""
        for arrays, kind in ((self.data.values, "value"), (self.data.log_probs, "log-probabilities")):
            if site not in arrays:
                continue
            here, there = arrays[site][:, number], arrays[site][:, 0]
            wrong = np.flatnonzero(units & ~same_rows(here, there))
            if wrong.size:
                unit = wrong[0]
                text = (lambda x: shown(self.data.graph, site, x)) if kind == "value" else (lambda x: str(x.tolist()))
                what = f"{kind} {text(here[unit])}, expected the factual {text(there[unit])}"
                fail(law, site, what, unit=unit, world=self.data.worlds[number])


def may_be_set(site: Site) -> bool:
    """May a site be intervened on?"""
    return not (site.exogenous or site.observed or site.kind == "intervened" or site.looped)


def levels(model: Callable, key: Any, *args: Any, units: int = 32, sites: Sequence[str] | None = None) -> CheckedWorlds:
    """Simulate units in a world for each option of each site.

    A site without options has one world, in which every other unit keeps its own value and the others take
    their neighbour's.

    Args:
        model, key, args: as for ``simulate``.
        units: how many units.
        sites: sites to set; None: all that may be set.

    Raises:
        SiteError: the model has no such site, or it may not be set.
    """
    found = [site for site in structure(model, args) if may_be_set(site)]
    names = [site.name for site in found]
    sites = None if sites is None else items(sites, "sites", SiteError, single=str)
    for name in sites or ():
        if name not in names:
            raise SiteError(f"{told(name)} is no site of the model that may be set; {nearest(name, names)}")
    chosen = [site for site in found if sites is None or site.name in sites]
    worlds: list[World] = [{site.name: option} for site in chosen for option in site.options]
    if others := [site.name for site in chosen if not site.options]:
        values = simulate(model, key, units, *args, logp=[], progress=False).values
        for name in others:
            own = values[name][:, 0]
            worlds.append({name: own[np.arange(units) - np.arange(units) % 2]})
    return CheckedWorlds(simulate(model, key, units, *args, worlds=worlds, progress=False), tuple(worlds))


# -- the laws, of worlds that were simulated ------------------------------------------------------------------


def consistent(worlds: CheckedWorlds) -> int:
    """``do(x = its factual value)`` changes nothing; the number of units and worlds where it was so set."""
    looked = 0
    for number in range(1, len(worlds.data.worlds)):
        units = worlds.factual(number)
        redrawn = worlds.redrawn(number)
        for site in worlds.data.values:
            if site not in redrawn:
                worlds.require_same("consistency, do(x = its factual value) changes nothing", number, site, units)
        looked += int(units.sum())
    return looked


def effective(worlds: CheckedWorlds) -> int:
    """A site that is set has the value that it was set to; the number of values."""
    data, looked = worlds.data, 0
    for number, world in enumerate(worlds.worlds, 1):
        for site, value in world.items():
            found = data.values[site][:, number]
            options = data.graph[site].options
            asked = np.asarray(options.index(value) if isinstance(value, str) else value, found.dtype)
            wanted = np.broadcast_to(asked, found.shape)
            wrong = np.flatnonzero(~same_rows(found, wanted))
            if wrong.size:
                unit = wrong[0]
                here, there = (shown(data.graph, site, x[unit]) for x in (found, wanted))
                what = f"{here}, but it was set to {there}"
                fail("effectiveness, do(x = a) makes x be a", site, what, unit=unit, world=data.worlds[number])
            looked += len(found)
    return looked


def unreached(worlds: CheckedWorlds) -> int:
    """What an intervention does not reach is equal to the last bit; the number of sites and worlds."""
    looked = 0
    everyone = np.ones(len(worlds.data), bool)
    for number, world in enumerate(worlds.worlds, 1):
        for site in worlds.data.values:
            if site not in world and site not in worlds.below(number):
                worlds.require_same("an intervention changes its descendants only", number, site, everyone)
                looked += 1
    return looked


def stable(worlds: CheckedWorlds) -> int:
    """An option whose odds fall against no other stays; the number of choices below an intervention where they did not.

    Of choices with a ``stable`` coupling (such as ``"gumbel"``) whose log-probabilities were kept.
    """
    data, looked = worlds.data, 0
    rows = np.arange(len(data))
    for number, world in enumerate(worlds.worlds, 1):
        for site in worlds.below(number) - set(world):
            coupling = data.graph[site].coupling
            if coupling is None or not coupling.stable or site not in data.log_probs or data.values[site].ndim != 2:
                continue
            chosen, there = data.values[site][:, 0], data.values[site][:, number]
            log_probs = data.log_probs[site]
            with np.errstate(invalid="ignore"):
                change = log_probs[:, number] - log_probs[:, 0]
                kept = (change[rows, chosen][:, None] >= change).all(1)
            wrong = np.flatnonzero(kept & (there != chosen))
            if wrong.size:
                unit = wrong[0]
                before, after = (shown(data.graph, site, x[unit]) for x in (chosen, there))
                what = f"{before} became {after}; the options' log-probabilities changed by {change[unit].tolist()}"
                fail("Gumbel stability", site, what, unit=unit, world=data.worlds[number])
            looked += int(kept.sum())
    return looked


# -- the same, of a model ----------------------------------------------------------------------------------------


def check_consistency(
    model: Callable, key: Any, *args: Any, units: int = 32, sites: Sequence[str] | None = None
) -> int:
    """Law 1: a world in which a site is set to its factual value is the factual world, to the last bit.

    Sites with ``coupling="independent"`` below the one that is set, whose noise is another one, are left out.

    Args:
        model, key, args: as for ``simulate``.
        units: how many units are looked at.
        sites: sites that are set; None: each that may be set.

    Returns:
        how many units and worlds there were to look at.

    Raises:
        AssertionError: the law does not hold; it names site, unit, world and values.

    >>> import sdscm_jax as sd
    >>> from sdscm_jax import testing
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> testing.check_consistency(model, 0, testing.mock_lm(model), units=10) > 0
    True
    """
    return consistent(levels(model, key, *args, units=units, sites=sites))


def check_effectiveness(
    model: Callable, key: Any, *args: Any, units: int = 32, sites: Sequence[str] | None = None
) -> int:
    """Law 2: a site that is set has the value that it was set to. Arguments and errors: ``check_consistency``."""
    return effective(levels(model, key, *args, units=units, sites=sites))


def check_unreached(model: Callable, key: Any, *args: Any, units: int = 32, sites: Sequence[str] | None = None) -> int:
    """Law 3: what an intervention does not reach is equal in all worlds, to the last bit.

    Arguments and errors: ``check_consistency``.
    """
    return unreached(levels(model, key, *args, units=units, sites=sites))


def check_stability(model: Callable, key: Any, *args: Any, units: int = 32, sites: Sequence[str] | None = None) -> int:
    """Law 6: with Gumbel noise an option stays if its odds fall against no other (Oberst and Sontag 2019).

    Arguments and errors: ``check_consistency``.
    """
    return stable(levels(model, key, *args, units=units, sites=sites))

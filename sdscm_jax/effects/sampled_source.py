"""Probabilities of sites in several worlds as averages over simulated units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..dsl.analysis.graph import Graph
from ..dsl.handlers.intervention import Nested
from ..dsl.noise.couplings.base import Coupling
from ..dsl.noise.couplings.independent import Independent
from ..dsl.noise.streams import as_key
from ..dsl.worlds.path_specific import along
from ..dsl.worlds.worlds import World, world_label
from ..engine.simulate import simulate
from ..engine.simulation import Simulation
from ..errors import EffectError
from .counterfactual_graph import Copies, PathWorld, Target
from .estimate import Estimate
from .responses import joint_responses, with_axes
from .sites import Sites


class _Drawn(NamedTuple):
    """One world of the units: values ``[n]`` and log-probabilities ``[n, K]`` by site."""

    world: World | PathWorld
    values: dict[str, np.ndarray]
    log_probs: dict[str, np.ndarray]


@dataclass(eq=False)
class Sampled(Sites):
    """Where effects come from: units that were simulated in several worlds.

    Where it can, it averages a unit's probability of an outcome given the unit's other values, not the outcome
    that was drawn: the same mean, with less noise (Rao-Blackwell).

    Attributes:
        graph: the causal graph.
        draws: rows for each unit.
        simulate: simulates the same units in more worlds, or None.
        evidence: sites that were observed of the units: the noise of these, and of what is upstream, is that of units
            like them, so there what was drawn is averaged.
    """

    graph: Graph
    draws: int = 1
    simulate: Callable[[Sequence[World | PathWorld]], Sequence[_Drawn]] | None = None
    evidence: tuple[str, ...] = ()
    _drawn: list[_Drawn] = field(default_factory=list, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Sites in program order."""
        return self.graph.names

    def _site(self, site: str) -> Any:
        return self.graph[site]

    def parents(self, site: str) -> tuple[str, ...]:
        """Parents of a site."""
        return tuple(self._site(site).parents)

    def descendants(self, site: str) -> tuple[str, ...]:
        """Sites that a site is a cause of."""
        return self.graph.descendants(self._site(site).name)

    def options(self, site: str) -> tuple[str, ...]:
        """Texts of a site's options; none, where it is no choice."""
        return tuple(self._site(site).options)

    def exogenous(self, site: str) -> bool:
        """May the site not be intervened on?"""
        return bool(self._site(site).exogenous)

    def coupling_of(self, site: str) -> str | None:
        """How worlds share the site's noise; None: it has none."""
        found = self._site(site)
        return found.coupling or (None if found.kind == "deterministic" else "NumPyro's own")

    def prepare(self, targets: Sequence[Target]) -> None:
        """Simulate the worlds that the targets need and that there are not yet, all at once."""
        copies = self.copies()
        missing: list[World | PathWorld] = []
        for target in map(_by_itself, targets):
            self._site(target.site)
            if self._find(copies, target) is None and target.world not in missing:
                missing.append(target.world)
        if not missing:
            return
        if self.simulate is None:
            world = missing[0]
            if isinstance(world, PathWorld):
                raise EffectError("effects along edges need the program: effects.sampled(model, key, n, …)")
            raise EffectError(
                f"the simulation has no world {world_label(world)}: simulate with it in worlds=, or give "
                "effects.sampled the program"
            )
        self._drawn += self.simulate(missing)

    def _find(self, copies: Copies, target: Target) -> _Drawn | None:
        """A world in which the site is what it is in the target's world, by its own mechanism."""
        wanted, site = copies.of(target), target.site
        for drawn in self._drawn:
            world, handed_on = drawn.world, _by_itself(Target(site, drawn.world)).world is not drawn.world
            if isinstance(world, PathWorld):
                # What feels nothing is handed on from the base world.
                handed_on = copies.of(Target(site, world)) == copies.of(Target(site, world.base))
            if not handed_on and copies.of(Target(site, world)) == wanted:
                return drawn
        return None

    def joint(self, targets: Sequence[Target], evidence: Sequence[tuple[Target, int]] = ()) -> Estimate:
        """``P(targets, evidence)``, with an axis for each target.

        Args:
            targets: choice sites in worlds.
            evidence: choice sites in worlds, and the option number that each has.

        Raises:
            EffectError: a world was not simulated and cannot be.
        """
        self.prepare([*targets, *(target for target, _ in evidence)])
        copies = self.copies()
        # Of one site, two versions' laws given all else are known; what is not of that site is seen or not.
        site = targets[0].site if targets else evidence[0][0].site
        known = [(t, v) for t, v in evidence if t.site == site]
        others = [(t, v) for t, v in evidence if t.site != site]
        wanted = list(dict.fromkeys(copies.of(t) for t in [*targets, *(t for t, _ in known)]))
        averaged = len(wanted) <= 2 and self._has_law(site, targets, [t for t, _ in others])
        settled = self._settled(copies, wanted, [t for t, _ in evidence], averaged)
        if averaged:
            each = self._law(copies, [*targets, *(t for t, _ in known)], wanted, site)
            for _, value in reversed(known):
                each = each[..., value]
            seen = self.seen(others)
        else:
            each = _outer([_one_hot(self.values(t), len(self.options(t.site))) for t in targets], self._rows())
            seen = self.seen(evidence)
        return self._mean(each * seen.reshape(-1, *(1,) * (each.ndim - 1)), settled)

    def _has_law(self, site: str, targets: Sequence[Target], others: Sequence[Target]) -> bool:
        """Is each unit's law of a site known, given all else that is looked at?"""
        below = self.descendants(site)
        return (
            all(target.site == site for target in targets)
            and self.prior_noise(site)
            and not any(target.site in below for target in others)
        )

    def mean(self, target: Target, evidence: Sequence[tuple[Target, int]] = ()) -> Estimate:
        """Mean of a number given evidence, a scalar."""
        self.prepare([target, *(t for t, _ in evidence)])
        seen, values = self.seen(evidence), self.values(target).astype(np.float64)
        if values.ndim > 1:
            raise EffectError(f"site {target.site!r} is an array of shape {values.shape[1:]} in each unit")
        copies = self.copies()
        settled = self._settled(copies, [copies.of(target)], [t for t, _ in evidence], False)
        return self._mean(values * seen, settled) / self._mean(seen.astype(np.float64), settled)

    def _settled(self, copies: Copies, wanted: Sequence[int], evidence: Sequence[Target], averaged: bool) -> bool:
        """Does the graph say that some versions, or their laws, are the same in all units that the evidence picks?"""
        fixed = {copies.of(target) for target in [*evidence, *map(Target, self.evidence)]}

        def same(number: int) -> bool:
            site, constant, parents = copies.copies[number]
            follows = self._site(site).kind == "deterministic"
            return constant is not None or number in fixed or (follows and all(map(same, parents)))

        return all(same(n) or (averaged and all(map(same, copies.copies[n].parents))) for n in wanted)

    def _law(self, copies: Copies, targets: Sequence[Target], wanted: Sequence[int], own: str) -> np.ndarray:
        """Each unit's law of a site's versions, ``[n, K, …]`` with an axis for each target."""
        first = [next(t for t in targets if copies.of(t) == copy) for copy in wanted]
        laws = [self.probabilities(target) for target in first]
        # A site without a coupling has no laws but what was drawn, and of single values any coupling is the product.
        coupling = self._site(own).coupling or Independent()
        if len(laws) == 1:
            joint = laws[0]
        elif not coupling.relative:
            joint = joint_responses(coupling, *laws)
        else:
            joint = self._beside_factual(copies, coupling, wanted, laws, own)
        return with_axes(joint, [wanted.index(copies.of(target)) for target in targets])

    def _beside_factual(
        self, copies: Copies, coupling: Coupling, wanted: Sequence[int], laws: Sequence[np.ndarray], own: str
    ) -> np.ndarray:
        """The joint law of two versions whose noise is relative to that of the factual one."""
        factual = copies.of(Target(own))
        if factual == wanted[0]:
            return joint_responses(coupling, *laws)
        if factual == wanted[1]:
            return joint_responses(coupling, *reversed(laws)).swapaxes(-1, -2)
        self.prepare([Target(own)])
        return joint_responses(coupling, self.probabilities(Target(own)), *laws).sum(-3)

    def prior_noise(self, site: str) -> bool:
        """Does nothing that was observed of the units tell of the site's noise?"""
        return not {site, *self.descendants(site)} & set(self.evidence)

    def seen(self, evidence: Sequence[tuple[Target, int]]) -> np.ndarray:
        """Rows in which all evidence holds, bool ``[rows]``."""
        found = np.ones(self._rows(), bool)
        for target, value in evidence:
            found &= self.values(target) == value
        return found

    def probabilities(self, target: Target) -> np.ndarray:
        """Each row's probabilities of a site's options given its other values, float64 ``[rows, K]``."""
        copies = self.copies()
        constant = copies.copies[copies.of(target)].constant
        if constant is not None:
            return np.tile(np.eye(len(self.options(target.site)))[constant], (self._rows(), 1))
        drawn = self._find(copies, target)
        assert drawn is not None
        if target.site not in drawn.log_probs or self._site(target.site).observed:
            return _one_hot(drawn.values[target.site], len(self.options(target.site)))
        logits = drawn.log_probs[target.site].astype(np.float64)
        return np.exp(logits - np.logaddexp.reduce(logits, -1, keepdims=True))

    def values(self, target: Target) -> np.ndarray:
        """Each row's value of a site, ``[rows, ...]``."""
        copies = self.copies()
        constant = copies.copies[copies.of(target)].constant
        if constant is not None:
            return np.full(self._rows(), constant)
        drawn = self._find(copies, target)
        assert drawn is not None
        return drawn.values[target.site]

    def _rows(self) -> int:
        return len(next(iter(self._drawn[0].values.values())))

    def _mean(self, rows: np.ndarray, settled: bool) -> Estimate:
        """The mean over units; rows of one unit are one observation."""
        return Estimate.of_units(rows.reshape(-1, self.draws, *rows.shape[1:]).mean(1), settled)


def of_simulation(data: Simulation) -> Sampled:
    """A source of effects from the worlds that a simulation has."""
    drawn = []
    for w, world in enumerate(data.interventions):
        if not _chosen(world):
            continue
        for site, value in world.items():
            if isinstance(value, str) and (data.values[site][:, w] != data.graph[site].options.index(value)).any():
                raise EffectError(f"world {w} sets {site!r} to {value!r}, and the simulation has other values there")
        drawn.append(_drawn(data, w, world))
    return Sampled(data.graph, data.draws, None, tuple(getattr(data, "evidence", ())), drawn)


def sampled(fn: Callable, key: Any, n: int, *args: Any, **options: Any) -> Sampled:
    """A source of effects from units that are simulated where an effect needs them.

    Args:
        fn: a model function, of language or of numbers; its sites may have any values.
        key: PRNG key, or an int seed; every world has the same units.
        n: number of units.
        *args: arguments of the model, such as the language model.
        **options: of ``simulate``: ``evidence``, ``draws``, ``memory``, ``store``, …

    >>> import sdscm_jax as sd
    >>> from sdscm_jax import effects
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> source = effects.sampled(model, 0, 100, lm)
    >>> effects.ate(source, "pdl1", "drug", "low", "high").units
    100
    """
    key = as_key(key)
    first = simulate(fn, key, n, *args, **options)
    evidence = tuple(options.get("evidence") or ())

    # Such programs ask language models in two worlds at once, which no store is for.
    in_graph = {name: value for name, value in options.items() if name not in ("store", "execution")}

    def more(worlds: Sequence[World | PathWorld]) -> list[_Drawn]:
        plain = [world for world in worlds if not isinstance(world, PathWorld)]
        found = []
        if plain:
            data = simulate(fn, key, n, *args, worlds=plain, **options)
            found = [_drawn(data, w + 1, world) for w, world in enumerate(plain)]
        for world in worlds:
            if isinstance(world, PathWorld):
                if evidence:
                    raise EffectError("evidence is of the factual world; effects along edges are of units without any")
                model = along(fn, world.base, world.active, world.edges)
                found.append(_drawn(simulate(model, key, n, *args, **in_graph), 0, world))
        return found

    return Sampled(first.graph, first.draws, more, evidence, [_drawn(first, 0, {})])


def _chosen(world: Mapping[str, Any]) -> bool:
    """Does a world set sites to options only, by their texts?"""
    return all(_chosen(x.world) if isinstance(x, Nested) else isinstance(x, str) for x in world.values())


def _drawn(data: Simulation, w: int, world: World | PathWorld) -> _Drawn:
    values, log_probs = ({name: x[:, w] for name, x in part.items()} for part in (data.values, data.log_probs))
    return _Drawn(world, values, log_probs)


def _by_itself(target: Target) -> Target:
    """A site in the world where its own mechanism gives it the value, which a nested intervention only hands on."""
    site, world = target
    while not isinstance(world, PathWorld) and isinstance(value := world.get(site), Nested):
        world = value.world
    return Target(site, world)


def _one_hot(numbers: np.ndarray, size: int) -> np.ndarray:
    return np.eye(size)[numbers]


def _outer(arrays: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """Products ``[n, K_1, …]`` of each row's vectors."""
    found = np.ones(rows)
    for array in arrays:
        found = found[..., None] * array.reshape(rows, *(1,) * (found.ndim - 1), -1)
    return found

"""``counterfactual``: one unit in several worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.primitives import _PYRO_STACK, Messenger

from ...checks import function
from ...errors import EvidenceError, InterventionError, SiteError
from ..analysis.graph import Graph
from ..analysis.structure import Site, structure
from ..handlers.exogenous import exogenous, next_key, unit_noise
from ..handlers.external_scores import NotSeparable, asked
from ..handlers.factual import Visited, visited
from ..language.fit import check_marks
from ..language.messages import from_loop, is_variable, set_value
from ..noise.streams import fold_text, stream
from .abduction import (
    PARTICLES,
    abduce,
    check_counterfactual,
    check_evidence,
    check_explained,
    check_possible,
    latent_causes,
    latent_texts,
    parse_particles,
)
from .around import around, gives_values, sums_out
from .do import do as intervene
from .do import in_world
from .worlds import World, Worlds, as_worlds


def counterfactual(
    fn: Callable,
    do: World | None = None,
    evidence: Mapping[str, Any] | None = None,
    worlds: Sequence[World] | None = None,
    particles: int = PARTICLES,
) -> Callable:
    """Run a unit in the factual world and in others, with the same exogenous noise.

    The noise comes from an outer ``exogenous`` (or ``numpyro.handlers.seed``). Worlds are a vectorised axis.

    The factual world's sites are sites of the model like any other, so its density is theirs, and handlers around it
    (``condition``, ``substitute``, NumPyro's samplers, guides and ``Predictive``) act on them. What those say of a site
    holds in every world that no intervention reaches it in. In a world where one does, the site answers with noise
    that is drawn given its value (as it is with ``evidence``, which is observed). Unobserved causes of what is
    observed or given, which have no value of their own, are drawn from their posterior (see ``abduct``).

    Args:
        fn: the model function.
        do: one intervention, site name -> value.
        evidence: site name -> observed value in the factual world.
        worlds: several interventions; each is one more world. Exactly one of ``do`` and ``worlds``
            is given.
        particles: how many there are, where free text is an unobserved cause of what is observed or given.

    Returns:
        a function of the model's arguments that returns what ``fn`` returns in the counterfactual
        world (with ``worlds``: with a leading axis, the factual world first). Traces see each
        site of the factual world under its name and of another world as ``name|do(site=value)``, which is
        deterministic. (While NumPyro sums sites out, other worlds are not known: their numbers are NaN, their options
        -1. And it keeps one noise for all draws of a sampler, where ``Predictive`` draws anew: ask that.)

    Raises:
        InterventionError: a site is unknown or exogenous, or cannot take the value; or ``do`` stands around it.
        EvidenceError: see ``abduct``; or a site whose noise cannot be told was given a value.

    >>> import jax, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     return sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> twin = sd.handlers.counterfactual(model, worlds=[{"pdl1": "low"}, {"pdl1": "high"}])
    >>> sd.handlers.exogenous(twin, jax.random.key(0))(lm).index.shape
    (3,)
    """
    if (do is None) == (worlds is None):
        raise InterventionError("counterfactual takes either do (one world) or worlds (a list of them)")
    others: Sequence[World] = worlds if worlds is not None else [do] if do is not None else []

    function(fn, "the model of counterfactual")
    particles = parse_particles(particles)

    def in_worlds(*args: Any, **kwargs: Any) -> Any:
        unit = unit_noise()
        key, noise = unit if unit is not None else (next_key(), {})
        if key is None:
            raise SiteError("counterfactual draws noise: run it under handlers.exogenous or numpyro.handlers.seed")
        sites = structure(fn, args, kwargs)
        prepared = as_worlds(others, sites)
        _check_around(sites)
        observed = {
            name: value for name, (value, _) in check_evidence({} if evidence is None else evidence, sites).items()
        }
        run = _Run(fn, observed, sites, prepared, key, noise, args, kwargs, particles)
        if sums_out():
            returned, values = run.unknown()
        else:
            returned, values = run.in_all()
        for name, label, value in values:
            numpyro.deterministic(f"{name}|{label}", value)
        return jax.tree.map(lambda x: x[1], returned) if do is not None else returned

    return in_worlds


class _Run:
    """One unit in its worlds."""

    def __init__(
        self,
        fn: Callable,
        evidence: dict[str, Array],
        sites: tuple[Site, ...],
        worlds: Worlds,
        key: Array,
        noise: Mapping[str, Any],
        args: tuple,
        kwargs: dict[str, Any],
        particles: int,
    ):
        self.particles = particles
        self.plain, self.evidence, self.sites, self.worlds = fn, evidence, sites, worlds
        self.key, self.noise, self.args, self.kwargs = key, dict(noise), args, kwargs
        self.fn = numpyro.handlers.condition(fn, evidence) if evidence else fn

    def in_all(self) -> tuple[Any, list[tuple[str, str, Any]]]:
        """What is returned, with a leading axis of worlds, and the sites of the other worlds with their labels."""
        self._abduce()
        seen, factual = self._factual()
        self._check(seen)
        returned, values = self._others(seen)
        labels = self.worlds.labels
        self._check_told(seen, values)
        found = [(name, label, x[i]) for name, x in values.items() for i, label in enumerate(labels)]
        return jax.tree.map(_beside, factual, returned), found

    def _check_told(self, seen: visited, values: Mapping[str, Any]) -> None:
        """Refuse values of other worlds that no site takes, or that cannot be told from the factual ones."""
        names = {site.name for site in self.sites}
        known = tuple(n for n, site in seen.sites.items() if n in names and (site.given or n in self.noise))
        units = {
            name: _in_all(seen.sites[name].value, values[name])
            for name in values
            if name in seen.sites
            and not any(isinstance(x, jax.core.Tracer) for x in (values[name], seen.sites[name].value))
        }
        which = {name: np.asarray(x) > 0 for name, x in self.worlds.which.items() if name in units}
        check_marks(units, which, {site.name: site.options for site in self.sites})
        check_counterfactual(units, self.sites, known, self.worlds.labels)

    def unknown(self) -> tuple[Any, list[tuple[str, str, Any]]]:
        """The same while sites are summed out: the factual sites count, nothing is known of other worlds."""

        def apart() -> tuple[Any, list[Any]]:
            with numpyro.handlers.block():
                returned, found = self.in_all()
            return returned, [value for _, _, value in found]

        self._factual()
        return jax.tree.map(lambda x: jnp.full(x.shape, _nothing(x.dtype), x.dtype), jax.eval_shape(apart)[0]), []

    def _abduce(self) -> None:
        """Noise of what causes observed and given values and has none of its own."""
        given = self._given()
        if not latent_causes([*self.evidence, *given], self.sites):
            return
        if any(isinstance(handler, numpyro.plate) for handler in _PYRO_STACK):
            raise EvidenceError("counterfactual infers causes of what is observed: put the plate inside of its model")
        values = {} if not given else self._hidden().sites
        evidence = {**self.evidence, **{name: values[name].value for name in given}}
        found = abduce(self.plain, evidence, self.key, self.sites, self.args, self.kwargs, self.particles)
        check_explained(found[1:], latent_texts(list(evidence), self.sites), self.particles, "counterfactual")
        check_possible(found.log_prob, "counterfactual")
        self.noise.update(found.noise)

    def _given(self) -> tuple[str, ...]:
        """Sites that handlers around give values, besides those that the program or the evidence observes."""
        if not gives_values():
            return ()
        found: list[str] = []
        # Not noise that a reparametrisation around has made a site.
        known = {site.name for site in self.sites if not site.observed} - set(self.evidence)

        def look() -> None:
            found.extend(name for name, site in self._hidden().sites.items() if site.given and name in known)

        jax.eval_shape(look)
        return tuple(found)

    def _hidden(self) -> visited:
        """A run that only what gives values sees."""
        with around(), exogenous(key=self.key, noise=self.noise), visited() as seen:
            self.fn(*self.args, **self.kwargs)
        return seen

    def _factual(self) -> tuple[visited, Any]:
        """The run that counts; handlers around see it."""
        with exogenous(key=self.key, noise=self.noise), visited() as seen:
            returned = self.fn(*self.args, **self.kwargs)
        return seen, returned

    def _others(self, seen: visited) -> tuple[Any, dict[str, Any]]:
        """What the other worlds return, and their sites, with a leading axis of worlds."""
        reached = self._reached()
        noise = dict(self.noise)
        for name in reached:
            site = seen.sites.get(name)
            if site is not None and site.given and name not in noise:
                noise[name] = site.noise(fold_text(stream(self.key, "abduction"), name))
        which, constants = (
            {name: x[1:] for name, x in data.items()} for data in (self.worlds.which, self.worlds.constants)
        )

        def one(which: dict[str, Array], constants: dict[str, Array], felt: dict[str, Array]) -> tuple[Any, Any]:
            data = self.worlds.data(which, constants)
            kept = _Kept({name: seen.sites[name].value for name in felt if name in seen.sites}, felt)
            with (
                around(values=False),
                kept,
                numpyro.handlers.trace() as trace,
                exogenous(key=self.key, noise=noise),
            ):
                returned = in_world(_Beside(self.fn, seen.sites, reached), data)(*self.args, **self.kwargs)
            return returned, {name: msg["value"] for name, msg in trace.items() if _has_value(msg)}

        return jax.vmap(one, axis_size=len(self.worlds.labels))(which, constants, reached)

    def _reached(self) -> dict[str, Array]:
        """Sites that interventions reach -> in which of the other worlds, bool ``[W]``."""
        graph, which = Graph(self.sites), self.worlds.which
        looped = [site.name for site in self.sites if site.looped]
        reached: dict[str, Array] = {}
        for name in which:
            there = which[name][1:] > 0
            below = {name, *graph.descendants(name)}
            if name in looped:
                # What leaves a loop is not followed to the sites inside.
                below |= {site.name for site in self.sites[graph.names.index(looped[0]) :]}
            for site in below:
                reached[site] = reached[site] | there if site in reached else there
        return reached

    def _check(self, seen: visited) -> None:
        """Refuse what cannot be told to other worlds, and evidence that is impossible."""
        for name, value in self.evidence.items():
            site = seen.sites[name]
            if site.value is not value:
                raise EvidenceError(f"site {name!r} is evidence and given a value around it; give it in one place")
            check_possible(jnp.sum(site.fn.log_prob(value)), "counterfactual")
        for name in seen.sites:
            if f"{name}_gumbels" in seen.sites and f"{name}_evidence" in seen.sites:
                raise EvidenceError(
                    f"site {name!r} is observed and has its noise made a site (GumbelReparam); leave that out, since "
                    "counterfactual draws the noise given what was observed itself"
                )
        looped = [site for site in self.sites if site.looped and site.kind != "deterministic"]
        for inside in looped:
            told = any(not isinstance(data, Mapping) or inside.name in data for data in seen.loops_given)
            if told or inside.observed:
                raise EvidenceError(
                    f"site {inside.name!r} is inside scan or cond and observed or given a value, which cannot be told "
                    "to other worlds; write the loop in Python"
                )


class _Beside(Messenger):
    """Runs a model in another world than the factual one.

    Args:
        fn: the model function.
        sites: the factual sites.
        reached: names of those that an intervention reaches in some world; others have the values that they had.
    """

    def __init__(self, fn: Callable, sites: Mapping[str, Visited], reached: Mapping[str, Any]):
        self.sites, self.reached = sites, reached
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        site = self.sites.get(msg.get("name", ""))
        if site is None or site.looped:
            return
        if msg["type"] == "sample" and msg["is_observed"] and not isinstance(msg["fn"], dist.Unit):
            # What was observed was observed in the factual world.
            msg["value"], msg["is_observed"] = None, False
        # (One that a reparametrisation around makes deterministic comes from its noise, which is the same.)
        same = is_variable(msg) and msg["type"] == site.kind
        if (same and msg["name"] not in self.reached) or msg["type"] in ("param", "plate"):
            set_value(msg, site.value)
        if msg["type"] == "mutable":
            msg["value"] = dict(site.value)


class _Kept(Messenger):
    """Gives sites their factual values in the worlds in which nothing reaches them.

    Args:
        values: site -> its factual value.
        felt: site -> does an intervention reach it in this world?
    """

    def __init__(self, values: Mapping[str, Any], felt: Mapping[str, Array]):
        self.values, self.felt = values, felt
        super().__init__()

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        name = msg.get("name", "")
        if is_variable(msg) and name in self.values and not from_loop(msg):
            set_value(msg, jnp.where(self.felt[name], msg["value"], self.values[name]))


def _in_all(factual: Any, others: Any) -> np.ndarray:
    """The values of one unit ``[1, 1 + W, ...]``, in the dtype of the other worlds'."""
    others = np.asarray(others)
    return np.concatenate([np.broadcast_to(np.asarray(factual, others.dtype), others.shape[1:])[None], others])[None]


def _has_value(msg: dict[str, Any]) -> bool:
    """Is it a site with a value? (A factor has none.)"""
    return msg["type"] == "deterministic" or (msg["type"] == "sample" and not isinstance(msg["fn"], dist.Unit))


def _beside(factual: Any, others: Array) -> Array:
    return jnp.concatenate([jnp.broadcast_to(jnp.asarray(factual), others.shape[1:])[None], others])


def _nothing(dtype: Any) -> Any:
    if jnp.issubdtype(dtype, jnp.inexact):
        return jnp.nan
    return -1 if jnp.issubdtype(dtype, jnp.signedinteger) else jnp.zeros((), dtype)


def _check_around(sites: Sequence[Site]) -> None:
    """Refuse handlers around that would act on the factual world only."""
    names = {site.name for site in sites}
    for handler in _PYRO_STACK:
        if isinstance(handler, asked):
            raise NotSeparable("counterfactual asks for one site in several worlds")
        data = handler.data if isinstance(handler, intervene | numpyro.handlers.do) else ()
        for name in names & set(data):
            raise InterventionError(
                f"site {name!r} is intervened on around counterfactual; put do inside of it: "
                "counterfactual(do(model, …), …)"
            )

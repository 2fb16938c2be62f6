"""Every way to run a program, and how each is held to the specification."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro

import sdscm_jax as sd
from sdscm_jax.testing import mock_lm

from . import noise
from .language import Case, Choice, Cond, Mask, Number, Plate, Program, Scan, Scope, observes_effects, places
from .programs import build, written
from .scores import PlainLM
from .specification import Refused, Run, Unit

# Nats within which law 7 is silent, and within which scores agree; numbers agree to a relative 1e-3.
ROUNDING = 1e-3
SURPRISE = 6.5

LMS = tuple(mock_lm(seed=seed) for seed in (0, 1))
PLAIN = tuple(PlainLM.of(lm) for lm in LMS)

Values = dict[str, np.ndarray]


@dataclass
class Found:
    """What an executor found: of each world (the factual one first), site -> array ``[units, *shape]``."""

    values: list[Values]
    log_probs: list[Values] | None = None
    # Units that it was run for.
    units: int | None = None


Executor = Callable[[Case, Callable[..., Any]], Found]


def key_of(case: Case) -> Any:
    match case.key:
        case "typed":
            return jax.random.key(case.seed)
        case "raw":
            return jax.random.PRNGKey(case.seed)
        case "rbg":
            return jax.random.key(case.seed, impl="rbg")
    return case.seed


def unit_keys(case: Case) -> Any:
    keys = [noise.as_jax(noise.fold_number(noise.seed(case.seed), i)) for i in range(case.units)]
    return jnp.stack(keys)


def _sites(case: Case) -> list[str]:
    return [place.name for place in places(case.program.body)]


def _trace(model: Callable[..., Any], names: list[str]) -> Values:
    with numpyro.handlers.block():
        trace = numpyro.handlers.trace(model).get_trace(*LMS)
    return {name: jnp.asarray(trace[name]["value"]) for name in names}


def eager(case: Case, model: Callable[..., Any]) -> Found:
    """Handlers, outside of any JAX transformation, a unit and a world at a time."""
    units, names = min(case.units, 2), _sites(case)
    worlds = []
    for world in ((), *case.worlds):
        runs = []
        for i in range(units):
            done = sd.handlers.do(model, written(world, case.program, i)) if world else model
            runs.append(_trace(sd.handlers.exogenous(done, unit_keys(case)[i]), names))
        worlds.append({name: np.stack([np.asarray(run[name]) for run in runs]) for name in names})
    return Found(worlds, units=units)


def vmapped(case: Case, model: Callable[..., Any]) -> Found:
    """Handlers, jitted and vmapped over units."""
    names, worlds = _sites(case), []
    for world in ((), *case.worlds):

        def one(key: Any, i: Any, world: Any = world) -> Values:
            done = sd.handlers.do(model, written(world, case.program, i)) if world else model
            return _trace(sd.handlers.exogenous(done, key), names)

        found = jax.jit(jax.vmap(one))(unit_keys(case), jnp.arange(case.units))
        worlds.append({name: np.asarray(value) for name, value in found.items()})
    return Found(worlds)


def counterfactual(case: Case, model: Callable[..., Any]) -> Found:
    """``handlers.counterfactual``, jitted and vmapped; what a program observes of its effects is evidence there.

    Noise that is a site is not drawn from evidence: such a request is refused.
    """
    asked = list(places(case.program.body))
    refused = any(getattr(p.site, "obs", None) is not None and getattr(p.site, "reparam", "") for p in asked)
    if not case.worlds or observes_effects(asked) or refused:
        return vmapped(case, model)
    names = _sites(case)

    def one(key: Any, i: Any) -> list[Values]:
        worlds = [written(world, case.program, i) for world in case.worlds]
        twin = sd.handlers.counterfactual(model, worlds=worlds)
        with numpyro.handlers.block():
            trace = numpyro.handlers.trace(sd.handlers.exogenous(twin, key)).get_trace(*LMS)
        by_site = {
            name: [m["value"] for k, m in trace.items() if k == name or k.startswith(name + "|do(")] for name in names
        }
        return [{name: by_site[name][w] for name in names} for w in range(1 + len(worlds))]

    found = jax.jit(jax.vmap(one))(unit_keys(case), jnp.arange(case.units))
    return Found([{name: np.asarray(value) for name, value in world.items()} for world in found])


def _of_simulation(data: sd.Simulation) -> Found:
    split = [{n: v[:, w] for n, v in data.values.items()} for w in range(len(data.worlds))]
    return Found(split, [{n: v[:, w] for n, v in data.log_probs.items()} for w in range(len(data.worlds))])


def _simulate(case: Case, model: Callable[..., Any], *args: Any, **options: Any) -> Found:
    worlds = [written(world, case.program) for world in case.worlds]
    return _of_simulation(sd.simulate(model, key_of(case), case.units, *args, worlds=worlds, **options))


def staged(case: Case, model: Callable[..., Any]) -> Found:
    return _simulate(case, model, *LMS)


def in_graph(case: Case, model: Callable[..., Any]) -> Found:
    return _simulate(case, model, *LMS, execution="in_graph")


def tabulated(case: Case, model: Callable[..., Any]) -> Found:
    return _simulate(case, sd.tabulate(model, *LMS))


def resumed(case: Case, model: Callable[..., Any]) -> Found:
    """In parts, of which one was lost."""
    from pathlib import Path

    with tempfile.TemporaryDirectory() as out:
        _simulate(case, model, *LMS, out=out, chunk=3)
        next(iter(sorted(Path(out).glob("*.parquet")))).unlink()
        return _simulate(case, model, *LMS, out=out, chunk=3)


def one_at_a_time(case: Case, model: Callable[..., Any]) -> Found:
    """``do=``, for each world a run of its own."""
    found = []
    for world in ((), *case.worlds):
        data = sd.simulate(model, key_of(case), case.units, *LMS, do=written(world, case.program))
        found.append({name: value[:, 0] for name, value in data.values.items()})
    return Found(found)


def edited(case: Case, model: Callable[..., Any]) -> Found:
    """A function that said something else when it was simulated before."""
    said = [_otherwise(case.program)]

    def read(*lms: sd.LanguageModel) -> Any:
        return build(said[-1])(*lms)

    sd.simulate(read, key_of(case), case.units, *LMS, worlds=[written(w, case.program) for w in case.worlds])
    said.append(case.program)
    return _simulate(case, read, *LMS)


def _otherwise(s: Any) -> Any:
    """A program of the same sites with other temperatures and scales."""
    match s:
        case Choice():
            return replace(s, temperature=3 * s.temperature)
        case Number():
            return replace(s, scale=2 * s.scale)
        case Scan():
            return replace(s, step=_otherwise(s.step))
        case Cond():
            return replace(s, true=_otherwise(s.true), false=_otherwise(s.false))
        case Program() | Plate() | Scope() | Mask():
            return replace(s, body=tuple(map(_otherwise, s.body)))
    return s


def predictive(case: Case, model: Callable[..., Any]) -> Found:
    """``Predictive`` of a unit in each world: the noise is the unit's, so all samples are one."""
    names, worlds = _sites(case), []
    for world in ((), *case.worlds):
        done = sd.handlers.do(model, written(world, case.program, 0)) if world else model
        unit = sd.handlers.exogenous(done, unit_keys(case)[0])
        drawn = sd.Predictive(unit, num_samples=2)(jax.random.key(1), *LMS)
        worlds.append({name: np.asarray(drawn[name])[:1] for name in names})
    return Found(worlds, units=1)


EXECUTORS: dict[str, Executor] = {
    f.__name__: f
    for f in (staged, in_graph, vmapped, one_at_a_time, counterfactual, tabulated, resumed, eager, edited, predictive)
}


# -- held to the specification ---------------------------------------------------------------------------------


class Disagreement(AssertionError):
    """An executor and the specification disagree."""


def specified(case: Case, found: Found | None = None, worlds: int | None = None) -> list[list[Run]]:
    """Of each unit, its run in each world; where noise is drawn anew, with the values that were found.

    Raises:
        Refused: the case has no meaning.
    """
    units = case.units if found is None or found.units is None else found.units
    key = noise.seed(case.seed)
    told = []
    for i in range(units):
        unit, runs = Unit(case.program, PLAIN, noise.fold_number(key, i), i), []
        for w, world in enumerate(((), *case.worlds)):
            known = (lambda name: None) if found is None else (lambda name, w=w, i=i: found.values[w][name][i])
            runs.append(unit.run(world, known))
        told.append(runs)
    return told


def hold(case: Case, name: str, model: Callable[..., Any] | None = None) -> Found | None:
    """Run a case in a way and compare it with the specification.

    Raises:
        Disagreement: they differ.
    """
    with jax.enable_x64(case.x64):
        return _hold(case, name, build(case.program) if model is None else model)


def _hold(case: Case, name: str, model: Callable[..., Any]) -> Found | None:
    try:
        found: Found | Exception = EXECUTORS[name](case, model)
    except Exception as error:
        found = error
    try:
        told = specified(case, found if isinstance(found, Found) else None)
    except Refused as refused:
        if isinstance(found, sd.InterventionError):
            return None
        instead = "no error" if isinstance(found, Found) else f"{type(found).__name__}: {found}"
        raise Disagreement(f"{name}: {instead}; specified InterventionError: {refused}") from refused
    if isinstance(found, Exception):
        raise Disagreement(f"{name}: {type(found).__name__}: {found}") from found
    compare(case, name, found, told)
    return found


def compare(case: Case, executor: str, found: Found, told: list[list[Run]]) -> None:
    tally = _Tally()
    for i, runs in enumerate(told):
        for w, run in enumerate(runs):
            if run.lead < ROUNDING:
                continue
            where = f"{executor}: unit {i}, world {w}"
            for place in places(case.program.body):
                site = place.name
                if site in run.unknown:
                    continue
                value = found.values[w][site][i]
                if site in run.redrawn:
                    tally.add(site, w, value, runs[0].values[site], run.log_probs[site])
                else:
                    _same(f"{where}, site {site}", value, run.values[site])
                if found.log_probs is not None and site in run.log_probs and site in found.log_probs[w]:
                    _near(f"{where}, log-probabilities of {site}", found.log_probs[w][site][i], run.log_probs[site])
    tally.judge(executor)


def _same(where: str, found: np.ndarray, told: np.ndarray) -> None:
    if np.shape(found) != np.shape(told):
        raise Disagreement(f"{where}: shape {np.shape(found)}, specified {np.shape(told)}")
    if not np.allclose(np.asarray(found, float), told, rtol=1e-3, atol=1e-4):
        raise Disagreement(f"{where}: {np.asarray(found).tolist()}, specified {np.asarray(told).tolist()}")


def _near(where: str, found: np.ndarray, told: np.ndarray) -> None:
    # A plate whose members all have one context may have it once.
    if not np.allclose(np.exp(found), np.exp(told), atol=ROUNDING):
        raise Disagreement(f"{where}: {np.exp(found).tolist()}, specified {np.exp(told).tolist()}")


class _Tally:
    """What is drawn anew has the law of its site, and nothing to do with the factual draw."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, int, Any], list[float]] = {}

    def add(self, site: str, world: int, found: np.ndarray, factual: np.ndarray, log_probs: np.ndarray) -> None:
        for at in np.ndindex(np.shape(found)):
            probs = np.exp(log_probs[at])
            self._count(site, world, "equals the factual one", found[at] == factual[at], probs[int(factual[at])])
            for k, prob in enumerate(probs):
                self._count(site, world, f"is option {k}", found[at] == k, prob)

    def _count(self, site: str, world: int, what: str, is_so: bool, prob: float) -> None:
        sums = self.sums.setdefault((site, world, what), [0.0, 0.0, 0.0, 0.0])
        sums[0] += is_so
        sums[1] += prob
        sums[2] += prob * (1 - prob)
        sums[3] += 1

    def judge(self, executor: str) -> None:
        for (site, world, what), (seen, expected, variance, count) in self.sums.items():
            # Half a unit more than a normal would have: counts are few.
            if abs(seen - expected) > SURPRISE * math.sqrt(variance + 0.25):
                told = f"in {seen:.0f} of {count:.0f}, specified {expected:.1f}"
                raise Disagreement(f"{executor}: world {world}, site {site} {what} {told}")

"""Every way to run a program, and how each is held to the specification."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro

import sdscm_jax as sd
from sdscm_jax.testing import mock_lm

from . import noise
from .evidence import Impossible, Posterior
from .language import Case, places
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
    """``handlers.counterfactual``, jitted and vmapped."""
    if not case.worlds:
        return vmapped(case, model)
    names = _sites(case)

    def one(key: Any, i: Any) -> list[Values]:
        worlds = [written(world, case.program, i) for world in case.worlds]
        twin = sd.handlers.counterfactual(model, worlds=worlds)
        with numpyro.handlers.block():
            trace = numpyro.handlers.trace(sd.handlers.exogenous(twin, key)).get_trace(*LMS)
        by_site = {name: [m["value"] for k, m in trace.items() if k == name or k.startswith(name + "|do(")] for name in names}
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
    for f in (staged, in_graph, vmapped, one_at_a_time, counterfactual, tabulated, resumed, eager, predictive)
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
    model = build(case.program) if model is None else model
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
                raise Disagreement(
                    f"{executor}: world {world}, site {site} {what} in {seen:.0f} of {count:.0f}, specified {expected:.1f}"
                )


# -- evidence ------------------------------------------------------------------------------------------------------

# Draws of an executor, and of the specification.
DRAWS, TOLD = 1000, 150


def hold_evidence(case: Case, name: str) -> None:
    """Units of which something was observed: replayed exactly, and in each world of the specified law.

    Raises:
        Disagreement: they are not.
    """
    model = build(case.program)
    evidence = written(case.evidence, case.program)
    worlds = [written(world, case.program) for world in case.worlds]
    options = {"execution": "in_graph"} if name == "in_graph" else {}
    try:
        data: Any = sd.simulate(
            model, key_of(case), case.units, *LMS, evidence=evidence, worlds=worlds, draws=DRAWS, **options
        )
    except Exception as error:
        data = error
    rng = np.random.default_rng(case.seed)
    for i in range(case.units):
        try:
            posterior = Posterior(case.program, PLAIN, case.evidence, i)
            keys = [tuple(int(w) for w in rng.integers(0, 2**32, 2)) for _ in range(TOLD)]
            units = [posterior.draw(key, rng) for key in keys]  # type: ignore[arg-type]
            for unit in units:
                unit.number = i
            told = [[unit.run(world) for world in ((), *case.worlds)] for unit in units]
        except (Impossible, Refused) as refused:
            if isinstance(data, (sd.EvidenceError, sd.InterventionError)):
                return
            instead = f"{type(data).__name__}: {data}" if isinstance(data, Exception) else "no error"
            raise Disagreement(f"{name}: {instead}; specified an error: {refused}") from refused
        if isinstance(data, Exception):
            raise Disagreement(f"{name}: {type(data).__name__}: {data}") from data
        rows = slice(i * DRAWS, (i + 1) * DRAWS)
        for place in places(case.program.body):
            site = place.name
            factual = np.stack([runs[0].values[site] for runs in told]).astype(float)
            for w in range(1 + len(worlds)):
                where = f"{name}: given evidence, unit {i}, world {w}, site {site}"
                found = np.asarray(data.values[site][rows, w], float)
                law = np.stack([runs[w].values[site] for runs in told]).astype(float)
                if found.shape[1:] != law.shape[1:]:
                    raise Disagreement(f"{where}: shape {found.shape[1:]}, specified {law.shape[1:]}")
                if w == 0 and site in posterior.known:
                    wrong = [value for value in found if not np.array_equal(value, law[0])]
                    if wrong:
                        raise Disagreement(f"{where}: evidence {law[0].tolist()} is replayed as {wrong[0].tolist()}")
                    continue
                for at in np.ndindex(law.shape[1:]):
                    _same_law(f"{where}{list(at) or ''}", found[:, *at], law[:, *at])
                    same = np.isclose(np.asarray(data.values[site][rows, 0], float), found, 1e-4, 1e-5)
                    agree = np.isclose(factual, law, 1e-4, 1e-5)
                    _same_law(f"{where}{list(at) or ''} equals the factual one", same[:, *at] * 1.0, agree[:, *at] * 1.0)


def _same_law(where: str, found: np.ndarray, law: np.ndarray) -> None:
    """Two samples of one law (Kolmogorov and Smirnov; a false alarm has a chance below 1e-9)."""
    close = 1e-3 * np.abs(law) + 1e-4
    points = np.unique(law)
    far = 0.0
    for x, eps in zip(points, np.unique(np.stack([law, close], -1), axis=0)[:, 1], strict=False):
        ours, theirs = (law <= x).mean(), (found <= x + eps).mean()
        strictly, found_strictly = (law < x).mean(), (found < x - eps).mean()
        far = max(far, ours - theirs, found_strictly - strictly)
    bound = 3.3 * math.sqrt(1 / len(found) + 1 / len(law))
    if far > bound or not np.isfinite(found).all():
        means = f"mean {found.mean():.3f}, specified {law.mean():.3f}"
        raise Disagreement(f"{where}: another law ({means}; {far:.2f} apart, {bound:.2f} allowed)")

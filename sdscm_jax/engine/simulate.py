"""``simulate``: run a model for many units."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import checks
from ..checks import MOST_SEED, count, function, items, one_of
from ..dsl.analysis.graph import Graph
from ..dsl.analysis.structure import structure
from ..dsl.handlers.external_scores import NotSeparable, language_models
from ..dsl.noise.streams import as_key
from ..dsl.tables.look_up import check_known
from ..dsl.worlds.abduction import (
    PARTICLES,
    check_counterfactual,
    check_evidence,
    check_explained,
    check_possible,
    parse_particles,
)
from ..dsl.worlds.worlds import World, as_regime, as_worlds, told
from ..errors import SDSCMError, SiteError, nearest
from .columns import check_columns
from .in_graph import InGraph, rows_in_memory
from .kept import Arrays, Both, KeptRun
from .manifest import left_to_us, open_parts
from .memory import default_memory
from .program import separate
from .progress import progress_bar
from .provenance import provenance_of
from .run import Executor, PerUnit, Progress, Run, Shared, joined, under
from .simulation import Simulation
from .staged import ROWS, Staged
from .subject import texts_of, warn_of_foreign_subject

EXECUTIONS = ("staged", "in_graph")


def parse_execution(value: Any) -> str:
    """A way to run a program.

    Raises:
        SDSCMError: there is no such way; the message has the nearest that there is.
    """
    return one_of(value, EXECUTIONS, "execution")


def simulate(
    model: Callable,
    key: Any,
    n: int,
    *args: Any,
    do: World | None = None,
    worlds: Sequence[World] | None = None,
    evidence: Mapping[str, Any] | None = None,
    draws: int = 1,
    logp: Sequence[str] | None = None,
    particles: int = PARTICLES,
    execution: str | None = None,
    memory: int | None = None,
    store: str | Path | None = None,
    out: str | Path | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
) -> Simulation:
    """Draw ``n`` units from a model, each in the factual world and in other worlds.

    Unit i has the key ``fold_in(key, i)``: it is the same whatever ``n``, ``chunk`` and the other
    worlds are.

    Args:
        model: a model function; it describes one unit.
        key: PRNG key, or an int seed.
        n: number of units, at least 1.
        *args: the model's arguments, such as the language model.
        do: an intervention under which everything is drawn (interventional data).
        worlds: other worlds of the same units (counterfactuals); each maps site names to values.
        evidence: what was observed of the units, site name -> value; their noise is drawn given it
            (see ``handlers.abduct``). With ``do``: observed under that intervention.
        draws: draws of the noise for each unit, which then has that many rows; draw 0 is the one of
            ``draws=1``.
        logp: choice sites whose option log-probabilities are kept; None: all.
        particles: how many there are for each row, where free text is not observed and causes evidence. How many carry
            the weight is in ``stats``: ``ess_least`` of the worst row, and ``ess_mean``.
        execution: ``"staged"``: site by site over many rows; contexts that units and worlds share are
            scored once, each distinct token is computed once, free texts of all of them are written together.
            ``"in_graph"``: all in one jitted function. None: staged where the program allows it (evidence whose causes
            are not observed, sites in ``scan`` or ``cond``, nested interventions on language that need inference, and
            language models that are made inside the model do not). Values agree wherever no two options of a
            site, or tokens of a text, tie within rounding (1e-4 nats in float32).
        memory: bytes that keys and values (in graph: one chunk) may take; by default 2 GiB, or half of
            what an accelerator has left.
        store: a directory that keeps scores and texts of staged runs, so that a repeated or extended one pays for
            what is new only.
        out: a directory that parts of ``chunk`` rows are written to, as Parquet with the columns of
            ``Simulation.to_pandas``; if the run is killed, the same call goes on from those that are
            there, to the same bytes. One part at a time is in memory, and what comes back reads the others when
            they are asked for. ``memory``, ``chunk`` and ``execution`` are those that the run began with, unless
            they are given.
        chunk: rows that go through the program together; by default what fits.
        progress: show a bar on stderr; by default where stderr is a terminal.

    A value in ``do``, ``worlds`` and ``evidence`` may be an array or list of length n: one for each
    unit (option texts or numbers).

    Returns:
        a ``Simulation`` of ``n * draws`` rows.

    Raises:
        InterventionError, EvidenceError, OptionError, ContextLengthError, SiteError: bad input is, as every other
            ``SDSCMError``, found before the language model is run; impossible evidence, when it has been.
        ResumeError: ``out`` holds another run (the message says in what it differs), or a damaged part; a file of
            ``store`` is damaged.

    >>> import jax, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> twins = simulate(model, jax.random.key(0), 4, lm, worlds=[{"pdl1": "low"}, {"pdl1": "high"}])
    >>> twins.to_pandas(logp=False).columns.tolist()[:4]
    ['pdl1', 'drug', 'pdl1|do(pdl1=low)', 'drug|do(pdl1=low)']
    >>> seen = simulate(model, jax.random.key(0), 2, lm, evidence={"drug": ["wait", "treat"]}, draws=3)
    >>> seen.to_pandas(logp=False)["drug"].tolist()
    ['wait', 'wait', 'wait', 'treat', 'treat', 'treat']
    """
    memory = None if memory is None else count(memory, "memory, a number of bytes,")
    chunk = None if chunk is None else count(chunk, "chunk, a number of rows,")
    execution = None if execution is None else parse_execution(execution)
    particles = parse_particles(particles)
    run, labels = prepare(model, key, n, args, do, worlds, evidence, draws, logp)
    run = replace(run, particles=particles)
    warn_of_foreign_subject(language_models(run.args), texts_of(run.sites))
    interventions = ({}, *(told(world, run.sites, n) for world in worlds or ()))
    started = time.perf_counter()
    # Who gives nothing goes on with what the run in the directory has.
    out = None if out is None else checks.as_path(out, "out")
    there = left_to_us(out)
    memory, chunk = memory or there.get("memory"), chunk or there.get("chunk")
    execution = execution or ("in_graph" if there.get("execution") == "in_graph" else None)
    executor = _executor(run, execution, memory, store, chunk)
    cpu_started, ess = time.process_time(), list[np.ndarray]()
    with progress_bar("units", run.rows, progress) as bar:
        if out is None:
            found = joined([_part(run, executor, rows, bar, False, labels, ess) for rows in _parts(run, executor)])
            result = _simulation(run, labels, found)
        else:
            kept = _keep(out, run, executor, labels, bar, ess)
            result = _described(run, labels, kept.values, kept.log_probs)
    executor.finish()
    figures = executor.stats()
    stats = {
        "units": run.units,
        "chunk": executor.size,
        "seconds": time.perf_counter() - started - figures["compile_seconds"],
        "cpu_seconds": time.process_time() - cpu_started,
        **figures,
    }
    if run.latent_texts and ess:
        every = np.concatenate(ess)
        stats |= {"particles": particles, "ess_least": float(every.min()), "ess_mean": float(every.mean())}
    return replace(result, stats=stats, interventions=interventions, provenance=provenance_of(run, labels))


def _parts(run: Run, executor: Executor) -> list[range]:
    """Rows that go together."""
    return [range(x, min(x + executor.size, run.rows)) for x in range(0, run.rows, executor.size)]


def _keep(
    out: str | Path, run: Run, executor: Executor, labels: tuple[str, ...], bar: Progress, ess: list[np.ndarray]
) -> KeptRun:
    """Write the parts of a run that are not there; never are two of them in memory."""
    ranges = _parts(run, executor)
    with open_parts(out, run, executor, labels, len(ranges)) as parts:
        kept = KeptRun(parts.files, run.sites, ("", *labels), run.kept, run.rows, executor.size)
        done = parts.done
        for number, rows in enumerate(ranges):
            if number in done:
                # What is damaged is found now, whoever reads it later.
                _simulation(run, labels, kept.part(number))
            else:
                part = _part(run, executor, rows, bar, True, labels, ess)
                parts.write(number, _simulation(run, labels, part).to_arrow())
                del part
            bar(rows.stop)
    return kept


def _part(
    run: Run, executor: Executor, rows: range, progress: Progress, anew: bool, labels: tuple[str, ...],
    ess: list[np.ndarray],
) -> Both:  # fmt: skip
    """Values and log-probabilities of rows, and their particles; ``anew``: nothing computed before matters."""
    if anew:
        executor.forget()
    found, explained = executor(np.arange(rows.start, rows.stop), lambda done: progress(rows.start + done * len(rows)))
    progress(rows.stop)
    if run.observed:
        check_explained(explained, run.latent_texts, run.particles, "simulate", rows.start)
        check_possible(explained.log_prob, "simulate", rows.start)
        ess.append(explained.ess)
        check_counterfactual(found.values, run.sites, run.observed, labels, rows.start)
    if anew:
        # Before the part is there: a part that is computed again finds what it found the first time.
        executor.finish()
    return dict(found.values), dict(found.log_probs)  # type: ignore[arg-type]


def _simulation(run: Run, labels: tuple[str, ...], part: Both) -> Simulation:
    values, log_probs = ({site.name: x[site.name] for site in run.sites if site.name in x} for x in part)
    run.check_set(values)
    check_known(run.sites, values)
    return _described(run, labels, values, log_probs)


def _described(run: Run, labels: tuple[str, ...], values: Arrays, log_probs: Arrays) -> Simulation:
    return Simulation(Graph(run.sites), ("", *labels), values, log_probs, run.draws, evidence=run.observed)


def prepare(
    model: Callable,
    key: Any,
    n: int,
    args: tuple,
    do: World | None,
    worlds: Sequence[World] | None,
    evidence: Mapping[str, Any] | None,
    draws: int,
    logp: Sequence[str] | None,
) -> tuple[Run, tuple[str, ...]]:
    """Check everything that can be checked before a language model runs; the run, and labels of worlds."""
    function(model)
    # (Units are numbered in 32 bits, which their noise is keyed by.)
    n, draws = count(n, "n, the number of units,"), count(draws, "draws, the number for each unit,")
    if n > MOST_SEED:
        raise SDSCMError(f"n, the number of units, is at most {MOST_SEED:,}, got {checks.told(n)}")
    args = as_arguments(args)
    key = as_key(key)
    natural = structure(model, args)
    regime = as_regime({} if do is None else do, natural, n)
    first = {name: values[0] for name, values in regime.per_unit.items()}
    sites = structure(under(model, regime, first), args) if do else natural
    prepared = as_worlds([] if worlds is None else worlds, sites, n)
    observed = check_evidence({} if evidence is None else evidence, sites, n)
    choices = [site.name for site in sites if site.kind == "choice"]
    logp = None if logp is None else items(logp, "logp", SiteError, single=str)
    for name in logp or ():
        if name not in choices:
            raise SiteError(f"logp names {name!r}, which is no choice site; {nearest(name, choices)}")
    shared = Shared(
        regime=replace(regime, per_unit={}),
        # Labels are for people: a world of another name must not compile again.
        worlds=replace(prepared, labels=(), per_unit={}),
        evidence={name: value for name, (value, per_unit) in observed.items() if not per_unit},
    )
    per_unit = PerUnit(
        regime.per_unit, prepared.per_unit, {name: value for name, (value, differ) in observed.items() if differ}
    )
    kept = tuple(choices if logp is None else logp)
    check_columns(sites, ("", *prepared.labels), kept)
    return Run(model, key, args, sites, kept, shared, per_unit, n, draws), prepared.labels


def _executor(run: Run, execution: str | None, memory: int | None, store: Any, chunk: int | None) -> Executor:
    lms = language_models(run.args)
    memory = default_memory(lms) if memory is None else memory
    if execution != "in_graph" and lms:
        try:
            program = separate(run)
        except NotSeparable as error:
            if execution == "staged":
                raise SDSCMError(f"this program cannot run staged: {error}") from error
        else:
            return Staged(run, program, chunk or ROWS, memory, store)
    elif execution == "staged":
        raise SDSCMError("this program cannot run staged: no language model is among its arguments")
    if store is not None:
        raise SDSCMError("a store keeps the scores of staged runs; this one is in graph")
    size = chunk or rows_in_memory(run.sites, run.worlds, run.observed, lms, memory)
    return InGraph(run, min(size, run.rows), memory)


def as_arguments(args: tuple) -> tuple:
    """A model's arguments, numbers among them as arrays.

    Raises:
        SDSCMError: they hold something else than arrays of numbers and language models.
    """
    return jax.tree.map(_as_array, checks.shallow(args, "an argument of the model"))


def _as_array(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    if isinstance(leaf, np.ndarray) and (leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number)):
        return leaf
    if isinstance(leaf, int) and not -(2**31) <= leaf < 2**31:
        raise SDSCMError(f"an integer among the model's arguments has 32 bits, got {checks.told(leaf)}")
    if isinstance(leaf, (bool, int, float, np.generic)):
        return np.asarray(leaf, jnp.result_type(leaf))
    raise SDSCMError(
        f"the model's arguments are arrays and language models; bind {checks.told(leaf)} with functools.partial"
    )

"""``simulate``: run a model for many units, all in one jitted function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress

from ..dsl.abduction import AT_ONCE, Abduction, abduce, check_evidence, check_possible, latent_causes
from ..dsl.context import longest_tokens
from ..dsl.do import do as do_handler
from ..dsl.graph import Graph
from ..dsl.noise import fold_unless_zero
from ..dsl.structure import Site, structure
from ..dsl.worlds import Regime, World, WorldResults, Worlds, as_regime, as_worlds, run_worlds
from ..errors import SDSCMError, SiteError, nearest
from ..models.language_model import LanguageModel
from .simulation import Simulation

# Memory that one chunk's keys, values and logits may take, in bytes.
MEMORY = 1 << 30


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
        chunk: rows that go through the language model together; by default as many as about one
            GiB holds.
        progress: show a bar on stderr; by default where stderr is a terminal.

    A value in ``do``, ``worlds`` and ``evidence`` may be an array or list of length n: one for each
    unit (option texts or numbers).

    Returns:
        a ``Simulation`` of ``n * draws`` rows.

    Raises:
        InterventionError, EvidenceError, OptionError, ContextLengthError, SiteError, …: bad input is
            found before the language model is run; impossible evidence, when it has been.

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
    n, draws = _positive(n, "n is the number of units"), _positive(draws, "draws is a number of draws")
    if chunk is not None:
        _positive(chunk, "chunk is a number of rows")
    args = jax.tree.map(_as_array, args)
    key = jax.random.key(key) if isinstance(key, (int, np.integer)) else key
    natural = structure(model, args)
    regime = as_regime({} if do is None else do, natural, n)
    first = {name: values[0] for name, values in regime.per_unit.items()}
    sites = structure(_under(model, regime, first), args) if do else natural
    prepared = as_worlds([] if worlds is None else worlds, sites, n)
    observed = check_evidence({} if evidence is None else evidence, sites, n)
    # Runs of a row that are in memory together: its worlds, and the values of unobserved causes.
    together = 1 + len(prepared.labels) + (AT_ONCE if latent_causes(list(observed), sites) else bool(observed))
    choices = [site.name for site in sites if site.kind == "choice"]
    for name in logp or ():
        if name not in choices:
            raise SiteError(f"logp names {name!r}, which is no choice site; {nearest(name, choices)}")
    kept = tuple(choices if logp is None else logp)
    rows = n * draws
    size = min(rows, int(chunk or default_chunk(sites, together, observed, args)))
    started = time.perf_counter()
    shared = _Shared(
        regime=replace(regime, per_unit={}),
        # Labels are for people: a world of another name must not compile again.
        worlds=replace(prepared, labels=(), per_unit={}),
        evidence={name: value for name, (value, per_unit) in observed.items() if not per_unit},
    )
    per_unit = _PerUnit(
        regime.per_unit, prepared.per_unit, {name: value for name, (value, differ) in observed.items() if differ}
    )

    def chunk_inputs(start: int) -> tuple[Any, ...]:
        # The last chunk has the shape of the others; rows past the end are dropped.
        row = np.arange(start, start + size)
        unit = np.minimum(row // draws, n - 1)
        return key, row // draws, row % draws, jax.tree.map(lambda x: x[unit], per_unit), shared, args

    inputs = chunk_inputs(0)
    leaves, structure_of_inputs = jax.tree.flatten(inputs)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    try:
        compiled = _compiled(model, kept, tuple(sites), structure_of_inputs, shapes)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        compiled = _compiled.__wrapped__(model, kept, tuple(sites), structure_of_inputs, shapes)
    compile_seconds = time.perf_counter() - started
    show = sys.stderr.isatty() if progress is None else progress
    bar: Any = Progress(console=Console(stderr=True), transient=True) if show else nullcontext()
    parts: list[WorldResults] = []
    started, cpu_started = time.perf_counter(), time.process_time()
    with bar:
        task = bar.add_task("units", total=rows) if show else None
        for start in range(0, rows, size):
            part, log_evidence = jax.tree.map(np.asarray, compiled(*chunk_inputs(start)))
            stop = min(size, rows - start)
            if observed:
                check_possible(log_evidence[:stop], "simulate", start // draws)
            parts.append(jax.tree.map(lambda x, stop=stop: x[:stop], part))
            if show:
                bar.update(task, completed=min(start + size, rows))
    result = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    stats = {
        "units": n,
        "chunk": size,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "compile_seconds": compile_seconds,
    }
    order = [site.name for site in sites]
    return Simulation(
        graph=Graph(sites),
        worlds=("", *prepared.labels),
        values={name: result.values[name] for name in order},
        log_probs={name: result.log_probs[name] for name in order if name in result.log_probs},
        draws=draws,
        stats=stats,
    )


class _Shared(NamedTuple):
    """What all units have in common."""

    regime: Regime
    worlds: Worlds
    evidence: dict[str, Any]


class _PerUnit(NamedTuple):
    """What differs between units, with a leading axis of them: interventions, worlds, evidence."""

    regime: dict[str, Any]
    worlds: dict[str, Any]
    evidence: dict[str, Any]


def _under(model: Callable, regime: Regime, of_unit: Mapping[str, Any]) -> Callable:
    data = regime.data(of_unit)
    return do_handler(model, data) if data else model


def _positive(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise SDSCMError(f"{what}, an integer of at least 1; got {value!r}")
    return int(value)


def _as_array(leaf: Any) -> Any:
    if isinstance(leaf, (jax.Array, np.ndarray)):
        return leaf
    if isinstance(leaf, (bool, int, float, np.generic)):
        return np.asarray(leaf, jnp.result_type(leaf))
    raise SDSCMError(f"the model's arguments are arrays and language models; bind {leaf!r} with functools.partial")


@lru_cache(maxsize=32)
def _compiled(model: Callable, kept: tuple[str, ...], sites: tuple[Site, ...], structure: Any, shapes: tuple) -> Any:
    """The program of one chunk, compiled for inputs of these shapes; a second run finds it here."""

    def silent(*args: Any) -> None:
        model(*args)

    def row(key: Any, unit: Any, draw: Any, of_unit: _PerUnit, shared: _Shared, args: tuple) -> Any:
        key = fold_unless_zero(jax.random.fold_in(key, unit), draw)
        fn = _under(silent, shared.regime, of_unit.regime)
        evidence = {**shared.evidence, **of_unit.evidence}
        found = abduce(fn, evidence, key, sites, args) if evidence else Abduction({}, jnp.float32(0.0))
        worlds = shared.worlds.of_unit(of_unit.worlds)
        return run_worlds(fn, key, worlds, args, log_probs=kept, noise=found.noise), found.log_prob

    def run(key: Any, units: Any, draws: Any, per_unit: _PerUnit, shared: _Shared, args: tuple) -> Any:
        return jax.vmap(row, in_axes=(None, 0, 0, 0, None, None))(key, units, draws, per_unit, shared, args)

    abstract = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return jax.jit(run).lower(*abstract).compile()


def default_chunk(sites: Sequence[Site], runs: int, observed: Collection[str], args: tuple) -> int:
    """Rows whose keys, values and logits take about ``MEMORY`` bytes; a power of two."""
    lms = [
        x for x in jax.tree.leaves(args, is_leaf=lambda x: isinstance(x, LanguageModel)) if isinstance(x, LanguageModel)
    ]
    if not lms:
        return 1 << 14
    lm = lms[0]
    phrases = [site.phrase for site in sites if site.phrase is not None]
    tokens = sum(longest_tokens(phrase, lm.codec, False, False) for phrase in phrases)
    c = lm.config
    cached = 2 * c.layers * c.kv_heads * c.head_dim * lm.dtype.itemsize * tokens

    def distributions(site: Site) -> int:
        if site.kind == "text":
            # Abducing a text keeps those of all its tokens, with their noise.
            return 4 * (site.shape[-1] if site.name in observed else 1)
        return sum(len(lm.codec.encode(option)) for option in site.options)

    scored = 4 * c.vocab_size * max(map(distributions, sites), default=1)
    units = max(1, MEMORY // max(1, runs * (2 * cached + scored)))
    return 1 << min(10, int(units).bit_length() - 1)

"""``simulate``: run a model for many units, all in one jitted function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress

from ..dsl.do import do as do_handler
from ..dsl.graph import Graph
from ..dsl.structure import Site, structure
from ..dsl.worlds import World, WorldResults, Worlds, as_worlds, check_world, run_worlds
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
        logp: choice sites whose option log-probabilities are kept; None: all.
        chunk: units that go through the language model together; by default as many as about one
            GiB holds.
        progress: show a bar on stderr; by default where stderr is a terminal.

    Returns:
        a ``Simulation``.

    Raises:
        InterventionError, OptionError, ContextLengthError, SiteError, …: bad input is found before
            the language model is run.

    >>> import jax, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> twins = simulate(model, jax.random.key(0), 4, lm, worlds=[{"pdl1": "low"}, {"pdl1": "high"}])
    >>> twins.to_pandas(logp=False).columns.tolist()[:4]
    ['pdl1', 'drug', 'pdl1|do(pdl1=low)', 'drug|do(pdl1=low)']
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise SDSCMError(f"n is the number of units, an integer of at least 1; got {n!r}")
    if chunk is not None and (not isinstance(chunk, (int, np.integer)) or chunk < 1):
        raise SDSCMError(f"chunk is a number of units, an integer of at least 1; got {chunk!r}")
    args = jax.tree.map(_as_array, args)
    key = jax.random.key(key) if isinstance(key, (int, np.integer)) else key
    if do is not None:
        check_world(do, structure(model, args))
        model = do_handler(model, do)
    sites = structure(model, args)
    prepared = as_worlds([] if worlds is None else worlds, sites)
    choices = [site.name for site in sites if site.kind == "choice"]
    for name in logp or ():
        if name not in choices:
            raise SiteError(f"logp names {name!r}, which is no choice site; {nearest(name, choices)}")
    kept = tuple(choices if logp is None else logp)
    size = min(int(n), int(chunk or default_chunk(sites, 1 + len(prepared.labels), args)))
    started = time.perf_counter()
    # Labels are for people: a world of another name must not compile again.
    unlabelled = replace(prepared, labels=())
    inputs = (key, jnp.arange(size), unlabelled, args)
    leaves, structure_of_inputs = jax.tree.flatten(inputs)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    try:
        compiled = _compiled(model, kept, structure_of_inputs, shapes)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        compiled = _compiled.__wrapped__(model, kept, structure_of_inputs, shapes)
    compile_seconds = time.perf_counter() - started
    show = sys.stderr.isatty() if progress is None else progress
    bar: Any = Progress(console=Console(stderr=True), transient=True) if show else nullcontext()
    parts: list[WorldResults] = []
    started, cpu_started = time.perf_counter(), time.process_time()
    with bar:
        task = bar.add_task("units", total=n) if show else None
        for start in range(0, n, size):
            # The last chunk has the shape of the others; units past the end are dropped.
            part = compiled(key, jnp.arange(start, start + size), unlabelled, args)
            part = jax.tree.map(np.asarray, part)
            stop = min(size, n - start)
            parts.append(jax.tree.map(lambda x, stop=stop: x[:stop], part))
            if show:
                bar.update(task, completed=min(start + size, n))
    result = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    stats = {
        "units": int(n),
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
        stats=stats,
    )


def _as_array(leaf: Any) -> Any:
    if isinstance(leaf, (jax.Array, np.ndarray)):
        return leaf
    if isinstance(leaf, (bool, int, float, np.generic)):
        return np.asarray(leaf, jnp.result_type(leaf))
    raise SDSCMError(f"the model's arguments are arrays and language models; bind {leaf!r} with functools.partial")


@lru_cache(maxsize=32)
def _compiled(model: Callable, kept: tuple[str, ...], structure: Any, shapes: tuple) -> Any:
    """The program of one chunk, compiled for inputs of these shapes; a second run finds it here."""

    def silent(*args: Any) -> None:
        model(*args)

    def unit(key: Any, prepared: Worlds, args: tuple) -> WorldResults:
        return run_worlds(silent, key, prepared, args, log_probs=kept)

    def run(key: Any, units: jax.Array, prepared: Worlds, args: tuple) -> WorldResults:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(units)
        return jax.vmap(unit, in_axes=(0, None, None))(keys, prepared, args)

    abstract = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return jax.jit(run).lower(*abstract).compile()


def default_chunk(sites: Sequence[Site], worlds: int, args: tuple) -> int:
    """Units whose keys, values and logits take about ``MEMORY`` bytes; a power of two."""
    lms = [
        x for x in jax.tree.leaves(args, is_leaf=lambda x: isinstance(x, LanguageModel)) if isinstance(x, LanguageModel)
    ]
    if not lms:
        return 1 << 14
    lm = lms[0]
    tokens = sum(_longest(lm, site) for site in sites if site.template is not None)
    c = lm.config
    cached = 2 * c.layers * c.kv_heads * c.head_dim * lm.dtype.itemsize * tokens
    scored = 4 * c.vocab_size * max((sum(len(lm.codec.encode(o)) for o in site.options) for site in sites), default=1)
    units = max(1, MEMORY // max(1, worlds * (2 * cached + scored)))
    return 1 << min(10, int(units).bit_length() - 1)


def _longest(lm: LanguageModel, site: Site) -> int:
    assert site.template is not None
    return max(len(lm.codec.encode(site.template.fill(option))) for option in site.options)

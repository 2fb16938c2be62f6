"""Every way to run a program gives the same values, whatever else runs beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro

from ..checks import count, items, one_of, real
from ..dsl.analysis.graph import Graph
from ..dsl.analysis.structure import Site
from ..dsl.handlers.exogenous import exogenous
from ..dsl.handlers.external_scores import language_models
from ..dsl.language.messages import is_variable
from ..dsl.noise.couplings.gumbel import Gumbel
from ..dsl.noise.streams import as_key, fold_in, fold_text
from ..dsl.tables.tabulate import Tabulated, tabulate
from ..engine.simulate import simulate
from ..errors import InterventionError, SiteError
from .failure import fail, same_rows, shown
from .world_laws import World

# Scores of float32 agree to this many nats; options that are closer may change places.
TOLERANCE = 5e-4


Arrays = Mapping[str, np.ndarray]
# Ways to run a program that are compared with ``simulate``'s own.
WAYS = ("in_graph", "tabulated", "eager")


def check_execution(
    model: Callable,
    key: Any,
    *args: Any,
    units: int = 16,
    worlds: Sequence[World] = (),
    ways: Sequence[str] = ("in_graph", "tabulated"),
    tolerance: float = TOLERANCE,
) -> tuple[str, ...]:
    """Law 7: staged, in graph, tabulated and outside of any trace, a program gives the same values.

    Args:
        model, key, args: as for ``simulate``.
        units: how many units.
        worlds: other worlds to run beside the factual one.
        ways: what is compared with ``simulate``: ``"in_graph"``, ``"tabulated"``, and ``"eager"`` (one unit
            after another outside of any trace, in the factual world; slow).
        tolerance: how far log-probabilities may be apart, in nats. Where the two best options of a site are
            closer, its value, and those below it, may differ.

    Returns:
        the ways that were compared; free text cannot be tabulated, and some programs run in graph only.

    Raises:
        AssertionError: two ways differ; it names them, site, unit and world.

    >>> import sdscm_jax as sd
    >>> from sdscm_jax import testing
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> testing.check_execution(model, 0, testing.mock_lm(model), units=5)
    ('staged', 'in_graph', 'tabulated')
    """
    ways = tuple(one_of(way, WAYS, "way to run a program") for way in items(ways, "ways", single=str))
    units, tolerance, key = count(units, "units"), real(tolerance, "tolerance", least=0), as_key(key)
    shared: dict[str, Any] = {"worlds": list(items(worlds, "worlds", InterventionError)), "progress": False}
    first = simulate(model, key, units, *args, **shared)
    name = "staged" if "trie_tokens" in first.stats else "in_graph"
    found: dict[str, tuple[Arrays, Arrays]] = {}
    if "in_graph" in ways and name == "staged":
        other = simulate(model, key, units, *args, execution="in_graph", **shared)
        found["in_graph"] = other.values, other.log_probs
    if "tabulated" in ways and (table := _table(model, args)) is not None:
        other = simulate(table, key, units, **shared)
        found["tabulated"] = other.values, other.log_probs
    if "eager" in ways:
        found["eager"] = _eager(model, key, units, args), {}
    for way, results in found.items():
        law = f"{way} is {name}"
        require_close(law, first.graph, key, (first.values, first.log_probs), results, first.worlds, tolerance)
    return (name, *found)


def check_independence(
    model: Callable,
    key: Any,
    *args: Any,
    units: int = 18,
    chunks: Sequence[int] = (5,),
    tolerance: float = TOLERANCE,
) -> None:
    """A unit's values depend on its key and number only: not on how many units there are, nor on what runs with it.

    Args:
        model, key, args: as for ``simulate``.
        units: how many units run together; two thirds of them are run again in chunks.
        chunks: sizes of chunks.
        tolerance: as for ``check_execution``.

    Raises:
        AssertionError: a unit differs when fewer run, in other chunks; it names site and unit.

    >>> import sdscm_jax as sd
    >>> from sdscm_jax import testing
    >>> def model(lm):
    ...     sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> testing.check_independence(model, 0, testing.mock_lm(model))
    """
    units, tolerance, key = count(units, "units"), real(tolerance, "tolerance", least=0), as_key(key)
    chunks = tuple(count(chunk, "chunks") for chunk in items(chunks, "chunks"))
    whole = simulate(model, key, units, *args, progress=False)
    some = max(1, 2 * units // 3)
    for chunk in chunks:
        part = simulate(model, key, some, *args, chunk=chunk, progress=False)
        law = f"{some} units in chunks of {chunk} are {units} units at once"
        expected, found = (whole.values, whole.log_probs), (part.values, part.log_probs)
        require_close(law, whole.graph, key, expected, found, whole.worlds, tolerance)


def require_close(
    law: str,
    graph: Graph,
    key: Any,
    expected: tuple[Arrays, Arrays],
    found: tuple[Arrays, Arrays],
    labels: Sequence[str],
    tolerance: float,
) -> None:
    """Values and log-probabilities of the same units, by site, agree up to rounding.

    Args:
        law: what is said where they do not.
        graph: the sites.
        key: key of the simulation.
        expected, found: values ``[n, worlds, ...]`` and log-probabilities; ``found`` may have fewer units, worlds
            or sites.
        labels: of the worlds.
        tolerance: in nats.
    """
    values, log_probs = expected
    some = next(iter(found[0].values()))
    count, worlds = some.shape[:2]
    for world in range(worlds):
        # Units that came to the same phrases so far; others may have other scores.
        alike = np.ones(count, bool)
        for site in (graph[name] for name in graph.names if name in found[0]):
            a, b = values[site.name][:count, world], found[0][site.name][:, world]
            told: np.ndarray | None = None
            if site.name in found[1] and site.name in log_probs:
                told = log_probs[site.name][:count, world]
                apart = _apart(told, found[1][site.name][:, world])
                wrong = np.flatnonzero(alike & (apart > tolerance))
                if wrong.size:
                    what = f"log-probabilities are {apart[wrong[0]]:.2g} nats apart, more than {tolerance}"
                    fail(law, site.name, what, unit=wrong[0], world=labels[world])
            same = same_rows(a, b) if a.dtype.kind in "biu" else np.isclose(a, b, 1e-4, 1e-4).reshape(count, -1).all(1)
            for unit in np.flatnonzero(alike & ~same):
                if told is None and site.name in log_probs:
                    told = log_probs[site.name][:count, world]
                if told is None or site.shape or _lead(site, fold_in(key, int(unit)), told[unit]) > 10 * tolerance:
                    # Numbers and free text hang on what is before them by more than rounding.
                    what = f"{shown(graph, site.name, b[unit])}, expected {shown(graph, site.name, a[unit])}"
                    fail(law, site.name, what, unit=unit, world=labels[world])
            alike &= same


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far log-probabilities are apart, at most, in each unit."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        far = np.where(same, 0.0, np.abs(a - b))
    return np.where(np.isnan(far), np.inf, far).reshape(len(far), -1).max(1)


def _lead(site: Site, key: Any, log_probs: np.ndarray) -> float:
    """By how much, in nats, the option that a unit's noise picks is ahead of the next one."""
    coupling = site.coupling or Gumbel()
    return float(coupling.lead(jnp.asarray(log_probs), coupling.draw(fold_text(key, site.name), site.options, ())))


def _table(model: Callable, args: tuple) -> Tabulated | None:
    """The model with its language models asked beforehand; None where there are none, or it writes free text."""
    try:
        return tabulate(model, *args) if language_models(args) else None
    except SiteError:
        return None


def _eager(model: Callable, key: Any, units: int, args: tuple) -> dict[str, np.ndarray]:
    """Values ``[units, 1, ...]`` of units that are run one by one, outside of any trace."""
    found: dict[str, list[Any]] = {}
    for unit in range(units):
        with numpyro.handlers.block():
            trace = numpyro.handlers.trace(exogenous(model, fold_in(key, unit))).get_trace(*args)
        for name, msg in trace.items():
            if is_variable(msg):
                found.setdefault(name, []).append(np.asarray(jnp.asarray(msg["value"]))[None])
    return {name: np.stack(values) for name, values in found.items()}

"""Laws about frequencies: counted ones are compared with exact ones, by the binomial law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import binom

from .. import checks
from ..dsl.analysis.structure import structure
from ..dsl.noise.streams import as_key, fold_in
from ..effects import Exact, exact
from ..effects.counterfactual_graph import Target
from ..engine.simulate import simulate
from ..engine.simulation import Simulation
from .failure import fail
from .names import known_names
from .world_laws import World, may_be_set

# A right program fails a check with this probability, over keys; with one key it never or always does.
FALSE_ALARM = 1e-7


def surprise(counts: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Chance of counts as far from what probabilities lead to, or further; of each option by itself.

    >>> surprise(np.array([50, 50]), np.array([0.5, 0.5])).min() > 0.5, surprise(np.array([1]), np.array([0.0])).item()
    (np.True_, 0.0)
    """
    n, p = counts.sum(-1, keepdims=True), np.clip(probs, 0.0, 1.0)
    return np.minimum(1.0, 2 * np.minimum(binom.cdf(counts, n, p), binom.sf(counts - 1, n, p)))


def check_interventional(
    model: Callable,
    key: Any,
    *args: Any,
    units: int = 2000,
    sites: Sequence[str] | None = None,
    observed: Sequence[str] = (),
) -> int:
    """Law 4: a counterfactual world, averaged over units, is the interventional distribution.

    Counts of units are compared with exact probabilities (``effects.exact``), in the factual world and in one for
    each option of each site.

    Args:
        model, key, args: as for ``simulate``; all sites have finitely many values.
        units: how many units are counted.
        sites: sites that are set; None: each that may be set.
        observed: sites whose values are observed first, so that the units' noise is drawn given them (law 5:
            averaged over what is observed, that is the same noise).

    Returns:
        how many distributions were compared.

    Raises:
        AssertionError: counts that have a chance below 1e-7 (all comparisons together); it names site and world.
        EffectError: a site has infinitely many values.

    >>> import sdscm_jax as sd
    >>> from sdscm_jax import testing
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> testing.check_interventional(model, 0, testing.mock_lm(model), units=500)
    4
    """
    units, key = checks.count(units, "units"), as_key(key)
    checks.takes(model, args)
    source = exact(model, *args)
    sites = None if sites is None else known_names(sites, "sites", source.names)
    observed = known_names(observed, "observed", source.names)
    free = [site.name for site in structure(model, args) if may_be_set(site)]
    chosen = [name for name in source.names if name in free and (sites is None or name in sites)]
    worlds: list[World] = [{name: k} for name in chosen for k in range(len(source.options(name)))]
    evidence = None
    if observed:
        seen = simulate(model, key, units, *args, logp=[], progress=False)
        evidence = {name: seen.values[name][:, 0] for name in observed}
        # Noise that does not know of the one that made the evidence.
        key = fold_in(key, 1)
    data = simulate(model, key, units, *args, worlds=worlds, evidence=evidence, logp=[], progress=False)
    return as_exact(data, worlds, source)


def as_exact(data: Simulation, worlds: Sequence[World], source: Exact) -> int:
    """Compare counts in worlds (the factual one, and these) with exact probabilities."""
    compared = []
    for number, world in enumerate([{}, *worlds]):
        reached = source.names if not world else [n for site in world for n in source.descendants(site)]
        for site in dict.fromkeys(reached):
            if site not in world:
                law = source.joint([Target(site, dict(world))]).value
                counts = np.bincount(data.values[site][:, number], minlength=len(law))
                compared.append((site, data.worlds[number], counts, law))
    for site, label, counts, law in compared:
        if len(counts) > len(law) or surprise(counts, law).min() < FALSE_ALARM / len(compared) / len(law):
            share = (counts / counts.sum()).round(4).tolist()
            options, expected = list(source.options(site)), law.round(4).tolist()
            what = f"of {counts.sum()} units the options {options} have the shares {share}, expected {expected}"
            fail("frequencies are the exact distribution", site, what, world=label)
    return len(compared)

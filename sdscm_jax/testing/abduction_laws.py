"""Abduction: noise that was drawn given evidence replays it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..checks import takes
from ..dsl.noise.streams import as_key, fold_in
from ..engine.simulate import simulate
from .failure import fail, same_rows, shown
from .names import known_names
from .world_laws import CheckedWorlds, World, consistent, may_be_set, unreached


def check_abduction(
    model: Callable,
    key: Any,
    *args: Any,
    units: int = 32,
    hidden: Sequence[str] = (),
    sites: Sequence[str] | None = None,
) -> int:
    """Law 5: noise that was drawn given evidence replays it, and is the same in all worlds.

    Units are drawn, observed, and run again with other keys and the noise that explains what was observed. In
    worlds that set a site to its first option (or its observed value), laws 1 and 3 hold.

    Args:
        model, key, args: as for ``simulate``.
        units: how many units.
        hidden: sites that are not observed; their values come from their posterior.
        sites: sites that are set; None: each that may be set.

    Returns:
        how many observed values were compared.

    Raises:
        AssertionError: an observed site has another value, or a law does not hold in the worlds.
        EvidenceError: what is hidden cannot be inferred.

    >>> import sdscm_jax as sd
    >>> from sdscm_jax import testing
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> testing.check_abduction(model, 0, testing.mock_lm(model), units=10, hidden=["pdl1"])
    10
    """
    key = as_key(key)
    takes(model, args)
    seen = simulate(model, key, units, *args, logp=[], progress=False)
    random = [
        site.name
        for site in seen.graph.sites
        if site.kind not in ("deterministic", "intervened") and not (site.observed or site.looped)
    ]
    names = [site.name for site in seen.graph.sites]
    sites = None if sites is None else known_names(sites, "sites", names)
    hidden = known_names(hidden, "hidden", names)
    evidence = {name: seen.values[name][:, 0] for name in random if name not in hidden}
    worlds: list[World] = [
        {site.name: 0 if site.options else seen.values[site.name][:, 0]}
        for site in seen.graph.sites
        if may_be_set(site) and (sites is None or site.name in sites)
    ]
    again = simulate(model, fold_in(key, 1), units, *args, evidence=evidence, worlds=worlds, logp=[], progress=False)
    for name, value in evidence.items():
        found = again.values[name][:, 0]
        wrong = np.flatnonzero(~same_rows(found, value))
        if wrong.size:
            unit = wrong[0]
            what = f"{shown(again.graph, name, found[unit])}, but {shown(again.graph, name, value[unit])} was observed"
            fail("abduced noise replays its evidence", name, what, unit=unit, world="")
    together = CheckedWorlds(again, tuple(worlds))
    consistent(together)
    unreached(together)
    return len(evidence) * units

"""``counterfactual``: one unit in several worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpyro

from ..errors import InterventionError, SiteError
from .abduct import abduct
from .abduction import check_counterfactual
from .exogenous import next_key, unit_noise
from .run_worlds import run_worlds
from .structure import structure
from .worlds import World, as_worlds


def counterfactual(
    fn: Callable,
    do: World | None = None,
    evidence: Mapping[str, Any] | None = None,
    worlds: Sequence[World] | None = None,
) -> Callable:
    """Run a unit in the factual world and in others, with the same exogenous noise.

    The noise comes from an outer ``exogenous`` (or ``numpyro.handlers.seed``); with ``evidence`` it is
    drawn given what was observed (see ``abduct``). Worlds are a vectorised axis; what an
    intervention does not reach is computed once and bitwise equal.

    Args:
        fn: the model function.
        do: one intervention, site name -> value.
        evidence: site name -> observed value in the factual world.
        worlds: several interventions; each is one more world. Exactly one of ``do`` and ``worlds``
            is given.

    Returns:
        a function of the model's arguments that returns what ``fn`` returns in the counterfactual
        world (with ``worlds``: with a leading axis, the factual world first). Traces see each
        site of the factual world under its name and of another world as ``name|do(site=value)``.

    Raises:
        InterventionError: a site is unknown or exogenous, or cannot take the value.
        EvidenceError: see ``abduct``.

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

    def in_worlds(*args: Any, **kwargs: Any) -> Any:
        unit = unit_noise()
        key, noise = unit if unit is not None else (next_key(), {})
        if key is None:
            raise SiteError("counterfactual draws noise: run it under handlers.exogenous or numpyro.handlers.seed")
        sites = structure(fn, args, kwargs)
        prepared = as_worlds(others, sites)
        if evidence is not None:
            noise = {**noise, **abduct(fn, evidence, key).posterior(*args, **kwargs).noise}
        result = run_worlds(fn, key, prepared, args, kwargs, log_probs=(), noise=noise)
        if evidence is not None:
            units = {name: x if isinstance(x, jax.core.Tracer) else x[None] for name, x in result.values.items()}
            check_counterfactual(units, sites, tuple(evidence), prepared.labels)
        for name, values in result.values.items():
            for label, value in zip(("", *prepared.labels), values, strict=True):
                numpyro.deterministic(f"{name}|{label}" if label else name, value)
        if do is not None:
            return jax.tree.map(lambda x: x[1], result.returned)
        return result.returned

    return in_worlds

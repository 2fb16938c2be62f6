"""Abduction: the noise of a unit given evidence that the program did not generate.

The values of unobserved sites that cause the evidence are drawn from their posterior first (exactly where they are
discrete and few, by NumPyro's NUTS where some are continuous, by particles where some are free text); then every value
that is known gets noise that explains it, drawn from its exact posterior. What cannot be done is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...checks import count, told
from ...errors import EvidenceError, OptionError, nearest
from ..analysis.causes import Runs, log_prob_of, posterior_values
from ..analysis.graph import Graph
from ..analysis.particles import particle_values
from ..analysis.structure import Site
from ..handlers.recovered_noise import Known, Residual, check_told, residual_noise, untold_values
from ..language.mechanism import mechanism_of
from ..noise.streams import fold_text, stream
from .worlds import site_value

Evidence = Mapping[str, Any]

# Particles for causes among which are free texts, unless somebody says how many; the least that there may be; and how
# many must carry the weight.
PARTICLES, LEAST_PARTICLES, LEAST_ESS = 256, 16, 2.0


class Abduction(NamedTuple):
    """What is known of a unit after abduction.

    Attributes:
        noise: site name -> noise, for ``exogenous``.
        log_prob: float32 scalar, log-probability (density) of the evidence, where nothing that causes
            it is continuous and unobserved; else NaN. Where free text is, an estimate by particles.
        ess: float32 scalar, how many particles of equal weight would be as good; NaN where there are none.
    """

    noise: dict[str, Any]
    log_prob: Array
    ess: Array


def check_evidence(
    evidence: Evidence, sites: Sequence[Site], units: int | None = None
) -> dict[str, tuple[Array, bool]]:
    """Evidence as arrays (and whether each has a leading axis of units).

    Raises:
        EvidenceError: a site is unknown, deterministic or intervened on, or cannot have the value.
    """
    if not isinstance(evidence, Mapping):
        raise EvidenceError(f"evidence is a mapping from site names to values, got {told(evidence)}")
    known = {site.name: site for site in sites}
    checked = {}
    for name, value in evidence.items():
        if name not in known:
            raise EvidenceError(f"evidence names {name!r}, which is no site of the model; {nearest(name, list(known))}")
        site = known[name]
        if site.kind == "deterministic":
            raise EvidenceError(
                f"site {name!r} is deterministic: it has no noise of its own. Give evidence on "
                f"{', '.join(map(repr, site.parents)) or 'other sites'}"
            )
        if site.kind == "intervened":
            raise EvidenceError(f"site {name!r} is observed and intervened on; drop one of the two")
        if site.observed:
            raise EvidenceError(f"site {name!r} is observed by the program already; give its value in one place")
        if site.looped:
            raise EvidenceError(
                f"site {name!r} is inside scan or cond, where noise cannot be abduced; write the loop in Python"
            )
        try:
            array, per_unit = site_value(value, site, units)
            checked[name] = _with_dtype(array, site), per_unit
        except (OptionError, TypeError, ValueError) as error:
            raise EvidenceError(str(error)) from error
    return checked


def _with_dtype(array: Array, site: Site) -> Array:
    """Evidence as numbers of the site's own type: a truth value is 0 or 1, a whole number one of a site of these."""
    where = f"site {site.name!r}"
    if array.dtype == bool:
        array = array.astype(jnp.int32)
    floating = jnp.issubdtype(site.dtype, jnp.floating)
    if not isinstance(array, jax.core.Tracer):
        numbers = np.asarray(array, np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError(f"{where}: evidence is finite, got {numbers[~np.isfinite(numbers)][0]}")
        if not floating and (numbers % 1 != 0).any():
            raise ValueError(f"{where} takes whole numbers, got {numbers[numbers % 1 != 0][0]}")
    elif not floating and jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{where} takes whole numbers, got numbers of type {array.dtype}")
    return array.astype(site.dtype)


def latent_causes(evidence: Sequence[str], sites: Sequence[Site]) -> tuple[Site, ...]:
    """Unobserved random sites upstream of evidence, in program order."""
    graph = Graph(tuple(sites))
    observed = {*evidence, *(site.name for site in sites if site.observed)}
    found = [
        site
        for site in sites
        if site.kind not in ("deterministic", "intervened")
        and site.name not in observed
        and observed & set(graph.descendants(site.name))
    ]
    names = [site.name for site in sites]
    last = max((names.index(name) for name in observed), default=-1)
    for site in sites[: last + 1]:
        # What leaves a loop is not followed to the sites inside, so any of them may be a cause.
        if site.looped:
            raise EvidenceError(
                f"site {site.name!r} is inside scan or cond and may cause what is observed after it; it cannot be "
                "inferred. Write the loop in Python"
            )
    for site in sites:
        if site.random and observed & set(graph.descendants(site.name)):
            raise EvidenceError(
                f"site {site.name!r} has a stochastic or soft intervention and causes what is observed; what it was "
                "cannot be inferred. Observe it without do, or set it to a constant"
            )
    return tuple(found)


def latent_texts(evidence: Sequence[str], sites: Sequence[Site]) -> tuple[str, ...]:
    """Free texts among the unobserved causes of evidence."""
    return tuple(site.name for site in latent_causes(evidence, sites) if site.kind == "text") if evidence else ()


def abduce(
    fn: Callable,
    evidence: Mapping[str, Array],
    key: Array,
    sites: Sequence[Site],
    args: tuple,
    kwargs: Mapping[str, Any] | None = None,
    particles: int = PARTICLES,
) -> Abduction:
    """Draw the noise of one unit given evidence.

    Args:
        fn: the model function, as it was when the evidence arose (under ``do``, if it was).
        evidence: site name -> array, checked by ``check_evidence``.
        key: key of the unit; sites that are neither evidence nor causes of it keep its noise.
        sites: the structure of the model.
        args, kwargs: arguments of the model.
        particles: how many there are where free text is an unobserved cause.

    Raises:
        EvidenceError: an unobserved cause cannot be inferred.
    """
    run = Runs(fn, dict(evidence), stream(key, "abduction"), args, kwargs or {})
    latent = latent_causes(list(evidence), sites)
    values: dict[str, Array] = {}
    log_prob, ess = None, jnp.float32(jnp.nan)
    if any(site.kind == "text" for site in latent):
        values, log_prob, ess = particle_values(run, latent, particles)
    elif latent:
        values, log_prob = posterior_values(run, latent, sites)
    seen = run.messages(values)
    noise: dict[str, Known | Residual] = {}
    for name, value in {**evidence, **values}.items():
        site_fn, own = seen[name]["fn"], fold_text(run.key, name)
        mechanism = mechanism_of(site_fn)
        if mechanism is not None:
            noise[name] = Known(mechanism.posterior_noise(own, value))
        else:
            noise[name] = residual_noise(site_fn, value, own)
    if log_prob is None:
        log_prob = log_prob_of(seen, list(evidence))
    return Abduction(noise, log_prob, ess)


def parse_particles(value: Any) -> int:
    """How many particles there are to be.

    Raises:
        EvidenceError: it is no number, or too small a one.
    """
    return count(value, "particles", EvidenceError, least=LEAST_PARTICLES)


def check_explained(found: Any, texts: Sequence[str], particles: int, where: str, first: int = 0) -> None:
    """Refuse draws from the posterior of free texts that too few particles stand for.

    Args:
        found: log-probability of the evidence and effective number of particles, or those of several units.
        texts: the free texts among the causes.
        particles: how many there are.
        where: what the message calls the place.
        first: number of the first of the units.

    Raises:
        EvidenceError: with the sites, the unit and the remedy; under tracing nothing can be checked.
    """
    ess = found[-1]
    if isinstance(ess, jax.core.Tracer) or not texts:
        return
    few = np.flatnonzero(~(np.atleast_1d(np.asarray(ess)) >= LEAST_ESS))
    if few.size:
        which = f" (row {first + few[0]})" if np.ndim(ess) else ""
        number = np.atleast_1d(np.asarray(ess))[few[0]]
        named = " and ".join(map(repr, texts))
        what = f"{number:.1f} carry the weight, too few" if number > 0 else "none explains it"
        raise EvidenceError(
            f"{where}: free text ({named}) is not observed and causes the evidence{which}, and of {particles} "
            f"particles {what}. Give more with particles=, evidence on {named} too, or evidence that is less unlikely"
        )


def check_possible(log_prob: Any, where: str, first: int = 0) -> None:
    """Refuse evidence that the model gives no probability.

    Args:
        log_prob: log-probability of the evidence, or of that of several units.
        where: what the message calls the place.
        first: number of the first of the units.

    Raises:
        EvidenceError: ``log_prob`` (a number, or one for each unit) is -inf; under tracing nothing
            can be checked.
    """
    if isinstance(log_prob, jax.core.Tracer):
        return
    impossible = np.flatnonzero(np.atleast_1d(np.isneginf(np.asarray(log_prob))))
    if impossible.size:
        which = f" (row {first + impossible[0]})" if np.ndim(log_prob) else ""
        raise EvidenceError(f"{where}: the evidence has probability 0 under the model{which}")


def check_counterfactual(
    values: Mapping[str, Any], sites: Sequence[Site], observed: Sequence[str], worlds: Sequence[str], first: int = 0
) -> None:
    """Refuse results whose sites have a value that cannot be told from what was abduced of it.

    Args:
        values: site -> values of units in all worlds ``[n, 1 + W, ...]``, the factual one first.
        sites: the structure of the model.
        observed: sites that there is evidence on.
        worlds: labels of the W other worlds.
        first: number of the first row.

    Raises:
        EvidenceError: with the site, its value, the row and the world; under tracing nothing can be checked.
    """
    # (What the program itself observes is no evidence: nothing is inferred from it.)
    abduced = {*observed, *(site.name for site in latent_causes(observed, sites))} if observed else set()
    for site in sites:
        found = values.get(site.name)
        if site.name not in abduced or site.phrase is not None or isinstance(found, jax.core.Tracer):
            continue
        array = np.asarray(found)
        # What an intervention sets it to is not told from noise.
        for row, world in np.argwhere(untold_values(array).reshape(*array.shape[:2], -1).any(-1))[:1]:
            where = f" in {worlds[world - 1]} (row {first + row})" if world else f" (row {first + row})"
            check_told(site.name, array[row, 0], array[row, world], where)

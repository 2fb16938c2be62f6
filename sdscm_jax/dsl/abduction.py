"""Abduction: the noise of a unit given evidence that the program did not generate.

The values of unobserved sites that cause the evidence are drawn from their posterior first (exactly
where they are discrete and few, by NumPyro's NUTS where some are continuous); then every value that
is known gets noise that explains it, drawn from its exact posterior. What cannot be done is refused.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import biject_to
from numpyro.infer import NUTS
from numpyro.primitives import Messenger

from ..errors import EvidenceError, OptionError, nearest
from .carry import Known, Residual, check_told, enumerable, residual_noise, untold_values
from .exogenous import exogenous
from .graph import Graph
from .intervention import Fixed, Intervened, natural
from .mechanism import Mechanism, mechanism_of, with_mechanism
from .noise import fold_text, stream
from .residual import core
from .structure import Site
from .tails import LEAST
from .worlds import site_value

# Joint values of unobserved discrete causes that are enumerated.
MAX_ASSIGNMENTS = 4096
# How many of them go through the model together.
AT_ONCE = 32
# Steps of NUTS for unobserved continuous causes: adaptation, then the walk to the draw that is kept.
WARMUP, STEPS = 300, 50

Evidence = Mapping[str, Any]


class Abduction(NamedTuple):
    """What is known of a unit after abduction.

    Attributes:
        noise: site name -> noise, for ``exogenous``.
        log_prob: float32 scalar, log-probability (density) of the evidence, where nothing that causes
            it is continuous and unobserved; else NaN.
    """

    noise: dict[str, Any]
    log_prob: Array


def check_evidence(
    evidence: Evidence, sites: Sequence[Site], units: int | None = None
) -> dict[str, tuple[Array, bool]]:
    """Evidence as arrays (and whether each has a leading axis of units).

    Raises:
        EvidenceError: a site is unknown, deterministic or intervened on, or cannot have the value.
    """
    if not isinstance(evidence, Mapping):
        raise EvidenceError(f"evidence is a mapping from site names to values, got {evidence!r}")
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
    for site in found:
        if site.kind == "text":
            raise EvidenceError(
                f"site {site.name!r} is free text that is not observed and causes what is; free text cannot be "
                "inferred. Give evidence on it too, or drop the evidence downstream"
            )
    return tuple(found)


def abduce(
    fn: Callable,
    evidence: Mapping[str, Array],
    key: Array,
    sites: Sequence[Site],
    args: tuple,
    kwargs: Mapping[str, Any] | None = None,
) -> Abduction:
    """Draw the noise of one unit given evidence.

    Args:
        fn: the model function, as it was when the evidence arose (under ``do``, if it was).
        evidence: site name -> array, checked by ``check_evidence``.
        key: key of the unit; sites that are neither evidence nor causes of it keep its noise.
        sites: the structure of the model.
        args, kwargs: arguments of the model.

    Raises:
        EvidenceError: an unobserved cause cannot be inferred.
    """
    run = _Runs(fn, dict(evidence), stream(key, "abduction"), args, kwargs or {})
    latent = latent_causes(list(evidence), sites)
    values, log_prob = _posterior_values(run, latent, sites) if latent else ({}, None)
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
        log_prob = _log_prob(seen, list(evidence))
    return Abduction(noise, log_prob)


class _Scores(Messenger):
    """Hands choices scores that were computed before."""

    def __init__(self, fn: Callable, scores: Mapping[str, Array]):
        self.scores = scores
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["name"] in self.scores:
            scores = self.scores[msg["name"]]
            msg["fn"] = with_mechanism(msg["fn"], lambda choice: choice.replace(known_scores=scores))


class _Unconstrained(Messenger):
    """Gives sites values from unconstrained ones, and collects the log-determinant."""

    def __init__(self, fn: Callable, points: Mapping[str, Array]):
        self.points, self.log_det = points, jnp.float32(0.0)
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["name"] in self.points:
            transform = biject_to(msg["fn"].support)
            point = self.points[msg["name"]]
            msg["value"] = transform(point)
            self.log_det = self.log_det + transform.log_abs_det_jacobian(point, msg["value"]).sum()


@dataclass(frozen=True)
class _Runs:
    """The model with its evidence, to be run with various values of what is not observed."""

    fn: Callable
    evidence: dict[str, Array]
    key: Array
    args: tuple
    kwargs: Mapping[str, Any]

    def messages(
        self,
        values: Mapping[str, Array],
        points: Mapping[str, Array] | None = None,
        scores: Mapping[str, Array] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Sites of a run whose unobserved causes have these values."""
        model: Any = numpyro.handlers.substitute(exogenous(self.fn, self.key), data={**self.evidence, **values})
        model = unconstrained = _Unconstrained(_Scores(model, scores or {}), points or {})
        with numpyro.handlers.block():
            trace = numpyro.handlers.trace(model).get_trace(*self.args, **self.kwargs)
        trace["log_det"] = {"type": "log_det", "value": unconstrained.log_det}
        return trace


def _log_prob(messages: Mapping[str, dict[str, Any]], names: Sequence[str]) -> Array:
    """Log-density of some sites, and of what the program observes.

    A mask takes an observation of the program out of it, but no cause and no evidence: the units that are asked
    about draw these from their distribution, masked or not.
    """
    total = jnp.float32(0.0)
    for name, msg in messages.items():
        if msg["type"] != "sample" or isinstance(msg["fn"], (Fixed, Intervened)):
            continue
        if name in names:
            total = total + jnp.sum(_possible(msg["fn"], msg["value"]))
        elif msg["is_observed"]:
            total = total + jnp.sum(msg["fn"].log_prob(msg["value"]))
    return total


def _possible(fn: dist.Distribution, value: Array) -> Array:
    """Log-density of a value, -inf where none of its noise can be told in float32."""
    fn = _unmasked(fn)
    log_prob, mechanism = fn.log_prob(value), mechanism_of(fn)
    if mechanism is None:
        return jnp.where(fn.support(value), log_prob, -jnp.inf)
    if mechanism.coupling == "inverse_cdf":
        # The cell is a probability, not its logarithm.
        return jnp.where(log_prob > LEAST, log_prob, -jnp.inf)
    return log_prob


def _unmasked(fn: dist.Distribution) -> dist.Distribution:
    if isinstance(fn, dist.MaskedDistribution):
        return _unmasked(fn.base_dist)
    if isinstance(fn, (dist.Independent, dist.ExpandedDistribution)):
        new = copy.copy(fn)
        new.base_dist = _unmasked(fn.base_dist)
        return new
    return fn


def _posterior_values(run: _Runs, latent: Sequence[Site], sites: Sequence[Site]) -> tuple[dict[str, Array], Array]:
    """A draw of the unobserved causes given the evidence, and the log-probability of the evidence."""
    kinds = _kinds(run, [s for s in latent if not s.options])
    discrete = [s for s in latent if s.options or kinds[s.name].values is not None]
    continuous = [s for s in latent if s not in discrete]
    for site in continuous:
        if kinds[site.name].fn.support.is_discrete:
            raise EvidenceError(
                f"site {site.name!r} ({site.kind}) is not observed and causes what is; it is discrete with no finite "
                "support, so it cannot be inferred here. Give evidence on it too"
            )
    supports = {s.name: _support(s, kinds) for s in discrete}
    sizes = [len(supports[s.name]) for s in discrete for _ in range(math.prod(s.shape))]
    count = math.prod(sizes)
    if count > MAX_ASSIGNMENTS:
        raise EvidenceError(
            f"the unobserved causes {', '.join(repr(s.name) for s in discrete)} have {count} joint values, more than "
            f"the {MAX_ASSIGNMENTS} that are enumerated. Give evidence on some of them"
        )
    grid = np.array(list(itertools.product(*map(range, sizes))), np.int32).reshape(count, -1)

    def assignment(row: Array) -> dict[str, Array]:
        values, start = {}, 0
        for site in discrete:
            size = math.prod(site.shape)
            numbers = row[start : start + size].reshape(site.shape)
            start += size
            values[site.name] = jnp.asarray(supports[site.name])[numbers]
        return values

    names = [s.name for s in latent] + list(run.evidence)
    if not continuous:
        log_joint = jax.lax.map(
            lambda row: _log_prob(run.messages(assignment(row)), names), jnp.asarray(grid), batch_size=AT_ONCE
        )
        chosen = jax.random.categorical(stream(run.key, "causes"), log_joint)
        return assignment(jnp.asarray(grid)[chosen]), jax.nn.logsumexp(log_joint)
    return _continuous_posterior(run, continuous, assignment, jnp.asarray(grid), names, kinds, sites)


def _continuous_posterior(
    run: _Runs,
    continuous: Sequence[Site],
    assignment: Callable[[Array], dict[str, Array]],
    grid: Array,
    names: Sequence[str],
    kinds: Mapping[str, _Kind],
    sites: Sequence[Site],
) -> tuple[dict[str, Array], Array]:
    """NUTS over the continuous causes, the discrete ones summed out; then a draw of these."""
    start = {
        s.name: jnp.zeros(jax.eval_shape(biject_to(kinds[s.name].fn.support).inv, jnp.zeros(s.shape)).shape)
        for s in continuous
    }
    # Scores that the sampler does not change are computed once, outside of it.
    fixed = [
        site.name
        for site in sites
        if site.name in names and site.kind == "choice" and not {s.name for s in continuous} & set(site.text_parents)
    ]

    def scores_of(row: Array) -> dict[str, Array]:
        messages = run.messages(assignment(row), start)
        return {name: _mechanism(messages[name]).scores for name in fixed}

    scores = jax.lax.map(scores_of, grid, batch_size=AT_ONCE)

    def log_joint(points: dict[str, Array]) -> Array:
        def one(row: Array, known: dict[str, Array]) -> Array:
            messages = run.messages(assignment(row), points, known)
            return _log_prob(messages, names) + messages["log_det"]["value"]

        return jax.vmap(one)(grid, scores)

    kernel = NUTS(potential_fn=lambda points: -jax.nn.logsumexp(log_joint(points)))
    state = kernel.init(stream(run.key, "nuts"), WARMUP, start, (), {})
    state = jax.lax.fori_loop(0, WARMUP + STEPS, lambda _, s: kernel.sample(s, (), {}), state)
    points = state.z
    chosen = jax.random.categorical(stream(run.key, "causes"), log_joint(points))
    values = assignment(grid[chosen])
    messages = run.messages(values, points, jax.tree.map(lambda x: x[chosen], scores))
    values.update({s.name: messages[s.name]["value"] for s in continuous})
    return values, jnp.float32(jnp.nan)


def _mechanism(msg: dict[str, Any]) -> Mechanism:
    found = mechanism_of(msg["fn"])
    assert found is not None
    return found


def _support(site: Site, kinds: Mapping[str, _Kind]) -> np.ndarray:
    values = np.arange(len(site.options)) if site.options else kinds[site.name].values
    assert values is not None
    return values


@dataclass(frozen=True)
class _Kind:
    """A NumPyro site: its (abstract) distribution, and its values where they are finitely many."""

    fn: Any
    values: np.ndarray | None


def _kinds(run: _Runs, sites: Sequence[Site]) -> dict[str, _Kind]:
    """What some sites are, by an abstract run."""
    found: dict[str, _Kind] = {}

    def look() -> None:
        messages = run.messages({})
        for site in sites:
            fn = core(natural(messages[site.name]["fn"]))
            values = None
            if enumerable(fn):
                with jax.ensure_compile_time_eval():
                    values = np.asarray(fn.enumerate_support(expand=False)).reshape(-1)
            found[site.name] = _Kind(fn, values)

    if sites:
        jax.eval_shape(look)
    return found


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
    abduced = {*observed, *(site.name for site in latent_causes(observed, sites))}
    for site in sites:
        found = values.get(site.name)
        if site.name not in abduced or site.phrase is not None or isinstance(found, jax.core.Tracer):
            continue
        array = np.asarray(found)
        # What an intervention sets it to is not told from noise.
        for row, world in np.argwhere(untold_values(array).reshape(*array.shape[:2], -1).any(-1))[:1]:
            where = f" in {worlds[world - 1]} (row {first + row})" if world else f" (row {first + row})"
            check_told(site.name, array[row, 0], array[row, world], where)

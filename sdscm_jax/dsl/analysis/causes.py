"""Unobserved causes of evidence: their joint posterior, and a draw from it.

Exactly where they are discrete and few; where some are continuous, by NumPyro's NUTS, which begins at a draw from
the prior that was chosen by how well it explains the evidence.
"""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import biject_to
from numpyro.infer import NUTS
from numpyro.primitives import Messenger

from ...errors import EvidenceError
from ..handlers.exogenous import exogenous
from ..handlers.intervened import Fixed, Intervened, natural
from ..handlers.recovered_noise import enumerable
from ..language.mechanism import Mechanism, mechanism_of, with_mechanism
from ..noise.residual import core
from ..noise.streams import fold_in, stream
from ..noise.tails import LEAST
from .structure import Site

# Joint values of unobserved discrete causes that are enumerated.
MAX_ASSIGNMENTS = 4096
# How many of them go through the model together.
AT_ONCE = 32
# Unobserved continuous causes: draws of the prior among which the walk's start is chosen, and steps of NUTS:
# adaptation, then the walk to the draw that is kept.
STARTS, WARMUP, STEPS = 512, 300, 50


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
class Runs:
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


def log_prob_of(messages: Mapping[str, dict[str, Any]], names: Sequence[str]) -> Array:
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
    with warnings.catch_warnings():
        # NumPyro's, of what is out of the support, which is an error here.
        warnings.simplefilter("ignore")
        log_prob, mechanism = fn.log_prob(value), mechanism_of(fn)
    if mechanism is None:
        return jnp.where(fn.support(value), log_prob, -jnp.inf)
    if mechanism.coupling.of_cells:
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


def posterior_values(run: Runs, latent: Sequence[Site], sites: Sequence[Site]) -> tuple[dict[str, Array], Array]:
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
            lambda row: log_prob_of(run.messages(assignment(row)), names), jnp.asarray(grid), batch_size=AT_ONCE
        )
        chosen = jax.random.categorical(stream(run.key, "causes"), log_joint)
        return assignment(jnp.asarray(grid)[chosen]), jax.nn.logsumexp(log_joint)
    return _continuous_posterior(run, continuous, assignment, jnp.asarray(grid), names, kinds, sites)


def _continuous_posterior(
    run: Runs,
    continuous: Sequence[Site],
    assignment: Callable[[Array], dict[str, Array]],
    grid: Array,
    names: Sequence[str],
    kinds: Mapping[str, _Kind],
    sites: Sequence[Site],
) -> tuple[dict[str, Array], Array]:
    """NUTS over the continuous causes, the discrete ones summed out; then a draw of these."""
    start = _start(run, continuous, kinds)
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
            return log_prob_of(messages, names) + messages["log_det"]["value"]

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


def _start(run: Runs, continuous: Sequence[Site], kinds: Mapping[str, _Kind]) -> dict[str, Array]:
    """Unconstrained continuous causes of one of many draws from the prior, chosen by the density of the evidence.

    A walk stays in its mode; so how often it begins in each is to be how likely that is.
    """

    def draw(number: Array) -> tuple[dict[str, Array], Array]:
        prior = replace(run, key=fold_in(stream(run.key, "starts"), number))
        messages = prior.messages({})
        points = {s.name: biject_to(kinds[s.name].fn.support).inv(messages[s.name]["value"]) for s in continuous}
        finite = jnp.stack([jnp.isfinite(point).all() for point in points.values()]).all()
        return points, jnp.where(finite, log_prob_of(messages, list(run.evidence)), -jnp.inf)

    points, weights = jax.lax.map(draw, jnp.arange(STARTS), batch_size=AT_ONCE)
    chosen = jax.random.categorical(stream(run.key, "start"), weights)
    return {name: jnp.where(jnp.isfinite(x[chosen]), x[chosen], 0.0) for name, x in points.items()}


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


def _kinds(run: Runs, sites: Sequence[Site]) -> dict[str, _Kind]:
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

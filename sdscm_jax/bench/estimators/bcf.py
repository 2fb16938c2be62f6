"""Effects by Bayesian causal forests (Hahn, Murray & Carvalho 2020); the sampler is ``bartz``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import EstimatorError
from .bart import (
    NEEDED,
    Drawn,
    Posterior,
    fit_propensity,
    need_bartz,
    predictors,
    problem,
    sum_trees,
)
from .protocol import check_units


@dataclass(frozen=True)
class Options:
    """How the posterior is sampled: much less than by default in bartz (250 + 100 trees, 100 + 1000 draws)."""

    outcome_trees: int = 75
    effect_trees: int = 25
    chains: int = 2
    burn: int = 250
    draws: int = 150


class Trace(NamedTuple):
    """Draws of the posterior, in units of the standardised outcome; the first axis is that of the chains."""

    effect: jax.Array  # [chains, draws, n]
    common: jax.Array  # [chains, draws], the part of the effect that is the same for every unit
    trees: Any
    binner: Any

    def at(self, x: jax.Array) -> jax.Array:
        """Draws of effects at predictors ``[p, m]``; see ``sample_at``."""
        return sample_at(self, x)


def forest(trees: Any, common: jax.Array, binned: jax.Array) -> jax.Array:
    """Draws of effects, float32 ``[draws, m]``, at binned predictors ``[p, m]``."""
    split = trees.split_tree[..., 1] > 0  # most trees have none, and need no walk
    constant = jnp.where(split, 0, trees.leaf_tree[..., 1]).sum(axis=-1) * trees.leaf_unit
    return sum_trees(trees, split, binned) + (constant + common)[:, None]


@functools.partial(jax.jit, static_argnames="options")
def sample(
    keys: jax.Array, x: jax.Array, t: jax.Array, y: jax.Array, last: jax.Array, spread: jax.Array, *, options: Options
) -> Trace:
    """Run the chains, one after the other.

    ``bartz.bcf.bcf`` would do it, but it compiles anew for each number of columns that have no cutpoint; hence its
    parts, and its priors.

    Args:
        keys: one for each chain.
        x: predictors, float32 ``[p, n]``.
        t: bool ``[n]``.
        y: standardised outcomes, float32 ``[n]``.
        last: the row of ``x`` that is the propensity, which effects do not depend on.
        spread: half the range of the outcomes.
    """
    from bartz.bcf._loop import BCFBurninTrace, BCFMainTrace, bcf_step
    from bartz.bcf._state import init_bcf
    from bartz.mcmcloop import run_mcmc
    from bartz.mcmcstep import Wishart, make_p_nonterminal
    from bartz.prepcovars import UniqueQuantileBinner

    binner = UniqueQuantileBinner(x, max_subsample=None)
    binned = binner.bin(x)
    outcome = options.outcome_trees * jnp.square(2.0 / spread)
    effect = options.effect_trees * jnp.square(10.0 / spread)

    def chain(key: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        state = init_bcf(
            X_unified=binned,
            trt=t,
            y=y,
            offset=jnp.float32(0),
            max_split_mu=binner.max_split,
            max_split_tau=binner.max_split.at[last].set(0),
            num_trees_mu=options.outcome_trees,
            num_trees_tau=options.effect_trees,
            p_nonterminal_mu=make_p_nonterminal(6, 0.95, 2.0),
            p_nonterminal_tau=make_p_nonterminal(5, 0.25, 3.0),
            leaf_prior_cov_inv_mu=Wishart(
                nu=jnp.float32(6), rate=jnp.float32(2 / options.outcome_trees), value=outcome
            ),
            leaf_prior_cov_inv_tau=Wishart(nu=None, rate=None, value=effect),
            min_points_per_leaf_mu=5,
            min_points_per_leaf_tau=5,
            filter_splitless_vars_mu=len(x),
            filter_splitless_vars_tau=len(x),
            tau_0_prior_var=1.0,
            error_cov_inv=Wishart(nu=jnp.float32(3), rate=jnp.float32(3), value=jnp.float32(1)),
        )
        _, _, drawn = run_mcmc(
            key,
            state,
            options.draws,
            n_burn=options.burn,
            step=bcf_step,
            burnin_trace_type=BCFBurninTrace,
            main_trace_type=BCFMainTrace,
        )
        return drawn.tau, drawn.tau_0, forest(drawn.tau, drawn.tau_0, binned)

    trees, common, effects = jax.lax.map(chain, keys)
    return Trace(effects, common, trees, binner)


@jax.jit
def sample_at(trace: Trace, x: jax.Array) -> jax.Array:
    """Draws of the effects of other units, float32 ``[chains, draws, m]``, of predictors ``[p, m]``."""
    binned = trace.binner.bin(x)
    return jax.lax.map(lambda chain: forest(chain[0], chain[1], binned), (trace.trees, trace.common))


class Bcf(Drawn):
    """One forest for the outcome of the untreated, given covariates and estimated propensity, one for the effect,
    which is shrunk towards a constant; intervals of the expected effects.
    """

    name = "bcf"

    def __init__(self, options: Options = Options()) -> None:
        self.options = options

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Bcf:
        """Sample the posterior; see ``Estimator.fit``.

        Raises:
            EstimatorError: bartz is missing or another version, or an arm has fewer than 5 units.
        """
        need_bartz(self.name)
        check_units(self.name, np.asarray(t), NEEDED)
        data = problem(key, x, t, y)
        scale = data.y.std() or 1.0
        propensity = fit_propensity(data.x, data.t)
        try:
            trace = sample(
                jax.random.split(data.key, self.options.chains),
                jnp.asarray(predictors(data.x, propensity(data.x), len(data.t))),
                jnp.asarray(data.t == 1),
                jnp.asarray((data.y - data.y.mean()) / scale, jnp.float32),
                jnp.int32(data.x.shape[1]),
                jnp.float32((np.ptp(data.y) / scale or 1.0) / 2),
                options=self.options,
            )
        except ImportError as error:  # its parts are not public, and may move
            raise EstimatorError(f"{self.name} needs bartz 0.13: {error}") from error
        effect = np.asarray(trace.effect, np.float64).reshape(-1, len(data.t)) * scale
        self._fitted = Posterior(data, trace, propensity, scale, effect)
        return self

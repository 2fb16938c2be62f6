"""Effects by Bayesian causal forests (Hahn, Murray & Carvalho 2020); the sampler is ``bartz``.

The outcome is ``mu(x, propensity) + b_t tau(x)`` plus an error. The prior is that of the paper, section 5, and of its R
package, not that of ``bartz``, whose effects are held to a twentieth of the outcome's range:

- ``mu``: 200 trees with splits of probability 0.95 (1 + depth)^-2; the standard deviation of its value is half-Cauchy
  with a median of twice that of the outcome;
- ``tau``: 50 trees with splits of probability 0.25 (1 + depth)^-3; with ``b_0, b_1 ~ N(0, 1/2)`` the standard deviation
  of the effect is half-normal with a median of that of the outcome (section 5.3);
- the error's variance as in ``bart``.

How long the chains are is the only thing chosen here for time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import EstimatorError
from .bart import NEEDED, Drawn, Posterior, error_prior, error_variance, need_bartz, predictors, problem, sum_trees
from .propensity import fit_propensity
from .protocol import check_units

# Standard deviations of mu and of the effect, in those of the outcome: their priors' medians.
OUTCOME_SD, EFFECT_SD = 2.0, 1.0
# Median of the absolute value of a standard normal number.
HALF_NORMAL = 0.6744897501960817


@dataclass(frozen=True)
class Options:
    """How many trees there are (the paper's), and how the posterior is sampled."""

    outcome_trees: int = 200
    effect_trees: int = 50
    chains: int = 3
    burn: int = 300
    draws: int = 100


class Trace(NamedTuple):
    """Draws of the posterior, in units of the standardised outcome; the first axis is that of the chains."""

    effect: jax.Array  # [chains, draws, n]
    factor: jax.Array  # [chains, draws], of the trees' values: b_1 - b_0
    trees: Any
    binner: Any

    def at(self, x: jax.Array) -> jax.Array:
        """Draws of effects at predictors ``[p, m]``; see ``sample_at``."""
        return sample_at(self, x)


def forest(trees: Any, factor: jax.Array, binned: jax.Array) -> jax.Array:
    """Draws of effects, float32 ``[draws, m]``, at binned predictors ``[p, m]``."""
    split = trees.split_tree[..., 1] > 0  # most trees have none, and need no walk
    constant = jnp.where(split, 0, trees.leaf_tree[..., 1]).sum(axis=-1) * trees.leaf_unit
    return factor[:, None] * (sum_trees(trees, split, binned) + constant[:, None])


def half_cauchy(key: jax.Array, precision: jax.Array, median: jax.Array) -> jax.Array:
    """The rate of the prior of a precision, drawn such that the standard deviation is half-Cauchy.

    A half-Cauchy scale is a mixture: its square is inverse gamma (1/2, 1/a), where ``a`` is inverse gamma (1/2,
    1/median²); given the precision, 1/a is exponential (Makalic & Schmidt 2016). The rate is twice that of the gamma.
    """
    return 2 * jax.random.exponential(key) / (precision + 1 / jnp.square(median))


@functools.partial(jax.jit, static_argnames="options")
def sample(
    keys: jax.Array, x: jax.Array, t: jax.Array, y: jax.Array, last: jax.Array, error: jax.Array, *, options: Options
) -> Trace:
    """Run the chains, one after the other.

    ``bartz.bcf.bcf`` would do it, but it compiles anew for each number of columns that have no cutpoint, and has no
    half-Cauchy prior; hence its parts.

    Args:
        keys: one for each chain.
        x: predictors, float32 ``[p, n]``.
        t: bool ``[n]``.
        y: standardised outcomes, float32 ``[n]``.
        last: the row of ``x`` that is the propensity, which effects do not depend on.
        error: what is thought to be the variance of their errors; see ``error_variance``.
    """
    from bartz.bcf._loop import BCFBurninTrace, BCFMainTrace, bcf_step
    from bartz.bcf._state import init_bcf
    from bartz.mcmcloop import run_mcmc
    from bartz.mcmcstep import Wishart, make_p_nonterminal
    from bartz.prepcovars import UniqueQuantileBinner

    binner = UniqueQuantileBinner(x, max_subsample=None)
    binned = binner.bin(x)
    # Of one leaf: the value of a forest is the sum of one leaf of each tree.
    outcome = jnp.float32(OUTCOME_SD / options.outcome_trees**0.5)
    effect = jnp.float32(EFFECT_SD / HALF_NORMAL / options.effect_trees**0.5)

    def step(key: jax.Array, state: Any) -> Any:
        now, then = jax.random.split(key)
        state = bcf_step(now, state)
        prior = state.forest.leaf_prior_cov_inv
        prior = replace(prior, rate=half_cauchy(then, prior.value, outcome))
        return replace(state, forest=replace(state.forest, leaf_prior_cov_inv=prior))

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
                nu=jnp.float32(1), rate=2 * jnp.square(outcome), value=1 / jnp.square(outcome)
            ),
            leaf_prior_cov_inv_tau=Wishart(nu=None, rate=None, value=1 / jnp.square(effect)),
            min_points_per_leaf_mu=5,
            min_points_per_leaf_tau=5,
            filter_splitless_vars_mu=len(x),
            filter_splitless_vars_tau=len(x),
            sample_intercept=False,
            adaptive_coding=True,
            error_cov_inv=Wishart(*error_prior(error)),
        )
        _, _, drawn = run_mcmc(
            key,
            state,
            options.draws,
            n_burn=options.burn,
            step=step,
            burnin_trace_type=BCFBurninTrace,
            main_trace_type=BCFMainTrace,
        )
        factor = drawn.b[:, 1] - drawn.b[:, 0]
        return drawn.tau, factor, forest(drawn.tau, factor, binned)

    trees, factor, effects = jax.lax.map(chain, keys)
    return Trace(effects, factor, trees, binner)


@jax.jit
def sample_at(trace: Trace, x: jax.Array) -> jax.Array:
    """Draws of the effects of other units, float32 ``[chains, draws, m]``, of predictors ``[p, m]``."""
    binned = trace.binner.bin(x)
    return jax.lax.map(lambda chain: forest(chain[0], chain[1], binned), (trace.trees, trace.factor))


class Bcf(Drawn):
    """One forest for what the outcome is in either arm, given covariates and estimated propensity, and one for the
    effect, whose trees seldom split, so that it is shrunk towards a constant; intervals of the expected effects.
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
                jnp.float32(error_variance(data.x, data.t, (data.y - data.y.mean()) / scale) or 1.0),
                options=self.options,
            )
        except ImportError as error:  # its parts are not public, and may move
            raise EstimatorError(f"{self.name} needs bartz 0.13: {error}") from error
        effect = np.asarray(trace.effect, np.float64).reshape(-1, len(data.t)) * scale
        self._fitted = Posterior(data, trace, propensity, scale, effect)
        return self

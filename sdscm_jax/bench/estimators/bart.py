"""Effects by Bayesian additive regression trees (Chipman, George & McCulloch 2010; Hill 2011), by ``bartz``'s sampler.

The prior is that of the first paper, section 3.2: splits of probability 0.95 (1 + depth)^-2; leaves whose sum has a
standard deviation of a quarter of the outcome's range (k = 2); an error variance with nu = 3 whose 0.9 quantile is
what least squares leaves (q = 0.9; the defaults of dbarts, and so of bartCause, which SD-SCM's authors ran). Two things
are bartCause's: 75 trees, and the estimated propensity among the predictors (Hahn, Murray & Carvalho 2020).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import chdtri

from ...errors import EstimatorError
from .extra import extra
from .linear import least_squares
from .propensity import Propensity, fit_propensity
from .protocol import Interval, check_units, parse_level

NEEDED = 5
COLUMNS, UNITS, QUERIES = (
    16,
    100,
    256,
)  # shapes are rounded up to multiples of these, so that one compilation serves many
PAIRS = 256  # trees evaluated at a time
ERROR_DOF, ERROR_QUANTILE = 3.0, 0.9  # of the prior of the error variance
# Least variance of the errors that the prior starts from, in units of the outcome's: residuals are float32.
LEAST_ERROR = 1e-6


def need_bartz(name: str) -> None:
    """Import ``bartz``, which is an optional dependency.

    Raises:
        EstimatorError: it is not installed, or cannot be used on this machine.
    """
    try:
        extra(name, "bartz", "bartz")
    except RuntimeError as error:  # it wants a say in how XLA is configured on GPUs, before JAX is used
        raise EstimatorError(f"{name} cannot load bartz: {error}") from error


def round_up(size: int, multiple: int) -> int:
    """The least multiple that is not smaller.

    >>> round_up(33, 16), round_up(32, 16)
    (48, 32)
    """
    return -(-size // multiple) * multiple


def error_variance(x: np.ndarray, t: np.ndarray, y: np.ndarray) -> float:
    """What a regression on covariates ``[n, p]`` and treatment ``[n]`` leaves of the variance of outcomes ``[n]``, per
    spare unit; all of it where none is spare.

    >>> x, t = np.arange(6.0)[:, None], np.array([0, 1, 0, 1, 0, 1])
    >>> error_variance(x, t, x[:, 0] + np.array([1.0, 0, -2, 0, 1, 0]))  # 6 / (6 - 3)
    2.0
    """
    fit = least_squares(np.column_stack([x, t]), y)
    spare = float(np.square(y - fit.predict(np.column_stack([x, t]))).sum()) / fit.dof if fit.dof > 0 else np.inf
    return max(min(spare, float(y.var())), LEAST_ERROR * float(y.var()))


def error_prior(variance: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Degrees of freedom, rate and first value of the precision of the errors.

    The prior of their variance is ``nu lambda / chi2(nu)`` with ``lambda`` such that ``variance`` is its quantile
    ``ERROR_QUANTILE`` (Chipman et al. 2010, section 3.2.4).
    """
    return jnp.float32(ERROR_DOF), variance * jnp.float32(chdtri(ERROR_DOF, ERROR_QUANTILE)), 1 / variance


def predictors(x: np.ndarray, propensity: np.ndarray, rows: int) -> np.ndarray:
    """Covariates and propensity as bartz wants them: float32 ``[columns, rows]``.

    Missing columns are zeros, which no tree can split; missing rows repeat the first, so that they add no cutpoint.
    The number of columns leaves room for one more, the treatment.
    """
    columns = round_up(x.shape[1] + 2, COLUMNS) - 1
    out = np.zeros((columns, rows), np.float32)
    out[: x.shape[1], : len(x)] = x.T
    out[x.shape[1], : len(x)] = propensity
    out[:, len(x) :] = out[:, :1]
    return out


def sum_trees(trees: Any, chosen: jax.Array, plus: jax.Array, minus: jax.Array | None = None) -> jax.Array:
    """Sum, for each draw, the values of the chosen trees; only these are walked.

    Args:
        trees: a bartz trace; its arrays begin with ``[draws, trees]``.
        chosen: bool ``[draws, trees]``.
        plus: binned predictors ``[p, m]`` at which trees are evaluated.
        minus: predictors whose values are subtracted.

    Returns:
        float32 ``[draws, m]``.
    """
    from bartz.grove import TreesTrace, evaluate_forest

    draws, count = chosen.shape
    pairs = jnp.nonzero(chosen.reshape(-1), size=round_up(chosen.size, PAIRS), fill_value=chosen.size)[0]
    points = plus if minus is None else jnp.concatenate([plus, minus], axis=1)
    heaps = [a.reshape(draws * count, -1) for a in (trees.var_tree, trees.split_tree, trees.leaf_tree)]

    def add(block: jax.Array, total: jax.Array) -> jax.Array:
        here = jax.lax.dynamic_slice_in_dim(pairs, block * PAIRS, PAIRS)
        # what lies beyond the last pair is read from some tree and dropped when it is added
        var, split, leaf = (a.at[here].get(mode="clip") for a in heaps)
        values = evaluate_forest(points, TreesTrace(var, split, leaf, leaf_unit=trees.leaf_unit))
        if minus is not None:
            values = values[:, : plus.shape[1]] - values[:, plus.shape[1] :]
        return total.at[here // count].add(values, mode="drop")

    blocks = (chosen.sum() + PAIRS - 1) // PAIRS
    return jax.lax.fori_loop(0, blocks, add, jnp.zeros((draws, plus.shape[1])))


class Trace(NamedTuple):
    """Draws of the posterior, in units of the standardised outcome; the first axis is that of the chains."""

    effect: jax.Array  # [chains, draws, n]
    fitted: jax.Array  # [chains, draws, n], the latent outcome under the observed treatment
    sigma: jax.Array  # [chains, draws]
    trees: Any
    binner: Any

    def at(self, x: jax.Array) -> jax.Array:
        """Draws of effects at predictors ``[p, m]``; see ``sample_at``."""
        return sample_at(self, x)


def contrast(binner: Any, trees: Any, x: jax.Array) -> jax.Array:
    """Latent outcome treated less that untreated, float32 ``[draws, m]``, of predictors ``[p, m]``.

    Trees that do not ask for the treatment, which are most, cancel and are not walked.
    """
    arms = [binner.bin(jnp.concatenate([x, jnp.full((1, x.shape[1]), arm, x.dtype)])) for arm in (1, 0)]
    uses = ((trees.var_tree == len(x)) & (trees.split_tree > 0)).any(axis=-1)
    return sum_trees(trees, uses, *arms)


@functools.partial(jax.jit, static_argnames=("options", "masked"))
def sample(
    keys: jax.Array,
    x: jax.Array,
    t: jax.Array,
    y: jax.Array,
    n: jax.Array,
    spread: jax.Array,
    error: jax.Array,
    *,
    options: Options,
    masked: bool,
) -> Trace:
    """Run the chains, one after the other.

    Args:
        keys: one for each chain.
        x: predictors, float32 ``[p, n]``.
        t: float32 ``[n]``.
        y: standardised outcomes, float32 ``[n]``.
        n: how many of the columns are units; the others are masked if ``masked``.
        spread: half the range of the outcomes.
        error: what is thought to be the variance of their errors; see ``error_variance``.
    """
    from bartz.mcmcloop import MainTraceWithTrainPred, run_mcmc
    from bartz.mcmcstep import Wishart, init, make_p_nonterminal
    from bartz.prepcovars import UniqueQuantileBinner

    both = jnp.concatenate([x, t[None]])
    binner = UniqueQuantileBinner(both, max_subsample=None)
    binned = binner.bin(both)

    def chain(key: jax.Array) -> tuple[Any, jax.Array]:
        state = init(
            X=binned,
            y=y,
            offset=jnp.float32(0),
            max_split=binner.max_split,
            num_trees=options.trees,
            p_nonterminal=make_p_nonterminal(6, 0.95, 2.0),
            leaf_prior_cov_inv=Wishart(nu=None, rate=None, value=options.trees * jnp.square(2.0 / spread)),
            error_cov_inv=Wishart(*error_prior(error)),
            missing=jnp.arange(len(y)) >= n if masked else None,
            min_points_per_decision_node=10,
            filter_splitless_vars=len(both),  # the same for every p, since it is part of what is compiled
        )
        trees = run_mcmc(
            key, state, options.draws, n_burn=options.burn, n_skip=options.thin, main_trace_type=MainTraceWithTrainPred
        ).main_trace
        return trees, contrast(binner, trees, x)

    trees, effect = jax.lax.map(chain, keys)
    return Trace(effect, trees.train_pred, jax.lax.rsqrt(trees.error_cov_inv), trees, binner)


@jax.jit
def sample_at(trace: Trace, x: jax.Array) -> jax.Array:
    """Draws of the effects of other units, float32 ``[chains, draws, m]``, of predictors ``[p, m]``."""
    # what the chains share has no axis for them: one offset and one unit serve all
    return jax.lax.map(lambda trees: contrast(trace.binner, trees, x), trace.trees)


@dataclass(frozen=True)
class Options:
    """How the posterior is sampled."""

    trees: int = 75
    chains: int = 4
    burn: int = 200
    draws: int = 75
    thin: int = 1


@dataclass(frozen=True)
class Problem:
    """Data to be fitted; equal if their bytes are."""

    digest: bytes
    key: Any = field(compare=False)
    x: np.ndarray = field(compare=False)
    t: np.ndarray = field(compare=False)
    y: np.ndarray = field(compare=False)


def problem(key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Problem:
    """Copies of the data, float64, int8 and float64, and a digest of them and of the key."""
    x, t, y = np.array(x, np.float64), np.array(t, np.int8), np.array(y, np.float64)
    x = x.reshape(len(t), -1)
    parts = (np.asarray(jax.random.key_data(key)), np.array(x.shape), x, t, y)
    return Problem(hashlib.sha256(b"".join(p.tobytes() for p in parts)).digest(), key, x, t, y)


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of effects, float64, in units of the outcome."""

    data: Problem
    trace: Any  # has at, as Trace
    propensity: Propensity
    scale: float
    effect: np.ndarray  # [draws, n]

    def at(self, x: np.ndarray) -> np.ndarray:
        """Draws of effects of units with other covariates, ``[draws, m]``."""
        points = predictors(x, self.propensity(x), round_up(len(x), QUERIES))
        draws = np.asarray(self.trace.at(jnp.asarray(points)), np.float64) * self.scale
        return draws.reshape(-1, draws.shape[-1])[:, : len(x)]


@dataclass(frozen=True, eq=False)
class OutcomePosterior(Posterior):
    """Draws of outcomes besides."""

    fitted: np.ndarray  # [draws, n]
    sigma: np.ndarray  # [draws]
    noise: Any  # key


@functools.lru_cache(maxsize=1)  # Bart and BartIte of one key and one data set share their draws
def posterior(data: Problem, options: Options) -> OutcomePosterior:
    """Sample the trees of outcome given covariates, propensity and treatment."""
    n = len(data.t)
    rows = round_up(n, UNITS)
    centre, scale = data.y.mean(), data.y.std() or 1.0
    y = (np.concatenate([data.y, np.full(rows - n, centre)]) - centre) / scale
    t = np.concatenate([data.t, np.zeros(rows - n)])
    propensity = fit_propensity(data.x, data.t)
    keys = jax.random.split(data.key, options.chains + 1)
    trace = sample(
        keys[1:],
        jnp.asarray(predictors(data.x, propensity(data.x), rows)),
        jnp.asarray(t, jnp.float32),
        jnp.asarray(y, jnp.float32),
        jnp.int32(n),
        jnp.float32((np.ptp(y) or 1.0) / 2),
        jnp.float32(error_variance(data.x, data.t, y[:n]) or 1.0),
        options=options,
        masked=rows > n,
    )
    effect, fitted, sigma = (np.asarray(a, np.float64) * scale for a in (trace.effect, trace.fitted, trace.sigma))
    effect, fitted = (a.reshape(-1, rows)[:, :n] for a in (effect, fitted))
    return OutcomePosterior(data, trace, propensity, scale, effect, fitted + centre, sigma.reshape(-1), keys[0])


def central(draws: np.ndarray, level: float) -> Interval:
    """Limits of the central interval of draws ``[draws, m]``, float64 ``[m]`` each."""
    level = parse_level(level)
    lower, upper = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return lower, upper


class Drawn:
    """What estimators share that draw effects from a posterior."""

    name = "posterior"
    interval_of = "cate"
    _fitted: Any = None  # a Posterior

    def _of(self, x: np.ndarray) -> tuple[np.ndarray, bool]:
        """Draws of effects ``[draws, m]``, and whether these are the units it was fitted to."""
        if self._fitted is None:
            raise EstimatorError(f"{self.name} is not fitted")
        x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != self._fitted.data.x.shape[1]:
            raise EstimatorError(f"{self.name} was fitted to {self._fitted.data.x.shape[1]} covariates, got {x.shape}")
        if np.array_equal(x, self._fitted.data.x):
            return self._fitted.effect, True
        return self._fitted.at(x), False

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Posterior means of the effects, float64 ``[m]``."""
        return self._of(x)[0].mean(axis=0)

    def interval(self, x: np.ndarray, level: float) -> Interval:
        """Central credible intervals of the expected effects, float64 ``[m]`` each."""
        return central(self._of(x)[0], level)

    def ate(self) -> float:
        """Posterior mean of the average effect over the units it was fitted to."""
        return float(self._of(self._fitted.data.x)[0].mean())

    def ate_interval(self, level: float) -> tuple[float, float]:
        """Central credible interval of that average."""
        lower, upper = central(self._of(self._fitted.data.x)[0].mean(axis=1), level)
        return float(lower), float(upper)


class Bart(Drawn):
    """Trees of the outcome given covariates, estimated propensity and treatment; intervals of the expected effects.

    Units and columns are padded to round numbers with what tells nothing, so that data sets of about one shape
    share one compilation.

    >>> rng = np.random.default_rng(0)
    >>> x, t = rng.integers(0, 2, (100, 1)).astype(float), np.arange(100) % 2
    >>> fitted = Bart(Options(trees=5, chains=1, burn=20, draws=20)).fit(jax.random.key(0), x, t, t + x[:, 0])
    >>> bool(0.5 < fitted.ate() < 1.5), fitted.effect(x).shape
    (True, (100,))
    """

    name = "bart"

    def __init__(self, options: Options = Options()) -> None:
        self.options = options

    def fit(self, key: Any, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Bart:
        """Sample the posterior; see ``Estimator.fit``.

        Raises:
            EstimatorError: bartz is missing, or an arm has fewer than 5 units.
        """
        need_bartz(self.name)
        check_units(self.name, np.asarray(t), NEEDED)
        self._fitted = posterior(problem(key, x, t, y), self.options)
        return self


class BartIte(Bart):
    """The same trees; intervals of the individual effects.

    Of a unit that it was fitted to the observed outcome is kept and only the missing one is drawn, with noise; of
    another unit both are, independently. The point estimate is the mean of such draws, as in the paper's BART-ITE:
    of a unit that it was fitted to, the observed outcome less what is expected of the missing one, or the reverse.
    """

    name = "bart_ite"
    interval_of = "ite"

    def effect(self, x: np.ndarray) -> np.ndarray:
        """Means of the individual effects, float64 ``[m]``."""
        effect, known = self._of(x)
        return self._missing(effect).mean(axis=0) if known else effect.mean(axis=0)

    def _missing(self, effect: np.ndarray, noise: Any = 0.0) -> np.ndarray:
        """Draws of the individual effects of the units it was fitted to, ``[draws, n]``."""
        fit = self._fitted
        sign = np.where(fit.data.t == 1, 1.0, -1.0)
        return sign * (fit.data.y - (fit.fitted - sign * effect + noise))

    def interval(self, x: np.ndarray, level: float) -> Interval:
        """Central predictive intervals of the individual effects, float64 ``[m]`` each."""
        effect, known = self._of(x)
        fit = self._fitted
        noise = np.asarray(jax.random.normal(fit.noise, effect.shape), np.float64) * fit.sigma[:, None]
        if not known:
            return central(effect + np.sqrt(2.0) * noise, level)
        return central(self._missing(effect, noise), level)

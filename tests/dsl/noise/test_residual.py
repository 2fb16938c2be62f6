"""What a number becomes where its distribution is another one: against SciPy in float64, in both tails."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import sdscm_jax as sd
from sdscm_jax.dsl.handlers.recovered_noise import residual_noise
from sdscm_jax.dsl.noise.residual import core

# Family -> NumPyro's distribution, SciPy's, and parameters in two worlds.
Params = tuple[float, ...]
LOCATED = [(0.3, 1.5), (-2.0, 0.4)]
FAMILIES: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None, list[Params]]] = {
    "Normal": (dist.Normal, stats.norm, LOCATED),
    "Laplace": (dist.Laplace, stats.laplace, LOCATED),
    "Logistic": (dist.Logistic, stats.logistic, LOCATED),
    "Cauchy": (dist.Cauchy, stats.cauchy, LOCATED),
    "Gumbel": (dist.Gumbel, stats.gumbel_r, LOCATED),
    "SoftLaplace": (dist.SoftLaplace, stats.hypsecant, LOCATED),
    "Levy": (dist.Levy, stats.levy, LOCATED),
    "Uniform": (dist.Uniform, lambda a, b: stats.uniform(a, b - a), [(0.0, 1.0), (2.0, 5.0)]),
    "HalfNormal": (dist.HalfNormal, lambda s: stats.halfnorm(0, s), [(0.5,), (2.0,)]),
    "HalfCauchy": (dist.HalfCauchy, lambda s: stats.halfcauchy(0, s), [(0.5,), (2.0,)]),
    "Exponential": (dist.Exponential, lambda r: stats.expon(0, 1 / r), [(0.5,), (2.0,)]),
    "LogNormal": (dist.LogNormal, lambda m, s: stats.lognorm(s, 0, np.exp(m)), LOCATED),
    "LogUniform": (dist.LogUniform, stats.loguniform, [(1.0, 8.0), (0.5, 3.0)]),
    "Pareto": (dist.Pareto, lambda s, a: stats.pareto(a, 0, s), [(1.0, 2.0), (0.5, 3.0)]),
    "Weibull": (dist.Weibull, lambda s, k: stats.weibull_min(k, 0, s), [(1.0, 2.0), (0.5, 0.7)]),
    "Gompertz": (dist.Gompertz, lambda c, r: stats.gompertz(c, 0, 1 / r), [(1.0, 2.0), (0.5, 0.7)]),
    "Gamma, same shape": (dist.Gamma, lambda a, r: stats.gamma(a, 0, 1 / r), [(2.5, 1.0), (2.5, 3.0)]),
    "Gamma": (dist.Gamma, lambda a, r: stats.gamma(a, 0, 1 / r), [(2.5, 1.0), (0.7, 3.0)]),
    "Chi2": (dist.Chi2, stats.chi2, [(3.0,), (5.0,)]),
    "InverseGamma": (dist.InverseGamma, lambda a, r: stats.invgamma(a, 0, r), [(2.5, 1.0), (4.0, 3.0)]),
    "Beta": (dist.Beta, stats.beta, [(2.0, 3.0), (0.8, 4.0)]),
    "BetaProportion": (
        dist.BetaProportion,
        lambda m, k: stats.beta(m * k, (1 - m) * k),
        [(0.3, 6.0), (0.6, 9.0)],
    ),
    "StudentT, same shape": (dist.StudentT, stats.t, [(4.0, 0.3, 1.5), (4.0, -2.0, 0.4)]),
    "StudentT": (dist.StudentT, stats.t, [(4.0, 0.3, 1.5), (7.0, -2.0, 0.4)]),
    "AsymmetricLaplace": (
        dist.AsymmetricLaplace,
        lambda m, s, k: stats.laplace_asymmetric(k, m, s),
        [(0.3, 1.5, 0.8), (-2.0, 0.4, 1.7)],
    ),
    "TruncatedNormal, left": (
        lambda m, s: dist.TruncatedNormal(m, s, low=0.0),
        lambda m, s: stats.truncnorm(-m / s, np.inf, m, s),
        [(0.3, 1.5), (-2.0, 0.4)],
    ),
    "TruncatedNormal, right": (
        lambda m, s: dist.TruncatedNormal(m, s, high=1.0),
        lambda m, s: stats.truncnorm(-np.inf, (1 - m) / s, m, s),
        [(0.3, 1.5), (2.0, 0.4)],
    ),
    "TruncatedNormal": (
        lambda m, s: dist.TruncatedNormal(m, s, low=-1.0, high=3.0),
        lambda m, s: stats.truncnorm((-1 - m) / s, (3 - m) / s, m, s),
        [(0.3, 1.5), (2.0, 0.4)],
    ),
    "a shifted, scaled Gamma": (
        lambda m, s, a: dist.TransformedDistribution(dist.Gamma(a, 1.0), dist.transforms.AffineTransform(m, s)),
        lambda m, s, a: stats.gamma(a, m, s),
        [(1.0, 2.0, 3.0), (-1.0, 0.5, 1.5)],
    ),
}
PROBS = [1e-25, 1e-12, 1e-6, 1e-2, 0.3, 0.5]


def truth(law: Any, other: Any, values: np.ndarray) -> np.ndarray:
    """What is as far out under another law, by the smaller of the two tails."""
    below, above = law.cdf(values), law.sf(values)
    return np.where(below < above, other.ppf(below), other.isf(above))


def in_worlds(make: Callable[..., Any], params: list[Params], values: np.ndarray) -> np.ndarray:
    """Values ``[n]`` that were observed in the first world, in both: ``[n, 2]``."""

    @jax.jit
    def run(table: jax.Array, values: jax.Array) -> jax.Array:
        def one(value: jax.Array, row: jax.Array) -> jax.Array:
            noise = residual_noise(make(*table[0]), value, jax.random.key(0))
            return noise.carried_to(make(*row), "x").sample(jax.random.key(0))

        return jax.vmap(lambda value: jax.vmap(lambda row: one(value, row))(table))(values)

    return np.asarray(run(jnp.asarray(params, jnp.float32), values))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_value_is_as_far_out_in_another_world(family: str) -> None:
    make, scipy, params = FAMILIES[family]
    assert scipy is not None
    law, other = (scipy(*np.float32(row).astype(float)) for row in params)
    with np.errstate(all="ignore"):
        values = np.concatenate([law.ppf(PROBS), law.isf(PROBS)]).astype(np.float32)
        low, high = law.support()
        inside = np.isfinite(values) & (values > np.float32(low)) & (values < np.float32(high))
        values = np.unique(values[inside & (np.abs(values) < 1e30)])
        expected = truth(law, other, values.astype(float))
    assert len(values) >= 5
    found = in_worlds(make, params, values)
    # Consistency: where nothing differs, the value itself.
    assert (found[:, 0] == values).all()
    usable = np.isfinite(expected) & (np.abs(expected) < 1e30) & (np.abs(expected) > 1e-35)
    told = np.isfinite(found[:, 1])
    assert told[usable].all(), (values[~told], expected[~told])
    np.testing.assert_allclose(found[usable, 1], expected[usable], rtol=2e-4, atol=1e-6)


# Of these NumPyro has a distribution function in float32, and no more is known.
BY_NUMPYRO: dict[str, tuple[Callable[..., Any], Callable[[np.ndarray, Params], np.ndarray], list[Params]]] = {
    "Dagum": (dist.Dagum, lambda x, p: (1 + (x / p[2]) ** -p[1]) ** -p[0], [(2.0, 1.5, 3.0), (3.0, 2.0, 1.0)]),
    "LowerTruncatedPowerLaw": (
        dist.LowerTruncatedPowerLaw,
        lambda x, p: 1 - (x / p[1]) ** (1 + p[0]),
        [(-2.5, 1.0), (-3.5, 0.5)],
    ),
}


@pytest.mark.parametrize("family", BY_NUMPYRO)
def test_a_quantile_that_float32_has_lost_is_never_a_number(family: str) -> None:
    make, cdf, params = BY_NUMPYRO[family]
    values = np.geomspace(0.5 if family == "Dagum" else 1.001, 1e6, 60).astype(np.float32)
    old, new = (np.float32(row).astype(float) for row in params)
    found = in_worlds(make, params, values)
    told = np.isfinite(found[:, 1])
    assert (found[:, 0] == values).all()
    assert 10 < told.sum() < 60
    # The probability beyond it is the same.
    beyond = (1 - cdf(values.astype(float), old), 1 - cdf(found[:, 1].astype(float), new))
    np.testing.assert_allclose(beyond[1][told], beyond[0][told], rtol=0.02)


def test_every_continuous_family_of_numbers_is_one_of_these() -> None:
    """What NumPyro adds is looked at before it is carried by its float32 distribution function."""
    elsewhere = {
        *("Kumaraswamy", "AsymmetricLaplaceQuantile", "TransformedDistribution"),
        # By NumPyro's distribution function, as far as it goes.
        *("Dagum", "DoublyTruncatedPowerLaw", "LowerTruncatedPowerLaw"),
        *("LeftTruncatedGamma", "RightTruncatedGamma", "TwoSidedTruncatedGamma"),
    }
    discrete = {"DiscreteUniform", "GammaPoisson", "Poisson"}
    mixtures = {"MixtureGeneral", "MixtureSameFamily"}
    known = {type(make(*params[0])).__name__ for make, _, params in FAMILIES.values()}
    for name, kind in inspect.getmembers(dist, inspect.isclass):
        if issubclass(kind, dist.Distribution) and kind.cdf is not dist.Distribution.cdf:
            bases = {base.__name__ for base in kind.__mro__}
            assert bases & (known | elsewhere | discrete | mixtures), name


def test_kumaraswamy_against_its_closed_form() -> None:
    params = [(2.0, 3.0), (0.7, 1.5)]
    values = np.array([1e-12, 1e-3, 0.3, 0.7, 0.999, 1 - 2.0**-20], np.float32)
    (a, b), (c, d) = (np.float32(row).astype(float) for row in params)
    x = values.astype(float)
    expected = (-np.expm1(b / d * np.log1p(-(x**a)))) ** (1 / c)
    found = in_worlds(dist.Kumaraswamy, params, values)
    assert (found[:, 0] == values).all()
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-5)


def test_an_angle_turns_with_its_mean_and_a_vector_keeps_its_residual() -> None:
    angles = in_worlds(dist.VonMises, [(0.0, 2.0), (3.0, 2.0)], np.array([0.5, -0.5], np.float32))
    np.testing.assert_allclose(angles[:, 1], [3.5 - 2 * np.pi, 2.5], rtol=1e-5)
    # Another concentration: the noise cannot be told from the angle.
    assert not np.isfinite(in_worlds(dist.VonMises, [(0.0, 2.0), (0.0, 3.0)], np.array([0.5], np.float32))[:, 1]).any()

    covariances = [np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 4.0]])]

    def model() -> None:
        t = numpyro.sample("t", dist.Bernoulli(0.5))
        numpyro.sample("x", dist.MultivariateNormal(3.0 * t * jnp.ones(2), jnp.asarray(covariances)[t]))

    seen = np.array([20.0, -30.0])
    found = sd.simulate(model, 0, 1, evidence={"t": 0, "x": seen}, worlds=[{"t": 0}, {"t": 1}]).values["x"][0]
    old, new = (np.linalg.cholesky(c) for c in covariances)
    assert (found[0] == found[1]).all()
    assert (found[1] == seen).all()
    np.testing.assert_allclose(found[2], 3.0 + new @ np.linalg.solve(old, seen), rtol=1e-5)


FINITE: dict[str, tuple[Callable[..., Any], Callable[..., Any], list[Params]]] = {
    "Bernoulli": (dist.Bernoulli, stats.bernoulli, [(1e-9,), (0.4,)]),
    "Binomial": (lambda p: dist.Binomial(12, p), lambda p: stats.binom(12, p), [(0.001,), (0.002,)]),
    "Binomial, likely": (lambda p: dist.Binomial(12, p), lambda p: stats.binom(12, p), [(0.3,), (0.6,)]),
    "BetaBinomial": (
        lambda a, b: dist.BetaBinomial(a, b, 6),
        lambda a, b: stats.betabinom(6, a, b),
        [(2.0, 3.0), (4.0, 1.0)],
    ),
}


@pytest.mark.parametrize("family", FINITE)
def test_a_count_is_in_the_cells_that_its_own_cell_meets(family: str) -> None:
    """P(count there | count here) is the share of the cell of the one in that of the other, in either tail."""
    make, scipy, params = FINITE[family]
    law, other = (scipy(*np.float32(row).astype(float)) for row in params)
    draws = 4000

    @jax.jit
    def run(table: jax.Array, value: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            noise = residual_noise(make(*table[0]), value, key)
            return jnp.stack([noise.carried_to(make(*row), "x").sample(key) for row in table])

        return jax.vmap(one)(jax.random.split(jax.random.key(0), draws))

    low, high = law.support()
    numbers = np.arange(low, high + 1)
    for count in numbers:
        here, there = np.asarray(run(jnp.asarray(params, jnp.float32), jnp.int32(count))).T
        assert (here == count).all()
        # In the half where differences of these are exact.
        upper = law.cdf(count) > 0.5
        f, g = (d.sf(numbers) if upper else d.cdf(numbers) for d in (law, other))
        before_f, before_g = (d.sf(numbers - 1) if upper else d.cdf(numbers - 1) for d in (law, other))
        ends = np.sort([f[count - low], before_f[count - low]])
        share = np.minimum(ends[1], np.maximum(g, before_g)) - np.maximum(ends[0], np.minimum(g, before_g))
        share = np.maximum(share, 0) / (ends[1] - ends[0])
        found = np.bincount((there - low).astype(int), minlength=len(numbers)) / draws
        np.testing.assert_allclose(found, share, atol=4 * 0.5 / np.sqrt(draws))


@pytest.mark.slow
def test_members_of_a_plate_that_do_not_change_keep_their_bits() -> None:
    law = {"LogNormal": dist.LogNormal, "Normal": dist.Normal}

    def model() -> None:
        t = numpyro.sample("t", dist.Bernoulli(0.5))
        with numpyro.plate("members", 50):
            for name, kind in law.items():
                numpyro.sample(name, kind(jnp.arange(50) % 2 * t * 0.37, 0.7))
            numpyro.sample("coin", dist.Bernoulli(jnp.where(jnp.arange(50) % 2, 0.2 + 0.5 * t, 0.3)))

    seen = sd.simulate(model, 0, 4, do={"t": 0}).values
    evidence = {name: seen[name][:, 0] for name in (*law, "coin")}
    found = sd.simulate(model, 1, 4, evidence={"t": 0, **evidence}, worlds=[{"t": 1}]).values
    for name, values in evidence.items():
        assert (found[name][:, 0] == values).all()
        assert (found[name][:, 1, ::2] == values[:, ::2]).all()
    moved = evidence["LogNormal"][:, 1::2] * np.exp(0.37)
    np.testing.assert_allclose(found["LogNormal"][:, 1, 1::2], moved, rtol=1e-5)


def test_wrappers_are_looked_through() -> None:
    assert isinstance(core(dist.Normal(0.0, 1.0).expand([3]).to_event(1).mask(False)), dist.Normal)

"""The noise of a plate's member is of its number, whatever the shapes of what the site reads."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import sdscm_jax as sd
from sdscm_jax.testing import mock_lm

LM = mock_lm(seed=3)
OPTIONS = ("up", "to", "it")
KEYS = jax.random.split(jax.random.key(4), 5)


def model(reads: bool, coupling: str = "gumbel", text: bool = False) -> jax.Array:
    """Six members, of which the sites before have two: NumPyro would lay out their draws by columns."""
    with numpyro.plate("rows", 2, dim=-2):
        a = sd.sample("a", sd.Choice(LM, "It is {}.", OPTIONS, scoring="uniform"))
        with numpyro.plate("columns", 3, dim=-1):
            given = [a] if reads else []
            if text:
                return sd.sample("b", sd.Text(LM, "Go {}", given=given, max_tokens=2, temperature=1e3)).tokens
            fn = sd.Choice(LM, "Be {}.", OPTIONS, given=given, scoring="uniform", coupling=coupling)
            return sd.sample("b", fn).index


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("coupling", ["gumbel", "inverse_cdf", "independent"])
def test_what_is_read_moves_no_noise(key: jax.Array, coupling: str) -> None:
    one, other = (sd.handlers.exogenous(model, key)(reads, coupling) for reads in (True, False))
    assert one.shape == (2, 3)
    assert np.array_equal(one, other)


@pytest.mark.slow
def test_nor_that_of_a_text() -> None:
    # So warm that the tokens hang on the noise alone.
    one, other = (sd.handlers.exogenous(model, KEYS[0])(reads, text=True) for reads in (True, False))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("key", KEYS)
def test_explicit_noise_is_the_same(key: jax.Array) -> None:
    explicit = numpyro.handlers.reparam(model, config={"b": sd.GumbelReparam()})
    one, other = (sd.handlers.exogenous(fn, key)(True) for fn in (model, explicit))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("key", KEYS)
def test_evidence_is_replayed_where_it_was(key: jax.Array) -> None:
    evidence = {"b": jnp.array([[0, 1, 2], [2, 0, 0]])}
    unit = sd.handlers.exogenous(sd.handlers.counterfactual(lambda: model(True), {"a": "up"}, evidence), key)
    trace = numpyro.handlers.trace(unit).get_trace()
    assert np.array_equal(trace["b"]["value"], evidence["b"])
    # The options do not hang on what is read, so nothing changes there.
    assert np.array_equal(trace["b|do(a=up)"]["value"], evidence["b"])


def numbers(fn: Callable[[jax.Array], dist.Distribution]) -> jax.Array:
    with numpyro.plate("rows", 2, dim=-2):
        a = sd.sample("a", dist.Normal())
        with numpyro.plate("columns", 3, dim=-1):
            return sd.sample("b", fn(a))


@pytest.mark.parametrize(
    "fn",
    [
        lambda a: dist.Normal(a, 1.0),
        lambda a: dist.Laplace(a, 2.0),
        lambda a: dist.LogNormal(a, 1.0),
        lambda a: dist.Gamma(2.0, jnp.exp(a)),
        lambda a: dist.Exponential(jnp.exp(a)),
    ],
    ids=["normal", "laplace", "lognormal", "gamma", "exponential"],
)
def test_numbers_are_replayed_where_they_were(fn: Callable[[jax.Array], dist.Distribution]) -> None:
    evidence = {"a": jnp.array([[0.5], [-1.0]]), "b": jnp.array([[0.1, 0.7, 2.0], [1.5, 0.3, 0.9]])}
    twin = sd.handlers.counterfactual(lambda: numbers(fn), {"a": jnp.array([[0.5], [2.0]])}, evidence)
    trace = numpyro.handlers.trace(sd.handlers.exogenous(twin, KEYS[0])).get_trace()
    assert np.allclose(trace["b"]["value"], evidence["b"], rtol=1e-4)
    other = next(m["value"] for name, m in trace.items() if name.startswith("b|do("))
    # The first row's cause is what it was; in the second all go the same way, in the same order.
    assert np.allclose(other[0], evidence["b"][0], rtol=1e-3)
    assert np.array_equal(np.argsort(other[1]), np.argsort(evidence["b"][1]))
    assert not np.allclose(other[1], evidence["b"][1], rtol=1e-2)

"""Runs of a unit that handlers around do not see: they have its parameters, and nothing that is said of another."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro import handlers as nh
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import log_density

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.dsl.worlds.path_specific import along
from sdscm_jax.handlers import abduct, do, exogenous, nested

from .test_counterfactual import DRAWS, P, clinic, close, treated

NESTED = {"level": "low", "drug": nested({"level": "high"})}


@pytest.fixture(scope="module")
def mock() -> sd.LanguageModel:
    return testing.mock_lm(clinic, probs={"level": [0.5, 0.5], "drug": P})


def values(model: Any, site: str, lm: sd.LanguageModel, n: int = DRAWS) -> np.ndarray:
    def one(key: jax.Array) -> Any:
        return nh.trace(model(key)).get_trace(lm)[site]["value"]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), n)))


@pytest.mark.parametrize("handler", [nh.substitute, nh.condition])
@pytest.mark.parametrize("outermost", [False, True])
def test_nested_worlds_have_the_parameters(mock: sd.LanguageModel, handler: Any, outermost: bool) -> None:
    def model(key: jax.Array) -> Any:
        nested, known = do(clinic, NESTED), {"heat": jnp.float32(10.0)}
        return handler(exogenous(nested, key), known) if outermost else exogenous(handler(nested, known), key)

    close(values(model, "drug", mock), treated(10.0)[1])


def test_nested_worlds_add_nothing_to_the_density(mock: sd.LanguageModel) -> None:
    found = log_density(exogenous(do(clinic, NESTED), 0), (mock,), {}, {"heat": 1.5})[0]
    np.testing.assert_allclose(found, dist.LogNormal(0.0, 0.5).log_prob(1.5), rtol=1e-5)


def test_what_is_known_of_another_world_is_refused(mock: sd.LanguageModel) -> None:
    # The level that the drug is to be as after is set; what it would be otherwise is given.
    model = exogenous(do(clinic, {"level": nested({"drug": "wait"})}), 0)
    assert nh.trace(nh.substitute(model, {"drug": 1})).get_trace(mock)["drug"]["value"] == 1
    for inner, outer in ((clinic, nh.condition), (nh.condition(clinic, {"drug": 1}), lambda fn, _: fn)):
        model = exogenous(do(inner, {"heat": nested({"level": "high"}), "level": nested({"level": "high"})}), 0)
        with pytest.raises(sd.EvidenceError, match="site 'drug' is observed or given a value, and answers"):
            nh.trace(outer(model, {"drug": 1})).get_trace(mock)


def test_paths_have_the_parameters() -> None:
    def chain(lm: sd.LanguageModel) -> sd.Phrase:
        heat = sd.sample("heat", dist.LogNormal(0.0, 0.5))
        a = sd.sample("a", sd.Choice(lm, "It is {}.", ["low", "high"]))
        b = sd.sample("b", sd.Choice(lm, "So {}.", ["no", "yes"], given=[a], temperature=heat))
        return sd.sample("c", sd.Choice(lm, "Then {}.", ["wait", "treat"], given=[a, b], temperature=heat))

    p = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.1, 0.9]]])
    lm = testing.mock_lm(chain, probs={"a": [0.5, 0.5], "b": P, "c": p})
    direct = along(chain, {"a": "low"}, {"a": "high"}, [("a", "c")])
    found = values(lambda key: nh.substitute(exogenous(direct, key), {"heat": jnp.float32(4.0)}), "c", lm)
    yes = treated(4.0)[0]
    treat = 1 / (1 + np.exp(-np.log(p[1, :, 1] / p[1, :, 0]) / 4.0))
    close(found, (1 - yes) * treat[0] + yes * treat[1])


@pytest.mark.slow
def test_abducted_units_are_not_inferred_again(mock: sd.LanguageModel) -> None:
    """Their noise was drawn before a sampler had a say, so its density would not hold the evidence."""
    unit = abduct(clinic, {"level": "high", "drug": "wait"}, 0)
    assert exogenous(unit, 0)(mock).text == "wait"
    assert do(unit, {"level": "low"})(mock).text == "wait"
    for run in (
        lambda: MCMC(NUTS(unit), num_warmup=2, num_samples=2, progress_bar=False).run(jax.random.key(0), mock),
        lambda: log_density(unit, (mock,), {}, {"heat": 1.0}),
        lambda: sd.Predictive(unit, {"heat": jnp.ones(3)})(jax.random.key(0), mock),
    ):
        with pytest.raises(sd.EvidenceError, match="site 'heat' is given a value around abduct"):
            run()


@pytest.mark.slow
def test_what_is_summed_out_is_refused(mock: sd.LanguageModel) -> None:
    pytest.importorskip("funsor")
    from numpyro.contrib.funsor import config_enumerate, enum
    from numpyro.contrib.funsor import log_density as enumerated

    for model, message in (
        (do(clinic, NESTED), "NumPyro sums sites out"),
        (abduct(clinic, {"heat": 1.0, "drug": "wait"}, 0), "site 'level' is given a value around abduct"),
    ):
        summed = enum(config_enumerate(exogenous(model, 0)), first_available_dim=-1)
        with pytest.raises(sd.EvidenceError, match=message):
            enumerated(summed, (mock,), {}, {})

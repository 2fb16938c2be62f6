"""Fit, then ask the counterfactual: what is known of parameters and sites holds in all worlds, and binds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro import handlers as nh
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, TraceEnum_ELBO
from numpyro.infer.autoguide import AutoDelta
from numpyro.infer.util import log_density
from numpyro.primitives import mutable

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.handlers import counterfactual, couple, do, exogenous

LEVELS, DRUGS = ["low", "high"], ["wait", "treat"]
P = np.array([[0.9, 0.1], [0.2, 0.8]])
HIGH, LOW = "drug|do(level=high)", "drug|do(level=low)"
DRAWS = 4000


def clinic(lm: sd.LanguageModel) -> sd.Phrase:
    """A temperature that is not known, and two sites."""
    heat = numpyro.sample("heat", dist.LogNormal(0.0, 0.5))
    level = sd.sample("level", sd.Choice(lm, "It is {}.", LEVELS))
    return sd.sample("drug", sd.Choice(lm, "Then {}.", DRUGS, given=[level], temperature=heat))


@pytest.fixture(scope="module")
def mock() -> sd.LanguageModel:
    return testing.mock_lm(clinic, probs={"level": [0.5, 0.5], "drug": P})


def treated(heat: Any) -> np.ndarray:
    """P(treat | level, heat), ``[..., 2]``."""
    return 1 / (1 + np.exp(-np.log(P[:, 1] / P[:, 0]) / np.asarray(heat)[..., None]))


def close(draws: Any, probability: float) -> None:
    """Is a share of draws the probability, within four standard errors?"""
    draws = np.asarray(draws)
    error = np.sqrt(probability * (1 - probability) / draws.size)
    assert abs(draws.mean() - probability) < 4 * error + 1e-9, (draws.mean(), probability)


def heat_moments(weight: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation of the temperature, its prior weighted."""
    log_heat = np.linspace(-3, 3, 4001)
    weights = np.exp(-0.5 * (log_heat / 0.5) ** 2) * weight(np.exp(log_heat))
    weights /= weights.sum()
    mean = weights @ np.exp(log_heat)
    return mean, np.sqrt(weights @ (np.exp(log_heat) - mean) ** 2)


# -- samples of parameters --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("predictive", [sd.Predictive, partial(Predictive, parallel=True)])
def test_posterior_samples_reach_every_world(mock: sd.LanguageModel, predictive: Any) -> None:
    heats = jnp.full(DRAWS, 10.0)
    twins = counterfactual(clinic, worlds=[{"level": "low"}, {"level": "high"}])
    found = predictive(twins, {"heat": heats})(jax.random.key(0), mock)
    close(found[LOW], treated(10.0)[0])
    close(found[HIGH], treated(10.0)[1])
    assert (found["heat|do(level=low)"] == heats).all()
    # The factual world is one of the two, with the same noise.
    np.testing.assert_array_equal(found["drug"], np.where(found["level"] == 1, found[HIGH], found[LOW]))


@pytest.mark.parametrize("handler", [nh.substitute, nh.condition])
def test_handlers_may_stand_inside_or_outside(mock: sd.LanguageModel, handler: Any) -> None:
    known = {"heat": jnp.float32(10.0)}
    keys = jax.random.split(jax.random.key(0), DRAWS)
    for model in (
        handler(counterfactual(clinic, {"level": "high"}), data=known),
        counterfactual(handler(clinic, data=known), {"level": "high"}),
    ):
        found = jax.jit(jax.vmap(lambda key, model=model: exogenous(model, key)(mock).index))(keys)
        close(found, treated(10.0)[1])


def test_a_site_that_is_set_answers_with_its_own_noise(mock: sd.LanguageModel) -> None:
    """P(treat had the level been low | treated at a high level): two options, so the noise is one threshold."""
    heats, n = 1.7, DRAWS
    samples = {"heat": jnp.full(n, heats), "level": jnp.ones(n, int), "drug": jnp.ones(n, int)}
    found = sd.Predictive(counterfactual(clinic, {"level": "low"}), samples)(jax.random.key(0), mock)
    low, high = treated(heats)
    close(found[LOW], low / high)


@pytest.mark.slow
def test_latent_causes_are_inferred_given_both(mock: sd.LanguageModel) -> None:
    """The level is neither observed nor sampled: it is drawn given the drug *and* the temperature."""
    heat = 3.0
    low, high = treated(heat)
    expected = low / (low + high) + high / (low + high) * low / high
    for model in (
        counterfactual(nh.condition(clinic, {"drug": 1}), {"level": "low"}),
        nh.condition(counterfactual(clinic, {"level": "low"}), {"drug": 1}),
        counterfactual(clinic, {"level": "low"}, evidence={"drug": "treat"}),
    ):
        found = sd.Predictive(model, {"heat": jnp.full(DRAWS, heat)})(jax.random.key(0), mock)
        close(found["level"], high / (low + high))
        close(found[LOW], expected)
        # A unit at a low level would have been treated: it was.
        assert (np.asarray(found[LOW])[found["level"] == 0] == 1).all()


# -- densities --------------------------------------------------------------------------------------


def test_the_density_is_the_factual_one(mock: sd.LanguageModel) -> None:
    values = {"heat": 1.5, "level": 0, "drug": 1}
    low = treated(1.5)[0]
    expected = float(dist.LogNormal(0.0, 0.5).log_prob(1.5)) + np.log(0.5 * low)
    worlds = [{"level": "high"}, {"drug": "wait"}]
    models = [
        counterfactual(clinic, worlds=worlds),
        counterfactual(nh.condition(clinic, {"drug": 1}), worlds=worlds),
        nh.condition(counterfactual(clinic, worlds=worlds), {"drug": 1}),
        counterfactual(clinic, worlds=worlds, evidence={"drug": "treat", "level": "low"}),
    ]
    for model in models:
        own = {k: v for k, v in values.items() if model is not models[3] or k == "heat"}
        own = {k: v for k, v in own.items() if model is models[0] or k != "drug"}
        found, trace = log_density(nh.seed(model, 0), (mock,), {}, own)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert trace["level"]["type"] == "sample"
        assert trace["level|do(level=high)"]["type"] == "deterministic"
        assert trace["level|do(level=high)"]["value"] == 1
        assert trace["drug|do(drug=wait)"]["value"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["inside", "outside", "evidence"])
def test_nuts_finds_the_posterior(mock: sd.LanguageModel, how: str) -> None:
    seen = {"level": 1, "drug": 0}
    model: Any = {
        "inside": counterfactual(nh.condition(clinic, seen), {"level": "low"}),
        "outside": nh.condition(counterfactual(clinic, {"level": "low"}), seen),
        "evidence": counterfactual(clinic, {"level": "low"}, evidence=seen),
    }[how]
    mcmc = MCMC(NUTS(model), num_warmup=200, num_samples=1500, progress_bar=False)
    mcmc.run(jax.random.key(0), mock)
    draws = mcmc.get_samples()
    mean, deviation = heat_moments(lambda heat: 1 - treated(heat)[:, 1])
    assert abs(draws["heat"].mean() - mean) < 4 * deviation / np.sqrt(len(draws["heat"]) / 6)
    prior = heat_moments(np.ones_like)
    assert abs(mean - prior[0]) > 6 * deviation / np.sqrt(len(draws["heat"]) / 6)
    # Not treated at a high level: surely not at a low one.
    assert (draws[LOW] == 0).all()
    found = sd.Predictive(model, {"heat": draws["heat"]})(jax.random.key(1), mock)
    assert (found[LOW] == 0).all()


@pytest.mark.slow
def test_sites_are_summed_out(mock: sd.LanguageModel) -> None:
    pytest.importorskip("funsor")
    from numpyro.contrib.funsor import config_enumerate

    model = counterfactual(nh.condition(clinic, {"drug": 1}), {"level": "low"})
    heat = jnp.float32(1.5)
    fixed = config_enumerate(nh.condition(model, {"heat": heat}))
    svi = SVI(fixed, lambda lm: None, optax.sgd(0.0), TraceEnum_ELBO())
    expected = float(dist.LogNormal(0.0, 0.5).log_prob(heat)) + np.log(treated(1.5).mean())
    loss = svi.evaluate(svi.init(jax.random.key(0), mock), mock)
    np.testing.assert_allclose(loss, -expected, rtol=1e-5)

    mcmc = MCMC(NUTS(config_enumerate(model)), num_warmup=150, num_samples=600, progress_bar=False)
    mcmc.run(jax.random.key(0), mock)
    heats = mcmc.get_samples()["heat"]
    mean, deviation = heat_moments(lambda heat: treated(heat).mean(-1))
    assert abs(heats.mean() - mean) < 4 * deviation / np.sqrt(len(heats) / 6)


def test_what_follows_one_while_sites_are_summed_out_has_no_density(mock: sd.LanguageModel) -> None:
    """Noise is not summed out: a likelihood of another world's value would be one of a random draw."""
    pytest.importorskip("funsor")
    from numpyro.contrib.funsor import config_enumerate, enum
    from numpyro.contrib.funsor import log_density as enumerated

    def model(lm: sd.LanguageModel) -> None:
        would = counterfactual(nh.condition(clinic, {"drug": 1, "heat": 1.0}), {"level": "low"})(lm)
        numpyro.sample("score", dist.Normal(would.map({"wait": 0.0, "treat": 1.0}), 1.0), obs=0.5)

    summed = enum(config_enumerate(nh.seed(model, 0)), first_available_dim=-1)
    with pytest.raises(ValueError, match="Normal distribution got invalid loc"):
        enumerated(summed, (mock,), {}, {})
    assert not np.isfinite(jax.jit(lambda lm: enumerated(summed, (lm,), {}, {})[0])(mock))


# -- parameters, plates, factors, state ------------------------------------------------------------


def tuned(lm: sd.LanguageModel) -> None:
    """A parameter, a plate, a factor and a mutable site."""
    heat = jnp.exp(numpyro.param("log_heat", 0.0))
    numpyro.factor("penalty", -0.5 * heat)
    count = mutable("count", {"runs": jnp.zeros((), int)})
    count["runs"] = count["runs"] + 1
    with numpyro.plate("units", 3):
        level = sd.sample("level", sd.Choice(lm, "It is {}.", LEVELS))
        sd.sample("drug", sd.Choice(lm, "Then {}.", DRUGS, given=[level], temperature=heat), obs=jnp.array([1, 1, 0]))
    numpyro.deterministic("heat", heat)


@pytest.mark.slow
def test_svi_steps_are_those_of_the_model(mock: sd.LanguageModel) -> None:
    seen = {"level": jnp.array([1, 0, 0])}
    results = []
    for model in (nh.condition(tuned, seen), counterfactual(nh.condition(tuned, seen), {"level": "high"})):
        svi = SVI(model, lambda lm: None, optax.sgd(0.1), Trace_ELBO())
        state = svi.init(jax.random.key(0), mock)
        losses = []
        for _ in range(3):
            state, loss = svi.update(state, mock)
            losses.append(float(loss))
        results.append((losses, float(svi.get_params(state)["log_heat"]), int(state.mutable_state["count"]["runs"])))
    (losses, heat, runs), (twins, other, also) = results
    low, high = treated(1.0)
    np.testing.assert_allclose(losses[0], -(np.log(0.5**3 * high * low * (1 - low)) - 0.5), rtol=1e-5)
    np.testing.assert_allclose(twins, losses, rtol=1e-5)
    assert losses[2] < losses[0]
    assert abs(heat) > 0.01
    np.testing.assert_allclose(other, heat, rtol=1e-4)
    assert runs == also


def test_parameters_are_those_of_the_fit(mock: sd.LanguageModel) -> None:
    seen = {"level": jnp.array([1, 0, 0])}
    model = counterfactual(nh.condition(tuned, seen), {"level": "high"})
    found = sd.Predictive(model, params={"log_heat": jnp.log(5.0)}, num_samples=DRAWS)(jax.random.key(0), mock)
    np.testing.assert_allclose(found["heat|do(level=high)"], 5.0, rtol=1e-5)
    low, high = treated(5.0)
    other = np.asarray(found[HIGH])
    # Treated at a high level, which stays; treated at a low one, so at a high one too; not treated at a low one.
    assert (other[:, :2] == 1).all()
    close(other[:, 2], (high - low) / (1 - low))


@pytest.mark.slow
def test_plates_may_stand_around(mock: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel, drug: Any = None) -> sd.Phrase:
        heat = numpyro.sample("heat", dist.LogNormal(0.0, 0.5))

        def unit(lm: sd.LanguageModel) -> sd.Phrase:
            level = sd.sample("level", sd.Choice(lm, "It is {}.", LEVELS))
            return sd.sample("drug", sd.Choice(lm, "Then {}.", DRUGS, given=[level], temperature=heat), obs=drug)

        with numpyro.plate("units", 50):
            return counterfactual(unit, {"level": "high"})(lm)

    found = sd.Predictive(model, {"heat": jnp.full(100, 10.0)})(jax.random.key(0), mock)
    assert found["drug"].shape == found[HIGH].shape == (100, 50)
    close(found[HIGH], treated(10.0)[1])
    drug = jnp.zeros(50, int)
    with pytest.raises(sd.EvidenceError, match="put the plate inside"):
        sd.Predictive(model, {"heat": jnp.full(2, 10.0)})(jax.random.key(0), mock, drug)
    density = log_density(nh.seed(model, 0), (mock, drug), {}, {"heat": 1.5, "level": jnp.ones(50, int)})[0]
    expected = float(dist.LogNormal(0.0, 0.5).log_prob(1.5)) + 50 * np.log(0.5 * (1 - treated(1.5)[1]))
    np.testing.assert_allclose(density, expected, rtol=1e-5)


@pytest.mark.slow
def test_couplings_and_noise_sites_around_hold_in_every_world(mock: sd.LanguageModel) -> None:
    keys = jax.random.split(jax.random.key(0), 500)
    worlds = [{"level": "low"}, {"level": "high"}]
    heat = {"heat": jnp.float32(1.0)}

    def draw(model: Callable) -> np.ndarray:
        model = nh.substitute(model, heat)
        return np.asarray(jax.jit(jax.vmap(lambda key: exogenous(model, key)(mock).index))(keys))

    np.testing.assert_array_equal(
        draw(couple(counterfactual(clinic, worlds=worlds), "inverse_cdf")),
        draw(counterfactual(couple(clinic, "inverse_cdf"), worlds=worlds)),
    )
    config = {"drug": sd.GumbelReparam()}
    explicit = nh.reparam(counterfactual(clinic, worlds=worlds), config=config)
    np.testing.assert_array_equal(draw(explicit), draw(counterfactual(clinic, worlds=worlds)))
    pushed = nh.substitute(explicit, {"drug_noise": jnp.array([0.0, 50.0])})
    assert (draw(pushed) == 1).all()
    for model in (
        nh.reparam(counterfactual(nh.condition(clinic, {"drug": 1}), worlds=worlds), config=config),
        counterfactual(nh.reparam(nh.condition(clinic, {"drug": 1}), config=config), worlds=worlds),
    ):
        with pytest.raises(sd.EvidenceError, match="GumbelReparam"):
            draw(model)


@pytest.mark.slow
def test_a_guide_is_heard_in_every_world(mock: sd.LanguageModel) -> None:
    model = counterfactual(nh.condition(clinic, {"level": 1, "drug": 0}), {"level": "low"})
    guide = AutoDelta(model)
    svi = SVI(model, guide, optax.adam(0.05), Trace_ELBO())
    fitted = svi.run(jax.random.key(0), 400, mock, progress_bar=False).params
    log_heat = np.linspace(-2, 2, 40001)
    # AutoDelta's density is that of the unconstrained value.
    log_joint = -0.5 * (log_heat / 0.5) ** 2 + np.log(1 - treated(np.exp(log_heat))[:, 1])
    candidates = np.exp(log_heat[np.argmax(log_joint)]), np.exp(log_heat[np.argmax(log_joint - log_heat)])
    assert min(abs(float(fitted["heat_auto_loc"]) - c) for c in candidates) < 0.02
    found = sd.Predictive(model, guide=guide, params=fitted, num_samples=20)(jax.random.key(0), mock)
    np.testing.assert_allclose(found["heat|do(level=low)"], fitted["heat_auto_loc"], rtol=1e-5)


# -- what cannot be passed through -----------------------------------------------------------------


@pytest.mark.slow
def test_what_cannot_be_told_to_other_worlds_is_refused(mock: sd.LanguageModel) -> None:
    twins = counterfactual(clinic, {"level": "high"})
    for outer in (do(twins, {"heat": 1.0}), nh.do(twins, {"heat": 1.0})):
        with pytest.raises(sd.InterventionError, match="site 'heat' is intervened on around counterfactual"):
            exogenous(outer, 0)(mock)

    def bent(lm: sd.LanguageModel) -> None:
        level = sd.sample("level", sd.Choice(lm, "It is {}.", LEVELS))
        # Its noise cannot be told from a value.
        numpyro.sample("angle", dist.Poisson(level.map({"low": 1.0, "high": 3.0})))

    lm = testing.mock_lm(bent)
    with pytest.raises(sd.EvidenceError, match="'angle'"):
        exogenous(nh.condition(counterfactual(bent, {"level": "high"}), {"level": 0, "angle": 2}), 0)(lm)
    seen = nh.condition(counterfactual(clinic, {"level": "high"}, evidence={"drug": 1}), {"drug": 1})
    with pytest.raises(sd.EvidenceError, match="'drug' is evidence and given a value around it"):
        exogenous(seen, 0)(mock)


def test_values_in_loops_are_refused() -> None:
    from numpyro.contrib.control_flow import scan

    def walk(lm: sd.LanguageModel, seen: Any = None) -> Any:
        level = sd.sample("level", sd.Choice(lm, "It is {}.", LEVELS))

        def step(x: Any, y: Any) -> Any:
            x = numpyro.sample("x", dist.Normal(x, 1.0))
            return x, numpyro.sample("y", dist.Normal(x, 1.0), obs=y)

        start = level.map({"low": 0.0, "high": 5.0})
        return scan(step, start, seen, length=3)[1]

    lm = testing.mock_lm(walk)
    twins = counterfactual(walk, worlds=[{"level": "low"}, {"level": "high"}])
    found = exogenous(twins, 0)(lm)
    np.testing.assert_allclose(found[2] - found[1], 5.0, rtol=1e-5)
    factual = exogenous(walk, 0)(lm)
    assert min(np.abs(found[1:] - factual).sum(-1)) < 1e-5
    for model, args in ((nh.substitute(twins, {"x": jnp.zeros(3)}), ()), (twins, (jnp.zeros(3),))):
        with pytest.raises(sd.EvidenceError, match="inside scan or cond"):
            exogenous(model, 0)(lm, *args)


def test_a_change_to_what_no_site_takes_is_refused(mock: sd.LanguageModel) -> None:
    for change in (lambda natural: natural.index + 5, lambda natural: natural.index - 7):
        with pytest.raises(sd.InterventionError, match="site 'level'"):
            exogenous(counterfactual(clinic, do={"level": change}), 0)(mock)

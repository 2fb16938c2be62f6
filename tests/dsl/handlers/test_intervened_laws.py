"""Noise and laws of interventions: what is shared between worlds, and what NumPyro's inference sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers as nh
from numpyro.contrib.funsor import config_enumerate
from numpyro.infer import MCMC, NUTS, SVI, DiscreteHMCGibbs, TraceEnum_ELBO
from numpyro.infer.util import log_density

import sdscm_jax as sd
from sdscm_jax.dsl.handlers.redraw import signature
from sdscm_jax.handlers import couple, do, exogenous, nested
from sdscm_jax.testing import mock_lm

M = np.full((2, 3), 1 / 3)
Y = np.array([[0.9, 0.1], [0.2, 0.8]])


def mediation(lm: sd.LanguageModel) -> None:
    t = sd.sample("t", sd.Choice(lm, "Treat {}.", ["no", "yes"]))
    m = sd.sample("m", sd.Choice(lm, "Marker {}.", ["p", "q", "r"], given=[t]))
    sd.sample("y", sd.Choice(lm, "Then {}.", ["die", "live"], given=[t, m]))


def trial(lm: sd.LanguageModel) -> None:
    x = sd.sample("x", sd.Choice(lm, "It is {}.", ["low", "high"]))
    sd.sample("y", sd.Choice(lm, "Then {}.", ["wait", "treat"], given=[x]))


@pytest.fixture(scope="module")
def of_mediation() -> sd.LanguageModel:
    return mock_lm(mediation, probs={"t": [0.5, 0.5], "m": M, "y": np.full((2, 3, 2), 0.5)})


@pytest.fixture(scope="module")
def of_trial() -> sd.LanguageModel:
    return mock_lm(trial, probs={"x": [0.6, 0.4], "y": Y})


BESIDE = [
    [],
    [{"m": "p"}],
    [{"t": "yes", "m": "q"}, {"m": lambda m: m.index}],
    [{"t": "no", "m": nested({"t": "yes"})}],
]


@pytest.mark.search
@pytest.mark.parametrize("beside", BESIDE, ids=["alone", "constant", "soft", "nested"])
def test_what_is_redrawn_does_not_depend_on_the_worlds_beside(of_mediation: sd.LanguageModel, beside: list) -> None:
    units, model = 9000, couple(mediation, "independent")
    data = sd.simulate(model, 0, units, of_mediation, worlds=[{"t": "yes"}, *beside], logp=[])
    m = data.values["m"]
    np.testing.assert_allclose((m[:, 1] == m[:, 0]).mean(), 1 / 3, atol=5 * np.sqrt(2 / 9 / units))
    alone = sd.simulate(model, 0, units, of_mediation, do={"t": "yes"}, logp=[]).values
    np.testing.assert_array_equal(m[:, 1], alone["m"][:, 0])
    np.testing.assert_array_equal(data.values["y"][:, 1], alone["y"][:, 0])
    if "m" in data.worlds[-1] and "nested" in data.worlds[-1]:
        # The nested value is the one of the world that it names.
        np.testing.assert_array_equal(m[:, -1], m[:, 1])


@pytest.mark.slow
def test_a_soft_intervention_changes_the_value_that_is_redrawn(of_mediation: sd.LanguageModel) -> None:
    same = {"t": "yes", "m": lambda m: m.index}
    model = couple(mediation, "independent")
    data = sd.simulate(model, 0, 300, of_mediation, worlds=[{"t": "yes"}, same], logp=[])
    np.testing.assert_array_equal(data.values["m"][:, 1], data.values["m"][:, 2])


def test_signatures_tell_apart_what_32_bits_do_not() -> None:
    # Two signs that flip together cancel in a sum of multiples modulo 2**32.
    words = [[int(w) for w in signature("x", jnp.array(x))] for x in ([1.0, 1.0], [-1.0, -1.0], [1.0, -1.0])]
    assert len({tuple(w) for w in words}) == 3
    assert all(a != b for a, b in zip(words[0], words[1], strict=True))
    assert signature("x", jnp.arange(3))[0] != 0


@pytest.mark.search
@pytest.mark.parametrize("coupling", ["gumbel", "inverse_cdf", "independent"])
@pytest.mark.parametrize("law", ["uniform", dist.Bernoulli(0.5), dist.Categorical(jnp.array([0.5, 0.5]))])
def test_a_randomised_treatment_has_noise_of_its_own(of_trial: sd.LanguageModel, coupling: str, law: Any) -> None:
    units = 6000
    worlds = [{"x": law}, {"x": law, "y": lambda y: y.index}]
    data = sd.simulate(couple(trial, coupling), 0, units, of_trial, worlds=worlds, logp=[])
    x, y = data.values["x"], data.values["y"]
    np.testing.assert_allclose((x[:, 0] == x[:, 1]).mean(), 0.5, atol=5 * 0.5 / np.sqrt(units))
    # One draw, the same in all worlds.
    np.testing.assert_array_equal(x[:, 1], x[:, 2])
    treated = x[:, 0] == 1
    among = y[treated, 1].mean()
    if coupling != "independent":
        # A coin, whatever these units would have taken.
        truth = 0.5 * 0.8 + 0.5 * 0.1
        np.testing.assert_allclose(among, truth, atol=5 * 0.5 / np.sqrt(treated.sum()))
    # Evidence on the natural value says nothing of the coin.
    seen = sd.simulate(couple(trial, coupling), 0, 200, of_trial, evidence={"x": "high"}, worlds=worlds[:1], logp=[])
    np.testing.assert_array_equal(seen.values["x"][:, 1], x[:200, 1])


def test_numbers_and_members_of_a_plate_are_drawn_apart() -> None:
    def model() -> None:
        with numpyro.plate("members", 2):
            numpyro.sample("x", dist.Normal(0.0, 1.0))

    data = sd.simulate(model, 0, 3000, worlds=[{"x": dist.Normal(0.0, 1.0)}, {"x": dist.Normal(3.0, 2.0)}])
    x = data.values["x"]
    columns = np.concatenate([x[:, 0], x[:, 1]], axis=1)
    assert np.abs(np.corrcoef(columns.T) - np.eye(4)).max() < 0.1
    np.testing.assert_allclose(x[:, 2], 3 + 2 * x[:, 1], rtol=1e-4, atol=1e-4)


def test_an_unseen_randomised_cause_of_evidence_is_refused(of_trial: sd.LanguageModel) -> None:
    for value in ("uniform", lambda x: 1 - x.index):
        with pytest.raises(sd.EvidenceError, match="'x' has a stochastic or soft intervention"):
            sd.simulate(trial, 0, 5, of_trial, do={"x": value}, evidence={"y": "treat"})


# -- inference -----------------------------------------------------------------------------------


def flip(x: sd.Phrase) -> jax.Array:
    return 1 - x.index


LAWS: list[tuple[str, Any, list[float]]] = [
    ("uniform", "uniform", [0.5, 0.5]),
    ("distribution", dist.Bernoulli(0.3), [0.7, 0.3]),
    ("soft", flip, [0.4, 0.6]),
    ("policy", lambda x, earlier: jnp.where(earlier["z"] > 0, 1, x.index), [0.18, 0.82]),
]


def with_cause(lm: sd.LanguageModel) -> None:
    numpyro.sample("z", dist.Bernoulli(0.7))
    trial(lm)


@pytest.mark.parametrize(("value", "law"), [case[1:] for case in LAWS], ids=[case[0] for case in LAWS])
def test_enumeration_sums_over_the_intervened_law(of_trial: sd.LanguageModel, value: Any, law: list[float]) -> None:
    seen = nh.condition(do(with_cause, {"x": value}), {"y": 1})
    svi = SVI(config_enumerate(seen), lambda lm: None, numpyro.optim.Adam(0.1), TraceEnum_ELBO())
    state = svi.init(jax.random.key(0), of_trial)
    losses = [float(svi.evaluate(state._replace(rng_key=jax.random.key(i)), of_trial)) for i in range(3)]
    truth = -np.log(np.asarray(law) @ Y[:, 1])
    np.testing.assert_allclose(losses, truth, rtol=1e-5)


@pytest.mark.parametrize(("value", "law"), [case[1:] for case in LAWS], ids=[case[0] for case in LAWS])
def test_density_of_an_intervened_site(of_trial: sd.LanguageModel, value: Any, law: list[float]) -> None:
    total = np.zeros(2)
    for x in range(2):
        for z in range(2):
            found, _ = log_density(do(with_cause, {"x": value}), (of_trial,), {}, {"z": z, "x": x, "y": 1})
            total[x] += np.exp(float(found)) / Y[x, 1]
    np.testing.assert_allclose(total, law, rtol=1e-5)


def test_members_of_a_plate_have_their_own_law() -> None:
    def model() -> None:
        with numpyro.plate("members", 2):
            numpyro.sample("x", dist.Categorical(jnp.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])))

    def density(change: Callable, x: list[int]) -> float:
        return float(log_density(do(model, {"x": change}), (), {}, {"x": jnp.array(x)})[0])

    np.testing.assert_allclose(density(lambda x: jnp.minimum(x, 1), [1, 1]), np.log(0.8 * 0.4), rtol=1e-5)
    assert density(lambda x: jnp.minimum(x, 1), [2, 1]) == -np.inf
    with pytest.raises(sd.InterventionError, match="by what others are"):
        density(lambda x: x[::-1], [1, 1])


@pytest.mark.slow
def test_samplers(of_trial: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel) -> None:
        numpyro.sample("w", dist.Normal(0.0, 1.0))
        trial(lm)

    seen = nh.condition(do(model, {"x": "uniform"}), {"y": 1})
    for kernel, draws in ((NUTS(config_enumerate(seen)), 20), (DiscreteHMCGibbs(NUTS(seen)), 1500)):
        mcmc = MCMC(kernel, num_warmup=20, num_samples=draws, progress_bar=False)
        mcmc.run(jax.random.key(0), of_trial)
        samples = mcmc.get_samples()
        assert np.isfinite(samples["w"]).all()
    # P(high | treat) under a coin.
    np.testing.assert_allclose(np.mean(samples["x"]), 0.8 / 0.9, atol=0.04)


def test_soft_interventions_on_a_continuum_can_be_drawn_only() -> None:
    def model() -> None:
        x = numpyro.sample("x", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(x, 1.0), obs=0.5)

    shifted = do(model, {"x": lambda x: x + 1})
    natural, moved = (nh.trace(exogenous(fn, 1)).get_trace()["x"]["value"] for fn in (model, shifted))
    np.testing.assert_allclose(moved, natural + 1)
    for run in (
        lambda: log_density(shifted, (), {}, {"x": 0.3}),
        lambda: nh.substitute(nh.seed(shifted, 0), {"x": 0.3})(),
        lambda: MCMC(NUTS(shifted), num_warmup=2, num_samples=2, progress_bar=False).run(jax.random.key(0)),
    ):
        with pytest.raises(sd.InterventionError, match="site 'x' has a soft intervention"):
            run()
    # A distribution in its place has a density.
    found, _ = log_density(do(model, {"x": dist.Normal(1.0, 2.0)}), (), {}, {"x": 0.3})
    truth = dist.Normal(1.0, 2.0).log_prob(0.3) + dist.Normal(0.3, 1.0).log_prob(0.5)
    np.testing.assert_allclose(found, truth, rtol=1e-5)


# -- around do -----------------------------------------------------------------------------------


def test_an_intervened_value_holds_in_trace_children_and_density(of_trial: sd.LanguageModel) -> None:
    forced = do(trial, {"x": "high"})
    values = {"x": 0, "y": 1}
    density, trace = log_density(forced, (of_trial,), {}, values)
    assert int(trace["x"]["value"]) == 1
    assert trace["x"]["is_observed"] is True
    np.testing.assert_allclose(density, np.log(Y[1, 1]), rtol=1e-5)
    replaced = nh.trace(nh.substitute(nh.seed(forced, 0), values)).get_trace(of_trial)
    assert int(replaced["x"]["value"]) == 1
    outer = nh.trace(nh.substitute(nh.seed(do(do(trial, {"x": "low"}), {"x": "high"}), 0), values)).get_trace(of_trial)
    assert int(outer["x"]["value"]) == 1

    def doubled() -> None:
        numpyro.deterministic("twice", 2 * numpyro.sample("x", dist.Normal(0.0, 1.0)))

    held = nh.trace(nh.substitute(nh.seed(do(doubled, {"twice": 7.0}), 0), {"twice": 1.0})).get_trace()
    assert float(held["twice"]["value"]) == 7.0
    for observed in (nh.condition(forced, {"x": 0}), do(nh.condition(trial, {"x": 0}), {"x": "high"})):
        with pytest.raises(sd.EvidenceError, match="'x' is observed and intervened on"):
            nh.seed(observed, 0)(of_trial)


def test_a_policy_inside_a_scope_reads_its_sites(of_trial: sd.LanguageModel) -> None:
    def copy(lm: sd.LanguageModel) -> None:
        policy = do(trial, {"y": lambda y, earlier: 1 - earlier["x"].index})
        with nh.scope(prefix="a"):
            policy(lm)

    trace = nh.trace(exogenous(copy, 0)).get_trace(of_trial)
    assert int(trace["a/y"]["value"]) == 1 - int(trace["a/x"]["value"])


def test_a_given_value_is_the_natural_one(of_trial: sd.LanguageModel) -> None:
    trace = nh.trace(exogenous(do(nh.substitute(trial, {"x": 1}), {"x": flip}), 0)).get_trace(of_trial)
    assert int(trace["x"]["value"]) == 0


def test_explicit_noise_in_scopes_and_under_interventions(of_trial: sd.LanguageModel) -> None:
    explicit = nh.reparam(trial, config={"x": sd.GumbelReparam()})

    def twice(fn: Callable, lm: sd.LanguageModel) -> None:
        for prefix in ("a", "b"):
            with nh.scope(prefix=prefix):
                fn(lm)

    @jax.jit
    def run(key: jax.Array, lm: sd.LanguageModel) -> list[dict[str, Any]]:
        def values(fn: Callable) -> dict[str, Any]:
            trace = nh.trace(exogenous(fn, key)).get_trace(lm)
            return {name: trace[name]["value"] for name in ("a/x", "b/x", "a/y")}

        inside, plain = (lambda lm: twice(explicit, lm)), (lambda lm: twice(trial, lm))
        config = {name: sd.GumbelReparam() for name in ("a/x", "b/x")}
        return [values(fn) for fn in (plain, inside, nh.reparam(plain, config=config))]

    plain, inside, outside = jax.vmap(run, (0, None))(jax.random.split(jax.random.key(0), 60), of_trial)
    for name in plain:
        np.testing.assert_array_equal(plain[name], inside[name])
        np.testing.assert_array_equal(plain[name], outside[name])
    assert 0.3 < (inside["a/x"] == inside["b/x"]).mean() < 0.8
    # An intervention inside takes the choice's place, and one outside sets what the noise leads to.
    around = nh.reparam(do(trial, {"x": "high"}), config={"x": sd.GumbelReparam()})
    for fn in (around, do(explicit, {"x": 1})):
        assert int(nh.trace(exogenous(fn, 0)).get_trace(of_trial)["x"]["value"]) == 1
    with pytest.raises(sd.SiteError, match="that worlds share"):
        exogenous(nh.reparam(couple(trial, "independent"), config={"x": sd.GumbelReparam()}), 0)(of_trial)
    with pytest.raises(sd.OptionError, match="has no other coupling"):
        exogenous(couple(explicit, "independent"), 0)(of_trial)
    with pytest.raises(sd.SiteError, match="soft intervention"):
        exogenous(nh.reparam(do(trial, {"x": flip}), config={"x": sd.GumbelReparam()}), 0)(of_trial)

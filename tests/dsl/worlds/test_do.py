"""Interventions that differ by unit, read earlier sites or reach into other worlds."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers as nh

import sdscm_jax as sd
from sdscm_jax.handlers import couple, do, exogenous, nested
from sdscm_jax.models.executable import executable

from ...dice import die

M = np.array([[0.8, 0.2], [0.3, 0.7]])
Y = np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.5, 0.5], [0.2, 0.8]]])


def mediation(lm: sd.LanguageModel) -> sd.Phrase:
    t = sd.sample("t", die(lm, [0.5, 0.5], ("low", "high")))
    m = sd.sample("m", die(lm, jnp.asarray(M)[t.index], ("no", "yes")))
    return sd.sample("y", die(lm, jnp.asarray(Y)[t.index, m.index], ("no", "yes")))


def test_policies_read_earlier_phrases(lm: sd.LanguageModel) -> None:
    def policy(natural: sd.Phrase, earlier: dict) -> jax.Array:
        return jnp.where(earlier["t"] == "high", 0, natural.index)

    result = sd.simulate(mediation, 0, 200, lm, worlds=[{"m": policy}], logp=[])
    t, m = result.values["t"], result.values["m"]
    chex.assert_trees_all_equal(m[:, 1], np.where(t[:, 0] == 1, 0, m[:, 0]))
    under = sd.simulate(mediation, 0, 200, lm, do={"m": policy}, logp=[])
    chex.assert_trees_all_equal(under.values["m"][:, 0], m[:, 1])
    with pytest.raises(sd.InterventionError, match="'y', which is no earlier site"):
        exogenous(do(mediation, {"m": lambda natural, earlier: earlier["y"].index}), 0)(lm)
    with pytest.raises(sd.InterventionError, match="site 'm' takes a value of shape"):
        exogenous(do(mediation, {"m": lambda natural: jnp.zeros(3, int)}), 0)(lm)


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["gumbel", "inverse_cdf"])
def test_nested_interventions_are_natural_effects(lm: sd.LanguageModel, coupling: str) -> None:
    units = 20_000
    model = couple(mediation, coupling)
    worlds = [{"t": "high", "m": nested({"t": "low"})}, {"t": "low"}, {"t": "high"}]
    result = sd.simulate(model, 1, units, lm, worlds=worlds, logp=[])
    assert result.worlds[1] == "do(t=high, m=nested(t=low))"
    # The mediator has the value of the other world, unit by unit.
    chex.assert_trees_all_equal(result.values["m"][:, 1], result.values["m"][:, 2])
    truth = (M[0][:, None] * Y[1]).sum(0)[1]
    np.testing.assert_allclose(result.values["y"][:, 1].mean(), truth, atol=4 * 0.5 / np.sqrt(units))
    # And so by the handler.
    for i in range(5):
        key = jax.random.fold_in(jax.random.key(1), i)
        for run in (exogenous(do(model, worlds[0]), key), do(exogenous(model, key), worlds[0])):
            assert int(run(lm).index) == result.values["y"][i, 1]
    # nested({}) is the factual value.
    same = sd.simulate(model, 1, 50, lm, worlds=[{"m": nested({})}], logp=[])
    chex.assert_trees_all_equal(same.values["y"][:, 0], same.values["y"][:, 1])
    with pytest.raises(sd.InterventionError, match="needs handlers"):
        nh.seed(do(model, worlds[0]), 0)(lm)
    with pytest.raises(sd.InterventionError, match="no site 'q'"):
        sd.simulate(model, 0, 2, lm, worlds=[{"m": nested({"q": 1})}])


def test_units_may_differ(lm: sd.LanguageModel) -> None:
    texts = ["low", "high", "high", "low", "high"]
    a = sd.simulate(mediation, 0, 5, lm, worlds=[{"t": texts, "m": "yes"}, {"t": "low"}], chunk=2, logp=[])
    assert a.to_pandas()["t|do(t=5 values, m=yes)"].tolist() == texts
    b = sd.simulate(mediation, 0, 5, lm, do={"t": np.array([0, 1, 1, 0, 1])}, logp=[])
    assert b.to_pandas()["t"].tolist() == texts
    one = sd.simulate(mediation, 0, 5, lm, worlds=[{"t": "high", "m": "yes"}], logp=[])
    same = b.values["t"][:, 0] == 1
    chex.assert_trees_all_equal(a.values["y"][same, 1], one.values["y"][same, 1])
    for bad in ([0, 1], [0, 1, 1, 0, 7], "medium"):
        with pytest.raises(sd.InterventionError, match="site 't'"):
            sd.simulate(mediation, 0, 5, lm, worlds=[{"t": bad}])


def test_several_sites_at_once_and_numpyro(lm: sd.LanguageModel) -> None:
    worlds = {"t": "high", "m": 0}
    ours = exogenous(do(mediation, worlds), 3)(lm)
    theirs = exogenous(nh.do(mediation, {"t": 1, "m": 0}), 3)(lm)
    assert int(ours.index) == int(theirs.index)
    # An intervention stands whatever a posterior sample says of the site.
    samples = {"t": jnp.zeros(4, int), "m": jnp.zeros(4, int)}
    drawn = sd.Predictive(do(mediation, {"m": "yes"}), samples, return_sites=["m", "t"])(jax.random.key(0), lm)
    assert drawn["m"].tolist() == [1] * 4
    assert drawn["t"].tolist() == [0] * 4


def test_an_intervention_of_another_name_does_not_compile_again(lm: sd.LanguageModel) -> None:
    sd.simulate(mediation, 0, 3, lm, do={"t": "low"}, worlds=[{"m": "yes"}])
    before = executable.cache_info().misses
    sd.simulate(mediation, 1, 3, lm, do={"t": "high"}, worlds=[{"m": "no"}])
    assert executable.cache_info().misses == before


def test_interventions_on_numbers_and_deterministic_sites(lm: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel) -> sd.Phrase:
        age = numpyro.sample("age", dist.Normal(50.0, 15.0))
        said = sd.verbalize("said", age, [40.0, 60.0], ["young", "middle-aged", "old"], "She is {}.")
        return sd.sample("t", die(lm, jnp.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])[said.index], ("low", "high")))

    assert sd.graph(model, lm).edges == (("age", "said"), ("said", "t"))
    worlds = [
        {"said": "old"},
        {"said": lambda p: jnp.maximum(p.index - 1, 0)},
        {"age": 70.0},
        {"age": lambda a: a + 30},
    ]
    result = sd.simulate(model, 0, 300, lm, worlds=worlds, logp=[])
    table = result.to_pandas()
    assert (table["said|do(said=old)"] == "old").all()
    chex.assert_trees_all_equal(result.values["said"][:, 2], np.maximum(result.values["said"][:, 0] - 1, 0))
    assert (table["said|do(age=70.0)"] == "old").all()
    np.testing.assert_allclose(result.values["age"][:, 4], result.values["age"][:, 0] + 30, rtol=1e-5)
    chex.assert_trees_all_equal(result.values["t"][:, 1], result.values["t"][:, 3])
    with pytest.raises(sd.InterventionError, match="site 'said' has no option 'ancient'"):
        sd.simulate(model, 0, 2, lm, worlds=[{"said": "ancient"}])
    with pytest.raises(sd.OptionError, match="2 increasing numbers"):
        sd.verbalize("x", 1.0, [1.0], ["a", "b", "c"], "It is {}.")

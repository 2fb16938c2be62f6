"""Abduction: what would have been, for units of which something was observed."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import sdscm_jax as sd
from sdscm_jax.dsl.noise.couplings.registry import parse_coupling
from sdscm_jax.handlers import abduct, counterfactual, couple, do, exogenous

from ...dice import die

A = np.array([0.3, 0.7])
B = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
C = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])


def chain(lm: sd.LanguageModel) -> sd.Phrase:
    a = sd.sample("a", die(lm, A, ("low", "high")))
    b = sd.sample("b", die(lm, jnp.asarray(B)[a.index]))
    return sd.sample("c", die(lm, jnp.asarray(C)[b.index], ("no", "yes")))


@pytest.mark.parametrize("coupling", ["gumbel", "inverse_cdf", "independent"])
def test_evidence_is_replayed_and_what_it_does_not_reach_stays(lm: sd.LanguageModel, coupling: str) -> None:
    model = couple(chain, coupling)
    seen = sd.simulate(chain, 5, 300, lm, logp=[]).to_pandas()
    evidence = {name: seen[name].tolist() for name in ("a", "b", "c")}
    again = sd.simulate(model, 6, 300, lm, evidence=evidence, worlds=[{"b": "sun"}], logp=[])
    table = again.to_pandas()
    for name in evidence:
        assert table[name].tolist() == evidence[name]
    assert table["a|do(b=sun)"].tolist() == evidence["a"]
    kept = (table["c"] == table["c|do(b=sun)"])[seen["b"] == "sun"]
    if coupling == "independent":
        # The paper's procedure, which redraws what is downstream.
        share = (table["c|do(b=sun)"] == "no").mean()
        np.testing.assert_allclose(share, C[0, 0], atol=4 * 0.3 / np.sqrt(300))
        assert not kept.all()
    else:
        assert kept.all()


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["independent", pytest.param("hindsight(0.5)", marks=pytest.mark.slow), "maximal"])
def test_evidence_of_an_intervened_world_is_of_that_world(lm: sd.LanguageModel, coupling: str) -> None:
    """What that world draws anew is what was seen in it; only other worlds draw it anew again."""
    model, under, seen = couple(chain, coupling), {"b": "sun"}, {"a": "low", "c": "yes"}
    for run in (model, do(model, under)):
        how: dict = {"do": under} if run is model else {}
        worlds = [{"a": "high"}, {"b": "snow"}]
        found = sd.simulate(run, 0, 1, lm, evidence=seen, worlds=worlds, draws=300, logp=[], **how).values
        assert (found["c"][:, 0] == 1).all()
        # Of two options the first has C[k, 0] under the law of b.
        assert (found["c"][:, 1] == 1).all()
        other = np.bincount(found["c"][:, 2], minlength=2) / 300
        law = np.array([C[0], C[2]])
        joint = parse_coupling(coupling).joint(*law)[1] / law[0, 1]
        np.testing.assert_allclose(other, joint, atol=4 * 0.5 / np.sqrt(300))
    unit = abduct(do(model, under), seen, 3)
    assert unit(lm).text == "yes"
    twin = exogenous(counterfactual(do(model, under), {"a": "high"}, evidence=seen), 3)
    assert twin(lm).text == "yes"


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["gumbel", "inverse_cdf"])
def test_averaged_over_evidence_abduction_is_simulation(lm: sd.LanguageModel, coupling: str) -> None:
    """Abducing what was simulated gives the joint distribution of worlds that simulating gives."""
    units = 6000
    model, worlds = couple(chain, coupling), [{"a": "low"}, {"a": "high"}]
    seen = sd.simulate(model, 0, units, lm, worlds=worlds, logp=[])
    evidence = {name: seen.values[name][:, 0] for name in ("a", "c")}
    again = sd.simulate(model, 1, units, lm, evidence=evidence, worlds=worlds, logp=[])
    for site, size in (("b", 3), ("c", 2)):
        tables = []
        for result in (seen, again):
            values = result.values[site]
            codes = np.ravel_multi_index(tuple(values.T), (size,) * 3)
            tables.append(np.bincount(codes, minlength=size**3) / units)
        np.testing.assert_allclose(tables[0], tables[1], atol=4 * np.sqrt(2) * 0.5 / np.sqrt(units))


@pytest.mark.slow
def test_unobserved_causes_are_drawn_from_their_posterior(lm: sd.LanguageModel) -> None:
    draws = 8000
    result = sd.simulate(chain, 0, 1, lm, evidence={"c": "yes"}, draws=draws, logp=[])
    joint = A[:, None] * B * C[:, 1][None]
    truth = joint / joint.sum()
    codes = result.values["a"][:, 0] * 3 + result.values["b"][:, 0]
    np.testing.assert_allclose(
        (np.bincount(codes, minlength=6) / draws).reshape(2, 3), truth, atol=4 * 0.5 / np.sqrt(draws)
    )
    assert (result.values["c"] == 1).all()
    found = abduct(chain, {"c": "yes"}, 0).posterior(lm)
    np.testing.assert_allclose(np.exp(found.log_prob), joint.sum(), rtol=1e-4)


def test_probability_of_necessity_of_a_coin(lm: sd.LanguageModel) -> None:
    """P(c would have been "no" | a = high, c = yes), against the closed form of the Gumbel coupling."""

    def model(lm: sd.LanguageModel) -> None:
        a = sd.sample("a", die(lm, A, ("low", "high")))
        sd.sample("c", die(lm, jnp.array([[0.6, 0.4], [0.3, 0.7]])[a.index], ("no", "yes")))

    draws = 20_000
    result = sd.simulate(
        model, 0, 1, lm, evidence={"a": "high", "c": "yes"}, worlds=[{"a": "low"}], draws=draws, logp=[]
    )
    # Two options: the coupling is monotone, so P(yes | low and yes | high) = min(0.4, 0.7).
    np.testing.assert_allclose((result.values["c"][:, 1] == 0).mean(), 1 - 0.4 / 0.7, atol=4 * 0.5 / np.sqrt(draws))


@pytest.mark.slow
def test_continuous_causes_are_inferred_by_nuts(lm: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel) -> None:
        z = numpyro.sample("z", dist.Normal(0.0, 1.5))
        a = sd.sample("a", die(lm, jnp.array([0.5, 0.5]), ("low", "high")))
        logit = 2.0 * z + a.map({"low": -1.0, "high": 1.0})
        sd.sample("c", die(lm, jax.nn.softmax(jnp.stack([0.0 * logit, logit])), ("no", "yes")))

    result = sd.simulate(model, 2, 1, lm, evidence={"c": "yes"}, worlds=[{"a": "low"}], draws=600, logp=[])
    grid = np.linspace(-8, 8, 4001)
    prior = np.exp(-(grid**2) / (2 * 1.5**2))
    likelihood = [0.5 / (1 + np.exp(-(2 * grid + shift))) for shift in (-1.0, 1.0)]
    weight = prior * np.sum(likelihood, axis=0)
    mean = (grid * weight).sum() / weight.sum()
    high = (prior * likelihood[1]).sum() / weight.sum()
    z = result.values["z"][:, 0]
    np.testing.assert_allclose(z.mean(), mean, atol=4 * z.std() / np.sqrt(600))
    np.testing.assert_allclose((result.values["a"][:, 0] == 1).mean(), high, atol=2 / np.sqrt(600))
    chex.assert_trees_all_equal(result.values["z"][:, 0], result.values["z"][:, 1])
    assert (result.values["c"][:, 0] == 1).all()


@pytest.mark.slow
def test_numbers_keep_their_quantile(lm: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel) -> jax.Array:
        a = sd.sample("a", die(lm, A, ("low", "high")))
        dose = numpyro.sample("dose", dist.Normal(a.map({"low": 0.0, "high": 3.0}), a.map({"low": 1.0, "high": 2.0})))
        well = numpyro.sample("well", dist.Bernoulli(logits=dose))
        return jnp.stack([dose, well])

    worlds = [{"a": "low"}, {"a": "high"}]
    run = counterfactual(model, evidence={"a": "low", "dose": 0.5, "well": 1}, worlds=worlds)
    factual, low, high = np.asarray(exogenous(run, 0)(lm))
    assert factual[0] == low[0] == np.float32(0.5)
    np.testing.assert_allclose(high[0], 3.0 + 2.0 * 0.5, rtol=1e-4)
    # A higher dose cannot make a well patient ill: the cells of a Bernoulli are ordered.
    assert factual[1] == low[1] == high[1] == 1

    def opaque(lm: sd.LanguageModel) -> None:
        a = sd.sample("a", die(lm, A, ("low", "high")))
        numpyro.sample("x", dist.Dirichlet(a.map({"low": 1.0, "high": 3.0}) * jnp.ones(2)))

    seen = {"a": "low", "x": jnp.array([0.3, 0.7])}
    with pytest.raises(sd.EvidenceError, match=r"site 'x', whose value is \[0\.3.*no quantile function"):
        do(abduct(opaque, seen, 0), {"a": "high"})(lm)
    # Its distribution is the same there.
    assert do(abduct(opaque, seen, 0), {"a": "low"})(lm) is None


@pytest.mark.slow
def test_handlers_agree(lm: sd.LanguageModel) -> None:
    evidence = {"a": "low", "b": "snow", "c": "yes"}
    key = jax.random.key(4)
    one = do(abduct(chain, evidence, key), {"a": "high"})(lm)
    two = exogenous(counterfactual(chain, {"a": "high"}, evidence), key)(lm)
    assert one.text == two.text
    compiled = jax.jit(lambda key, lm: exogenous(counterfactual(chain, {"a": "high"}, evidence), key)(lm))
    assert compiled(key, lm).text == one.text
    # Observed under an intervention: the evidence is of that world.
    under = sd.simulate(chain, 0, 50, lm, do={"b": "rain"}, evidence={"c": "yes"}, worlds=[{"b": "sun"}], logp=[])
    assert (under.values["c"][:, 0] == 1).all()
    assert (under.values["b"][:, 0] == 1).all()


def test_bad_evidence(lm: sd.LanguageModel) -> None:
    for evidence, message in (
        ({"d": "yes"}, "'d', which is no site"),
        ({"c": "maybe"}, "site 'c' has no option 'maybe'"),
        ({"c": 7}, "site 'c' has 2 options"),
        ({"c": [0, 1]}, "site 'c' takes a value of shape"),
        ("c", "mapping"),
    ):
        with pytest.raises(sd.EvidenceError, match=message):
            abduct(chain, evidence, 0)(lm)
        with pytest.raises(sd.EvidenceError, match=message):
            sd.simulate(chain, 0, 3, lm, evidence=evidence)
    with pytest.raises(sd.EvidenceError, match="'b' is observed and intervened on"):
        abduct(do(chain, {"b": "sun"}), {"b": "rain"}, 0)(lm)
    with pytest.raises(sd.EvidenceError, match="'b' is observed and intervened on"):
        exogenous(do(numpyro.handlers.condition(chain, {"b": 1}), {"b": "sun"}), 0)(lm)
    with pytest.raises(sd.EvidenceError, match="'b' is observed and intervened on"):
        exogenous(numpyro.handlers.condition(do(chain, {"b": "sun"}), {"b": 1}), 0)(lm)

    def certain(lm: sd.LanguageModel) -> None:
        sd.sample("a", die(lm, [1.0, 0.0], ("low", "high")))
        numpyro.deterministic("two", jnp.float32(2.0))

    for run in (lambda e: abduct(certain, e, 0)(lm), lambda e: sd.simulate(certain, 0, 3, lm, evidence=e)):
        with pytest.raises(sd.EvidenceError, match="probability 0"):
            run({"a": "high"})
        with pytest.raises(sd.EvidenceError, match="'two' is deterministic"):
            run({"two": 2.0})

    def counted(lm: sd.LanguageModel) -> None:
        n = numpyro.sample("n", dist.Poisson(3.0))
        sd.sample("c", die(lm, jnp.where(n > 2, jnp.array([0.1, 0.9]), jnp.array([0.5, 0.5])), ("no", "yes")))

    with pytest.raises(sd.EvidenceError, match=r"'n' .*no finite support"):
        abduct(counted, {"c": "yes"}, 0)(lm)

    def wide(lm: sd.LanguageModel) -> None:
        faces = [sd.sample(f"x{i}", die(lm, [0.2, 0.3, 0.5])) for i in range(9)]
        total = sum(f.map({"sun": 0.0, "rain": 1.0, "snow": 2.0}) for f in faces)
        numpyro.sample("total", dist.Normal(total, 1.0))

    with pytest.raises(sd.EvidenceError, match="19683 joint values"):
        abduct(wide, {"total": 3.0}, 0)(lm)


def test_loops_are_refused(lm: sd.LanguageModel) -> None:
    def visits(lm: sd.LanguageModel) -> None:
        def visit(last: sd.Phrase, _: None) -> tuple[sd.Phrase, None]:
            return sd.sample("state", die(lm, jnp.asarray(C)[last.index], ("no", "yes"))), None

        last, _ = scan(visit, sd.sample("first", die(lm, A, ("no", "yes"))), None, length=3)
        sd.sample("end", die(lm, jnp.asarray(C)[last.index], ("no", "yes")))

    with pytest.raises(sd.EvidenceError, match="'state' is inside scan"):
        abduct(visits, {"state": jnp.array([0, 1, 1])}, 0)(lm)
    with pytest.raises(sd.EvidenceError, match="'state' is inside scan or cond and may cause"):
        abduct(visits, {"end": "yes"}, 0)(lm)


@pytest.mark.parametrize("coupling", ["gumbel", "inverse_cdf"])
def test_plates_are_abduced(lm: sd.LanguageModel, coupling: str) -> None:
    def ward(lm: sd.LanguageModel) -> sd.Phrase:
        a = sd.sample("a", die(lm, A, ("low", "high")))
        with numpyro.plate("beds", 4):
            return sd.sample("b", die(lm, jnp.asarray(B)[a.index], coupling=coupling))

    seen = ["snow", "sun", "rain", "rain"]
    run = counterfactual(ward, worlds=[{"a": "low"}, {"a": "high"}], evidence={"a": "low", "b": seen})
    worlds = jax.jit(lambda lm: exogenous(run, 0)(lm))(lm).text
    assert worlds.shape == (3, 4)
    assert worlds[0].tolist() == worlds[1].tolist() == seen

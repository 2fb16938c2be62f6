"""The maximal coupling: each world agrees with the factual one as often as their laws allow."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro.contrib.control_flow import scan

import sdscm_jax as sd
from sdscm_jax import effects, testing
from sdscm_jax.dsl.noise.couplings.maximal import Maximal
from sdscm_jax.effects.counterfactual_graph import Target
from sdscm_jax.handlers import couple, do, exogenous

UNITS = 20_000
WORLDS = [{"t": "up"}, {"t": "low"}, {"t": "go"}]
OPTIONS = ["a lot", "ab", "so"]


def chain(lm: sd.LanguageModel) -> sd.Phrase:
    how = {"scoring": "mean", "coupling": "maximal"}
    t = sd.sample("t", sd.Choice(lm, "It is {}.", ["up", "low", "go"], scoring="mean"))
    m = sd.sample("m", sd.Choice(lm, "We go {} now", ["it", "to go", "so"], given=[t], **how))
    return sd.sample("y", sd.Choice(lm, "Be {}", OPTIONS, given=[t, m], **how))


@pytest.fixture(scope="module")
def lm() -> sd.LanguageModel:
    return testing.mock_lm(chain)


@pytest.fixture(scope="module")
def data(lm: sd.LanguageModel) -> sd.Simulation:
    return sd.simulate(chain, 1, UNITS, lm, worlds=WORLDS)


@pytest.mark.parametrize("site", ["m", "y"])
def test_each_world_agrees_with_the_factual_one_as_often_as_laws_allow(data: sd.Simulation, site: str) -> None:
    values, probs = data.values[site], np.exp(data.log_probs[site].astype(float))
    for world in (1, 2, 3):
        share = (values[:, 0] == values[:, world]).mean()
        # Each unit's chance is 1 - TV of its own two laws.
        most = np.minimum(probs[:, 0], probs[:, world]).sum(-1).mean()
        assert share == pytest.approx(most, abs=4 * 0.5 / np.sqrt(UNITS))
        counts = np.bincount(values[:, world], minlength=3) / UNITS
        np.testing.assert_allclose(counts, probs[:, world].mean(0), atol=4 * 0.5 / np.sqrt(UNITS))
    # (Not a test of nothing: the laws differ, and agreeing by chance is rarer.)
    assert np.minimum(probs[:, 0], probs[:, 2]).sum(-1).mean() < 0.9


@pytest.mark.slow
def test_exact_and_averaged_effects_are_those_of_the_units(lm: sd.LanguageModel, data: sd.Simulation) -> None:
    exact, sampled = effects.exact(chain, lm), effects.sampled(chain, 3, 4000, lm)
    for a, b in ((0, 1), (1, 2), (2, 3)):
        targets = [Target("y", ({}, *WORLDS)[w]) for w in (a, b)]
        seen = np.zeros((3, 3))
        np.add.at(seen, (data.values["y"][:, a], data.values["y"][:, b]), 1 / UNITS)
        joint = exact.joint(targets).value
        np.testing.assert_allclose(joint, seen, atol=4 * 0.5 / np.sqrt(UNITS))
        np.testing.assert_allclose(sampled.joint(targets).value, joint, atol=0.02)


@pytest.mark.slow
def test_every_way_to_run_it_is_one(lm: sd.LanguageModel) -> None:
    ways = testing.check_execution(chain, 2, lm, units=24, worlds=WORLDS[1:2], ways=["in_graph", "tabulated"])
    assert ways == ("staged", "in_graph", "tabulated")
    assert testing.check_consistency(chain, 3, lm, units=24, sites=["t"]) == 24


@pytest.mark.slow
def test_worlds_do_not_hang_on_what_is_evaluated_beside_them(lm: sd.LanguageModel) -> None:
    together = sd.simulate(chain, 4, 50, lm, worlds=WORLDS, logp=[]).values["y"]
    alone = sd.simulate(chain, 4, 50, lm, worlds=WORLDS[1:2], logp=[]).values["y"]
    under = sd.simulate(chain, 4, 50, lm, do=WORLDS[1], logp=[]).values["y"]
    handled = [exogenous(do(chain, WORLDS[1]), jax.random.fold_in(jax.random.key(4), i))(lm).index for i in range(8)]
    np.testing.assert_array_equal(together[:, 2], alone[:, 1])
    np.testing.assert_array_equal(together[:, 2], under[:, 0])
    np.testing.assert_array_equal(together[:8, 2], np.array(handled))


def test_what_was_observed_is_what_others_are_relative_to(lm: sd.LanguageModel) -> None:
    evidence = {"t": "up", "m": "so", "y": "ab"}
    seen = sd.simulate(chain, 0, 4000, lm, evidence=evidence, worlds=[{"t": "low"}], logp=[]).values["y"]
    assert (seen[:, 0] == 1).all()
    found = seen[:, 1]
    m = [np.exp(_law(lm, "We go {} now", ["it", "to go", "so"], [t])) for t in ("up", "low")]
    y = {(t, k): np.exp(_law(lm, "Be {}", OPTIONS, [t, k])) for t in ("up", "low") for k in range(3)}
    # Each mediator that there may be, and the answer to it.
    expected = np.zeros(3)
    for k in range(3):
        expected += _moved(m[0], m[1], 2)[k] * _moved(y["up", 2], y["low", k], 1)
    np.testing.assert_allclose(np.bincount(found, minlength=3) / 4000, expected, atol=4 * 0.5 / np.sqrt(4000))


def _law(lm: sd.LanguageModel, template: str, options: list[str], given: list[object]) -> np.ndarray:
    texts = [f"It is {given[0]}.", *(f"We go {['it', 'to go', 'so'][k]} now" for k in given[1:])]  # type: ignore[call-overload]
    return np.asarray(sd.Choice(lm, template, options, given=texts, scoring="mean").logits, float)


def _moved(p: np.ndarray, q: np.ndarray, option: int) -> np.ndarray:
    stays = min(1.0, q[option] / p[option])
    more = np.maximum(q - p, 0.0)
    return stays * np.eye(len(p))[option] + (1 - stays) * more / more.sum()


@pytest.mark.slow
def test_order_does_not_matter_and_an_option_beside_may() -> None:
    """Law 7b: the order of options changes no world's value; an option that is added changes ratios of probabilities,
    so it may change another world's value without winning, as the class says."""
    rng, own = np.random.default_rng(0), Maximal()
    names, keys = ("a", "b", "c", "d"), jax.random.split(jax.random.key(0), 500)
    p, q = (jnp.log(jnp.asarray(rng.dirichlet(np.ones(4), 500), jnp.float32)) for _ in range(2))

    def run(key: jax.Array, p: jax.Array, q: jax.Array, places: tuple[int, ...]) -> jax.Array:
        options, first, second = (
            tuple(names[k] for k in places),
            *(jax.nn.log_softmax(x[jnp.array(places)]) for x in (p, q)),
        )
        option = own.respond(first, own.draw(key, options, ()))
        other = own.respond(second, own.posterior(key, options, first, option))
        return jnp.array(places)[jnp.stack([option, other])]

    first, turned, fewer = (
        np.asarray(jax.vmap(lambda k, p, q, places=places: run(k, p, q, places))(keys, p, q))
        for places in ((0, 1, 2, 3), (3, 1, 0, 2), (0, 1, 2))
    )
    np.testing.assert_array_equal(first, turned)
    loses = (first != 3).all(1)
    assert (first[loses, 0] == fewer[loses, 0]).all()
    assert (first[loses, 1] != fewer[loses, 1]).any()
    assert not own.keeps_without_losers


def test_three_worlds_go_together_as_pairs_do() -> None:
    rng, own = np.random.default_rng(1), Maximal()
    for _ in range(20):
        p, q, r = rng.dirichlet(np.ones(4), 3)
        together = own.joint_of_two(p, q, r)
        assert (together >= 0).all()
        np.testing.assert_allclose(together.sum(2), own.joint(p, q), atol=1e-12)
        np.testing.assert_allclose(together.sum(1), own.joint(p, r), atol=1e-12)
        # Two other worlds of one law are one world.
        same = own.joint_of_two(p, q, q).sum(0)
        np.testing.assert_allclose(same, np.diag(q), atol=1e-12)


def test_where_the_factual_world_is_not_at_hand(lm: sd.LanguageModel) -> None:
    def looped(lm: sd.LanguageModel) -> None:
        t = sd.sample("t", sd.Choice(lm, "It is {}.", ["up", "low"]))

        def step(last: sd.Phrase, _: None) -> tuple[sd.Phrase, None]:
            return sd.sample("x", sd.Choice(lm, "It is {}.", ["up", "low"], given=[last], coupling="maximal")), None

        scan(step, t, None, length=2)

    with pytest.raises(sd.InterventionError, match="'x' is inside scan or cond"):
        exogenous(do(looped, {"t": "up"}), 0)(testing.mock_lm(looped))
    with pytest.raises(sd.InterventionError, match=r"needs handlers\.exogenous"):
        numpyro.handlers.seed(do(chain, {"t": "up"}), 0)(lm)
    with pytest.raises(sd.OptionError, match="site 'm' has no coupling 'inverse_cdf'"):
        exogenous(couple(_text, "inverse_cdf", sites=["m"]), 0)(lm)


def _text(lm: sd.LanguageModel) -> None:
    sd.sample("m", sd.Text(lm, "We go {}", max_tokens=2))


def test_dice(lm: sd.LanguageModel) -> None:
    """Against every pair of laws of three options in fifths: margins, and the most agreement that there is."""
    laws = [np.array(x) / 5 for x in itertools.product(range(6), repeat=3) if sum(x) == 5]
    for p, q in itertools.product(laws, laws):
        joint = Maximal().joint(p, q)
        np.testing.assert_allclose([joint.sum(1), joint.sum(0)], [p, q], atol=1e-12)
        assert np.trace(joint) == pytest.approx(1 - np.abs(p - q).sum() / 2)

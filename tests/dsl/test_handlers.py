"""Handlers, alone and nested with NumPyro's."""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers as nh
from numpyro.contrib.control_flow import scan
from numpyro.infer import Predictive
from numpyro.infer.inspect import get_model_relations
from numpyro.infer.util import log_density

import sdscm_jax as sd
from sdscm_jax.families import Family
from sdscm_jax.handlers import counterfactual, do, exogenous


def model(lm: sd.LanguageModel) -> sd.Phrase:
    a = sd.sample("a", sd.Choice(lm, "It is {}.", ["sun", "rain"], temperature=9.0))
    dose = numpyro.sample("dose", dist.Normal(a.map({"sun": 0.0, "rain": 3.0}), 1.0))
    b = sd.sample("b", sd.Choice(lm, "Now {}.", ["low", "high"], given=[a], temperature=jnp.exp(dose) + 5.0))
    numpyro.deterministic("twice", 2 * dose)
    return sd.sample("c", sd.Choice(lm, "Then {}.", ["Bob", "25", "home"], given=[a, b], temperature=9.0))


def values_of(fn: Callable, lm: sd.LanguageModel, *names: str) -> dict[str, jax.Array]:
    """Values of these sites, or of all; jitted, which is faster than op by op, and compiles only what they need."""

    @jax.jit
    def run(lm: sd.LanguageModel) -> dict[str, jax.Array]:
        trace = nh.trace(fn).get_trace(lm)
        return {name: trace[name]["value"] for name in names or trace}

    return run(lm)


def test_exogenous_noise_depends_on_the_name_only(lm: sd.LanguageModel) -> None:
    whole = values_of(exogenous(model, 4), lm, "a", "b", "dose")

    def alone(lm: sd.LanguageModel) -> None:
        numpyro.sample("other", dist.Normal())
        sd.sample("a", sd.Choice(lm, "It is {}.", ["sun", "rain"], temperature=9.0))

    assert int(values_of(exogenous(alone, 4), lm, "a")["a"]) == int(whole["a"])
    # Conditioning on one site does not shift the noise of the others.
    held = values_of(exogenous(nh.condition(model, {"b": 1 - int(whole["b"])}), 4), lm, "b", "dose")
    chex.assert_trees_all_equal(held["dose"], whole["dose"])
    assert int(held["b"]) != int(whole["b"])


@pytest.mark.parametrize("seeded", [lambda fn: exogenous(fn, 2), lambda fn: nh.seed(fn, 2)], ids=["exogenous", "seed"])
def test_do(lm: sd.LanguageModel, seeded: object) -> None:
    natural = values_of(seeded(model), lm)
    for value in ("high", 1, jnp.array(1), np.int32(1)):
        assert int(values_of(seeded(do(model, {"b": value})), lm, "b")["b"]) == 1
    # The sites after it draw the noise that they would have drawn.
    same = values_of(seeded(do(model, {"b": int(natural["b"])})), lm)
    for name in natural:
        chex.assert_trees_all_equal(same[name], natural[name])
    moved = values_of(seeded(do(model, {"dose": 1.5})), lm, "twice")
    assert float(moved["twice"]) == 3.0
    assert float(values_of(seeded(do(model, {"twice": 7.0})), lm, "twice")["twice"]) == 7.0


def test_do_agrees_with_numpyro(lm: sd.LanguageModel) -> None:
    ours = values_of(nh.seed(do(model, {"dose": 0.5, "b": 1}), 8), lm, "c")
    theirs = values_of(nh.seed(nh.do(model, {"dose": 0.5, "b": 1}), 8), lm, "c")
    assert int(ours["c"]) == int(theirs["c"])


def test_kinds_of_intervention(lm: sd.LanguageModel) -> None:
    natural = values_of(exogenous(model, 3), lm, "b", "dose")
    shifted = values_of(exogenous(do(model, {"dose": lambda x: x + 1}), 3), lm, "dose")
    chex.assert_trees_all_close(shifted["dose"], natural["dose"] + 1)
    flipped = values_of(exogenous(do(model, {"b": lambda b: jnp.where(b == "high", 0, 1)}), 3), lm, "b")
    assert int(flipped["b"]) == 1 - int(natural["b"])
    drawn = values_of(exogenous(do(model, {"dose": dist.Delta(4.0)}), 3), lm, "dose")
    assert float(drawn["dose"]) == 4.0
    counts = np.zeros(2, int)
    run = jax.jit(lambda i, lm: nh.trace(exogenous(do(model, {"b": "uniform"}), i)).get_trace(lm)["b"]["value"])
    for i in range(60):
        counts[int(run(jax.random.key(i), lm))] += 1
    assert (counts > 12).all()
    # The outer of two interventions on a site holds.
    twice = values_of(exogenous(do(do(model, {"b": "low"}), {"b": "high"}), 3), lm, "b")
    assert int(twice["b"]) == 1
    with pytest.raises(sd.InterventionError, match="shape"):
        exogenous(do(model, {"dose": lambda x: jnp.zeros(3)}), 3)(lm)


def test_an_intervened_site_adds_nothing_to_the_density(lm: sd.LanguageModel) -> None:
    values = {"a": 0, "dose": 0.3, "c": 1}
    cut, _ = log_density(do(model, {"b": "high"}), (lm,), {}, values)
    whole, trace = log_density(model, (lm,), {}, {**values, "b": 1})
    chex.assert_trees_all_close(cut, whole - trace["b"]["fn"].log_prob(1), atol=1e-4)


def test_numpyro_uses_a_model_as_any_other(lm: sd.LanguageModel) -> None:
    draws = jax.jit(Predictive(model, num_samples=7, parallel=True))(jax.random.key(0), lm)
    assert {k: v.shape for k, v in draws.items()} == dict.fromkeys(("a", "b", "c", "dose", "twice"), (7,))
    forced = jax.jit(Predictive(do(model, {"b": "high"}), num_samples=3, parallel=True))(jax.random.key(0), lm)
    assert forced["b"].tolist() == [1, 1, 1]
    relations = get_model_relations(model, (lm,))["sample_sample"]
    assert relations == {"a": [], "dose": ["a"], "b": ["a", "dose"], "c": ["a", "b"], "twice": ["dose"]}
    assert nh.trace(nh.seed(nh.condition(model, {"b": 1}), 0)).get_trace(lm)["b"]["is_observed"]
    assert int(values_of(nh.seed(nh.substitute(model, {"c": 2}), 0), lm, "c")["c"]) == 2
    observed = sd.sample("x", sd.Choice(lm, "It is {}.", ["sun", "rain"]), obs="rain")
    assert observed.text == "rain"

    def indices(lm: sd.LanguageModel) -> jax.Array:
        return numpyro.sample("a", sd.Choice(lm, "It is {}.", ["sun", "rain"]))

    assert int(nh.seed(indices, 0)(lm)) in (0, 1)

    def plated(lm: sd.LanguageModel) -> sd.Phrase:
        with numpyro.plate("units", 5):
            a = sd.sample("a", sd.Choice(lm, "It is {}.", ["sun", "rain"], temperature=9.0))
            return sd.sample("b", sd.Choice(lm, "Now {}.", ["low", "high"], given=[a], temperature=9.0))

    assert jax.jit(nh.seed(plated, 0))(lm).text.shape == (5,)
    assert jax.jit(nh.seed(do(plated, {"a": "rain"}), 0))(lm).index.shape == (5,)


def test_jit_and_vmap(lm: sd.LanguageModel) -> None:
    keys = jax.random.split(jax.random.key(1), 6)
    run = jax.jit(jax.vmap(lambda key, lm: exogenous(model, key)(lm), in_axes=(0, None)))
    together = run(keys, lm)
    one = jax.jit(lambda key, lm: exogenous(model, key)(lm))
    assert [one(key, lm).text for key in keys] == together.text.tolist()


def test_do_reaches_into_loops(lm: sd.LanguageModel) -> None:
    def visits(lm: sd.LanguageModel) -> jax.Array:
        def visit(last: sd.Phrase, _: None) -> tuple[sd.Phrase, jax.Array]:
            now = sd.sample("state", sd.Choice(lm, "It is {}.", ["low", "high"], given=[last], temperature=9.0))
            return now, now == "high"

        first = sd.sample("first", sd.Choice(lm, "It is {}.", ["low", "high"], temperature=9.0))
        return scan(visit, first, None, length=5)[1]

    natural = jax.jit(exogenous(visits, 6))(lm)
    assert 0 < int(natural.sum()) < 5
    assert jax.jit(exogenous(do(visits, {"state": "high"}), 6))(lm).all()
    trace = values_of(exogenous(do(visits, {"state": "low"}), 6), lm)
    assert trace["state"].tolist() == [0] * 5
    # An intervention before the loop leaves the noise inside it alone.
    again = jax.jit(exogenous(do(visits, {"first": "high"}), 6))(lm)
    back = jax.jit(exogenous(do(visits, {"first": "low"}), 6))(lm)
    first = values_of(exogenous(visits, 6), lm)["first"]
    chex.assert_trees_all_equal(natural, again if int(first) else back)


def test_sites_in_loops_have_log_probabilities(lm: sd.LanguageModel) -> None:
    def visits(lm: sd.LanguageModel, loop: bool = True) -> None:
        def visit(last: sd.Phrase, _: None) -> tuple[sd.Phrase, None]:
            return sd.sample("state", sd.Choice(lm, "It is {}.", ["low", "high"], given=[last], temperature=9.0)), None

        last = sd.sample("first", sd.Choice(lm, "It is {}.", ["low", "high"], temperature=9.0))
        if loop:
            scan(visit, last, None, length=3)
        else:
            for i in range(3):
                with nh.scope(prefix=str(i)):
                    last, _ = visit(last, None)

    states = [0, 1, 1]
    looped = jax.jit(lambda lm, states: log_density(visits, (lm,), {}, {"first": 1, "state": states})[0])
    values = {"first": 1, **{f"{i}/state": jnp.array(s) for i, s in enumerate(states)}}
    unrolled = jax.jit(lambda lm: log_density(visits, (lm, False), {}, values)[0])
    np.testing.assert_allclose(looped(lm, jnp.array(states)), unrolled(lm), rtol=1e-4)
    assert sd.simulate(visits, 0, 4, lm).log_probs["state"].shape == (4, 1, 3, 2)


def test_counterfactual(lm: sd.LanguageModel) -> None:
    worlds = [{"b": "low"}, {"b": "high"}, {"a": "rain", "dose": lambda x: x + 1.0}]
    several = counterfactual(model, worlds=worlds)
    key = jax.random.key(5)
    result = jax.jit(exogenous(several, key))(lm)
    chex.assert_shape(result.index, (4,))
    singles = [values_of(exogenous(fn, key), lm, "c")["c"] for fn in (model, *(do(model, world) for world in worlds))]
    assert result.index.tolist() == [int(s) for s in singles]
    assert int(jax.jit(exogenous(counterfactual(model, {"b": "high"}), key))(lm).index) == int(singles[2])
    trace = values_of(exogenous(several, key), lm)
    assert int(trace["c|do(b=high)"]) == int(singles[2])
    assert int(trace["c"]) == int(singles[0])
    assert "dose|do(a=rain, dose=<lambda>)" in trace
    with pytest.raises(sd.SiteError, match="run it under"):
        several(lm)
    with pytest.raises(sd.InterventionError, match="either do"):
        counterfactual(model)


LABELS = ("|do(PD-L1 level=traced)", "|do(PD-L1 level=traced) (2)")


@pytest.mark.slow
def test_counterfactuals_of_the_oncology_model_compile_once(embedded: sd.LanguageModel) -> None:
    model = Family.from_vignette(sd.vignettes.oncology).member(0)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(key: jax.Array, levels: jax.Array, lm: sd.LanguageModel) -> jax.Array:
        worlds = [{"PD-L1 level": levels[0]}, {"PD-L1 level": levels[1]}]
        with nh.trace() as trace:
            exogenous(counterfactual(model, worlds=worlds), key)(lm)
        return jnp.stack([trace[f"therapy{world}"]["value"] for world in ("", *LABELS)])

    first = run(jax.random.key(0), jnp.array([0, 1]), embedded)
    # New interventions of the same shape, and another unit.
    swapped = run(jax.random.key(0), jnp.array([1, 0]), embedded)
    assert swapped.tolist() == [first[0], first[2], first[1]]
    run(jax.random.key(1), jnp.array([0, 1]), embedded)
    chex.clear_trace_counter()


def test_three_worlds_compile_once(lm: sd.LanguageModel) -> None:
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(key: jax.Array, levels: jax.Array, lm: sd.LanguageModel) -> jax.Array:
        def world(level: jax.Array) -> jax.Array:
            return exogenous(do(model, {"b": level}), key)(lm).index

        return jax.vmap(world)(levels)

    for i in range(3):
        run(jax.random.key(i), jnp.array([i % 2, 1, 0]), lm)
    chex.clear_trace_counter()

"""Who owns what a run has had encoded: phrases hold nothing, no run leaves anything behind, no tracer gets out."""

from __future__ import annotations

import copy
import gc
import importlib.util
import pickle
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro.contrib.control_flow import cond, scan

import sdscm_jax as sd
from sdscm_jax.dsl.scoring import encoded_texts
from sdscm_jax.engine.traced_tokens import traced_tokens
from sdscm_jax.handlers import exogenous

KEYS = jax.random.split(jax.random.key(0), 2)


def model(lm: sd.LanguageModel) -> sd.Phrase:
    weather = sd.sample("weather", sd.Choice(lm, "It is {}.", ["low", "high"]))
    run = sd.sample("run", sd.Choice(lm, "My friend goes for {}.", ["a run", "a low run"], given=[weather]))
    note = sd.sample("note", sd.Text(lm, "She {}.", max_tokens=2, given=[weather, run]))
    return sd.sample("end", sd.Choice(lm, "It is {}.", ["sunny", "high"], given=[weather, run, note]))


def looped(lm: sd.LanguageModel) -> sd.Phrase:
    def step(last: sd.Phrase, _: Any) -> tuple[sd.Phrase, jax.Array]:
        run = sd.sample("run", sd.Choice(lm, "It is {}.", ["low", "high"], given=[last]))
        return run, sd.sample("more", sd.Choice(lm, "Is it {}?", ["low", "high"], given=[last, run])).index

    last, _ = scan(step, sd.sample("first", sd.Choice(lm, "It is {}.", ["low", "high"])), None, 2)
    branches = [
        lambda phrase, more=more: sd.sample("b", sd.Choice(lm, "{}.", ["a", "b"], given=[*more, phrase]))
        for more in ([], ["Oh."])
    ]
    chosen = cond(last == "low", *branches, last)
    return sd.sample("end", sd.Choice(lm, "So {}.", ["low", "high"], given=[last, chosen]))


def test_a_phrase_is_a_plain_value(lm: sd.LanguageModel) -> None:
    choice = sd.Choice(lm, "It is {}.", ["low", "high"])
    text = sd.Text(lm, "She {}.", max_tokens=2)
    for phrase in (choice.phrase(jnp.array([0, 1]), "a"), text.phrase(jnp.array([[5, -1], [6, 7]]), "t")):
        before = pickle.dumps(phrase)
        _ = sd.Choice(lm, "So {}.", ["low", "high"], given=[phrase]).scores
        with exogenous(key=0):
            sd.sample("read", sd.Choice(lm, "So {}.", ["low", "high"], given=[phrase]))
        assert pickle.dumps(phrase) == before
        for other in (pickle.loads(before), copy.copy(phrase), copy.deepcopy(phrase)):
            assert type(other) is type(phrase)
            assert (phrase == other).all()
            assert (other.name, other.template, other.options) == (phrase.name, phrase.template, phrase.options)
        with pytest.raises(AttributeError):
            phrase.memo = 1  # type: ignore[union-attr]


def alive() -> list[weakref.ref]:
    gc.collect()
    return [weakref.ref(texts) for texts in list(encoded_texts._ALIVE)]


@pytest.mark.slow
@pytest.mark.parametrize("run", [exogenous, numpyro.handlers.seed])
def test_what_is_encoded_goes_with_its_run(lm: sd.LanguageModel, run: Callable) -> None:
    def spied(lm: sd.LanguageModel) -> sd.Phrase:
        first = sd.Choice(lm, "It is {}.", ["low", "high"])
        phrase = sd.sample("first", first)
        seen[:] = [texts for texts in alive() if texts() not in before]
        assert first._encoded in [texts() for texts in seen]
        assert first._encoded.scored
        return phrase

    def go(lm: sd.LanguageModel) -> sd.Phrase:
        phrase = run(spied, jax.random.key(0))(lm)
        assert all(texts() is None for texts in seen)
        return phrase

    seen: list[weakref.ref] = []
    before = {texts() for texts in alive()}
    assert go(lm).text in ("low", "high")
    jax.make_jaxpr(go)(lm)
    assert {texts() for texts in alive()} <= before


def test_it_holds_nothing_that_a_copy_would_take_along(lm: sd.LanguageModel) -> None:
    choice = sd.Choice(lm, "It is {}.", ["low", "high"])
    _ = choice.scores
    assert choice._encoded is not None
    assert choice._encoded.scored
    assert not copy.deepcopy(choice._encoded).scored
    assert not pickle.loads(pickle.dumps(choice._encoded)).scored


@pytest.mark.parametrize(
    "program", [pytest.param(looped, marks=pytest.mark.search), pytest.param(model, marks=pytest.mark.slow)]
)
def test_no_tracer_gets_out_of_its_trace(lm: sd.LanguageModel, program: Callable) -> None:
    kept = exogenous(program, jax.random.key(3))
    with jax.check_tracer_leaks():
        # The same handler in one trace after another.
        jax.make_jaxpr(jax.vmap(lambda key: exogenous(program, key)(lm)))(KEYS)
        jax.make_jaxpr(kept)(lm)
        jax.make_jaxpr(kept)(lm)


def test_a_mechanism_from_outside_serves_in_every_trace(lm: sd.LanguageModel) -> None:
    choice = sd.Choice(lm, "It is {}.", ["low", "high"])
    scores = choice.scores
    with jax.check_tracer_leaks():
        inside = jax.jit(lambda x: choice.scores + x)(0.0)
        doubled = jax.jit(lambda x: jax.vmap(lambda y: choice.logits + y)(x))(jnp.zeros(2))
    chex.assert_trees_all_close(inside, scores, atol=1e-5)
    chex.assert_trees_all_close(doubled[1], choice.logits, atol=1e-5)


def test_numbers_that_change_are_other_texts(lm: sd.LanguageModel) -> None:
    with exogenous(key=0):
        at = np.array(0)
        phrase = sd.Choice(lm, "It is {}.", ["low", "high"]).phrase(at)
        first = sd.Choice(lm, "So {}.", ["a", "b"], given=[phrase]).scores
        at[...] = 1
        second = sd.Choice(lm, "So {}.", ["a", "b"], given=[phrase]).scores
    alone = sd.Choice(lm, "So {}.", ["a", "b"], given=["It is high."]).scores
    chex.assert_trees_all_close(second, alone, atol=1e-4)
    assert not np.allclose(first, second, atol=1e-3)


def test_any_handler_carries_from_site_to_site(lm: sd.LanguageModel) -> None:
    key = jax.random.key(0)
    runs = [lambda lm: exogenous(model, key)(lm), lambda lm: numpyro.handlers.seed(model, key)(lm)]
    runs.append(lambda lm: list(numpyro.handlers.trace(numpyro.handlers.seed(model, key)).get_trace(lm)) and None)
    assert len({traced_tokens(jax.make_jaxpr(run)(lm).jaxpr) for run in runs}) == 1


def test_sites_of_one_text_ask_once(lm: sd.LanguageModel) -> None:
    def asked(lm: sd.LanguageModel, times: int) -> list[jax.Array]:
        with exogenous(key=0):
            return [sd.Choice(lm, "It is {}.", ["low", "high"]).logits for _ in range(times)]

    once, twice = (traced_tokens(jax.make_jaxpr(lambda lm, n=n: asked(lm, n))(lm).jaxpr) for n in (1, 2))
    assert once == twice > 0


def test_imported_while_something_is_traced() -> None:
    def loaded(x: jax.Array) -> jax.Array:
        spec = importlib.util.spec_from_file_location(encoded_texts.__name__, encoded_texts.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append(module)
        assert module.in_trace()
        return x

    found: list[ModuleType] = []
    jax.jit(loaded)(0.0)
    assert not found[0].in_trace()

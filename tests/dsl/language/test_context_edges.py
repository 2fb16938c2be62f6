"""Edges of the graph do not get lost: strings and phrases in ``given`` are told apart, and a text that was made from a
phrase inside a model is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.handlers import trace

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.dsl.scoring.encoded_texts import Said
from sdscm_jax.handlers import exogenous
from sdscm_jax.testing.execution import check_execution

HELLO = ["hello", "goodbye"]
Model = Callable[[sd.LanguageModel], Any]


def plans(lm: sd.LanguageModel) -> Any:
    """Two roots share a text, and a third site is given both."""
    a = sd.sample("a", sd.Choice(lm, "It is {}.", HELLO, given="We meet."))
    b = sd.sample("b", sd.Choice(lm, "You say {}.", HELLO, given="We meet."))
    return sd.sample("c", sd.Choice(lm, "The plan is to {}.", ["wait", "go"], given=[a, b]))


def echo(lm: sd.LanguageModel) -> Any:
    """A string is given that is an option of the phrase that another site has in its place."""
    word = sd.sample("word", sd.Choice(lm, "{} is said", HELLO, given=["."]))
    x = sd.sample("x", sd.Choice(lm, "so it is {}.", ["low", "high"], given=["hello"]))
    return sd.sample("y", sd.Choice(lm, "and then {}.", ["sun", "rain"], given=[word, x]))


@pytest.mark.slow
@pytest.mark.parametrize("model", [plans, echo])
def test_strings_where_others_have_phrases(model: Model) -> None:
    lm = testing.mock_lm(model)
    assert check_execution(model, 0, lm, units=20)
    for unit in range(4):
        found = trace(exogenous(model, unit)).get_trace(lm)
        last = found[list(found)[-1]]["fn"]
        given = [item if isinstance(item, str) else item.sentence for item in last.given]
        alone = sd.Choice(lm, str(last.template), last.options, given=given)
        np.testing.assert_allclose(last.logits, alone.logits, atol=5e-4)


def test_texts_are_the_same_by_what_they_say() -> None:
    lm = testing.mock_lm()
    low, again, drawn = (sd.Choice(lm, "It is {}.", HELLO).phrase(at) for at in (0, 0, jnp.array(0)))
    for a, b, same in (
        ((low, "a"), (again, "a"), True),
        ((drawn,), (drawn.at(drawn.index),), True),
        # Of arrays, which may be traced, only the very same one is known to be the same.
        ((drawn,), (drawn.at(jnp.array(0)),), False),
        ((low,), (low.at(1),), False),
        (("hello",), (low,), False),
        (("It is hello.",), (low,), False),
        ((low,), (sd.Choice(lm, "It was {}.", HELLO).phrase(0),), False),
        (("a",), ("b",), False),
    ):
        assert (Said.of(lm, False, a) == Said.of(lm, False, b)) is same
    assert Said.of(lm, False, ["a"]) != Said.of(lm, True, ["a"])
    assert Said.of(lm, False, ["a"]) != Said.of(testing.mock_lm(), False, ["a"])


def fstring(lm: Any, a: Any) -> Any:
    return [f"Before: {a}"]


def written(lm: Any, a: Any) -> Any:
    return [str(a)]


def text_of(lm: Any, a: Any) -> Any:
    return [a.text]


def shown(lm: Any, a: Any) -> Any:
    return [f"{a!r}"]


def index(lm: Any, a: Any) -> Any:
    return [f"It is number {a.index}."]


def added(lm: Any, a: Any) -> Any:
    return [f"It is number {a.index + 1}."]


@pytest.mark.parametrize("given", [fstring, written, text_of, shown, index, added])
def test_a_text_made_from_a_phrase_is_refused(given: Callable) -> None:
    def model(lm: sd.LanguageModel) -> None:
        a = sd.sample("a", sd.Choice(lm, "It is {}.", HELLO))
        sd.sample("b", sd.Choice(lm, "You say {}.", HELLO, given=given(lm, a)))

    lm = testing.mock_lm()
    for run in (
        sd.graph,
        sd.tabulate,
        lambda m, lm: sd.simulate(m, 0, 2, lm),
        lambda m, lm: jax.jit(exogenous(m, 0))(lm),
    ):
        with pytest.raises(sd.GivenError, match="the phrase itself"):
            run(model, lm)


def test_templates_and_options_made_from_phrases_are_refused() -> None:
    lm = testing.mock_lm()

    def template(lm: sd.LanguageModel) -> None:
        a = sd.sample("a", sd.Choice(lm, "It is {}.", HELLO))
        sd.sample("b", sd.Choice(lm, f"After {a.index} you say {{}}.", HELLO))

    def option(lm: sd.LanguageModel) -> None:
        a = sd.sample("a", sd.Choice(lm, "It is {}.", HELLO))
        sd.sample("b", sd.Choice(lm, "You say {}.", ["low", f"not {a.index}"]))

    with pytest.raises(sd.TemplateError, match="the phrase itself"):
        sd.graph(template, lm)
    with pytest.raises(sd.OptionError, match="the phrase itself"):
        sd.graph(option, lm)


def test_a_phrase_is_shown_on_the_host() -> None:
    phrase = sd.Choice(testing.mock_lm(), "It is {}.", HELLO).phrase(0, "a")
    assert str(phrase) == f"{phrase}" == repr(phrase) == "Phrase('a': 'hello')"


def test_the_name_of_a_site_is_no_text() -> None:
    def model(lm: sd.LanguageModel) -> None:
        sd.sample("a", sd.Choice(lm, "It is {}.", HELLO))
        sd.sample("b", sd.Choice(lm, "You say {}.", HELLO, given=["a"]))

    with pytest.raises(sd.GivenError, match=r"'b' is given the text 'a', which is the name of an earlier site"):
        sd.simulate(model, 0, 2, testing.mock_lm())


@pytest.mark.parametrize("seen", [[True, False, True], np.array([True, False, True]), np.array([1, 0, 1])])
def test_observations_may_be_booleans(seen: Any) -> None:
    def model(lm: sd.LanguageModel) -> Any:
        x = sd.sample("x", sd.Choice(lm, "It is {}.", HELLO), obs=seen)
        return sd.sample("y", sd.Choice(lm, "You say {}.", HELLO, given=[x]))

    lm = testing.mock_lm(model)
    found = trace(exogenous(model, 0)).get_trace(lm)
    assert found["x"]["value"].tolist() == [1, 0, 1]
    assert found["y"]["fn"].logits.shape == (3, 2)
    for row, option in enumerate((1, 0, 1)):
        alone = sd.Choice(lm, "You say {}.", HELLO, given=[found["x"]["fn"].phrase(option)])
        np.testing.assert_allclose(found["y"]["fn"].logits[row], alone.logits, atol=5e-4)


def test_a_single_boolean() -> None:
    def model(lm: sd.LanguageModel, seen: Any) -> Any:
        x = sd.sample("x", sd.Choice(lm, "It is {}.", HELLO), obs=seen)
        return sd.sample("y", sd.Choice(lm, "You say {}.", HELLO, given=[x]))

    lm = testing.mock_lm(lambda lm: model(lm, 1))
    assert exogenous(model, 0)(lm, True).index.shape == ()
    jitted = jax.jit(lambda lm, seen: trace(exogenous(model, 0)).get_trace(lm, seen)["y"]["fn"].logits)
    np.testing.assert_allclose(jitted(lm, True), jitted(lm, 1), atol=1e-4)

"""Scores of which no probabilities come are an error that names the site, never the first option of every unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.errors import ScoreError

WAYS = ("staged", "in_graph")


def weather(lm: sd.LanguageModel, bias: Any, temperature: Any = 1.0) -> None:
    # A traced bias and temperature cannot be looked at when the choice is made.
    season = sd.sample(
        "season", sd.Choice(lm, "It is {}.", ["summer", "winter"], bias=2 * bias, temperature=temperature)
    )
    sd.sample("sky", sd.Choice(lm, "The sky is {}.", ["blue", "grey"], given=[season]))


def simple(lm: sd.LanguageModel) -> None:
    weather(lm, jnp.zeros(2))


def note(lm: sd.LanguageModel) -> None:
    sd.sample("note", sd.Text(lm, "We saw {}.", max_tokens=4))


@pytest.fixture(scope="module")
def lm() -> sd.LanguageModel:
    return testing.mock_lm(simple)


@pytest.fixture(scope="module")
def diverged() -> sd.LanguageModel:
    lm = sd.load_lm()
    return jax.tree.map(lambda x: jnp.full_like(x, jnp.nan) if x.ndim > 1 else x, lm)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bias", [[np.nan, 0.0], [0.0, np.inf], [-np.inf, -np.inf]])
def test_a_traced_bias_without_probabilities(lm: sd.LanguageModel, way: str, bias: list[float]) -> None:
    with pytest.raises(ScoreError, match="site 'season' has no value in 5 of 5 rows"):
        sd.simulate(lambda lm, b: weather(lm, b * 1.0), 0, 5, lm, jnp.array(bias), execution=way)


@pytest.mark.parametrize(
    ("bias", "said"),
    [
        ([np.nan, 0.0], r"bias is of numbers, got nan at \(0,\)"),
        ([0.0, np.inf], r"a bias is finite, or -inf for some of the options, got .*\[ *0\., +inf\]"),
        ([-np.inf, -np.inf], r"a bias is finite, or -inf for some of the options, got .*\[-inf, -inf\]"),
    ],
)
def test_a_known_bias_without_probabilities(lm: sd.LanguageModel, bias: list[float], said: str) -> None:
    with pytest.raises(sd.OptionError, match=said):
        sd.Choice(lm, "It is {}.", ["summer", "winter"], bias=bias)


def test_minus_infinity_is_an_option_that_is_never_drawn(lm: sd.LanguageModel) -> None:
    data = sd.simulate(weather, 0, 50, lm, jnp.array([-jnp.inf, 0.0]))
    assert (data.values["season"] == 1).all()


@pytest.mark.parametrize("way", WAYS)
def test_a_small_temperature_does_not_overflow(lm: sd.LanguageModel, way: str) -> None:
    scores = sd.Choice(lm, "It is {}.", ["summer", "winter"]).scores
    data = sd.simulate(lambda lm, t: weather(lm, jnp.zeros(2), t), 0, 20, lm, jnp.float32(2e-38), execution=way)
    assert (data.values["season"] == int(scores.argmax())).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf, 1e-40, "warm"])
def test_a_temperature_is_positive_and_finite(lm: sd.LanguageModel, temperature: Any) -> None:
    with pytest.raises(sd.OptionError, match="temperature"):
        sd.Choice(lm, "It is {}.", ["summer", "winter"], temperature=temperature)


@pytest.mark.parametrize("way", WAYS)
def test_a_diverged_language_model(diverged: sd.LanguageModel, way: str) -> None:
    with pytest.raises(ScoreError, match="site 'season'") as error:
        sd.simulate(simple, 0, 5, diverged, execution=way)
    if way == "staged":
        assert "It is" in str(error.value)
        assert diverged.fingerprint()[:12] in str(error.value)


CALLS: tuple[tuple[Callable[[Any], Any], str], ...] = (
    (lambda lm: sd.tabulate(simple, lm)(), "site 'season': .* gives its options no probabilities after .*It is'"),
    (lambda lm: sd.effects.exact(simple, lm), "site 'season': .* gives its options no probabilities after .*It is'"),
    (lambda lm: sd.handlers.exogenous(simple, 0)(lm), "'It is {}.': its options have no probabilities"),
    (lambda lm: sd.handlers.exogenous(note, 0)(lm), "'We saw {}.': .* gives the next token no probabilities"),
    (lambda lm: sd.simulate(note, 0, 5, lm), "site 'note': .* gives the token after .*We saw' no probabilities"),
    (
        lambda lm: sd.simulate(note, 0, 5, lm, execution="in_graph"),
        "site 'note' has no value in 5 of 5 rows",
    ),
)


@pytest.mark.parametrize(("call", "said"), CALLS)
def test_a_diverged_language_model_elsewhere(diverged: sd.LanguageModel, call: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(ScoreError, match=said):
        call(diverged)


def test_a_number_that_is_none() -> None:

    def model() -> None:
        y = numpyro.sample("y", dist.Normal(0.0, 1.0))
        numpyro.sample("x", dist.Normal(jnp.sqrt(-1 - y**2), 1.0, validate_args=False))

    with pytest.raises(ScoreError, match="site 'x' has no value in 3 of 3 rows"):
        sd.simulate(model, 0, 3)

"""Choices where NumPyro takes any discrete distribution: loops that are summed out, texts that are set, divergences."""

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
from numpyro.contrib.control_flow import scan
from numpyro.infer import Predictive
from numpyro.infer.util import log_density

import sdscm_jax as sd
from sdscm_jax import testing

MOODS, NOISE = ["calm", "angry", "sad"], ["quiet", "loud"]
MOVES = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.2, 0.6]])
HEARD = np.array([[0.8, 0.2], [0.1, 0.9], [0.5, 0.5]])
SEEN = jnp.array([0, 1, 1, 0, 1])


def step(lm: sd.LanguageModel, mood: sd.Phrase, heard: object = None) -> sd.Phrase:
    mood = sd.sample("mood", sd.Choice(lm, "He is {}.", MOODS, given=[mood], temperature=2.0))
    sd.sample("heard", sd.Choice(lm, "It is {}.", NOISE, given=[mood], bias=jnp.array([0.3, 0.0])), obs=heard)
    return mood


def one_step(lm: sd.LanguageModel) -> sd.Phrase:
    return step(lm, sd.sample("before", sd.Choice(lm, "He was {}.", MOODS)))


def of_moods(lm: sd.LanguageModel, number: int) -> sd.Phrase:
    return sd.Choice(lm, "He was {}.", MOODS).phrase(jnp.array(number))


@pytest.fixture(scope="module")
def mock() -> sd.LanguageModel:
    probs = {"before": [0.2, 0.3, 0.5], "mood": MOVES, "heard": HEARD}
    return testing.mock_lm(one_step, probs=probs)


@pytest.mark.slow
@pytest.mark.parametrize("table", [False, True])
def test_a_hidden_markov_model_is_summed_out(mock: sd.LanguageModel, table: bool) -> None:
    """Against the forward algorithm."""
    pytest.importorskip("funsor")
    from numpyro.contrib.funsor import config_enumerate, enum, log_density

    def model(lm: sd.LanguageModel) -> None:
        # The text that a mood stands in is another one than that of the step; its number goes on.
        def again(number: jax.Array, heard: jax.Array) -> tuple[jax.Array, None]:
            was = sd.Choice(lm, "He was {}.", MOODS).phrase(number)
            return jnp.asarray(step(lm, was, heard).index), None

        scan(again, jnp.array(1), SEEN)

    moves, heard = np.sqrt(MOVES), HEARD * np.exp([0.3, 0.0])
    moves, heard = (x / x.sum(-1, keepdims=True) for x in (moves, heard))
    forward = np.eye(3)[1]
    for seen in SEEN:
        forward = (forward @ moves) * heard[:, seen]
    fn: Callable = sd.tabulate(model, mock) if table else lambda: model(mock)
    found = log_density(enum(config_enumerate(fn), first_available_dim=-1), (), {}, {})[0]
    np.testing.assert_allclose(found, np.log(forward.sum()), rtol=1e-5)


@pytest.mark.parametrize("handler", [nh.condition, nh.substitute])
def test_texts_are_option_numbers_in_traces(mock: sd.LanguageModel, handler: Callable) -> None:
    model = handler(one_step, data={"before": "sad", "heard": "loud"})
    trace = nh.trace(nh.seed(model, 0)).get_trace(mock)
    assert int(trace["before"]["value"]) == 2
    assert int(trace["heard"]["value"]) == 1
    for predictive in (Predictive, sd.Predictive):
        found = predictive(model, num_samples=3)(jax.random.key(0), mock)
        assert found["before"].tolist() == [2] * 3
        assert found["heard"].tolist() == [1] * 3
    with pytest.raises(sd.OptionError, match="site 'before' has no option 'glad'"):
        nh.seed(handler(one_step, data={"before": "glad"}), 0)(mock)


def test_entropies_and_divergences(mock: sd.LanguageModel) -> None:
    def mood(number: object, options: list[str] = MOODS) -> sd.Choice:
        return sd.Choice(mock, "He is {}.", options, given=[of_moods(mock, 0).at(number)])

    every = mood(jnp.arange(3))
    like = dist.Categorical(probs=jnp.asarray(MOVES))
    np.testing.assert_allclose(every.entropy(), like.entropy(), rtol=1e-4)
    expected = dist.kl_divergence(like, dist.Categorical(probs=jnp.asarray(MOVES[1])))
    np.testing.assert_allclose(dist.kl_divergence(every, mood(1)), expected, rtol=1e-3, atol=1e-5)
    # By text, whatever the order.
    np.testing.assert_allclose(dist.kl_divergence(every, mood(1, MOODS[::-1])), expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(sd.OptionError, match="'quiet'"):
        dist.kl_divergence(every, sd.Choice(mock, "It is {}.", NOISE))
    certain = sd.Choice(mock, "He is {}.", MOODS, scoring="uniform", bias=jnp.array([0.0, -jnp.inf, -jnp.inf]))
    assert certain.entropy() == 0


def test_lazy_values_are_refused(mock: sd.LanguageModel) -> None:
    pytest.importorskip("funsor")
    with pytest.raises(sd.SiteError, match="'before' cannot be collapsed"), nh.collapse():
        nh.seed(one_step, 0)(mock)


def test_a_value_that_is_none_of_a_sites_options_has_density_0_whatever_reads_it() -> None:
    """As a Categorical out of its support, though a probability given such a value is none."""

    def program(lm: sd.LanguageModel) -> None:
        x = sd.sample("x", sd.Choice(lm, "It is {}.", ["low", "high"]))
        sd.sample("y", sd.Choice(lm, "Then {}.", ["wait", "treat"], given=[x]))

    def plain() -> None:
        x = numpyro.sample("x", dist.Categorical(jnp.array([0.5, 0.5])))
        numpyro.sample("y", dist.Categorical(jnp.array([[0.9, 0.1], [0.2, 0.8]])[x]))

    lm = testing.mock_lm(program, probs={"x": [0.5, 0.5], "y": [[0.9, 0.1], [0.2, 0.8]]})
    table = sd.tabulate(program, lm)
    values = jnp.array([(x, y) for x in (-1, 0, 1, 2) for y in (-1, 0, 1, 2)])

    def densities(model: Any, *args: Any) -> np.ndarray:
        one = lambda x, y: log_density(model, args, {}, {"x": x, "y": y})[0]  # noqa: E731
        return np.asarray(jax.jit(jax.vmap(one))(*values.T))

    expected = densities(plain)
    outside = ((values < 0) | (values > 1)).any(1)
    # NumPyro indexes with -1 from the end, and its x is out of its support all the same.
    np.testing.assert_array_equal(np.isneginf(expected), outside)
    for found in (densities(program, lm), densities(table)):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    # Of a phrase that no site drew there is nothing that would have probability 0, and nothing is known after it.
    level = sd.Choice(lm, "It is {}.", ["low", "high"])

    @jax.jit
    def after(number: jax.Array) -> jax.Array:
        return sd.Choice(lm, "Then {}.", ["wait", "treat"], given=[level.phrase(number)]).log_prob(1)

    assert np.isnan(after(-1))
    assert np.isfinite(after(1))

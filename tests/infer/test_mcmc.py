"""Sampling with tables in place of the language model, against quadrature and exact posteriors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS, DiscreteHMCGibbs

import sdscm_jax as sd
from sdscm_jax.dsl.tables import tabulate as tabulate_module

from ..plain import option_log_probs
from . import count_encodes

WEATHER, PLACE = ["sunny", "low", "high"], ["a run", "25"]
GOES = np.array([0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1])
SEEN = np.array([0, 1, 2, 0, 1, 1, 2, 2, 0, 1, 0, 2, 1, 0, 0])


def observed(lm: sd.LanguageModel) -> None:
    """A temperature and a bias that are unknown, and what was seen of N units."""
    heat = numpyro.sample("log_temperature", dist.Normal(0.5, 0.7))
    bias = numpyro.sample("bias", dist.Normal(0.0, 1.0))
    with numpyro.plate("units", len(GOES)):
        # A number for each option; the last one's is 0.
        weather = sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER), obs=SEEN)
        tilt = jnp.stack([bias, jnp.zeros_like(bias)], -1)
        go = sd.Choice(lm, "My friend goes for {}.", PLACE, given=[weather], temperature=jnp.exp(heat), bias=tilt)
        sd.sample("goes", go, obs=GOES)


@pytest.fixture(scope="module")
def goes_scores(lm: sd.LanguageModel) -> np.ndarray:
    """Scores of the place in each weather, ``[3, 2]``, from whole texts."""
    context = [f"The weather is {w}." for w in WEATHER]
    return np.stack([option_log_probs(lm, text, "My friend goes for {}.", PLACE) for text in context])


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def moments(grid: np.ndarray, log_weights: np.ndarray) -> tuple[float, float]:
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    mean = float(weights @ grid)
    return mean, float(weights @ (grid - mean) ** 2) ** 0.5


@pytest.mark.slow
def test_nuts_on_a_table(
    lm: sd.LanguageModel, goes_scores: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The posterior of temperature and bias is that of a sum over a grid; no language model is asked."""
    made = sd.tabulate(observed, lm)
    made.save(tmp_path / "table.safetensors")
    table = sd.load_table(tmp_path / "table.safetensors", observed)
    calls = count_encodes(monkeypatch)
    mcmc = MCMC(NUTS(table), num_warmup=300, num_samples=2000, progress_bar=False)
    mcmc.run(jax.random.key(0))
    assert not calls
    samples = {name: np.asarray(x, float) for name, x in mcmc.get_samples().items()}

    heat, bias = np.linspace(-3, 4, 401), np.linspace(-5, 5, 401)
    logits = goes_scores[SEEN][:, None] / np.exp(heat)[:, None]
    margin = logits[..., 0] - logits[..., 1]
    log_joint = -0.5 * ((heat[:, None] - 0.5) / 0.7) ** 2 - 0.5 * bias**2
    for unit, goes in enumerate(GOES):
        z = margin[unit][:, None] + bias
        log_joint = log_joint - np.logaddexp(0.0, -z if goes == 0 else z)
    exact = {
        "log_temperature": moments(heat, np.logaddexp.reduce(log_joint, 1)),
        "bias": moments(bias, np.logaddexp.reduce(log_joint, 0)),
    }
    for name, (mean, sd_) in exact.items():
        # Draws of NUTS are correlated: count them as a sixth.
        assert abs(samples[name].mean() - mean) < 4 * sd_ / np.sqrt(len(samples[name]) / 6), name
        np.testing.assert_allclose(samples[name].std(), sd_, rtol=0.15)
    # What was seen says something: the posterior is not the prior.
    assert exact["bias"][1] < 0.85


@pytest.mark.slow
def test_a_gibbs_sampler_of_a_latent_site(
    lm: sd.LanguageModel, goes_scores: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weather is latent; its draws have the exact posterior given bias, summed over a grid of it."""
    seen, units = np.array([0, 1, 1]), 3

    def latent(lm: sd.LanguageModel) -> None:
        bias = numpyro.sample("bias", dist.Normal(0.0, 1.0))
        with numpyro.plate("units", units):
            weather = sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER, temperature=4.0))
            # The bias pulls towards a run where it is sunny, away from it elsewhere.
            tilt = (bias * jnp.array([2.0, -1.0, -2.0]))[weather.index]
            tilt = jnp.stack([tilt, jnp.zeros_like(tilt)], -1)
            go = sd.Choice(lm, "My friend goes for {}.", PLACE, given=[weather], temperature=9.0, bias=tilt)
            sd.sample("goes", go, obs=seen)

    table = sd.tabulate(latent, lm)
    calls = count_encodes(monkeypatch)
    # Not marked for enumeration: the sampler owns the site.
    kernel = DiscreteHMCGibbs(NUTS(table), modified=True)
    mcmc = MCMC(kernel, num_warmup=200, num_samples=3000, progress_bar=False)
    mcmc.run(jax.random.key(2))
    assert not calls
    draws = {name: np.asarray(x) for name, x in mcmc.get_samples().items()}
    assert draws["weather"].shape == (3000, units)

    grid = np.linspace(-6, 6, 1201)
    prior = log_softmax(option_log_probs(lm, "", "The weather is {}.", WEATHER) / 4.0)
    logits = np.broadcast_to(goes_scores / 9.0, (len(grid), 3, 2)).copy()
    logits[..., 0] += grid[:, None] * np.array([2.0, -1.0, -2.0])
    joint = prior + log_softmax(logits)[:, :, seen].transpose(2, 0, 1)  # [units, grid, weather]
    by_unit = np.logaddexp.reduce(joint, -1)
    density = -0.5 * grid**2 + by_unit.sum(0)
    weights = np.exp(density - np.logaddexp.reduce(density))
    exact = np.einsum("g,ugw->uw", weights, np.exp(joint - by_unit[..., None]))
    share = np.stack([(draws["weather"] == w).mean(0) for w in range(3)], -1)
    # Draws of a chain: count them as a tenth.
    assert (np.abs(share - exact) < 4 * np.sqrt(exact * (1 - exact) / 300)).all()
    mean, sd_ = moments(grid, density)
    assert abs(draws["bias"].mean() - mean) < 4 * sd_ / np.sqrt(300)
    assert np.abs(exact - np.exp(prior)).max() > 0.1


# -- tables ---------------------------------------------------------------------------------------


def story(lm: sd.LanguageModel, other: sd.LanguageModel, temperature: object = 1.0) -> None:
    """Several scorings, strings among what is given, two language models and a site that asks none."""
    a = sd.sample("a", sd.Choice(lm, "It is {}.", ["sun", "rain"], temperature=temperature))
    b = sd.sample("b", sd.Choice(other, "We saw {} today.", ["low", "high", "home"], given=["A day.", a]))
    given = [a, "And then.", b]
    c = sd.sample("c", sd.Choice(lm, "She said {}.", ["Bob", "25"], given=given, scoring="mean", bias=[0.0, 1.0]))
    sd.sample("d", sd.Choice(lm, "Then came {}.", ["a run", "rain", "sun"], given=[b, c], scoring="pmi"))
    sd.sample("e", sd.Choice(lm, "It is {}.", ["sun", "rain"], given=[c], scoring="uniform"))


TEXTS = {
    "a": ("It is {}.", ["sun", "rain"]),
    "b": ("We saw {} today.", ["low", "high", "home"]),
    "c": ("She said {}.", ["Bob", "25"]),
}


@pytest.mark.slow
def test_tables_hold_the_scores_of_every_context(lm: sd.LanguageModel, gpt2: sd.LanguageModel, tmp_path: Path) -> None:
    table = sd.tabulate(story, lm, gpt2)
    assert set(table.names) == {"a", "b", "c", "d"}
    shapes = {name: table.scores(name).shape for name in table.names}
    assert shapes == {"a": (2,), "b": (2, 3), "c": (2, 3, 2), "d": (3, 2, 3)}

    def said(name: str, i: int) -> str:
        template, options = TEXTS[name]
        return template.format(options[i])

    np.testing.assert_allclose(table.scores("a"), option_log_probs(lm, "", *TEXTS["a"]), rtol=1e-4, atol=5e-4)
    for i in range(2):
        expected = option_log_probs(gpt2, f"A day. {said('a', i)}", *TEXTS["b"])
        np.testing.assert_allclose(table.scores("b")[i], expected, rtol=1e-4, atol=5e-4)
    for i, j in itertools.product(range(2), range(3)):
        expected = option_log_probs(lm, f"{said('a', i)} And then. {said('b', j)}", *TEXTS["c"], "mean")
        np.testing.assert_allclose(table.scores("c")[i, j], expected, rtol=1e-4, atol=5e-4)
    last = ("Then came {}.", ["a run", "rain", "sun"])
    for i, j in itertools.product(range(3), range(2)):
        expected = option_log_probs(lm, f"{said('b', i)} {said('c', j)}", *last) - option_log_probs(lm, "", *last)
        np.testing.assert_allclose(table.scores("d")[i, j], expected, atol=5e-4)

    # And what a choice computes in those contexts, all of them at once.
    @jax.jit
    def direct(lm: sd.LanguageModel, other: sd.LanguageModel) -> jax.Array:
        a = sd.Choice(lm, *TEXTS["a"]).phrase(jnp.arange(2)[:, None])
        b = sd.Choice(other, *TEXTS["b"]).phrase(jnp.arange(3))
        return sd.Choice(lm, *TEXTS["c"], given=[a, "And then.", b], scoring="mean").scores

    chex.assert_trees_all_close(direct(lm, gpt2), table.scores("c"), rtol=1e-4, atol=5e-4)

    path = tmp_path / "story.safetensors"
    table.save(path)
    loaded = sd.load_table(path, story)
    for name in table.names:
        chex.assert_trees_all_equal(loaded.scores(name), table.scores(name))
    # The same draws, at a temperature that comes later.
    draws = sd.simulate(story, 0, 200, lm, gpt2, 3.0, logp=[])
    looked_up = sd.simulate(loaded, 0, 200, 3.0, logp=[])
    chex.assert_trees_all_equal(looked_up.values, draws.values)
    assert looked_up.graph == draws.graph


def test_what_cannot_be_tabulated(lm: sd.LanguageModel, gpt2: sd.LanguageModel, tmp_path: Path) -> None:
    def free(lm: sd.LanguageModel) -> None:
        sd.sample("note", sd.Text(lm, "She said {}.", max_tokens=4))

    def after_free(lm: sd.LanguageModel) -> None:
        note = sd.Text(lm, "She said {}.", max_tokens=4)
        note = note.phrase(note.as_value("Bob"))
        sd.sample("c", sd.Choice(lm, "It is {}.", ["sun", "rain"], given=[note]))

    def many(lm: sd.LanguageModel) -> None:
        values = [sd.sample(f"x{i}", sd.Choice(lm, "It is {}.", ["sun", "rain"], scoring="uniform")) for i in range(17)]
        sd.sample("y", sd.Choice(lm, "It is {}.", ["sun", "rain"], given=values))

    def closed(other: sd.LanguageModel) -> None:
        sd.sample("x", sd.Choice(lm, "It is {}.", ["sun", "rain"]))

    for model, message in (
        (free, "'note' is free text"),
        (after_free, "'c' is given free text"),
        (many, r"'y' is given 17 phrases with 131072 joint values, more than the 65536"),
        (closed, "'x': its language model is not one of the arguments"),
    ):
        with pytest.raises(sd.SiteError, match=message):
            sd.tabulate(model, gpt2 if model is closed else lm)

    def weather(lm: sd.LanguageModel) -> None:
        sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER))

    def other_options(lm: sd.LanguageModel) -> None:
        sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER[:2]))

    def other_wording(lm: sd.LanguageModel) -> None:
        sd.sample("weather", sd.Choice(lm, "It is {}.", WEATHER))

    def other_scoring(lm: sd.LanguageModel) -> None:
        sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER, scoring="mean"))

    def other_context(lm: sd.LanguageModel) -> None:
        sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER, given=["Hello."]))

    path = tmp_path / "weather.safetensors"
    table = sd.tabulate(weather, lm)
    table.save(path)
    for changed in (other_options, other_wording, other_scoring, other_context):
        with pytest.raises(sd.SiteError, match="'weather' is not in the table that was loaded"):
            sd.handlers.exogenous(sd.load_table(path, changed), 0)()
    with pytest.raises(sd.SiteError, match="unknown tabulated site 'wether'"):
        table.scores("wether")
    (tmp_path / "text").write_text("no table")
    for bad in ("text", "absent"):
        with pytest.raises(sd.LoadError, match="holds no tables"):
            sd.load_table(tmp_path / bad, weather)
    with pytest.raises(sd.SiteError, match="no language model"):
        sd.tabulate(story, lm, gpt2, 2.0).save(path)


def test_the_largest_table(lm: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """65,536 contexts may be had: the limit itself is no error. (They are counted here, not scored.)"""
    monkeypatch.setattr(tabulate_module, "MAX_CONTEXTS", 8)

    def three(count: int) -> Callable:
        def model(lm: sd.LanguageModel) -> None:
            values = [sd.sample(f"x{i}", sd.Choice(lm, "It is {}.", ["sun", "rain"])) for i in range(count)]
            sd.sample("y", sd.Choice(lm, "Then {}.", ["sun", "rain"], given=values))

        return model

    assert sd.tabulate(three(3), lm).scores("y").shape == (2, 2, 2, 2)
    with pytest.raises(sd.SiteError, match="16 joint values, more than the 8"):
        sd.tabulate(three(4), lm)

"""Latent sites are summed out by funsor: against sums over every assignment, scored from whole texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
import pytest
from numpyro import handlers as nh
from numpyro.infer import SVI, TraceEnum_ELBO
from numpyro.infer.util import initialize_model

import sdscm_jax as sd

from ..needs import absent
from ..plain import option_log_probs

pytest.importorskip("funsor", reason=absent("funsor"))

from numpyro.contrib.funsor import config_enumerate, enum, infer_discrete
from numpyro.contrib.funsor import log_density as enumerated_log_density

WEATHER, PLACE = ["sunny", "low", "high"], ["a run", "25"]
MOOD, WORD = ["old", "years", "high"], ["low", "sunny"]
T = 2.0
GOES, IS = np.array([0, 1, 1, 0, 1, 0]), np.array([0, 2, 1, 2, 0, 1])
UNITS = len(GOES)


def one_latent(lm: sd.LanguageModel, goes: object = GOES, mood: object = IS) -> None:
    """A latent weather, and two sentences that it explains."""
    with numpyro.plate("units", UNITS):
        weather = sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER, temperature=T))
        go = sd.Choice(lm, "My friend goes for {}.", PLACE, given=[weather], temperature=T)
        going = sd.sample("goes", go, obs=goes)
        # What is observed has no axis of the latent site; what it is given has.
        sd.sample("mood", sd.Choice(lm, "She is {}.", MOOD, given=[weather, going], temperature=T), obs=mood)


def two_latent(lm: sd.LanguageModel, goes: object = GOES, mood: object = IS) -> None:
    """Two latent sites in a row: the last sentence reads both, each along an axis of its own."""
    with numpyro.plate("units", UNITS):
        word = sd.sample("word", sd.Choice(lm, "It is {}.", WORD, temperature=T))
        weather = sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER, given=[word], temperature=T))
        going = sd.Choice(lm, "My friend goes for {}.", PLACE, given=[weather], temperature=T)
        going = sd.sample("goes", going, obs=goes)
        sd.sample("mood", sd.Choice(lm, "She is {}.", MOOD, given=[word, weather, going], temperature=T), obs=mood)


TEMPLATES = {
    "word": ("It is {}.", WORD),
    "weather": ("The weather is {}.", WEATHER),
    "goes": ("My friend goes for {}.", PLACE),
    "mood": ("She is {}.", MOOD),
}
GIVEN = {
    one_latent: {"weather": [], "goes": ["weather"], "mood": ["weather", "goes"]},
    two_latent: {"word": [], "weather": ["word"], "goes": ["weather"], "mood": ["word", "weather", "goes"]},
}


@pytest.fixture(scope="module")
def joint(lm: sd.LanguageModel) -> Callable:
    """log P(assignment) of a model, as an array over the options of its sites in program order."""
    cache: dict[Callable, np.ndarray] = {}

    def of(model: Callable) -> np.ndarray:
        if model not in cache:
            given = GIVEN[model]
            table = np.zeros([len(TEMPLATES[name][1]) for name in given])
            scored: dict[tuple, np.ndarray] = {}
            for index in itertools.product(*map(range, table.shape)):
                chosen = dict(zip(given, index, strict=True))
                for name, parents in given.items():
                    context = " ".join(TEMPLATES[p][0].format(TEMPLATES[p][1][chosen[p]]) for p in parents)
                    if (name, context) not in scored:
                        scores = option_log_probs(lm, context, *TEMPLATES[name]) / T
                        scored[name, context] = scores - np.logaddexp.reduce(scores)
                    table[index] += scored[name, context][chosen[name]]
            np.testing.assert_allclose(np.exp(table).sum(), 1, rtol=1e-9)
            cache[model] = table
        return cache[model]

    return of


def posterior(table: np.ndarray, goes: np.ndarray = GOES, mood: np.ndarray = IS) -> tuple[np.ndarray, np.ndarray]:
    """log P(observed) and P(latent | observed) of each unit."""
    rows = np.moveaxis(table, (-2, -1), (0, 1))[goes, mood]
    evidence = np.logaddexp.reduce(rows.reshape(len(goes), -1), axis=-1)
    return evidence, np.exp(rows - evidence.reshape(-1, *[1] * (rows.ndim - 1)))


def on_the_lm(model: Callable, lm: sd.LanguageModel) -> tuple[Callable, tuple]:
    return model, (lm,)


TABLES: dict[Callable, sd.Tabulated] = {}


def on_a_table(model: Callable, lm: sd.LanguageModel) -> tuple[Callable, tuple]:
    if model not in TABLES:
        TABLES[model] = sd.tabulate(model, lm)
    return TABLES[model], ()


@pytest.mark.parametrize(
    ("model", "prepare"), [(one_latent, on_the_lm), (two_latent, on_the_lm), (two_latent, on_a_table)]
)
def test_sites_are_summed_out(lm: sd.LanguageModel, joint: Callable, model: Callable, prepare: Callable) -> None:
    expected = posterior(joint(model))[0].sum()
    fn, args = prepare(model, lm)
    summed = enum(config_enumerate(fn), first_available_dim=-2)

    def run(*args: object) -> tuple[jax.Array, dict]:
        density, trace = enumerated_log_density(summed, args, {}, {})
        return density, {name: site["value"] for name, site in trace.items() if site["type"] == "sample"}

    density, values = jax.jit(run)(*args)
    np.testing.assert_allclose(density, expected, rtol=1e-4)
    if model is two_latent:
        # An axis each, left of the plate's.
        assert values["word"].shape == (len(WORD), 1)
        assert values["weather"].shape == (len(WEATHER), 1, 1)


@pytest.mark.slow
def test_elbo_and_potential(lm: sd.LanguageModel, joint: Callable) -> None:
    """What SVI and NUTS maximise is the same sum."""
    model = two_latent
    expected = posterior(joint(model))[0].sum()

    def tilted(lm: sd.LanguageModel) -> None:
        # Something continuous, for NUTS to have something to do.
        numpyro.sample("shift", numpyro.distributions.Normal(0.0, 1.0))
        config_enumerate(model)(lm)

    svi = SVI(config_enumerate(model), lambda lm: None, optax.sgd(0.0), TraceEnum_ELBO(max_plate_nesting=1))
    elbo = jax.jit(lambda lm: -svi.loss.loss(jax.random.key(0), {}, svi.model, svi.guide, lm))
    np.testing.assert_allclose(elbo(lm), expected, rtol=1e-4)

    def potential(lm: sd.LanguageModel, shift: jax.Array) -> jax.Array:
        info = initialize_model(jax.random.key(0), tilted, model_args=(lm,), dynamic_args=True)
        return info.potential_fn(lm)({"shift": shift})

    prior = -0.5 * 0.7**2 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(-jax.jit(potential)(lm, 0.7), expected + prior, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "prepare", "temperature"),
    [(one_latent, on_the_lm, 1), (two_latent, on_a_table, 1), (two_latent, on_the_lm, 0)],
)
def test_latent_sites_are_inferred(
    lm: sd.LanguageModel, joint: Callable, model: Callable, prepare: Callable, temperature: int
) -> None:
    exact = posterior(joint(model))[1]
    fn, args = prepare(model, lm)
    names = [name for name in GIVEN[model] if name not in ("goes", "mood")]

    def infer(key: jax.Array, *args: object) -> list[jax.Array]:
        inferred = infer_discrete(config_enumerate(fn), first_available_dim=-2, temperature=temperature, rng_key=key)
        trace = nh.trace(nh.seed(inferred, 0)).get_trace(*args)
        return [trace[name]["value"] for name in names]

    if temperature == 0:
        found = jax.jit(infer)(jax.random.key(0), *args)
        best = [np.unravel_index(np.argmax(p), p.shape) for p in exact]
        np.testing.assert_array_equal(np.stack(found, -1), np.array(best))
        return
    draws = 3000
    keys = jax.random.split(jax.random.key(1), draws)
    found = jax.jit(jax.vmap(infer, in_axes=(0, *[None] * len(args))))(keys, *args)
    for unit in range(UNITS):
        share = np.zeros(exact.shape[1:])
        np.add.at(share, tuple(np.asarray(x)[:, unit] for x in found), 1 / draws)
        # Four standard errors.
        atol = 4 * np.sqrt(exact[unit] * (1 - exact[unit]) / draws) + 1e-3
        assert (np.abs(share - exact[unit]) < atol).all()


def test_posteriors_differ_by_unit(joint: Callable) -> None:
    """Or the tests above would say little."""
    exact = posterior(joint(one_latent))[1]
    assert np.ptp(exact, axis=0).max() > 0.05
    assert (exact.max(-1) < 0.999).all()


def test_of_the_graph_of_an_intervention(lm: sd.LanguageModel, joint: Callable) -> None:
    """Under do the site that is set explains nothing; the latent one is summed against the rest."""
    table = joint(one_latent)
    under = sd.handlers.do(partial(one_latent, goes=None), {"goes": "25"})
    summed = enum(config_enumerate(under), first_available_dim=-2)
    density = jax.jit(lambda lm: enumerated_log_density(summed, (lm,), {}, {})[0])(lm)
    weather = np.logaddexp.reduce(np.logaddexp.reduce(table, -1), -1)
    mood = table[:, 1] - np.logaddexp.reduce(table[:, 1], -1)[:, None]
    expected = np.logaddexp.reduce(weather[:, None] + mood, 0)[IS].sum()
    np.testing.assert_allclose(density, expected, rtol=1e-4)
    assert not np.isclose(density, posterior(table)[0].sum(), rtol=5e-3)


def test_a_latent_site_among_numbers(lm: sd.LanguageModel, joint: Callable) -> None:
    """A phrase that is summed out gives a number its mean (its map keeps the axis of the latent site)."""
    heights = np.array([0.1, 0.7, 1.9, 2.2, -0.5, 1.0], np.float32)

    def model(lm: sd.LanguageModel) -> None:
        with numpyro.plate("units", UNITS):
            weather = sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER, temperature=T))
            mean = weather.map({"sunny": 0.0, "low": 1.0, "high": 2.0})
            numpyro.sample("height", numpyro.distributions.Normal(mean, 0.5), obs=jnp.asarray(heights))

    summed = enum(config_enumerate(model), first_available_dim=-2)
    density = jax.jit(lambda lm: enumerated_log_density(summed, (lm,), {}, {})[0])(lm)
    weather = np.logaddexp.reduce(np.logaddexp.reduce(joint(one_latent), -1), -1)
    z = (heights[:, None] - np.arange(3)) / 0.5
    each = weather - 0.5 * z**2 - np.log(0.5) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(density, np.logaddexp.reduce(each, -1).sum(), rtol=1e-4)

"""NumPyro's Predictive, densities and pictures on programs that mix its sites with phrases."""

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
from numpyro.infer import Predictive, log_likelihood
from numpyro.infer.inspect import get_model_relations
from numpyro.infer.util import log_density

import sdscm_jax as sd
from sdscm_jax.handlers import do
from sdscm_jax.models.executable import executable

from ..needs import needs
from ..plain import option_log_probs
from . import count_encodes

WEATHER = ["sunny", "low", "high"]
RUN = ["a run", "25"]
SLOPES = np.array([1.0, 0.0, -1.0])
WET = {"sunny": 0.0, "low": 1.0, "high": 2.0}
DRAWS = 4000


def model(lm: sd.LanguageModel) -> sd.Phrase:
    """A number, a phrase that depends on it, a number that depends on that, and so on."""
    mood = numpyro.sample("mood", dist.Normal(0.5, 1.0))
    bias = jnp.asarray(mood)[..., None] * jnp.asarray(SLOPES)
    weather = sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER, temperature=4.0, bias=bias))
    dose = numpyro.sample("dose", dist.Normal(weather.map(WET) + mood, 0.5))
    go = sd.Choice(lm, "My friend goes for {}.", RUN, given=[weather], temperature=3.0 + jnp.exp(0.1 * dose))
    activity = sd.sample("activity", go)
    numpyro.sample("time", dist.Normal(dose - 2.0 * (activity == "a run"), 1.0))
    return activity


@pytest.fixture(scope="module")
def scores(lm: sd.LanguageModel) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the weather ``[3]`` and of the run in each weather ``[3, 2]``, from whole texts."""
    weather = option_log_probs(lm, "", "The weather is {}.", WEATHER)
    run = [option_log_probs(lm, f"The weather is {w}.", "My friend goes for {}.", RUN) for w in WEATHER]
    return weather, np.stack(run)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def normal(x: np.ndarray, mean: np.ndarray, scale: float) -> np.ndarray:
    return -0.5 * ((x - mean) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


def by_hand(scores: tuple[np.ndarray, np.ndarray], v: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Log-probability of each site given its parents, in float64."""
    weather, run = scores
    v = {name: np.asarray(x, np.float64 if np.asarray(x).dtype.kind == "f" else int) for name, x in v.items()}
    p_weather = log_softmax(weather / 4.0 + v["mood"][..., None] * SLOPES)
    p_run = log_softmax(run[v["weather"]] / (3.0 + np.exp(0.1 * v["dose"]))[..., None])
    return {
        "mood": normal(v["mood"], np.array(0.5), 1.0),
        "weather": np.take_along_axis(p_weather, v["weather"][..., None], -1)[..., 0],
        "dose": normal(v["dose"], np.array(list(WET.values()))[v["weather"]] + v["mood"], 0.5),
        "activity": np.take_along_axis(p_run, v["activity"][..., None], -1)[..., 0],
        "time": normal(v["time"], v["dose"] - 2.0 * (v["activity"] == 0), 1.0),
    }


def check_law(scores: tuple[np.ndarray, np.ndarray], v: dict[str, np.ndarray]) -> None:
    """Draws follow their conditional distributions: residuals average to nothing, weighted in two ways."""
    n = len(v["mood"])
    weather, run = scores
    p_weather = np.exp(log_softmax(weather / 4.0 + v["mood"][:, None] * SLOPES))
    p_run = np.exp(log_softmax(run[v["weather"]] / (3.0 + np.exp(0.1 * v["dose"]))[:, None]))
    residuals = {
        "weather": np.eye(3)[v["weather"]] - p_weather,
        "activity": np.eye(2)[v["activity"]] - p_run,
        "dose": (v["dose"] - v["weather"] - v["mood"])[:, None],
        "time": (v["time"] - v["dose"] + 2.0 * (v["activity"] == 0))[:, None],
    }
    for name, residual in residuals.items():
        for weight in (np.ones(n), v["mood"]):
            z = (weight[:, None] * residual).sum(0) / np.sqrt(((weight[:, None] * residual) ** 2).sum(0))
            assert (np.abs(z) < 4.5).all(), (name, z)


def ours(lm: sd.LanguageModel, posterior: dict | None, **kwargs: object) -> dict:
    return sd.Predictive(model, posterior, **kwargs)(jax.random.key(1), lm)


def theirs(lm: sd.LanguageModel, posterior: dict | None, **kwargs: object) -> dict:
    run = jax.jit(lambda lm, samples: Predictive(model, samples, parallel=True, **kwargs)(jax.random.key(1), lm))
    return run(lm, posterior)


@pytest.mark.slow
@pytest.mark.parametrize("predictive", [ours, theirs], ids=["sdscm", "numpyro"])
def test_predictive(lm: sd.LanguageModel, scores: tuple, predictive: Callable) -> None:
    prior = jax.tree.map(np.asarray, predictive(lm, None, num_samples=DRAWS))
    assert set(prior) == {"mood", "weather", "dose", "activity", "time"}
    assert all(x.shape == (DRAWS,) for x in prior.values())
    assert prior["weather"].dtype == np.int32
    np.testing.assert_allclose(prior["mood"].mean(), 0.5, atol=4 / np.sqrt(DRAWS))
    # Every option is drawn, or the law of it would say little.
    assert min(np.bincount(prior["weather"], minlength=3).min(), np.bincount(prior["activity"]).min()) > 100
    check_law(scores, prior)

    held = {"mood": np.linspace(-2, 2, DRAWS).astype(np.float32), "weather": np.arange(DRAWS) % 3}
    after = jax.tree.map(np.asarray, predictive(lm, held))
    assert set(after) == {"dose", "activity", "time"}
    joint = {**held, **after}
    # The law of what follows; that of what was held is not the model's.
    residual = joint["dose"] - joint["weather"] - joint["mood"]
    np.testing.assert_allclose(residual.mean(), 0, atol=4 * 0.5 / np.sqrt(DRAWS))
    np.testing.assert_allclose(residual.std(), 0.5, atol=0.03)
    p_run = np.exp(log_softmax(scores[1][joint["weather"]] / (3.0 + np.exp(0.1 * joint["dose"]))[:, None]))
    gap = (joint["activity"] == 0) - p_run[:, 0]
    for w in range(3):
        own = gap[joint["weather"] == w]
        assert abs(own.sum()) < 4.5 * np.sqrt(len(own)) / 2


def test_predictive_of_an_intervention(lm: sd.LanguageModel, scores: tuple) -> None:
    """Samples of a site that is intervened on are left out, those of others are kept."""
    held = {"mood": np.linspace(-1, 1, 500).astype(np.float32), "weather": np.zeros(500, int)}
    drawn = sd.Predictive(do(model, {"weather": "high"}), held)(jax.random.key(0), lm)
    assert set(drawn) >= {"dose", "activity", "time"}
    np.testing.assert_allclose(np.mean(drawn["dose"] - held["mood"]), 2.0, atol=4 * 0.5 / np.sqrt(500))


def test_predictive_is_compiled_once(lm: sd.LanguageModel) -> None:
    def counted(lm: sd.LanguageModel, shift: jax.Array) -> None:
        numpyro.sample("mood", dist.Normal(shift, 1.0))
        sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER))

    draw = sd.Predictive(counted, num_samples=7)
    first = draw(jax.random.key(0), lm, 0.0)
    so_far = executable.cache_info().misses
    again, other, moved = (
        draw(jax.random.key(0), lm, 0.0),
        draw(jax.random.key(1), lm, 0.0),
        draw(jax.random.key(0), lm, 3.0),
    )
    assert executable.cache_info().misses == so_far
    chex.assert_trees_all_equal(first, again)
    assert (other["mood"] != first["mood"]).all()
    chex.assert_trees_all_close(moved["mood"], first["mood"] + 3.0, atol=1e-5)


def test_log_density(lm: sd.LanguageModel, scores: tuple) -> None:
    density = jax.jit(lambda lm, values: log_density(model, (lm,), {}, values)[0])
    rng = np.random.default_rng(0)
    for weather in range(3):
        for activity in range(2):
            mood, dose, time = rng.normal(size=3).astype(np.float32)
            values = {"mood": mood, "weather": weather, "dose": dose, "activity": activity, "time": time}
            expected = sum(by_hand(scores, values).values())
            np.testing.assert_allclose(density(lm, values), expected, rtol=1e-4, atol=1e-4)


def test_log_density_in_a_plate_and_under_do(lm: sd.LanguageModel, scores: tuple) -> None:
    n = 5

    def plated(lm: sd.LanguageModel) -> None:
        with numpyro.plate("units", n):
            model(lm)

    rng = np.random.default_rng(1)
    values = {
        **{name: rng.normal(size=n).astype(np.float32) for name in ("mood", "dose", "time")},
        "weather": rng.integers(3, size=n),
        "activity": rng.integers(2, size=n),
    }
    density = jax.jit(lambda lm, values: log_density(plated, (lm,), {}, values)[0])
    each = by_hand(scores, values)
    np.testing.assert_allclose(density(lm, values), sum(x.sum() for x in each.values()), rtol=1e-4, atol=1e-3)

    # A site that is intervened on adds nothing, and its children read what it was set to.
    under = do(plated, {"weather": "low"})
    mutilated = jax.jit(lambda lm, values: log_density(under, (lm,), {}, values)[0])
    each = by_hand(scores, {**values, "weather": np.ones(n, int)})
    expected = sum(x.sum() for name, x in each.items() if name != "weather")
    rest = {name: x for name, x in values.items() if name != "weather"}
    np.testing.assert_allclose(mutilated(lm, rest), expected, rtol=1e-4, atol=1e-3)


def test_log_likelihood(lm: sd.LanguageModel, scores: tuple) -> None:
    """Of observed phrases and numbers, for each posterior sample and unit."""
    n, draws = 4, 6
    rng = np.random.default_rng(2)
    observed = {"activity": rng.integers(2, size=n), "time": rng.normal(size=n).astype(np.float32)}

    def seen(lm: sd.LanguageModel) -> None:
        with numpyro.plate("units", n):
            nh.condition(model, observed)(lm)

    latent = {name: rng.normal(size=(draws, n)).astype(np.float32) for name in ("mood", "dose")}
    latent["weather"] = rng.integers(3, size=(draws, n))
    found = jax.jit(lambda lm, latent: log_likelihood(seen, latent, lm))(lm, latent)
    each = by_hand(scores, {**latent, **{name: np.broadcast_to(x, (draws, n)) for name, x in observed.items()}})
    assert set(found) == set(observed)
    for name in observed:
        np.testing.assert_allclose(found[name], each[name], rtol=1e-4, atol=1e-4)


def test_how_often_the_language_model_is_asked(lm: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_encodes(monkeypatch)
    values = {"mood": 0.1, "weather": 1, "dose": 0.2, "activity": 0, "time": 0.3}

    def asked(fn: Callable, values: dict, *args: object) -> int:
        calls.clear()
        jax.eval_shape(lambda *args: log_density(fn, args, {}, values)[0], *args)
        return len(calls)

    # Once a site.
    assert asked(model, values, lm) == 2
    # Not where a site is intervened on. Its reader then reads the whole text, in one call.
    rest = {name: x for name, x in values.items() if name != "weather"}
    assert asked(do(model, {"weather": "high"}), rest, lm) == 1
    rest.pop("activity")
    assert asked(do(model, {"weather": "high", "activity": "25"}), rest, lm) == 0
    # A run draws the values too.
    calls.clear()
    jax.eval_shape(lambda lm: nh.seed(model, 0)(lm).index, lm)
    assert len(calls) == 2

    calls.clear()
    table = sd.tabulate(model, lm)
    assert len(calls) > 0
    assert asked(table, values) == 0
    calls.clear()
    jax.eval_shape(lambda: nh.seed(table, 0)().index)
    jax.eval_shape(lambda key: sd.Predictive(table, num_samples=3)(key), jax.random.key(0))
    assert not calls


def test_relations_and_pictures_under_do(lm: sd.LanguageModel) -> None:
    parents = get_model_relations(model, (lm,))["sample_sample"]
    assert {site: set(p) - {site} for site, p in parents.items()} == {
        "mood": set(),
        "weather": {"mood"},
        "dose": {"mood", "weather"},
        "activity": {"weather", "dose"},
        "time": {"dose", "activity"},
    }
    under = get_model_relations(do(model, {"weather": "low"}), (lm,))
    assert set(under["observed"]) == {"weather"}
    read = {site: set(p) - {site} for site, p in under["sample_sample"].items()}
    assert read["weather"] == set()
    assert read["dose"] - {"weather"} == {"mood"}
    assert read["activity"] - {"weather"} == {"dose"}

    needs("graphviz")

    def edges(fn: Callable) -> set[tuple[str, ...]]:
        source = numpyro.render_model(fn, (lm,)).source
        lines = [line.strip().split(" -> ") for line in source.splitlines() if "->" in line]
        return {tuple(end.strip('"') for end in line) for line in lines}

    natural, cut = edges(model), edges(do(model, {"weather": "low"}))
    assert natural == {(p, site) for site, ps in parents.items() for p in ps if p != site}
    # NumPyro draws no arrow out of a site that has a value, here as for any observed site.
    assert cut == {edge for edge in natural if "weather" not in edge}
    # The package's own graph does.
    assert set(sd.graph(model, lm).edges) == natural
    assert set(sd.graph(do(model, {"weather": "low"}), lm).edges) == natural - {("mood", "weather")}
    # A function of the natural value goes on reading its parents.
    assert set(sd.graph(do(model, {"weather": lambda w: 2 - w.index}), lm).edges) == natural

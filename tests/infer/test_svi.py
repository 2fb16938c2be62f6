"""Calibration by SVI: what is fitted, and that effects of interventions move to those of the data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
import pytest
from numpyro import handlers as nh
from numpyro.contrib.module import nnx_module
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.util import log_density

import sdscm_jax as sd

from ..plain import option_log_probs

WEATHER, PLACE = ["sunny", "low"], ["a run", "25"]
# P(a run | weather): as the town has it.
TOWN = np.array([0.9, 0.2])


def story(lm: sd.LanguageModel, temperature: object = 1.0, bias: object = None) -> sd.Phrase:
    weather = sd.sample("weather", sd.Choice(lm, "The weather is {}.", WEATHER, scoring="uniform"))
    go = sd.Choice(lm, "My friend goes for {}.", PLACE, given=[weather], temperature=temperature, bias=bias)
    return sd.sample("goes", go)


def observe(seed: int, units: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weather = rng.integers(2, size=units)
    return {"weather": weather, "goes": (rng.random(units) > TOWN[weather]).astype(int)}


def of_units(fn: object, data: dict[str, np.ndarray], *args: object) -> None:
    with numpyro.plate("units", len(data["goes"])):
        nh.condition(fn, data)(*args)


def effect(fn: object, *args: object) -> float:
    """P(a run | do(sunny)) - P(a run | do(low))."""
    twins = sd.simulate(fn, 0, 2, *args, worlds=[{"weather": "sunny"}, {"weather": "low"}])
    return float(np.subtract(*np.exp(twins.log_probs["goes"][0, 1:, 0].astype(float))))


@pytest.fixture(scope="module")
def margins(lm: sd.LanguageModel) -> np.ndarray:
    """Score of the run less that of the other place, in each weather, from whole texts."""
    context = [f"The weather is {w}." for w in WEATHER]
    return np.array([np.subtract(*option_log_probs(lm, text, "My friend goes for {}.", PLACE)) for text in context])


@pytest.mark.slow
def test_temperature_and_bias(lm: sd.LanguageModel, margins: np.ndarray) -> None:
    """Two parameters, two frequencies: the fit is exact, and known in closed form."""
    data = observe(0, 300)
    shares = np.array([(data["goes"][data["weather"] == w] == 0).mean() for w in range(2)])
    odds = np.log(shares / (1 - shares))
    slope = np.subtract(*odds) / np.subtract(*margins)
    # Where the language model has the order of the weathers wrong, no temperature puts it right.
    weathers = slice(None) if slope > 0 else slice(None, None, -1)
    if slope < 0:
        data = {**data, "weather": 1 - data["weather"]}
        slope, odds = -slope, odds[weathers]
    table = sd.tabulate(story, lm)

    def tempered(data: dict[str, np.ndarray]) -> None:
        # The bias as it is in the middle of the margins, which are nearly alike: the two do not depend on each other.
        heat, middle = numpyro.param("heat", 0.0), numpyro.param("middle", 0.0)
        of_units(table, data, jnp.exp(heat), tilted(heat, middle))

    def tilted(heat: jax.Array, middle: jax.Array) -> jax.Array:
        return jnp.stack([middle - jnp.exp(-heat) * margins.mean(), jnp.zeros_like(middle)])

    svi = SVI(tempered, lambda data: None, optax.adam(optax.cosine_decay_schedule(0.3, 500)), Trace_ELBO())
    found = svi.run(jax.random.key(0), 500, data, progress_bar=False).params
    np.testing.assert_allclose(np.exp(-found["heat"]), slope, rtol=0.02)
    bias = tilted(**found)
    np.testing.assert_allclose(bias[0], odds[0] - slope * margins[0], atol=0.03)

    fitted = jnp.exp(found["heat"]), bias
    by_data = np.subtract(*(1 / (1 + np.exp(-odds))))
    before = np.subtract(*(1 / (1 + np.exp(-margins))))
    np.testing.assert_allclose(effect(story, lm), before, atol=5e-4)
    np.testing.assert_allclose(effect(story, lm, *fitted), by_data, atol=0.01)
    assert abs(before - by_data) > 0.1


@pytest.mark.slow
def test_an_adapter_moves_effects(lm: sd.LanguageModel) -> None:
    adapter = sd.LowRank(lm, 2, targets=["query", "value", "out"])
    train, held_out = observe(0, 128), observe(1, 512)

    def adapted(lm: sd.LanguageModel, data: dict[str, np.ndarray]) -> None:
        of_units(story, data, nnx_module("adapter", adapter)(lm))

    svi = SVI(adapted, lambda *args: None, optax.adam(0.02), Trace_ELBO())
    found = svi.run(jax.random.key(0), 120, lm, train, progress_bar=False).params
    fitted = adapter.with_params(found["adapter$params"])(lm)
    density = jax.jit(lambda lm: log_density(lambda lm: of_units(story, held_out, lm), (lm,), {}, {})[0] / 512)
    assert density(fitted) > density(lm) + 0.02
    truth = TOWN[0] - TOWN[1]
    assert abs(effect(story, fitted) - truth) < min(0.2, 0.5 * abs(effect(story, lm) - truth))


def test_draws_are_not_reparametrised(lm: sd.LanguageModel) -> None:
    """NumPyro then uses score-function gradients, or sums the site out."""
    assert not sd.Choice(lm, "The weather is {}.", WEATHER).has_rsample
    assert not sd.Text(lm, "She said {}.", max_tokens=2).has_rsample

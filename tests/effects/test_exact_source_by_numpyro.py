"""Exact effects are NumPyro's enumeration: sites summed out by funsor, under ``do`` (law 9)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest

import sdscm_jax as sd
from sdscm_jax import effects

from ..needs import absent

pytest.importorskip("funsor", reason=absent("funsor"))

from numpyro.contrib.funsor import config_enumerate, enum
from numpyro.contrib.funsor import log_density as enumerated_log_density

WEATHER, MOOD, PLAN = ["sunny", "low", "high"], ["old", "young"], ["a run", "a nap", "25"]


def day(lm: sd.LanguageModel, plan: object = None) -> None:
    word = sd.sample("word", sd.Choice(lm, "It is {}.", ["low", "high"], temperature=3.0))
    sky = sd.sample("sky", sd.Choice(lm, "The weather is {}.", WEATHER, given=[word], temperature=3.0))
    mood = sd.sample("mood", sd.Choice(lm, "She is {}.", MOOD, given=[word, sky], temperature=3.0))
    choice = sd.Choice(lm, "My friend goes for {}.", PLAN, given=[word, sky, mood], temperature=3.0)
    sd.sample("plan", choice, obs=plan)


def enumerated(lm: sd.LanguageModel, world: dict[str, str], plan: int) -> float:
    """P(plan | do(world)), by funsor."""
    model = enum(config_enumerate(numpyro.handlers.seed(sd.handlers.do(day, world), 0)), first_available_dim=-1)
    log_probability = jax.jit(lambda lm: enumerated_log_density(model, (lm, jnp.array(plan)), {}, {})[0])(lm)
    return float(jnp.exp(log_probability))


@pytest.fixture(scope="module")
def exact(lm: sd.LanguageModel) -> effects.Exact:
    return effects.exact(day, lm)


@pytest.mark.slow
def test_average_effect(exact: effects.Exact, lm: sd.LanguageModel) -> None:
    found = effects.ate(exact, "sky", "plan", "sunny", "high")
    for k in (0, 2):
        truth = enumerated(lm, {"sky": "high"}, k) - enumerated(lm, {"sky": "sunny"}, k)
        assert found.value[k] == pytest.approx(truth, abs=1e-4)
    assert np.abs(found.value).max() > 0.01


def test_controlled_effect(exact: effects.Exact, lm: sd.LanguageModel) -> None:
    found = effects.cde(exact, "sky", "plan", "sunny", "high", mediators={"mood": "old"})
    truth = enumerated(lm, {"sky": "high", "mood": "old"}, 1) - enumerated(lm, {"sky": "sunny", "mood": "old"}, 1)
    assert found.value[1] == pytest.approx(truth, abs=1e-4)

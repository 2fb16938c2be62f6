"""A counterfactual world, averaged over units, is the interventional distribution: against exact
enumeration with a separate, plain scorer."""

from __future__ import annotations

import itertools

import chex
import jax
import numpy as np
import pytest

import sdscm_jax as sd

from ..plain import option_log_probs

OPTIONS = {"a": ["sun", "rain"], "b": ["low", "high", "home"], "c": ["Bob", "25"], "d": ["a long run", "rain", "sun"]}
TEMPLATES = {"a": "It is {}.", "b": "We saw {} today.", "c": "She said {}.", "d": "Then came {}."}
GIVEN = {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["b", "c"]}
UNITS = 20_000
# A random model's choices depend little on the context; a low temperature makes them depend more.
TEMPERATURE = 0.5


def model(lm: sd.LanguageModel) -> sd.Phrase:
    values: dict[str, sd.Phrase] = {}
    for name in OPTIONS:
        given = [values[g] for g in GIVEN[name]]
        choice = sd.Choice(lm, TEMPLATES[name], OPTIONS[name], given=given, scoring="mean", temperature=TEMPERATURE)
        values[name] = sd.sample(name, choice)
    return values["d"]


def exact(lm: sd.LanguageModel, intervention: dict[str, str]) -> np.ndarray:
    """P(d | do(intervention)), by summing over every assignment."""
    total = np.zeros(len(OPTIONS["d"]))
    cache: dict[tuple, np.ndarray] = {}
    for assignment in itertools.product(*OPTIONS.values()):
        texts = dict(zip(OPTIONS, assignment, strict=True))
        weight = 1.0
        for name in OPTIONS:
            if name in intervention:
                weight *= texts[name] == intervention[name]
                continue
            context = tuple(TEMPLATES[g].format(texts[g]) for g in GIVEN[name])
            if (name, context) not in cache:
                scores = option_log_probs(lm, " ".join(context), TEMPLATES[name], OPTIONS[name], "mean") / TEMPERATURE
                cache[name, context] = np.exp(scores - np.logaddexp.reduce(scores))
            weight *= cache[name, context][OPTIONS[name].index(texts[name])]
        total[OPTIONS["d"].index(texts["d"])] += weight
    return total


@pytest.mark.slow
def test_worlds_average_to_interventional_distributions(lm: sd.LanguageModel) -> None:
    worlds = [{"b": "low"}, {"b": "high"}, {"a": "rain", "c": "Bob"}]
    result = sd.simulate(model, jax.random.key(11), UNITS, lm, worlds=worlds, logp=[])
    chex.assert_shape(result.values["d"], (UNITS, 4))
    for w, intervention in enumerate([{}, *worlds]):
        truth = exact(lm, intervention)
        share = np.bincount(result.values["d"][:, w], minlength=3) / UNITS
        # Four standard errors.
        assert (np.abs(share - truth) < 4 * np.sqrt(truth * (1 - truth) / UNITS) + 1e-9).all(), (share, truth)
    # The intervention is one that matters, so that the test could fail.
    assert np.abs(exact(lm, {"b": "low"}) - exact(lm, {"b": "high"})).max() > 0.02


def test_interventional_data_have_the_same_distribution(lm: sd.LanguageModel) -> None:
    result = sd.simulate(model, jax.random.key(12), UNITS, lm, do={"b": "high"}, logp=[])
    truth = exact(lm, {"b": "high"})
    share = np.bincount(result.values["d"][:, 0], minlength=3) / UNITS
    assert (np.abs(share - truth) < 4 * np.sqrt(truth * (1 - truth) / UNITS)).all()
    assert (result.values["b"] == 1).all()

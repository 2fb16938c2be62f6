"""Free text where JAX's default integers have 64 bits: the same tokens."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import sdscm_jax as sd


def story(lm: sd.LanguageModel) -> sd.Phrase:
    note = sd.sample("note", sd.Text(lm, "The tumor {}.", max_tokens=4))
    return sd.sample("plan", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[note]))


@pytest.mark.slow
def test_texts_are_the_same_with_64_bits() -> None:
    lm = sd.load_lm()
    usual = sd.simulate(story, 0, 6, lm, worlds=[{"note": "is high"}])
    with jax.enable_x64(True):
        wide = sd.simulate(story, 0, 6, lm, worlds=[{"note": "is high"}])
        assert sd.handlers.exogenous(story, 0)(lm).index.dtype == np.int32
    for name, values in usual.values.items():
        np.testing.assert_array_equal(values, wide.values[name])
        assert values.dtype == wide.values[name].dtype
    np.testing.assert_allclose(usual.log_probs["plan"], wide.log_probs["plan"], atol=5e-4)

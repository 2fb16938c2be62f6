"""The embedded language model knows the mechanisms that its text was drawn from."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax.models.calibration import calibration
from sdscm_jax.models.language_model import EMBEDDED
from sdscm_jax.vignettes import Vignette, collider, confounder, hiring, oncology

# Not the seed that training was watched with.
SEED = 987_654


@pytest.mark.parametrize(
    "vignette",
    [
        pytest.param(oncology, marks=pytest.mark.slow),
        pytest.param(hiring, marks=pytest.mark.slow),
        confounder,
        collider,
    ],
    ids=lambda v: v.name,
)
def test_conditional_probabilities(embedded: sd.LanguageModel, vignette: Vignette) -> None:
    errors = calibration(embedded, vignette, units=100, seed=SEED)
    assert np.mean(list(errors.values())) < 0.03, errors
    # Guessing each variable's marginal instead would miss by more.
    values = vignette.sample(np.random.default_rng(SEED), 2000)
    guess = [np.abs((p := vignette.probabilities(v.name, values)) - p.mean(0)).mean() for v in vignette.variables]
    assert np.mean(list(errors.values())) < 0.6 * np.mean(guess)


def test_what_is_committed() -> None:
    size = (EMBEDDED / "model.safetensors").stat().st_size
    assert size < 4_000_000
    with (EMBEDDED / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    final = json.loads((EMBEDDED / "training.json").read_text())
    assert set(final["mean_absolute_difference"]) == {"oncology", "hiring", "confounder", "collider"}


def test_any_text_can_be_encoded(embedded: sd.LanguageModel) -> None:
    text = "Über 5% 한국어 😀\n\tend"
    assert embedded.codec.decode(embedded.codec.encode(text)) == text
    assert embedded.codec.bos == embedded.tokenizer.bos_token_id

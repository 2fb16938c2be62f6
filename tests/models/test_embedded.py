"""The embedded language model knows the mechanisms that its text was drawn from."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax.models.calibration import calibration
from sdscm_jax.models.language_model import EMBEDDED
from sdscm_jax.vignettes import SHIPPED, Vignette, clinical_note, collider, reference_letter
from sdscm_jax.vignettes.conditionals import Conditionals

# Not the seed that training was watched with.
SEED = 987_654


@pytest.mark.parametrize(
    "vignette",
    [v if v is collider else pytest.param(v, marks=pytest.mark.slow) for v in SHIPPED],
    ids=lambda v: v.name,
)
def test_conditional_probabilities(embedded: sd.LanguageModel, vignette: Vignette) -> None:
    errors = calibration(embedded, vignette, units=100, seed=SEED)
    assert np.mean(list(errors.values())) < 0.01, errors
    # Guessing each variable's marginal instead would miss by more.
    values = vignette.sample(np.random.default_rng(SEED), 2000)
    guess = [np.abs((p := vignette.probabilities(v.name, values)) - p.mean(0)).mean() for v in vignette.variables]
    assert np.mean(list(errors.values())) < 0.3 * np.mean(guess)


@pytest.mark.parametrize(
    "vignette",
    [v if v is collider else pytest.param(v, marks=pytest.mark.slow) for v in SHIPPED],
    ids=lambda v: v.name,
)
def test_what_is_left_out_is_summed_over(embedded: sd.LanguageModel, vignette: Vignette) -> None:
    errors = calibration(embedded, vignette, units=60, seed=SEED, left_out=True)
    assert np.mean(list(errors.values())) < 0.015, errors


@pytest.mark.parametrize(
    ("vignette", "name", "given"),
    [
        pytest.param(clinical_note, "note", ("age", "severity"), marks=pytest.mark.slow),
        pytest.param(clinical_note, "note", ("severity",), marks=pytest.mark.slow),
        (reference_letter, "letter", ("student", "grades")),
    ],
)
def test_texts_that_are_written(
    embedded: sd.LanguageModel, vignette: Vignette, name: str, given: tuple[str, ...]
) -> None:
    """Free text, token by token, is one of the texts that are known, with the probability that is written down."""
    variable, conditionals = vignette[name], Conditionals(vignette)
    shown = tuple(map(vignette.index, given))
    for values in vignette.sample(np.random.default_rng(SEED), 3):
        context = [vignette.variables[j].wordings[0].format(vignette.variables[j].options[values[j]]) for j in shown]
        site = sd.Text(embedded, variable.wordings[0], given=context, max_tokens=24)
        log_probs = np.asarray(site.log_prob(list(variable.options)), np.float64)
        truth = conditionals(values[None], (*shown, vignette.index(name)))[-1][0]
        assert np.exp(log_probs).sum() > 0.99
        assert np.abs(np.exp(log_probs) - truth).sum() < 0.15
        assert np.abs(np.exp(log_probs) - truth).mean() < 0.01


def test_what_is_committed() -> None:
    size = (EMBEDDED / "model.safetensors").stat().st_size
    assert size < 4_000_000
    with (EMBEDDED / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    final = json.loads((EMBEDDED / "training.json").read_text())
    for kind in ("mean_absolute_difference", "mean_absolute_difference_left_out"):
        assert set(final[kind]) == {v.name for v in SHIPPED}


def test_any_text_can_be_encoded(embedded: sd.LanguageModel) -> None:
    text = "Über 5% 한국어 😀\n\tend"
    assert embedded.codec.decode(embedded.codec.encode(text)) == text
    assert embedded.codec.bos == embedded.tokenizer.bos_token_id

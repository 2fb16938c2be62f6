"""Texts of several phrases: each phrase is drawn by its own mechanism."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from sdscm_jax.vignettes import clinical_note, reference_letter
from sdscm_jax.vignettes.phrases import effects_of_phrases, text_variable

SLOTS = (("looks well", "looks ill"), ("walks", "needs help", "stays in bed"))
BASES = ((0.2, -0.1), (0.0, 0.3, -0.4))
EFFECTS = {"severe": ((-0.5, 0.7), (-1.0, 0.1, 0.9))}


def test_phrases_are_independent_given_the_parents() -> None:
    note = text_variable("note", "{} and {}", SLOTS, ("He {}.",), BASES, {"severity": EFFECTS})
    assert note.options[:2] == ("looks well and walks", "looks well and needs help")
    assert note.written
    for option in ("mild", "severe"):
        added = EFFECTS.get(option, ((0.0, 0.0), (0.0, 0.0, 0.0)))
        first, second = (softmax(np.add(base, more)) for base, more in zip(BASES, added, strict=True))
        whole = softmax(np.add(note.base, note.effects["severity"].get(option, np.zeros(6))))
        np.testing.assert_allclose(whole, np.outer(first, second).ravel(), atol=1e-12)


def test_what_a_text_adds_is_what_its_phrases_add() -> None:
    note = text_variable("note", "{} and {}", SLOTS, ("He {}.",), BASES, {})
    added = effects_of_phrases(note, {"looks ill": (0.0, -1.0), "stays in bed": (0.5, 0.0)})
    assert added["looks ill and stays in bed"] == (0.5, -1.0)
    assert added["looks ill and walks"] == (0.0, -1.0)
    assert "looks well and walks" not in added
    with pytest.raises(ValueError, match="note: no text has 'looks bad'"):
        effects_of_phrases(note, {"looks bad": (0.0, 1.0)})


def test_the_note_tells_of_what_confounds_and_the_letter_carries_a_part_of_the_effect() -> None:
    note, severity = clinical_note["note"], clinical_note["severity"]
    assert {*note.effects} == {"severity", "age"}
    assert clinical_note.hidden == ("severity",)
    assert severity.name in clinical_note["drug"].effects
    assert severity.name in clinical_note["recovery"].effects
    assert "note" not in clinical_note["recovery"].effects
    assert {*reference_letter["admission"].effects} == {"letter", "grades", "student"}
    assert {*reference_letter["letter"].effects} == {"grades", "student"}

"""The embedded language model is asked of what it has not read: that is said, once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import pytest

import sdscm_jax as sd
from sdscm_jax.engine import subject
from sdscm_jax.families import family
from sdscm_jax.models.embedded_words import embedded_words
from sdscm_jax.models.language_model import LanguageModel
from sdscm_jax.testing import mock_lm

from ..needs import ROOT


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    before = [*subject._said]
    subject._said.clear()
    yield
    subject._said[:] = before


def said(lm: LanguageModel) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        subject.warn_of_foreign_subject([lm], ["A {} dragon landed.", "green", "golden", "The knight {} quickly."])
    return [str(w.message) for w in caught]


def dragons(lm: Any) -> None:
    colour = sd.sample("colour", sd.Choice(lm, "A {} dragon landed.", ["green", "golden"]))
    sd.sample("knight", sd.Choice(lm, "The knight {} quickly.", ["fled", "bowed"], given=[colour]))


def test_it_is_said_once_with_the_page() -> None:
    with pytest.warns(UserWarning, match=r"the embedded language model has read .* \(docs/limits\.md\)") as told:
        sd.simulate(dragons, 0, 2, sd.load_lm())
    assert "(new to it: bowed, dragon, fled, golden)" in str(told[0].message)
    assert "sd.load_lm(…)" in str(told[0].message)
    assert "The embedded language model" in (ROOT / subject.PAGE).read_text()
    assert said(sd.load_lm()) == []


def test_nobody_else_is_told() -> None:
    changed = sd.load_lm()
    changed = replace(changed, params=jax.tree.map(lambda x: x * 1.5, changed.params))
    assert said(changed) == []
    assert said(mock_lm()) == []
    for name in ("oncology", "hiring"):
        assert subject.known_share([str(t) for v in family(name).variables for t in (*v.templates, *v.options)]) > 0.95
    # A few words of one's own are no other subject.
    assert subject.known_share(["The tumor exhibits {} levels of PD-L1.", "low", "high", "A wise owl."]) > subject.LEAST


def test_the_words_are_those_of_the_training_text() -> None:
    assert {"tumor", "checkpoint", "inhibitor", "marathon"} <= embedded_words()

"""Texts as covariates: what they carry is adjusted for, and nothing else of the units is in their numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sdscm_jax as sd
from sdscm_jax.bench import Dataset, evaluate, generate
from sdscm_jax.bench.text_features import COMPONENTS, encoded_with_texts, parse_texts, text_identity
from sdscm_jax.errors import DataError, LoadError, ResumeError, SDSCMError
from sdscm_jax.families import Family

N = 400
SAID = {0: ("She is well and runs every day", "A healthy woman"), 1: ("She is ill and rests", "Severe disease, in bed")}


def clinic(seed: int) -> Dataset:
    """A note says whether a woman is ill; the ill are treated more often and fare worse. The effect is 1."""
    rng = np.random.default_rng(seed)
    ill, age = rng.integers(2, size=N), rng.integers(3, size=N)
    t = (rng.random(N) < np.where(ill, 0.8, 0.2)).astype(np.int8)
    below = 2.0 - 3.0 * ill + 0.5 * age
    outcomes = np.stack([below, below + 1.0], 1)
    notes = [SAID[i][rng.integers(2)] for i in ill]
    covariates = pd.DataFrame({"age": pd.Categorical.from_codes(age, ["25", "45", "65"]), "note": notes})
    y = outcomes[np.arange(N), t] + 0.01 * rng.normal(size=N)
    return Dataset("a", "0", covariates, (), t, y, outcomes, np.ones(N), np.where(ill, 0.8, 0.2), np.arange(N))


def effect(data: Dataset, x: np.ndarray) -> float:
    """Least squares, written out."""
    design = np.column_stack([np.ones(N), data.t, x])
    return float(np.linalg.lstsq(design, data.y, rcond=None)[0][1])


@pytest.mark.parametrize("texts", ["words", "embedded"])
def test_what_a_text_carries_is_adjusted_for(texts: str) -> None:
    data = clinic(0)
    naive = effect(data, encoded_with_texts(data, "all", "onehot", None))
    seen = encoded_with_texts(data, "all", "onehot", texts)
    assert naive < 0
    np.testing.assert_allclose(effect(data, seen), 1, atol=0.02)
    # Four different notes vary in three ways; one-hot ages stand before.
    assert seen.shape == (N, 2 + 3)
    np.testing.assert_array_equal(seen[:, :2], data.encoded())
    np.testing.assert_allclose(seen[:, 2:].mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(seen[:, 2:].var(0), 1, atol=1e-9)
    # Treatments and outcomes have no part in it.
    other = replace(data, t=1 - data.t, y=-data.y)
    np.testing.assert_array_equal(encoded_with_texts(other, "all", "onehot", texts), seen)
    hidden = replace(data, hidden=("note",))
    assert encoded_with_texts(hidden, "observed", "onehot", texts).shape == (N, 2)


def test_texts_that_say_nothing() -> None:
    data = clinic(1)
    for notes in ([""] * N, ["the same"] * N, ["...", ""] * (N // 2)):
        said = replace(data, covariates=data.covariates.assign(note=notes))
        for texts in ("words", "embedded"):
            found = encoded_with_texts(said, "all", "onehot", texts)
            assert np.isfinite(found).all()
            if len(set(notes)) == 1:
                assert found.shape == (N, 2)
    many = replace(data, covariates=data.covariates.assign(note=[f"word{i} in place {i % 7}" for i in range(N)]))
    assert encoded_with_texts(many, "all", "onehot", "words").shape == (N, 2 + COMPONENTS)


def test_what_may_be_said_of_texts(tmp_path: Path) -> None:
    assert parse_texts(None) is None
    assert parse_texts(tmp_path) == str(tmp_path)
    for wrong in (3, "", ("words",)):
        with pytest.raises(DataError, match="texts"):
            parse_texts(wrong)
    with pytest.raises(LoadError):
        text_identity(str(tmp_path))
    assert text_identity("embedded")["texts_lm"] == sd.load_lm().fingerprint()


@pytest.mark.slow
def test_estimators_see_texts_where_they_are_told_how(tmp_path: Path) -> None:
    """Of a family whose note tells of the weather, which is hidden and confounds."""
    family = Family.from_json(
        {
            "name": "note",
            "treatment": "gym",
            "outcome": "marathon",
            "hidden": ["weather"],
            "variables": [
                {"name": "weather", "options": ["sunny", "snowy"], "templates": ["The weather outside is {}."]},
                {"name": "note", "kind": "text", "templates": ["{}"], "parents": ["weather"], "max_tokens": 14,
                 "stop": "."},
                {"name": "gym", "options": ["to the gym", "for a run outside"], "parents": ["weather"],
                 "templates": ["I owe it to myself to go {}."]},
                {"name": "marathon", "options": ["improve", "worsen"], "parents": ["weather"],
                 "templates": ["After this, my marathon time will {}."]},
            ],
        }
    )  # fmt: skip
    data = generate(family, tmp_path / "data", datasets=1, units=300, progress=False)
    options = {"estimators": ["linear_regression"], "covariates": ["observed"], "progress": False}
    with pytest.warns(UserWarning, match="note"):
        naive = evaluate(data, tmp_path / "naive", **options)
    seen = evaluate(data, tmp_path / "seen", texts="words", **options)

    def error(found: object) -> float:
        row = found.scores.set_index("estimator").loc["linear_regression"]  # type: ignore[attr-defined]
        return abs(float(row["ate"] - row["ate_true"]))

    assert error(seen) < error(naive)
    assert '"covariates that are texts": "words"' in (tmp_path / "seen" / "card.json").read_text()
    with pytest.raises((ResumeError, SDSCMError), match="texts"):
        evaluate(data, tmp_path / "seen", texts="embedded", **options)

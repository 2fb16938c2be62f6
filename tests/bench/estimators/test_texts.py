"""Estimators that read texts, where a text alone carries the confounder: the truth is written down."""

from __future__ import annotations

import warnings
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest

from sdscm_jax.bench import Dataset, estimating, evaluation
from sdscm_jax.bench.estimators.linear import DifferenceInMeans, LinearT
from sdscm_jax.bench.estimators.texts import ReadsTexts, TextForestT, TextLinearDML, TextLinearT, TextTrainingDML
from sdscm_jax.errors import EstimatorError

HERE = "sdscm_jax.bench.estimators.texts:"
SAYS = (
    ["She is well and walks every day.", "No pain today.", "She feels fine."],
    ["She is ill and stays in bed.", "Much pain at night.", "She cannot walk."],
)
# How often a note says nothing of how ill she is.
EMPTY = 0.3


def clinic(seed: int, n: int = 300) -> tuple[Dataset, np.ndarray]:
    """Units whose illness u is in their note, in most; u moves treatment and outcome. The effect is 1 + w."""
    rng = np.random.default_rng(seed)
    u, w = rng.integers(0, 2, n), rng.integers(0, 2, n)
    notes = ["She is seen today." if rng.random() < EMPTY else SAYS[k][rng.integers(3)] for k in u]
    t = (rng.random(n) < 0.2 + 0.6 * u).astype(np.int8)
    outcomes = 2.0 * u[:, None] + np.stack([0.0 * w, 1.0 + w], -1) + rng.normal(0, 0.5, n)[:, None]
    y = outcomes[np.arange(n), t]
    covariates = pd.DataFrame({"w": pd.Categorical(np.array(["no", "yes"])[w]), "note": notes})
    return Dataset("a", "0", covariates, (), t, y, outcomes, 1.0 + w, 0.2 + 0.6 * u, np.arange(n)), u


def seen(estimator: ReadsTexts, data: Dataset) -> np.ndarray:
    return np.column_stack([data.encoded(), estimator.columns_of(data.texts())])


@pytest.mark.slow
def test_texts_adjust_for_what_they_tell() -> None:
    """Naive is further off than text-adjusted, and that further than who sees the confounder; 50 data sets."""
    off: dict[str, list[float]] = {"naive": [], "text": [], "oracle": []}
    covered = 0
    for seed in range(50):
        data, u = clinic(seed)
        model = TextLinearT()
        fits = {
            "naive": DifferenceInMeans().fit(None, data.encoded(), data.t, data.y),
            "text": model.fit(None, seen(model, data), data.t, data.y),
            "oracle": LinearT().fit(None, np.column_stack([data.encoded(), u]), data.t, data.y),
        }
        for name, fit in fits.items():
            off[name].append(fit.ate() - data.ate)
        limits = fits["oracle"].ate_interval(0.95)
        assert limits is not None
        covered += limits[0] <= data.ate <= limits[1]
    means = {name: np.array([np.mean(x), 3 * np.std(x) / np.sqrt(50)]) for name, x in off.items()}
    # Without the note, u differs by 0.6 between the arms, and moves the outcome by 2.
    assert means["naive"][0] == pytest.approx(2 * 0.6, abs=0.1)
    # With it, only in the notes that say nothing.
    assert means["text"][0] == pytest.approx(EMPTY * 2 * 0.6, abs=0.1)
    assert abs(means["oracle"][0]) < means["oracle"][1]
    assert means["oracle"][0] + means["oracle"][1] < means["text"][0] - means["text"][1]
    assert means["text"][0] + means["text"][1] < means["naive"][0] - means["naive"][1]
    assert covered >= 44


@pytest.mark.parametrize("made", [TextLinearDML, TextTrainingDML, TextForestT])
def test_each_reads_the_note(made: type) -> None:
    data, _ = clinic(7, 500)
    model = made(nuisance="linear") if made is not TextForestT else made(trees=20)
    x = seen(model, data)
    model.fit(jax.random.key(0), x, data.t, data.y)
    naive = data.y[data.t == 1].mean() - data.y[data.t == 0].mean()
    assert abs(model.ate() - data.ate) < 0.6 * abs(naive - data.ate)
    if made is TextTrainingDML:
        # What a note says is no part of an effect, and the other covariate is.
        nothing = np.column_stack([data.encoded(), np.zeros((len(data), model.components))])
        np.testing.assert_array_equal(model.effect(nothing), model.effect(x))
        assert len(np.unique(model.effect(x).round(6))) == 2


def test_columns_are_of_what_differs() -> None:
    data, _ = clinic(0, 40)
    found = ReadsTexts(components=3).columns_of(data.texts())
    assert found.shape == (40, 3)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0)[0], 1, atol=1e-5)
    np.testing.assert_allclose(np.corrcoef(found.T), np.eye(3), atol=1e-3)
    # The same text, the same columns; none, or one text, says nothing.
    notes = data.covariates["note"].to_numpy()
    assert all((found[notes == note] == found[notes == note][0]).all() for note in set(notes))
    one = data.texts().assign(note="x")
    for nothing in (data.texts()[[]], one):
        assert (ReadsTexts(components=3).columns_of(nothing) == 0).all()
    with pytest.raises(EstimatorError, match="components is an integer of at least 1, got 0"):
        TextLinearT(components=0)


def test_evaluation_shows_texts_to_who_reads_them() -> None:
    data, _ = clinic(1)
    settings, texts = estimating.Settings(), data.texts()
    shown = {
        name: estimating._fitted(name, jax.random.key(0), data.encoded(), texts, data, settings)
        for name in ("linear_t", f"{HERE}TextLinearT")
    }
    assert [made["failure"].iloc[0] for made in shown.values()] == ["", ""]
    blind, reading = (made["ate"].iloc[0] for made in shown.values())
    assert abs(reading - data.ate) < 0.6 * abs(blind - data.ate)
    with pytest.warns(UserWarning, match=r"\(note\) are no numbers: linear_t adjust"):
        evaluation._warn_of_texts(data, ["all"], list(shown))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation._warn_of_texts(data, ["all"], [f"{HERE}TextLinearT", "zero"])
        evaluation._warn_of_texts(replace(data, covariates=data.covariates[["w"]]), ["all"], ["linear_t"])

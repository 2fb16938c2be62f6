"""Tables as training text, and mechanisms that are fitted to them."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import sdscm_jax as sd
from sdscm_jax.errors import DataError
from sdscm_jax.families import (
    Family,
    FitWarning,
    Member,
    compare_table,
    conditionals,
    fit_table,
    table_batches,
    table_family,
)
from sdscm_jax.families.frequency_tables import read_table
from sdscm_jax.families.table_fit import TableWriter
from sdscm_jax.models import training

from ..test_examples import load_example

token_losses = jax.jit(training.token_losses)

WEATHER, GO = "The weather outside is {}.", ["My friend goes {}.", "{} is where she goes."]


def a_table(units: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    weather = rng.choice(["sunny", "rainy", "cold"], units, p=[0.6, 0.3, 0.1])
    run = rng.random(units) < np.where(weather == "sunny", 0.8, 0.3)
    return pd.DataFrame({"weather": weather, "go": np.where(run, "for a run", "for a walk"), "more": range(units)})


FRAME = a_table()
FAMILY = table_family(FRAME, {"weather": WEATHER, "go": GO})


def test_frequencies_are_those_of_pandas() -> None:
    found = conditionals(FAMILY, FRAME)
    expected = pd.crosstab(FRAME.weather, FRAME.go).to_numpy()
    np.testing.assert_array_equal(found["go"].weights, expected)
    np.testing.assert_array_equal(found["go"].contexts, [[0], [1], [2]])
    np.testing.assert_allclose(found["weather"].probs, [FRAME.weather.value_counts(normalize=True).sort_index()])


def test_missing_values(tmp_path: Path) -> None:
    """A unit counts where the variable and its parents are there; a file is as the frame."""
    frame = FRAME.copy()
    frame.loc[:9, "weather"] = None
    frame.loc[5:19, "go"] = np.nan
    found = conditionals(FAMILY, frame)
    assert found["weather"].weights.sum() == 50
    assert found["go"].weights.sum() == 40
    frame.to_csv(tmp_path / "table.csv", index=False)
    for name, conditional in conditionals(FAMILY, tmp_path / "table.csv").items():
        np.testing.assert_array_equal(conditional.weights, found[name].weights)
    # What pandas takes for a missing value by default may be an option.
    (tmp_path / "table.csv").write_text("pain\nNone\n\n1\n")
    assert read_table(tmp_path / "table.csv").pain.dropna().tolist() == ["None", "1"]


def test_given_probabilities() -> None:
    go = np.array([[0.1, 0.9], [0.5, 0.5], [0.2, 0.8]])
    found = conditionals(FAMILY, {"go": go})
    assert set(found) == {"go"}
    np.testing.assert_array_equal(found["go"].probs, go)
    with pytest.raises(DataError, match=r"'go' have shape \(2, 3\), expected \(3, 2\) \(weather, go\)"):
        conditionals(FAMILY, {"go": go.T})
    with pytest.raises(DataError, match="do not add up to 1"):
        conditionals(FAMILY, {"go": 2 * go})


def test_weights_of_units(tmp_path: Path) -> None:
    """A unit of weight 3 is three units, one of weight 0 none; by a column or by numbers, in a frame or in a file."""
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4, len(FRAME))
    frame = FRAME.assign(w=counts)
    repeated = conditionals(FAMILY, FRAME.loc[FRAME.index.repeat(counts)])
    frame.to_csv(tmp_path / "table.csv", index=False)
    for data, weights in ((frame, "w"), (FRAME, counts), (FRAME, list(counts)), (tmp_path / "table.csv", "w")):
        for name, found in conditionals(FAMILY, data, weights).items():
            np.testing.assert_array_equal(found.weights, repeated[name].weights)
            np.testing.assert_array_equal(found.contexts, repeated[name].contexts)
    # A context of which no unit counts is none.
    shares = np.where(FRAME.weather == "cold", 0.0, rng.random(len(FRAME)))
    found = conditionals(FAMILY, FRAME, shares)["go"]
    assert found.contexts.tolist() == [[1], [2]]
    expected = FRAME.assign(w=shares).groupby(["weather", "go"]).w.sum().unstack().loc[["rainy", "sunny"]]
    np.testing.assert_allclose(found.weights, expected.to_numpy(), rtol=1e-12)


def test_weights_that_are_none() -> None:
    with pytest.raises(DataError, match="no column 'wt' of weights"):
        conditionals(FAMILY, FRAME, "wt")
    with pytest.raises(DataError, match=r"shape \(3,\); the table has 60 units"):
        conditionals(FAMILY, FRAME, [1, 2, 3])
    for wrong in (-1.0, np.nan, np.inf, "many"):
        with pytest.raises(DataError, match=r"weight of row 2 is .*, no number of at least 0"):
            conditionals(FAMILY, FRAME, [1, 1, wrong, *[1] * 57])
    with pytest.raises(DataError, match="no row in which 'weather'"):
        conditionals(FAMILY, FRAME, np.zeros(60))
    with pytest.raises(DataError, match="weights are those of a table's units"):
        conditionals(FAMILY, {"go": np.full((3, 2), 0.5)}, np.ones(60))


def test_tables_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'go'"):
        conditionals(FAMILY, FRAME.drop(columns="go"))
    with pytest.raises(DataError, match="column 'go', row 0: 'for a rum' is no option; did you mean 'for a run'"):
        conditionals(FAMILY, FRAME.assign(go="for a rum"))
    with pytest.raises(DataError, match="no row in which 'go'"):
        conditionals(FAMILY, FRAME.assign(go=None))
    with pytest.raises(DataError, match="no column 'wether'; did you mean 'weather'"):
        table_family(FRAME, {"wether": WEATHER})
    with pytest.raises(DataError, match="cannot be read"):
        conditionals(FAMILY, tmp_path / "none.csv")


def test_families_of_tables() -> None:
    frame = FRAME.assign(size=pd.Categorical([2, 1] * 30, categories=[2, 1]))
    family = table_family(frame, {"weather": WEATHER, "size": "It is {}.", "go": GO}, {"go": ["size"]})
    assert family["size"].options == ("2", "1")
    assert family["weather"].options == ("cold", "rainy", "sunny")
    assert [v.parents for v in family.variables] == [(), (), ("size",)]
    assert FAMILY["go"].parents == ("weather",)
    assert FAMILY.size == 2


@pytest.mark.parametrize("fixture", ["lm", "embedded"])
def test_weighted_losses_are_scores(request: pytest.FixtureRequest, fixture: str) -> None:
    """A text's weighted loss is the score of its option under the program's own choice.

    With a parent, and without one where the template begins with its blank.
    """
    lm: sd.LanguageModel = request.getfixturevalue(fixture)
    for wording, parents in ((0, None), (1, {})):
        family = table_family(FRAME, {"weather": WEATHER, "go": GO}, parents)
        member = Member(family, (0, wording))
        scores = sd.tabulate(member, lm).scores("go")
        (batch,) = table_batches(lm, member, {"go": alone(family)}, steps=1, rows=1)
        losses = np.asarray(token_losses(lm, batch))[0] * np.asarray(batch.weights)[0, 1:]
        tokens, segments = np.asarray(batch.tokens)[0], np.asarray(batch.segments)[0]
        for segment in range(1, 1 + segments.max()):
            text = lm.codec.decode(tokens[segments == segment].tolist())
            told = [
                next(k for k, option in enumerate(family[name].options) if option in text)
                for name in (*family["go"].parents, "go")
            ]
            found = -losses[segments[1:] == segment].sum()
            np.testing.assert_allclose(found, float(scores[tuple(told)]), rtol=1e-4, atol=5e-4)


def alone(family: Family) -> np.ndarray:
    """Each context has one option for certain, so that the loss is that option's."""
    sizes = [len(family[name].options) for name in family["go"].parents]
    number = np.indices(sizes).sum(0) if sizes else np.array(1)
    return np.eye(2)[number % 2]


def test_texts_are_drawn_as_often_as_units(embedded: sd.LanguageModel) -> None:
    """Of n texts each cell gets its share of n, but for one; four of five are of the variable with a parent."""
    table = conditionals(FAMILY, FRAME)
    writer = TableWriter(embedded.codec, FAMILY, table)
    n = 200
    texts = [embedded.codec.decode(d.tokens[1:].tolist()) for d in writer.documents(np.random.default_rng(0), n)]
    for c, weather in enumerate(FAMILY["weather"].options):
        for k, go in enumerate(FAMILY["go"].options):
            share = 0.8 * table["go"].weights[c, k] / len(FRAME)
            assert abs(sum(weather in t and go in t for t in texts) - n * share) < 1 + 1e-9
    # All wordings are told.
    assert 0.2 < sum("is where" in t for t in texts) / sum("goes" in t for t in texts) < 0.8


@pytest.mark.slow
def test_fitted_mechanisms_are_those_of_the_table(embedded: sd.LanguageModel) -> None:
    """All weights are trained, and the fitted program is asked in three ways."""
    member = FAMILY.member(0)
    before = compare_table(embedded, member, FRAME)
    fitted = fit_table(embedded, member, FRAME, optax.adam(3e-3), steps=120, rows=2)
    after = compare_table(fitted, member, FRAME)
    assert (before.table - before.lm).abs().mean() > 0.15
    assert (after.table - after.lm).abs().mean() < 0.05
    np.testing.assert_allclose(after.groupby(["variable", "given"]).lm.sum(), 1.0, atol=1e-4)
    asked = np.asarray(jax.nn.softmax(sd.tabulate(member, fitted).scores("go")))
    np.testing.assert_allclose(after[after.variable == "go"].lm, asked.reshape(-1), atol=1e-4)
    # Four standard errors, and what the fit leaves.
    units = sd.simulate(member, 0, 400, fitted)
    share = (units.values["go"] == FAMILY["go"].options.index("for a run")).mean()
    assert abs(share - (FRAME.go == "for a run").mean()) < 4 * 0.5 / 20 + 0.05


@pytest.mark.slow
def test_a_fit_that_has_not_converged(lm: sd.LanguageModel) -> None:
    """It says how far it is, and where it is farthest; whatever the wordings."""
    weights = np.where(FRAME.weather == "cold", 0.5, 2.0)
    common = {"steps": 1, "rows": 1, "weights": weights}
    member = FAMILY.member(0)
    with pytest.warns(FitWarning) as caught:
        fitted = fit_table(lm, member, FRAME, optax.sgd(1e-3), **common)
    found = compare_table(fitted, member, FRAME, weights)
    off = (found.table - found.lm).abs()
    far = off.groupby([found.variable, found.given]).sum() / 2
    worst = found.loc[off.idxmax()]
    (said,) = (str(w.message) for w in caught)
    assert f"after 1 steps the mechanisms are not those of the table: {(far > 0.05).sum()} of 4 contexts" in said
    assert f"more than 0.05, by {far.max():.2g} at most" in said
    assert f"is {worst.lm:.3f}, in the table {worst.table:.3f}" in said
    # Just as far as it may be.
    again = fit_table(lm, member, FRAME, optax.sgd(1e-3), tolerance=float(far.max()) * 1.001, **common)
    assert again.fingerprint() == fitted.fingerprint()
    # Each wording is looked at.
    with pytest.warns(FitWarning, match="of 8 contexts"):
        fit_table(lm, FAMILY, FRAME, optax.sgd(1e-3), **common)
    for wrong in (0.0, -1.0, 2.0, float("nan")):
        with pytest.raises(DataError, match="tolerance is a finite number, above 0 and at most 1"):
            fit_table(lm, member, FRAME, optax.sgd(1e-3), tolerance=wrong, **common)


def test_scorings_that_are_no_law_of_text(lm: sd.LanguageModel) -> None:
    with pytest.raises(DataError, match="scoring='pmi' is not the law of a text"):
        table_batches(lm, FAMILY.member(0, "pmi"), FRAME, steps=1)
    assert jnp.isfinite(next(table_batches(lm, FAMILY.member(0, "option"), FRAME, steps=1)).weights).all()


@pytest.mark.search
def test_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The example finds the table's conditional probabilities; and an effect, not the association.

    By bicycle in the snow there are few units, which is what the effect of a bicycle is furthest off by.
    """
    example = load_example("fit_table")
    found = example.main([])
    assert all(difference < 0.06 for difference in found["difference"].values())
    table = pd.read_csv(example.DATA)
    for travel, late in found["late"].items():
        assert late == pytest.approx(example.adjusted(table, travel), abs=0.06)
    naive = (table.arrival == "late")[table.travel == "by bicycle"].mean()
    assert found["late"]["by bicycle"] > naive + 0.03
    assert "P(late | do(travel))" in capsys.readouterr().out


def test_whole_numbers_are_whole_where_some_are_missing() -> None:
    frame = pd.DataFrame({"age": [25, 55, None, 25], "dose": [0.5, 1.0, None, 1.0]})
    family = table_family(frame, {"age": "She is {}.", "dose": "She takes {} g."})
    assert family["age"].options == ("25", "55")
    assert family["dose"].options == ("0.5", "1.0")
    probs = conditionals(family, frame)["age"].probs
    assert np.allclose(probs, [2 / 3, 1 / 3])

"""Generated benchmarks: what is in them is true, and how they are written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import sdscm_jax as sd
from sdscm_jax.bench import generation
from sdscm_jax.bench.exact import worlds_of
from sdscm_jax.bench.generation import Recipe, generate
from sdscm_jax.cli import app
from sdscm_jax.families import Family, family

from ..plain import option_log_probs
from .conftest import UNITS


def by_hand(lm: sd.LanguageModel, family: Family, wording: int, known: dict[str, str], name: str) -> np.ndarray:
    """Probabilities of a variable's options, each sentence written out and scored by itself."""
    member = family.member(wording)
    sentence = {v.name: str(v.templates[w]) for v, w in zip(family.variables, member.wordings, strict=True)}
    context = " ".join(sentence[p].format(known[p]) for p in family[name].parents)
    scores = option_log_probs(lm, context, sentence[name], list(family[name].options))
    return np.exp(scores) / np.exp(scores).sum()


def test_effects_are_those_of_sentences_written_out(benchmark: Path, small: Family, embedded: sd.LanguageModel) -> None:
    table = pd.read_parquet(benchmark / "data")
    for row in table.iloc[[0, UNITS + 3]].to_dict("records"):
        known = {v.name: row[v.name] for v in small.variables}
        dose = by_hand(embedded, small, row["wording"], known, "dose")
        np.testing.assert_allclose(row["propensity"], dose[1], atol=1e-4)
        for arm in ("low", "high"):
            # P(run | do(dose), season, age): the two mediators summed out.
            total = np.zeros(2)
            for s, sleep in enumerate(("low", "high")):
                for m, mood in enumerate(("low", "high")):
                    world = known | {"dose": arm, "sleep": sleep, "mood": mood}
                    weight = by_hand(embedded, small, row["wording"], world, "sleep")[s]
                    weight *= by_hand(embedded, small, row["wording"], world, "mood")[m]
                    total += weight * by_hand(embedded, small, row["wording"], world, "run")
            found = [row[f"exact(run={option})|do(dose={arm})"] for option in ("low", "high")]
            np.testing.assert_allclose(found, total, atol=1e-4)


def test_tables_are_consistent(benchmark: Path) -> None:
    table = pd.read_parquet(benchmark / "data")
    assert len(table) == 3 * UNITS
    assert table.groupby("dataset")["wording"].unique().map(list).tolist() == [[0], [1], [0]]
    for arm in ("low", "high"):
        under = f"|do(dose={arm})"
        treated = table["dose"] == arm
        assert treated.any()
        # Consistency: an individual's own treatment is one of its worlds.
        for name in ("sleep", "mood", "run", "logp(run=low)"):
            assert (table.loc[treated, name] == table.loc[treated, name + under]).all(), name
        for name in ("season", "age"):
            assert (table[name] == table[name + under]).all()
        shares = table[[f"logp(run={option}){under}" for option in ("low", "high")]]
        np.testing.assert_allclose(np.exp(shares).sum(axis=1), 1, atol=1e-4)
    effect = np.exp(table["logp(run=low)|do(dose=high)"]) - np.exp(table["logp(run=low)|do(dose=low)"])
    np.testing.assert_allclose(table["ite(run=low)"], effect, atol=1e-5)
    assert table["ite(run=low)"].std() > 0
    # Data sets of one wording have their own individuals.
    first, third = (table[table["dataset"] == i]["propensity"].to_numpy() for i in (0, 2))
    assert not np.array_equal(first, third)


def test_card(benchmark: Path, small: Family, embedded: sd.LanguageModel) -> None:
    card = json.loads((benchmark / "card.json").read_text())
    assert Family.from_json(card["family"]) == small
    assert card["language_model"]["fingerprint"] == embedded.fingerprint()
    page = (benchmark / "README.md").read_text()
    table = pd.read_parquet(benchmark / "data")
    named = [
        line.split("`")[1].replace("\\|", "|")
        for line in page.splitlines()
        if line.startswith("| `") and "SITE" not in line
    ]
    assert len(named) > 6
    assert set(named) <= set(table.columns)
    assert "data_files: data/*.parquet" in page
    assert "run" in (benchmark / "dag.svg").read_text()


def test_a_killed_run_goes_on_to_the_same_bytes(benchmark: Path, small: Family, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(benchmark, copy)
    lost = copy / "data" / "part-00001.parquet"
    lost.unlink()
    generate(small, copy, datasets=3, wordings=2, units=UNITS, progress=False)
    assert lost.read_bytes() == (benchmark / "data" / lost.name).read_bytes()
    with pytest.raises(sd.errors.ResumeError, match=r"units: 60 there, 61 here"):
        generate(small, copy, datasets=3, wordings=2, units=61, progress=False)


def test_one_failure_loses_no_other_data_set(small: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = generation.dataset_frame

    def fails_once(recipe: Recipe, i: int) -> pd.DataFrame:
        if i == 0:
            raise sd.errors.ContextLengthError("site 'run' needs 600 positions")
        return made(recipe, i)

    monkeypatch.setattr(generation, "dataset_frame", fails_once)
    with pytest.raises(sd.errors.DataError, match=r"1 of 2 data sets .* Data set 0: ContextLengthError: site 'run'"):
        generate(small, tmp_path / "out", datasets=2, units=5, progress=False)
    assert len(pd.read_parquet(tmp_path / "out" / "data")) == 5


def test_bad_input_before_any_work(small: Family, tmp_path: Path) -> None:
    with pytest.raises(sd.errors.FamilyError, match="declares no treatment"):
        generate(replace(small, treatment=None, arms=None), tmp_path / "a")
    with pytest.raises(sd.errors.DataError, match="units is an integer of at least 1, got 0"):
        generate(small, tmp_path / "a", units=0)
    with pytest.raises(sd.errors.OptionError, match="coupling"):
        generate(small, tmp_path / "a", coupling="gumble")
    with pytest.raises(sd.errors.OptionError, match="scoring"):
        generate(small, tmp_path / "a", scoring="sum")
    with pytest.raises(sd.errors.LoadError):
        generate(small, tmp_path / "a", lm=tmp_path / "nowhere")
    first, second, *rest = small.variables
    named = replace(second, parents=("unit",)), *(replace(v, parents=()) for v in rest)
    taken = replace(small, variables=(replace(first, name="unit"), *named), hidden=())
    with pytest.raises(sd.errors.FamilyError, match=r"\['unit'\] are names of other columns"):
        generate(taken, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_worlds_that_exact_effects_need() -> None:
    court = family("court")
    assert worlds_of(court)[:2] == [{"legal help": "low"}, {"legal help": "high"}]
    # Both arms, alone, with each option of the first mediator, with each pair of both.
    k = [len(court[name].options) for name in court.mediators]
    assert len(worlds_of(court)) == 2 * (1 + k[0] + k[0] * k[1])


def test_command(tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(
        app, ["generate", "confounder", "--out", str(tmp_path / "x"), "--datasets", "1", "--units", "4"]
    )
    assert result.exit_code == 0, result.output
    assert len(pd.read_parquet(tmp_path / "x" / "data")) == 4
    result = runner.invoke(app, ["generate", "konfounder", "--out", str(tmp_path / "y")])
    assert result.exit_code == 1
    assert "did you mean 'confounder'" in " ".join(result.output.split())

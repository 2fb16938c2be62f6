"""Variables that are free text: in files, in programs, and what may not be said of them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sdscm_jax as sd
from sdscm_jax.bench import Dataset, evaluate, generate, open_benchmark
from sdscm_jax.errors import FamilyError, OptionError
from sdscm_jax.families import Family, Written

from ..plain import option_log_probs

Content = dict[str, Any]

# age -> dose -> note -> run; age -> run, dose -> run: a text between treatment and outcome, and one before both.
CLINIC: Content = {
    "name": "clinic",
    "treatment": "dose",
    "outcome": "run",
    "variables": [
        {"name": "age", "options": ["25", "75"], "templates": ["She is {} years old."]},
        {"name": "letter", "kind": "text", "templates": ["The letter says {}."], "parents": ["age"], "max_tokens": 5},
        {"name": "dose", "options": ["low", "high"], "templates": ["The dose is {}."], "parents": ["age", "letter"]},
        {
            "name": "note",
            "kind": "text",
            "templates": ["The note says {}.", "I read: {}."],
            "parents": ["dose"],
            "max_tokens": 4,
        },
        {
            "name": "run",
            "options": ["short", "long"],
            "templates": ["The run is {}."],
            "parents": ["age", "dose", "note"],
        },
    ],
}
UNITS = 16


@pytest.fixture(scope="module")
def clinic() -> Family:
    return Family.from_json(CLINIC)


def test_a_file_says_how_a_text_is_written(clinic: Family) -> None:
    assert clinic["note"].kind == "text"
    assert clinic["note"].written == Written(max_tokens=4)
    assert clinic["age"].kind == "choice"
    assert Family.from_json(clinic.to_json()) == clinic
    # How long it may be is always said; what is as usual is not.
    note = next(v for v in json.loads(clinic.to_json())["variables"] if v["name"] == "note")
    assert note["max_tokens"] == 4
    assert {"pattern", "stop", "temperature", "options"}.isdisjoint(note)
    all_ = {"max_tokens": 7, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "stop": ["\n", "!"]}
    other = copy.deepcopy(CLINIC)
    other["variables"][3] |= all_
    family = Family.from_json(other)
    assert family["note"].written == Written(7, ("\n", "!"), None, 0.5, 3, 0.9)
    assert Family.from_json(family.to_json()) == family


@pytest.mark.parametrize(
    ("place", "change", "named"),
    [
        (3, {"options": ["a", "b"]}, "options"),
        (3, {"uniform": True}, "uniform"),
        (3, {"max_tokens": 0}, "max_tokens"),
        (3, {"temperature": -1.0}, "temperature"),
        (3, {"top_p": 1.5}, "top_p"),
        (3, {"stop": [3]}, "stop"),
        (3, {"pattern": "a+", "stop": "b"}, "stop"),
        (3, {"kind": "txt"}, "did you mean 'text'"),
        (0, {"max_tokens": 5}, "max_tokens"),
        (4, {"kind": "text", "options": []}, "judge"),
        (2, {"kind": "text", "options": []}, "two arms"),
    ],
)
def test_what_may_not_be_said_of_a_text(place: int, change: Content, named: str) -> None:
    content = copy.deepcopy(CLINIC)
    content["variables"][place] |= change
    with pytest.raises(FamilyError, match=named) as caught:
        Family.from_json(content)
    assert content["variables"][place]["name"] in str(caught.value)


def test_a_member_writes_its_texts(clinic: Family, embedded: sd.LanguageModel) -> None:
    member = clinic.member(0)
    sites = sd.graph(member, embedded)
    assert sites["note"].kind == "text"
    assert sites["run"].parents == ("age", "dose", "note")
    with pytest.raises(sd.SDSCMError, match="positions"):
        sd.simulate(Family.from_json(_longer(5000)).member(0), 0, 1, embedded)


def _longer(most: int) -> Content:
    content = copy.deepcopy(CLINIC)
    content["variables"][3]["max_tokens"] = most
    return content


def test_a_coupling_that_texts_do_not_have_is_refused(clinic: Family, tmp_path: Path) -> None:
    """The card names one coupling, so all sites have it."""
    with pytest.raises(OptionError, match=r"'letter'.*'inverse_cdf'"):
        generate(clinic, tmp_path / "data", units=4, coupling="inverse_cdf", progress=False)
    assert not (tmp_path / "data").exists()


def test_numbers_that_are_held_as_objects_are_no_texts() -> None:
    n = np.arange(4)
    frame = pd.DataFrame({"held": pd.Series([1, 2, 3, 5], dtype=object), "said": ["a", "b", "c", "d"]})
    data = Dataset("a", "0", frame, (), n % 2, n * 1.0, np.zeros((4, 2)), np.zeros(4), np.full(4, 0.5), n)
    assert list(data.texts()) == ["said"]
    np.testing.assert_array_equal(data.encoded(), [[1], [2], [3], [5]])


@pytest.mark.slow
def test_data_sets_have_a_text_for_each_world(clinic: Family, embedded: sd.LanguageModel, tmp_path: Path) -> None:
    generate(clinic, tmp_path, datasets=1, units=UNITS, seed=3, progress=False)
    table = pd.read_parquet(tmp_path / "data")
    worlds = ["", "|do(dose=low)", "|do(dose=high)"]
    for name in ("letter", "note"):
        for world in worlds:
            assert all(isinstance(text, str) for text in table[f"{name}{world}"])
    # Consistency; and what the treatment does not cause is the same in every world.
    for arm in ("low", "high"):
        treated = table["dose"] == arm
        assert treated.any()
        assert (table["note"] == table[f"note|do(dose={arm})"])[treated].all()
        assert (table["letter"] == table[f"letter|do(dose={arm})"]).all()
    assert (table["note|do(dose=low)"] != table["note|do(dose=high)"]).any()
    # What the outcome's probability is given is the text itself.
    member = clinic.member(0)
    templates = {v.name: v.templates[w] for v, w in zip(clinic.variables, member.wordings, strict=True)}
    for row in table.iloc[:2].to_dict("records"):
        for arm in ("low", "high"):
            under = f"|do(dose={arm})"
            said = {"age": row["age"], "dose": arm, "note": row[f"note{under}"]}
            context = " ".join(str(templates[name]).format(text) for name, text in said.items())
            scores = option_log_probs(embedded, context, str(templates["run"]), ["short", "long"])
            scores -= np.logaddexp(*scores)
            np.testing.assert_allclose(row[f"logp(run=short){under}"], scores[0], atol=1e-4)
    card = (tmp_path / "README.md").read_text()
    assert "free text" in card
    assert not [name for name in table if name.startswith("exact(")]
    data = open_benchmark(tmp_path).dataset(0)
    assert list(data.texts()) == ["letter"]
    assert data.encoded().shape == (UNITS, 1)
    with pytest.warns(UserWarning, match="letter"):
        evaluate(tmp_path, tmp_path / "report", estimators=["linear_regression"], covariates=["all"], progress=False)
    # With another text it is another data set.
    other = data.covariates.assign(letter=["x", *data.covariates["letter"][1:]])
    assert replace(data, covariates=other).digest != data.digest

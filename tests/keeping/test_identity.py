"""What is kept is of one request: whoever asks for another is refused, or answered as where nothing is kept.

The arguments are those of the signatures, and the fields those of the classes: a new one is a test that fails until it
is said here what it is to the bytes. (Programs: ``engine/test_changed_programs``; estimators: ``bench/test_identity``;
audits: ``audit/test_audit_kept``.)
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optax
import pandas as pd
import pytest

from sdscm_jax import testing
from sdscm_jax.bench import evaluation, generation
from sdscm_jax.errors import ResumeError
from sdscm_jax.families import Family
from sdscm_jax.models.training import Batch, train_lm
from tests.keeping import registry
from tests.keeping.registry import every_file


def named(function: Callable[..., Any]) -> set[str]:
    """The names of what a function is given."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


# -- generate ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def family() -> Family:
    """Every field says something."""
    age, dose, mood = registry.FAMILY["variables"]
    luck = {"name": "luck", "options": ["old", "new"], "templates": ["Luck is {}.", "It is {}."], "exogenous": True}
    sign = {"name": "sign", "options": ["up", "on"], "templates": ["It says {}."], "uniform": True}
    dose = {**dose, "options": ["low", "big", "mid"], "parents": ["luck", "age"]}
    mood = {**mood, "parents": ["luck", "sign", "age", "dose"]}
    return Family.from_json({
        **registry.FAMILY, "variables": [luck, sign, age, dose, mood], "hidden": ["luck", "age"],
        "arms": ["low", "mid"], "outcome_option": "big", "licence": "CC0", "description": "A dose.",
    })  # fmt: skip


def loaded(source: str | None) -> Any:
    return testing.mock_lm(seed=0 if source is None else 1)


def generated(family: Family, out: Path, **changed: Any) -> None:
    asked: dict[str, Any] = {"datasets": 2, "units": 4, "wordings": 2, "progress": False} | changed
    with mock.patch("sdscm_jax.bench.generation.loaded_lm", loaded):
        generation.generate(family, out, **asked)


@pytest.fixture(scope="module")
def benchmark(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("generated") / "benchmark"
    generated(family, place)
    return place


def test_any_argument_of_a_benchmark_that_is_changed_is_another_one(
    family: Family, benchmark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = every_file(benchmark)
    other: dict[str, list[Any]] = {
        "lm": ["elsewhere"],
        "datasets": [1, 3],
        "units": [5],
        "seed": [1],
        "wordings": [1, 3],
        "scoring": ["mean"],
        "coupling": ["inverse_cdf", "independent"],
    }
    assert {*other, "family", "out", "jobs", "backend", "progress"} == named(generation.generate)
    for name, values in other.items():
        for value in values:
            with pytest.raises(ResumeError, match="holds another run"):
                generated(family, benchmark, **{name: value})
    with monkeypatch.context() as patch:
        patch.setattr(generation, "version", lambda name: "0.0.1" if name == "numpy" else "1")
        with pytest.raises(ResumeError, match=r"versions\.numpy"):
            generated(family, benchmark)
    assert every_file(benchmark) == before
    generated(Family.from_json(json.loads(family.to_json())), benchmark)
    assert every_file(benchmark) == before


# -- evaluate ----------------------------------------------------------------------------------


def test_any_argument_of_an_evaluation_that_is_changed_is_refused_or_as_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "write_report", lambda *_, **__: None)
    source, other = tmp_path / "benchmark", tmp_path / "other"
    for place, family in ((source, registry.FAMILY), (other, {**registry.FAMILY, "licence": "CC0"})):
        generated(Family.from_json(family), place, datasets=2, units=40)
    shutil.copytree(source, tmp_path / "copy")
    made = pd.DataFrame({"dataset": "00000", "unit": range(40), "effect": 0.25, "lower": 0.0, "upper": 0.5})
    pd.concat([made, made.assign(dataset="00001")]).to_csv(tmp_path / "mine.csv", index=False)

    def run(out: str, **changed: Any) -> pd.DataFrame:
        asked = {"source": source, "estimators": "difference_in_means", "covariates": ["all"]} | changed
        return evaluation.evaluate(asked.pop("source"), tmp_path / out, progress=False, **asked).scores.drop(
            columns="seconds"
        )

    run("out")
    before = every_file(tmp_path / "out")
    refused: dict[str, list[Any]] = {
        "source": [other],
        "outcome": ["logp", "drawn"],
        "option": ["big"],
        "hidden": [["age"]],
        "encoding": ["integer"],
        "level": [0.9],
        "seed": [1],
    }
    answered: dict[str, list[dict[str, Any]]] = {
        "source": [{"source": tmp_path / "copy"}],
        "estimators": [{"estimators": "zero"}, {"estimators": "difference_in_means,linear_s"}],
        "covariates": [{"covariates": ["observed"]}, {"covariates": ["all", "observed"]}],
        "limit": [{"limit": 1}],
        "estimates": [{"estimates": [tmp_path / "mine.csv"]}],
        "intervals_of": [{"estimates": [tmp_path / "mine.csv"], "intervals_of": "ite"}],
    }
    assert {*refused, *answered, "out", "jobs", "backend", "progress"} == named(evaluation.evaluate)
    for name, values in refused.items():
        for value in values:
            with pytest.raises(ResumeError, match="holds another run"):
                run("out", **{name: value})
    assert every_file(tmp_path / "out") == before
    for number, changed in enumerate(change for those in answered.values() for change in those):
        pd.testing.assert_frame_equal(run("out", **changed), run(f"fresh {number}", **changed))


# -- training ----------------------------------------------------------------------------------


def other_batches(batch: Batch) -> Iterator[Batch]:
    """Batches that differ in one field."""
    for name in Batch._fields:
        value = getattr(batch, name)
        if value is None:
            shape = (*batch.tokens.shape, 2)
            both = {"target_tokens": np.ones(shape, np.int32), "target_probs": np.full(shape, 0.5, np.float32)}
            yield batch._replace(**both)
            continue
        other = value.copy()
        other[0, -1] += 1
        yield batch._replace(**{name: other})


def test_any_field_of_a_batch_that_is_changed_is_another_training(tmp_path: Path) -> None:
    """(What else a training is given: ``models/test_training_runs``.)"""
    rows = [registry._batch(0), registry._batch(1)]
    # A field of a model function's signature that is not told apart there would be new.
    assert named(train_lm) == {
        "lm", "batches", "optimizer", "adapter", "accumulate", "average", "checkpoint", "every", "on_step"
    }  # fmt: skip
    optimizer = optax.sgd(1e-2)

    def run(batches: list[Batch]) -> str:
        return train_lm(registry._small(), batches, optimizer, checkpoint=tmp_path / "run", every=1).fingerprint()

    first = run(rows)
    before = every_file(tmp_path)
    for batch in other_batches(rows[0]):
        with pytest.raises(ResumeError, match="of another run"):
            run([rows[0], batch])
    assert every_file(tmp_path) == before
    assert run(rows) == first

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
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import optax
import pandas as pd
import pytest

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.bench import Columns, evaluation, generation
from sdscm_jax.errors import ResumeError, SDSCMError
from sdscm_jax.families import Family, Written
from sdscm_jax.models.training import Batch, train_lm
from tests.audit.test_keeper import changes, places
from tests.keeping import registry
from tests.keeping.registry import every_file


def named(function: Callable[..., Any]) -> set[str]:
    """The names of what a function is given."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


# -- simulate ----------------------------------------------------------------------------------


def program(lm: Any, shift: Any, first: str = "It is {}.") -> None:
    x = sd.sample("x", sd.Choice(lm, first, ["sun", "rain"]))
    y = sd.sample("y", sd.Choice(lm, "Then {}.", ["a", "b"], given=[x]))
    sd.sample("z", sd.Choice(lm, "So {}.", ["a", "b"], given=[x, y], bias=jax.numpy.stack([shift, 0.0])))


def told(lm: Any) -> None:
    text = sd.sample("text", sd.Text(lm, "It says ({}).", pattern="[ab]", max_tokens=3))
    sd.sample("x", sd.Choice(lm, "So it is {}.", ["sun", "rain"], given=[text]))


@pytest.mark.slow
def test_another_number_of_particles_is_another_run(tmp_path: Path) -> None:
    lm = testing.mock_lm(told)

    def run(particles: int) -> None:
        sd.simulate(told, 0, 2, lm, evidence={"x": "sun"}, particles=particles, out=tmp_path / "run", progress=False)

    run(32)
    before = every_file(tmp_path)
    with pytest.raises(ResumeError, match="holds another run"):
        run(64)
    run(32)
    assert every_file(tmp_path) == before


def other_program(lm: Any, shift: Any) -> None:
    program(lm, shift, first="There is {}.")


@pytest.mark.slow
def test_any_argument_of_a_simulation_that_is_changed_is_another_run(tmp_path: Path) -> None:
    lm = testing.mock_lm()
    plain: dict[str, Any] = {
        "model": program, "key": 0, "n": 5, "args": (lm, 0.5), "do": {"y": "a"}, "draws": 1, "logp": ["x"],
        "worlds": [{"x": "sun"}, {"x": "rain"}], "execution": "staged", "memory": 1 << 24, "chunk": 2,
    }  # fmt: skip

    def run(**changed: Any) -> None:
        asked = {**plain, **changed}
        args = [asked.pop(name) for name in ("model", "key", "n")]
        sd.simulate(*args, *asked.pop("args"), **asked, out=tmp_path / "run", progress=False)

    run()
    before = every_file(tmp_path)
    rbg = jax.random.wrap_key_data(np.array([0, 0, 0, 1], np.uint32), impl="rbg")
    other: dict[str, list[Any]] = {
        "model": [other_program],
        "key": [1, rbg],
        "n": [6],
        "args": [(lm, 0.25), (testing.mock_lm(seed=1), 0.5), (lm, np.float16(0.5))],
        "do": [None, {"y": "b"}, {"z": "a"}],
        "worlds": [None, [{"x": "sun"}], [{"x": "rain"}, {"x": "sun"}], [{"x": "sun"}, {"z": "a"}]],
        "evidence": [{"x": "sun"}, {"x": np.array([0, 1, 0, 0, 1])}],
        "draws": [2],
        "logp": [None, [], ["z"], ["x", "z"]],
        "execution": ["in_graph"],
        "memory": [1 << 25],
        "chunk": [3],
    }
    # Particles are of runs with unobserved texts: the test below.
    assert {*other, "store", "out", "progress", "particles"} == named(sd.simulate) | {"args"}
    for name, values in other.items():
        for value in values:
            with pytest.raises(ResumeError, match="holds another run"):
                run(**{name: value})
    assert every_file(tmp_path) == before
    # Who leaves these to us goes on with what is there; so does who says the same in other words.
    run(memory=None, chunk=None, execution=None)
    for name, value in {"key": jax.random.key(0), "args": (testing.mock_lm(), np.float32(0.5)), "do": {"y": 0}}.items():
        run(**{name: value})
    assert every_file(tmp_path) == before


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


@pytest.mark.slow
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


def _told_by_the_model(family: Family) -> Family:
    """The same with free text in place of options."""
    luck, *others = family.variables
    return replace(family, variables=(replace(luck, options=(), written=Written(max_tokens=2)), *others))


def test_any_field_of_a_family_that_is_changed_is_another_benchmark(family: Family, benchmark: Path) -> None:
    """Also of its variables and of their sentences; one that no benchmark can be made of is refused for that."""
    before = every_file(benchmark)
    refused: set[str] = set()
    # What stands in these names more than one thing.
    by_hand = [
        (("Family.treatment",), replace(family, treatment="age", arms=("25", "65"), hidden=("luck",))),
        (("Family.outcome",), replace(family, outcome="sign", outcome_option="up")),
        (("Family.outcome_option",), replace(family, outcome_option="low")),
        (("FamilyVariable.written",), _told_by_the_model(family)),
    ]
    for names, other in (*by_hand, *changes(family)):
        if other == family:
            continue
        with pytest.raises(SDSCMError) as caught:
            generated(other, benchmark)
        refused |= {*names} if isinstance(caught.value, ResumeError) else set()
    assert every_file(benchmark) == before
    assert refused == {name for names, _, _ in places(family) for name in names}


# -- evaluate ----------------------------------------------------------------------------------


@pytest.mark.slow
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
        "test_share": [0.5],
        "cross_fit": [2],
        "budget": [2],
    }
    answered: dict[str, list[dict[str, Any]]] = {
        "source": [{"source": tmp_path / "copy"}],
        "estimators": [{"estimators": "zero"}, {"estimators": "difference_in_means,linear_s"}],
        "covariates": [{"covariates": ["observed"]}, {"covariates": ["all", "observed"]}],
        "limit": [{"limit": 1}],
        "estimates": [{"estimates": [tmp_path / "mine.csv"]}],
        "intervals_of": [{"estimates": [tmp_path / "mine.csv"], "intervals_of": "ite"}],
    }
    tables = {"columns", "wordings"}  # See below.
    assert {*refused, *answered, *tables, "out", "jobs", "backend", "progress"} == named(evaluation.evaluate)
    for name, values in refused.items():
        for value in values:
            with pytest.raises(ResumeError, match="holds another run"):
                run("out", **{name: value})
    assert every_file(tmp_path / "out") == before
    for number, changed in enumerate(change for those in answered.values() for change in those):
        pd.testing.assert_frame_equal(run("out", **changed), run(f"fresh {number}", **changed))


@pytest.mark.slow
def test_any_other_reading_of_ones_own_tables_is_another_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "write_report", lambda *_, **__: None)
    source, rng, n = tmp_path / "tables", np.random.default_rng(0), 40
    source.mkdir()
    for name in ("a", "b"):
        made = {x: rng.normal(size=n) for x in ("wage", "hours", "effect", "gain", "age", "height")}
        made |= {x: rng.integers(0, 2, n) for x in ("trained", "moved")} | {x: rng.uniform(size=n) for x in ("p", "q")}
        made |= {"unit": rng.permutation(n), "number": rng.permutation(n) + n}
        pd.DataFrame(made).to_csv(source / f"{name}.csv", index=False)
    columns = Columns("trained", "wage", ["age", "height"], "effect", "p", "unit", ["0", "1"])
    asked: dict[str, Any] = {"columns": columns, "wordings": {"a": "x", "b": "y"}, "covariates": ["all", "observed"]}

    def run(**changed: Any) -> pd.DataFrame:
        given = {"estimators": "linear_t", **asked, "progress": False, "out": tmp_path / "out"} | changed
        return evaluation.evaluate(source, **given).scores.drop(columns="seconds")

    first = run()
    before = every_file(tmp_path / "out")
    other: dict[str, list[Any]] = {
        "treatment": ["moved"],
        "outcome": ["hours"],
        "covariates": [None, ["age"], ["height", "age"]],
        "effect": [None, "gain"],
        "propensity": [None, "q"],
        "unit": [None, "number"],
        "arms": [["1", "0"]],
    }
    assert {*other} == {field.name for field in fields(Columns)}
    requests = [{"columns": replace(columns, **{name: value})} for name, values in other.items() for value in values]
    for changed in (*requests, {"wordings": None}, {"wordings": {"a": "x", "b": "x"}}, {"hidden": ["age"]}):
        with pytest.raises(ResumeError, match="holds another run"):
            run(**changed)
    assert every_file(tmp_path / "out") == before
    pd.testing.assert_frame_equal(run(), first)
    # The same table under another name.
    (source / "b.csv").rename(source / "c.csv")
    with pytest.raises(ResumeError, match="part 1 holds estimates of data set 'c' as it was before"):
        run(wordings={"a": "x", "c": "y"})


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


@pytest.mark.slow
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

"""What generate and evaluate keep: the same bytes again, or an error that names the file."""

from __future__ import annotations

import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sdscm_jax as sd
from sdscm_jax.bench import evaluation
from sdscm_jax.bench.benchmark import Benchmark
from sdscm_jax.bench.dataset import Dataset
from sdscm_jax.bench.evaluation import evaluate
from sdscm_jax.bench.generation import generate
from sdscm_jax.durable import locked
from sdscm_jax.families import Family

from ..damage import contents, damage, enlarge, small_disk
from .conftest import UNITS

NAMES = "linear_s"


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their figures take most of the time."""
    monkeypatch.setattr(evaluation, "write_report", lambda *_, **__: None)


def judge(source: Path, out: Path, **changes: Any) -> pd.DataFrame:
    arguments: dict[str, Any] = {"estimators": NAMES, "covariates": ["all"], "progress": False} | changes
    return evaluate(source, out, **arguments).scores


def same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    """Apart from the time it took."""
    pd.testing.assert_frame_equal(a.drop(columns="seconds"), b.drop(columns="seconds"))


@pytest.fixture(scope="module")
def out(benchmark: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation with its page; not to be written to."""
    where = tmp_path_factory.mktemp("evaluated") / "out"
    judge(benchmark, where)
    return where


@pytest.fixture(scope="module")
def scores(benchmark: Path, out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "scores.csv", dtype={"dataset": str, "wording": str})


@pytest.mark.slow
def test_an_evaluation_again_is_the_same_bytes(benchmark: Path, out: Path, tmp_path: Path) -> None:
    """Times are kept with the estimates; the tables and the page come back from them."""
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    for name in ("report.html", "scores.csv", "leaderboard.csv", "difficulty.csv", "card.json"):
        (copy / name).unlink()
    # What a killed call leaves.
    (copy / ".report.html.tmp").write_text("half")
    judge(benchmark, copy)
    assert contents(copy) == contents(out)


def test_generate_again_is_the_same_bytes(benchmark: Path, small: Family, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(benchmark, copy)
    (copy / "data" / "part-00002.parquet").unlink()
    (copy / "card.json").write_text("{")
    for name in ("README.md", "dag.svg"):
        (copy / name).unlink()
    (copy / ".card.json.tmp").write_text("half")
    generate(small, copy, datasets=3, wordings=2, units=UNITS, progress=False)
    assert contents(copy) == contents(benchmark)


def test_two_at_a_time(benchmark: Path, small: Family, tmp_path: Path) -> None:
    said = "another process, or another call in this one, is writing to"
    with locked(tmp_path / ".sdscm.lock"), pytest.raises(sd.errors.ResumeError, match=said):
        judge(benchmark, tmp_path)
    (tmp_path / "data").mkdir()
    with locked(tmp_path / "data" / ".sdscm.lock"), pytest.raises(sd.errors.ResumeError, match=said):
        generate(small, tmp_path, datasets=1, units=4, progress=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"level": 0.9}, "level: 0.95 there, 0.9 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"encoding": "integer"}, "encoding: 'onehot' there"),
        ({"outcome": "drawn"}, "benchmark.outcome"),
        ({"option": "high"}, "benchmark.option"),
        ({"hidden": []}, "benchmark.hidden"),
    ],
)
def test_each_setting_is_part_of_what_is_kept(benchmark: Path, out: Path, change: dict[str, Any], said: str) -> None:
    before = contents(out)
    with pytest.raises(sd.errors.ResumeError, match=said):
        judge(benchmark, out, **change)
    assert contents(out) == before


CHANGES: dict[str, Any] = {
    "name": "other",
    "wording": "9",
    "hidden": (),
    "t": lambda x: 1 - x,
    "y": lambda x: x + 1,
    "outcomes": lambda x: x * 2,
    "cate": lambda x: x + 1,
    "propensity": lambda x: x / 2,
    "unit": lambda x: x + 1,
    "covariates": lambda x: x.iloc[::-1].reset_index(drop=True),
}


@pytest.mark.usefixtures("no_pages")
@pytest.mark.parametrize("field", CHANGES)
def test_each_field_of_a_data_set_is_part_of_what_is_kept(
    benchmark: Path, out: Path, tmp_path: Path, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Estimates of other data are not reused, whichever of its columns is another."""
    shutil.copytree(out, tmp_path / "copy")
    read = Benchmark.dataset

    def changed(self: Benchmark, i: int) -> Dataset:
        data, change = read(self, i), CHANGES[field]
        value = change(getattr(data, field)) if callable(change) else change
        return Dataset(**{**vars(data), field: value})

    monkeypatch.setattr(Benchmark, "dataset", changed)
    with pytest.raises(sd.errors.ResumeError, match=r"part 0 holds estimates of data set .* as it was before"):
        judge(benchmark, tmp_path / "copy")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_a_benchmark_is_read_anew_each_time(benchmark: Path, small: Family, tmp_path: Path) -> None:
    """Another one in the same place, with the same names, is another one."""
    place, other = tmp_path / "place", replace(small, hidden=("age",))
    shutil.copytree(benchmark, place)
    judge(place, tmp_path / "first", covariates=["observed"])
    shutil.rmtree(place)
    generate(other, place, datasets=3, wordings=2, units=UNITS, seed=1, progress=False)
    found = judge(place, tmp_path / "second", covariates=["observed"])
    shutil.copytree(place, tmp_path / "elsewhere")
    same(found, judge(tmp_path / "elsewhere", tmp_path / "third", covariates=["observed"]))


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_data_sets_are_read_one_at_a_time(benchmark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those that the page shows stay, and the one at hand."""
    many = tmp_path / "many"
    (many / "data").mkdir(parents=True)
    card = json.loads((benchmark / "card.json").read_text())
    (many / "card.json").write_text(json.dumps(card | {"datasets": 9}))
    for i in range(9):
        shutil.copy(benchmark / "data" / f"part-{i % 3:05d}.parquet", many / "data" / f"part-{i:05d}.parquet")
    living: weakref.WeakSet[Dataset] = weakref.WeakSet()
    counts: list[int] = []
    read = Benchmark.dataset

    def counted(self: Benchmark, i: int) -> Dataset:
        data = read(self, i)
        living.add(data)
        counts.append(len(living))
        return data

    monkeypatch.setattr(Benchmark, "dataset", counted)
    tables = [pd.DataFrame({"dataset": f"{i:05d}", "unit": range(UNITS), "effect": 0.0}) for i in range(9)]
    pd.concat(tables).to_csv(tmp_path / "mine.csv", index=False)
    judge(many, tmp_path / "out", estimates=[tmp_path / "mine.csv"])
    judge(many, tmp_path / "out", estimates=[tmp_path / "mine.csv"])
    assert len(counts) >= 4 * 9
    # The examples, the one before, which a loop still names, and the new one.
    assert max(counts) <= evaluation.EXAMPLES + 2


@pytest.mark.slow
def test_full_disks(benchmark: Path, small: Family, out: Path, tmp_path: Path) -> None:
    """An error of ours says what is kept, and the same call goes on once there is room."""
    need = sum(p.stat().st_size + 4096 for p in benchmark.rglob("*") if p.is_file())
    with small_disk(tmp_path / "disk", need // 2) as disk:
        with pytest.raises(sd.SDSCMError, match=r"No space left on device.*safe"):
            generate(small, disk / "x", datasets=3, wordings=2, units=UNITS, progress=False)
        enlarge(disk, 2 * need)
        generate(small, disk / "x", datasets=3, wordings=2, units=UNITS, progress=False)
        assert contents(disk / "x") == contents(benchmark)
    need = sum(p.stat().st_size + 4096 for p in out.rglob("*") if p.is_file())
    # The page is the greatest file: it is the last that finds no room.
    for room in (need // 4, need - (out / "report.html").stat().st_size // 2):
        with small_disk(tmp_path / f"evaluated{room}", room) as disk:
            with pytest.raises(sd.SDSCMError, match=r"No space left on device.*(safe|kept)"):
                judge(benchmark, disk / "x")
            enlarge(disk, 2 * need)
            judge(benchmark, disk / "x")
            assert {*contents(disk / "x")} == {*contents(out)}


def damaged(
    benchmark: Path, kept: Path, copies: Path, small: Family, scores: pd.DataFrame, number: int, what: str
) -> str:
    """Damage a benchmark or an evaluation of it, and evaluate; a damaged benchmark is generated again first, or not."""
    source, out = benchmark, copies / "out"
    if what == "evaluation":
        shutil.copytree(kept, out)
        told = damage(out, number)
    else:
        source = copies / "source"
        shutil.copytree(benchmark, source)
        told = damage(source, number)
    try:
        if what == "benchmark, generated again":
            generate(small, source, datasets=3, wordings=2, units=UNITS, progress=False)
        found = judge(source, out)
    except sd.SDSCMError as error:
        assert str(copies) in str(error), (number, told)  # noqa: PT017
        return "refused"
    if what == "benchmark" and "deleted" in told and ".parquet" in told:
        # A benchmark may be evaluated while it is written: the card says how many data sets there are.
        card = json.loads((out / "card.json").read_text())
        assert card["data sets there"] == "2 of 3", (number, told)
        gone = told[len("data/part-") :][:5]
        expected = scores[scores["dataset"] != gone].reset_index(drop=True)
    else:
        expected = scores
    found = found.assign(failure=found["failure"].astype(float))
    numeric = found.select_dtypes("number").columns.difference(["seconds"])
    assert found["dataset"].tolist() == expected["dataset"].tolist(), (number, told)
    np.testing.assert_allclose(found[numeric], expected[numeric], rtol=1e-12, err_msg=f"{number}: {told}")
    return "the same"


DAMAGED = ("evaluation", "benchmark", "benchmark, generated again")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_files(
    benchmark: Path, out: Path, tmp_path: Path, small: Family, scores: pd.DataFrame, what: str
) -> None:
    for number in range(8):
        damaged(benchmark, out, tmp_path / str(number), small, scores, number, what)


@pytest.mark.search
@pytest.mark.usefixtures("no_pages")
@pytest.mark.parametrize("what", DAMAGED)
def test_many_damaged_files(
    benchmark: Path, out: Path, tmp_path: Path, small: Family, scores: pd.DataFrame, what: str
) -> None:
    found = []
    for number in range(1500):
        found.append(damaged(benchmark, out, tmp_path / str(number), small, scores, number, what))
        shutil.rmtree(tmp_path / str(number), ignore_errors=True)
    assert found.count("refused") > 300
    assert found.count("the same") > 100

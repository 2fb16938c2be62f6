"""What commands say, and to whom: text for people, one JSON document for programs, exit statuses for shells."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from sdscm_jax import __version__
from sdscm_jax.cli import app
from sdscm_jax.cli.bench_commands import _board
from sdscm_jax.cli.output import answer, asked, console, say, take
from sdscm_jax.durable import refuse_others
from sdscm_jax.errors import ResumeError

from ..needs import ROOT

MODEL = """
import sdscm_jax as sd
print("hello from a module")

def day(lm):
    sky = sd.sample("sky", sd.Choice(lm, "It is {}.", ["low", "high"]), exogenous=True)
    sd.sample("mood", sd.Choice(lm, "Her mood is {}.", ["low", "high"], given=[sky]))

def broken(lm):
    raise KeyError("oops")
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    take([])
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "day_of_mine.py").write_text(MODEL)
    return str(tmp_path / "day_of_mine.py")


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


def test_the_document_is_all_there_is_on_stdout(model: str, tmp_path: Path) -> None:
    result = run("show", f"{model}:day", "--out", str(tmp_path / "dag.svg"), "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [(site["site"], site["parents"], site["exogenous"]) for site in told["sites"]] == [
        ("sky", [], True),
        ("mood", ["sky"], False),
    ]
    assert told["edges"] == [["sky", "mood"]]
    assert Path(told["out"]).exists()
    assert "hello from a module" in result.stderr
    assert json.loads(run("--json", "--version").stdout) == {"version": __version__}
    known = json.loads(run("--json", "models").stdout)["models"]
    assert {"model_type": "llama", "loads": "loads"}.items() <= known[0].items()
    failed = run("show", f"{model}:broken", "--json")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "KeyError" in failed.stderr


def test_what_is_not_finite_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    asked.json = True
    answer(table=pd.DataFrame({"x": [1.5, float("nan")], "y": [pd.NA, "é"]}), most=float("inf"), place=Path("a"))
    found = json.loads(capsys.readouterr().out)
    assert found == {"table": [{"x": 1.5, "y": None}, {"x": None, "y": "é"}], "most": None, "place": "a"}


def test_quiet_says_nothing_and_the_log_goes_to_stderr(model: str) -> None:
    result = run("show", f"{model}:day", "--quiet", "--log-level", "info")
    assert (result.exit_code, result.stdout) == (0, "hello from a module\n")
    assert "INFO sdscm_jax: done in" in result.stderr
    assert run("models", "--quiet").output == ""
    assert "Error" not in run("models").output


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["models"], 0),
        (["show", "nowhere.py:day"], 1),
        (["shwo"], 2),
        (["models", "--nothing"], 2),
        (["models", "--log-level", "loud"], 2),
        (["demo", "--units", "0"], 2),
    ],
)
def test_exit_statuses_are_those_of_the_page(args: list[str], status: int) -> None:
    assert run(*args).exit_code == status
    assert f"\n| {status} |" in (ROOT / "docs" / "reference" / "command-line.md").read_text()


def test_completion_is_typers() -> None:
    result = CliRunner().invoke(
        app,
        [],
        env={"_SDSCM_COMPLETE": "complete_bash", "COMP_WORDS": "sdscm ev", "COMP_CWORD": "1"},
        prog_name="sdscm",
    )
    assert result.output.split() == ["evaluate"]


def test_no_number_and_no_heading_is_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a table is wider than the terminal, too."""
    row: dict[str, Any] = {
        "ate_rmse": 0.00123456, "pehe_sd_y": 0.123456, "pehe_floor_sd_y": 1e-5, "cate_coverage": 0.987,
        "ite_coverage": float("nan"), "seconds": 1234.5, "failures": 3, "covariates": "observed",
    }  # fmt: skip
    names = ["my_package.of_estimators:DifferenceInMeansOfAll", "zero"]
    monkeypatch.setattr(console, "_width", 80)
    say(_board(pd.DataFrame([{"estimator": name, **row} for name in names])))
    said = capsys.readouterr().out
    assert "…" not in said
    for word in (*names, "observed", "0.00123", "0.123", "1e-05", "0.987", "1.23e+03", "RMSE", "PEHE", "failed"):
        assert word in said
    # What the paper's estimators are called fits.
    say(_board(pd.DataFrame([{"estimator": "difference_in_means", **row}])))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_signs_are_written_in_one_place() -> None:
    """Where what rounds to 0 has none of its own."""
    for path in (ROOT / "sdscm_jax").rglob("*.py"):
        if path.name != "spoken_numbers.py":
            assert not re.search(r":\+[.,\d]*[fge%]", path.read_text()), path


KINDS = {
    "a benchmark": ("generate", "school", "data/_manifest.json"),
    "an evaluation": ("evaluate", "nowhere", "estimates/zero.all/part-0.parquet"),
    "an audit": ("audit", "hiring", "spec.yaml"),
    "a demo": ("demo", None, "data.parquet"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_is_of_one_kind(kind: str, tmp_path: Path) -> None:
    mark = tmp_path / KINDS[kind][2]
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text("{}")
    for other in KINDS:
        if other == kind:
            refuse_others(tmp_path, kind)
        else:
            with pytest.raises(ResumeError, match=f"holds {kind}; write {other} to another directory"):
                refuse_others(tmp_path, other)


@pytest.mark.slow
def test_each_command_answers_and_keeps_to_its_directories(tmp_path: Path) -> None:
    place = {name: str(tmp_path / name) for name in ("demo", "made", "judged", "audited")}
    made = run("generate", "school", "--out", place["made"], "--datasets", "1", "--units", "60", "--json")
    assert json.loads(made.stdout) == {"out": place["made"], "datasets": 1, "units": 60, "family": "school"}
    judged = run("evaluate", place["made"], "--out", place["judged"], "--estimators", "linear_t", "--json")
    board = json.loads(judged.stdout)["leaderboard"]
    assert {row["estimator"] for row in board} >= {"linear_t", "oracle_ite"}
    audited = run("audit", "hiring", "--out", place["audited"], "--quick", "--json")
    assert {row["effect"] for row in json.loads(audited.stdout)["effects"]} >= {"total"}
    demo = run("demo", "--out", place["demo"], "--units", "30", "--json")
    assert [row["therapy"] for row in json.loads(demo.stdout)["effect"]]
    for command in (["generate", "school"], ["evaluate", place["made"]], ["audit", "hiring"], ["demo"]):
        own = {"generate": "made", "evaluate": "judged", "audit": "audited", "demo": "demo"}[command[0]]
        for name, there in place.items():
            if name != own:
                refused = run(*command, "--out", there)
                assert refused.exit_code == 1
                assert "to another directory" in refused.output.replace("\n", " ")

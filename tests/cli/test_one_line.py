"""Whatever goes wrong at the command line is one line that says where; the traceback is there for who asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import sdscm_jax.bench.generation
import sdscm_jax.families
from sdscm_jax.cli import app

runner = CliRunner()
MODELS = """import sdscm_jax as sd
def divides(lm):
    return 1 / 0
def key(lm):
    raise KeyError("oops")
def says_nothing(lm):
    raise RuntimeError
def several_lines(lm):
    raise ValueError("first\\nsecond")
def usesif(lm):
    a = sd.sample("a", sd.Choice(lm, "The day was {}.", ["sunny", "rainy"]))
    if a == "sunny":
        return sd.sample("b", sd.Choice(lm, "He {}.", ["sang", "cried"], given=[a]))
def twoblank(lm):
    sd.sample("a", sd.Choice(lm, "The {} was {}.", ["x", "y"]))
def none(): pass
def two(lm, x): pass
number = 3
class Kind: pass
def fine(lm):
    sd.sample("a", sd.Choice(lm, "It is {}.", ["x", "y"]))
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / f"models_of_{tmp_path.name}.py"
    path.write_text(MODELS, encoding="utf-8")
    return path


def one_line(result: object, status: int) -> str:
    output = result.output  # type: ignore[attr-defined]
    assert result.exit_code == status, output  # type: ignore[attr-defined]
    assert "Traceback" not in output
    assert output.count("\n") == 1, output
    return output


@pytest.mark.parametrize(
    ("name", "said", "line"),
    [
        ("divides", "ZeroDivisionError: division by zero", 3),
        ("key", "KeyError: 'oops'", 5),
        ("says_nothing", "RuntimeError: no message", 7),
        ("several_lines", "ValueError: first", 9),
        ("usesif", "jnp.where", 12),
        ("twoblank", "TemplateError: a template has exactly one blank {}, got 2", 15),
        ("none", "ProgramError: a model, none(), is called with 1 argument (LanguageModel): too many", None),
        ("two", "ProgramError: a model, two(lm, x), is called with 1 argument (LanguageModel): missing", None),
        ("number", "ProgramError: a model is a function, got 3", None),
        ("Kind", "ProgramError: a model is a function, got <class", None),
    ],
)
def test_what_a_model_does_is_said_with_its_file_and_line(models: Path, name: str, said: str, line: int | None) -> None:
    found = one_line(runner.invoke(app, ["show", f"{models}:{name}"]), 1)
    assert said in found
    if line is not None:
        assert f"{models}, line {line}, in {name}" in found


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_traceback_is_there_for_who_asks(models: Path, place: str) -> None:
    asked = ["show", f"{models}:divides"]
    result = runner.invoke(app, ["--debug", *asked] if place == "before" else [*asked, "--debug"])
    assert isinstance(result.exception, ZeroDivisionError)
    # And not for the next one.
    one_line(runner.invoke(app, asked), 1)
    assert "--debug" in runner.invoke(app, ["--help"]).output


def test_a_wrong_option_is_the_usual_error_of_usage() -> None:
    for arguments in (["demo", "--units", "many"], ["demo", "--nothing"], ["nothing"]):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 2, result.output
        assert "Usage" in result.output


COMMANDS = (["demo"], ["generate", "school"], ["evaluate", "nowhere"], ["audit", "hiring"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda x: x[0])
def test_a_file_is_no_directory_to_write(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    for out, said in (("file", "is a file; it is the directory to write"), ("file/in", "file is a file")):
        assert said in one_line(runner.invoke(app, [*command, "--out", str(tmp_path / out)]), 2)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda x: x[0])
def test_a_read_only_disk(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = one_line(runner.invoke(app, [*command, "--out", str(tmp_path / "a" / "b")]), 2)
    assert f"{tmp_path} is read-only" in found


def test_a_picture_that_cannot_be_drawn(models: Path, tmp_path: Path) -> None:
    for name in ("graph.xyz", "nowhere/graph.svg"):
        found = runner.invoke(app, ["show", f"{models}:fine", "--out", str(tmp_path / name)])
        assert found.exit_code == 1
        assert f"{name} cannot be drawn" in found.output
        assert "Traceback" not in found.output


def test_ctrl_c_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sdscm_jax.bench.generation, "generate", stop)
    command = ["generate", "school", "--out", str(kept)]
    assert one_line(runner.invoke(app, command), 130) == "stopped: nothing is kept\n"
    kept.mkdir()
    (kept / "card.json").write_text("{}", encoding="utf-8")
    assert f"what is finished is kept in {kept}: the same command goes on there" in one_line(
        runner.invoke(app, command), 130
    )


def test_a_fault_of_ours_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AttributeError("no such thing")

    monkeypatch.setattr(sdscm_jax.families, "family", broken)
    # (This file is what the fault goes through; of the package's own ones there is no such place.)
    found = one_line(runner.invoke(app, ["generate", "school", "--out", str(tmp_path / "x")]), 1)
    assert "AttributeError: no such thing" in found


# Words between which the embedded language model, which has read no French, does not always choose alike.
CAFE = """{"name": "café", "treatment": "drink", "outcome": "mood", "variables": [
 {"name": "drink", "options": ["é", "è"], "templates": ["À table on sert du {}."]},
 {"name": "mood", "options": ["né", "bé"], "templates": ["On est {}."], "parents": ["drink"]}]}"""
PLAIN = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(place: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from sdscm_jax.cli import app; app()", *arguments]
    return subprocess.run(command, cwd=place, env={**os.environ, **PLAIN, **more}, capture_output=True, check=False)


@pytest.mark.slow
def test_the_locale_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "café.json").write_text(CAFE, encoding="utf-8")
    arguments = ("generate", "caf\udcc3\udca9.json", "--out", "out", "--datasets", "2", "--units", "40", "--jobs", "1")
    made = run(tmp_path, *arguments)
    assert made.returncode == 0, made.stderr.decode()
    assert "café" in (tmp_path / "out" / "card.json").read_text(encoding="utf-8")
    assert "café" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    scored = run(tmp_path, "evaluate", "out", "--out", "report", "--estimators", "linear_t", "--jobs", "1")
    assert scored.returncode == 0, scored.stderr.decode()
    board = pd.read_csv(tmp_path / "report" / "leaderboard.csv")
    assert np.isfinite(board["pehe"][board["estimator"] == "linear_t"]).all()
    assert "café" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    wrong = run(tmp_path, "audit", "out/card.json", "--out", "b")
    assert wrong.returncode == 1
    assert wrong.stderr.count(b"\n") == 1


@pytest.mark.slow
def test_ctrl_c_of_a_running_command(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["generate", "school", "--out", str(out), "--datasets", "500", "--units", "50", "--jobs", "1"]
    # Whoever runs the tests in the background may have it ignored.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    running = subprocess.Popen(
        [sys.executable, "-c", f"{heard}; from sdscm_jax.cli import app; app()", *arguments], stderr=subprocess.PIPE
    )
    try:
        for _ in range(600):
            if len(list(out.glob("data/part-*.parquet"))) > 1:
                break
            time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130
    assert f"what is finished is kept in {out}".encode() in said
    assert b"Traceback" not in said

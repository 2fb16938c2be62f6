"""The command line, run as a user runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from sdscm_jax.cli import app

from ..needs import ROOT

runner = CliRunner()


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    result = runner.invoke(app, ["demo", "--out", str(tmp_path), "--units", "40"])
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(tmp_path / "data.parquet")
    assert len(table) == 40
    assert {"therapy", "therapy|do(PD-L1 level=low)", "logp(PD-L1 level=high)"} <= set(table.columns)
    assert (tmp_path / "dag.svg").read_text().count("HER2 status") >= 1
    assert (tmp_path / "effects.png").stat().st_size > 10_000
    for words in ("true ATE", "naive difference", "propensity P(PD-L1 level=high)"):
        assert words in result.output


def test_help_lists_the_commands_as_the_readme_does() -> None:
    listed = runner.invoke(app, ["--help"]).output.partition("Commands:")[2]
    said = (ROOT / "README.md").read_text().partition("The command line:")[2].partition(".\n")[0]
    assert re.findall(r"^  (\w+)  ", listed, re.MULTILINE) == re.findall(r"(\w+)`", said)
    assert "..." not in listed


def test_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_clinic.py").write_text(
        "import sdscm_jax as sd\n"
        "def clinic(lm):\n"
        "    a = sd.sample('a', sd.Choice(lm, 'It is {}.', ['low', 'high']))\n"
        "    sd.sample('b', sd.Choice(lm, 'Do {}.', ['this', 'that'], given=[a]))\n"
    )
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["show", "my_clinic.py:clinic", "--out", "dag.svg"])
    assert result.exit_code == 0, result.output
    assert "s0 --> s1" in result.output
    assert (tmp_path / "dag.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--lm", "/nowhere"], "LoadError: /nowhere is not a directory"),
        (["show", "nothing"], "a model is written module:name or path.py:name, got 'nothing'"),
        (["show", "nothing:at_all"], "cannot be imported"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--units", "0"], "--units is an integer of at least 1, got 0"),
        (["demo", "--seed", "-1"], "--seed is an integer from 0 to 4294967295, got -1"),
        (["audit", "hiring", "--level", "95"], "--level is a number between 0 and 1, got 95.0; did you mean 0.95?"),
        (["audit", "hiring", "--rate", "5"], "--rate is a number between 0 and 1, got 5.0"),
        (["audit", "hiring", "--margin", "-1"], "--margin is a finite number, at least 0 and below 1, got -1.0"),
        (["audit", "hiring", "--margin", "nan"], "--margin is a finite number, at least 0 and below 1, got nan"),
        (["audit", "hiring", "--wordings", "1"], "--wordings is an integer of at least 2, got 1"),
        (["audit", "hiring", "--option-wordings", "0"], "--option-wordings is an integer of at least 1, got 0"),
        (["audit", "hiring", "--pairs", "-1"], "--pairs is an integer of at least 0, got -1"),
        (["audit", "hiring", "--scoring", "mean,sequense"], "--scoring: unknown scoring 'sequense'; did you mean"),
        (["generate", "school", "--datasets", "0"], "--datasets is an integer of at least 1, got 0"),
        (["generate", "school", "--units", "0"], "--units is an integer of at least 1, got 0"),
        (["generate", "school", "--wordings", "0"], "--wordings is an integer of at least 1, got 0"),
        (["generate", "school", "--jobs", "0"], "--jobs is an integer of at least 1, got 0"),
        (["generate", "school", "--seed", "4294967296"], "--seed is an integer from 0 to 4294967295, got 4294967296"),
        (
            ["generate", "school", "--coupling", "gumble"],
            "--coupling: unknown coupling 'gumble'; did you mean 'gumbel'",
        ),
        (["generate", "school", "--scoring", "men"], "--scoring: unknown scoring 'men'; did you mean 'mean'"),
        (["evaluate", "nowhere", "--level", "95"], "--level is a number between 0 and 1, got 95.0; did you mean 0.95?"),
        (["evaluate", "nowhere", "--limit", "0"], "--limit is an integer of at least 1, got 0"),
        (["evaluate", "nowhere", "--quick", "--limit", "0"], "--limit is an integer of at least 1, got 0"),
        (["evaluate", "nowhere", "--jobs", "-2"], "--jobs is an integer of at least 1, got -2"),
        (["evaluate", "nowhere", "--encoding", "onehit"], "unknown encoding 'onehit'; did you mean 'onehot'"),
        (["evaluate", "nowhere", "--covariates", "al"], "unknown setting of covariates 'al'; did you mean 'all'"),
        (["evaluate", "nowhere", "--intervals-of", "kate"], "unknown target of intervals 'kate'; did you mean 'cate'"),
        (["evaluate", "nowhere", "--outcome", "drwan"], "unknown outcome 'drwan'; did you mean 'drawn'"),
        (
            ["evaluate", "nowhere", "--estimators", "linear_tt"],
            "unknown estimator 'linear_tt'; did you mean 'linear_t'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_said_before_any_work(arguments: list[str], message: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = runner.invoke(app, [*arguments, "--out", str(out)])
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not out.exists()

"""The command line, run as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from sdscm_jax.cli import app

runner = CliRunner()


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
        (["demo", "--units", "0"], "n is the number of units"),
        (["show", "nothing"], "a model is written module:name, got 'nothing'"),
        (["show", "nothing:at_all"], "cannot be imported"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output

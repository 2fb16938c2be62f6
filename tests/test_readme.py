"""The program of the README runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import ROOT


def test_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program, more, exact = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(program, "README.md", "exec"), names)
    assert len(names["table"]) == 1000
    assert {"drug", "drug|do(pdl1=low)", "logp(pdl1=high)"} <= set(names["table"].columns)
    assert "high levels of PD-L1" in capsys.readouterr().out.splitlines()[1]
    assert (tmp_path / "effects.png").exists()
    assert (tmp_path / "dag.svg").exists()
    exec(compile(more, "README.md", "exec"), names)
    counts = names["same"].to_pandas()["drug|do(pdl1=high)"].value_counts()
    assert counts.sum() == 100
    assert (counts > 0).all()
    capsys.readouterr()
    exec(compile(exact, "README.md", "exec"), names)
    average, necessary = capsys.readouterr().out.split("PNS: ")
    assert average.startswith("ATE: ")
    assert "exact" in average
    assert "couplings: " in necessary

"""The program of the README prints what stands there; links lead to files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .needs import ROOT
from .printed import differing


def test_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(program, "README.md", "exec"), names)
    shown = [line.removeprefix("# ") for line in program.splitlines() if line.startswith("# ")]
    assert len(shown) == 5
    assert differing(capsys.readouterr().out.splitlines(), shown) == []
    assert (tmp_path / "effects.png").exists()
    assert (tmp_path / "dag.svg").exists()


def test_links_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not link.startswith(("http", "mailto:")) and "_build" not in page.parts:
                assert (page.parent / link).exists(), f"{page}: {link}"

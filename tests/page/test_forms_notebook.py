"""The tour's page of results shows what stands beside it, cell by cell."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from sdscm_jax.page.forms import Shown

from ..needs import ROOT
from ..printed import differing
from .form_lines import lines_of_forms

PAGE = ROOT / "docs" / "tour" / "09_in_a_notebook.md"
CLASSES = (
    *("LanguageModel", "Graph", "Plan", "Simulation", "Contrast", "Effect", "Tabulated", "Comparison", "Family"),
    *("Evaluation", "AuditResult"),
)


# (Building the site, which CI does, compares the same with a kernel.)
@pytest.mark.search
def test_cells_show_what_stands_beside_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel does, without one: a cell's last line is shown, if it is a value, as HTML."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    (tmp_path / "pictures").mkdir()
    names: dict[str, Any] = {}
    shown: list[Any] = []
    page = PAGE.read_text(encoding="utf-8")
    cells = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for cell in cells:
        tree = ast.parse(cell)
        last = tree.body[-1]
        exec(compile(ast.Module(tree.body[:-1], []), str(PAGE), "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), str(PAGE), "eval"), names))
        else:
            exec(compile(ast.Module([last], []), str(PAGE), "exec"), names)
    forms = [value for value in shown if isinstance(value, Shown)]
    assert [type(form).__name__ for form in forms] == list(CLASSES)
    found = lines_of_forms("".join(form._repr_html_() for form in forms))
    assert differing(found, PAGE.with_suffix(".txt").read_text(encoding="utf-8").splitlines()) == []
    # What is drawn on an axis of the reader's is the figure that was written.
    assert (tmp_path / "pictures" / "09_beside.png").stat().st_size > 10_000

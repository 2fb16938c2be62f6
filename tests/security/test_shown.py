"""Texts of users, models and files are shown as they stand: on a terminal, in pictures, in tables and on data cards."""

from __future__ import annotations

import ast
import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import sdscm_jax as sd
from sdscm_jax.audit.report.graph_text import mermaid
from sdscm_jax.bench.card import write_card
from sdscm_jax.cli import app
from sdscm_jax.cli.output import console
from sdscm_jax.dsl.analysis.graph import Graph
from sdscm_jax.dsl.analysis.structure import Site
from sdscm_jax.families import family
from sdscm_jax.page.markdown_text import code_span, front_matter, mermaid_label, plain_markdown
from sdscm_jax.page.spreadsheet import without_formulas
from sdscm_jax.terminal import PlainConsole, shown
from sdscm_jax.testing import mock_lm

from ..audit.synthetic import SPEC

PACKAGE = Path(sd.__file__).parent
# Markup, emoji codes and links of Rich; escapes that colour, rename the window, clear it; a return that hides a line.
TEXTS = (
    "[/INST]", "Answer [yes or no]", "[red]x[/red]", "[", "\\[bold]", ":smile:", "[link=file:///etc]a[/link]", "x[/y]",
    "\x1b[31mred", "\x1b]0;owned\x07", "\x1b[2J", "a\rb", "\x9b31m", "\x08\x08", "\u202eevil", "\ud800", "\x00", "\x7f",
    "$x^{", "$", "é \U0001f469\u200d\U0001f467", "%s {} \\n",
)  # fmt: skip
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_console_prints_the_text(text: str) -> None:
    from rich.table import Table

    own = PlainConsole(width=200, record=True, force_terminal=True, file=io.StringIO())
    table = Table(text, title=text)
    table.add_row(text)
    own.print(text)
    own.print(table)
    said = own.export_text(styles=False)
    assert said.count(shown(text)) >= 4
    assert not OBEYED.search(shown(text))
    assert OBEYED.search(text) or shown(text) == text


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_else_prints(file: Path) -> None:
    """One console prints; the bar on stderr says what is counted, in words of this package."""
    where = str(file.relative_to(PACKAGE))
    tree = ast.parse(file.read_text(encoding="utf-8"))
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    methods = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    attributes = {method.attr for method in methods if ast.unparse(method.value) in ("typer", "rich")}
    imported = {
        a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "rich.console" for a in n.names
    }
    if where != "models/train_embedded.py":
        assert "print" not in called
    assert not attributes & {"echo", "secho", "print"}
    assert "Console" not in imported or where in ("terminal.py", "engine/progress.py")


def test_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "instruct.py").write_text(
        "import sdscm_jax as sd\n"
        "def f(lm):\n"
        "    a = sd.sample('x[/y]', sd.Choice(lm, '[INST] Who? [/INST] The applicant is {}.', ['[yes]', '[/no]']))\n"
        "    c = sd.Choice(lm, 'Answer [yes or no]: {}.', ['$x^{', ':smile:'], given=[a])\n"
        "    sd.sample('b\\x1b]0;owned\\x07', c)\n"
    )
    monkeypatch.setattr(console, "_width", 400)
    result = CliRunner().invoke(app, ["show", f"{tmp_path / 'instruct.py'}:f", "--out", str(tmp_path / "g.svg")])
    assert result.exit_code == 0, result.output
    for words in (
        "x[/y]", "[INST] Who? [/INST] The applicant is", "[yes] | [/no]", "b\\x1b]0;owned\\x07", "Answer [yes or no]:",
        "$x^{ | :smile:",
    ):  # fmt: skip
        assert words in result.output
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    ElementTree.parse(tmp_path / "g.svg")


def test_an_error_says_the_text_itself() -> None:
    result = CliRunner().invoke(app, ["show", "no_module:[/loan]\x1b[31m"])
    assert result.exit_code == 1
    assert "'no_module:[/loan]\\x1b[31m' cannot be imported" in result.output.replace("\n", "")
    result = CliRunner().invoke(app, ["demo", "--units", "[/x]\x1b[31m"])
    assert result.exit_code == 2
    assert "\x1b" not in result.output


def test_a_plan_of_such_names() -> None:
    def model(lm: sd.LanguageModel) -> None:
        sd.sample("x[/y]\x1b", sd.Choice(lm, "It is {}.", ["low", "high"]))

    said = repr(sd.plan(model, 10, mock_lm(), measure=False))
    assert "x[/y]\\x1b" in said


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", [text for text in TEXTS if text != "\ud800"], ids=ascii)
def test_pictures_of_such_names_are_well_formed(name: str, tmp_path: Path) -> None:
    graph = Graph((Site(name, "choice"), Site(name + " b", "choice", parents=(name,))))
    graph.draw(tmp_path / "g.svg")
    ElementTree.parse(tmp_path / "g.svg")
    said = graph.to_mermaid()
    assert said.count("\n") == 3
    assert not OBEYED.search(said.replace("\n", ""))


# -- tables ---------------------------------------------------------------------------------------

FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "＝1+1", "-", "=")
NO_FORMULAS = ("low", " =1", "a=b", "-5", "+5", "-1.5e-3", "-inf", "", "'=1", "1-2", "a\n=1")


def test_a_text_is_no_formula(tmp_path: Path) -> None:
    """Numbers stay numbers, whatever the column is; what is missing stays missing."""
    texts = [*FORMULAS, *NO_FORMULAS]
    table = pd.DataFrame({"=name": texts, "number": [-1.5] * len(texts), "kind": pd.Categorical(texts)})
    table["mixed"] = pd.Series([-3, None, "=2", -1.5] * (len(texts)), dtype=object)[: len(texts)]
    without_formulas(table).to_csv(tmp_path / "t.csv", index=False)
    found = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    assert list(found) == ["'=name", "number", "kind", "mixed"]
    expected = [f"'{text}".replace("\r", "\n") for text in FORMULAS] + list(NO_FORMULAS)
    assert found["'=name"].tolist() == found["kind"].tolist() == expected
    assert set(found["number"]) == {"-1.5"}
    assert found["mixed"].tolist()[:4] == ["-3", "", "'=2", "-1.5"]
    assert table["=name"].tolist() == texts


# -- Markdown -------------------------------------------------------------------------------------

HOSTILE = "MIT\ntags: [evil]\n---\n<script>alert(1)</script>\n```\n# H\n| a | b |\n<!-- "


@pytest.mark.parametrize(
    "text", [*TEXTS, HOSTILE, "yes", "null", "1.0", "2024-01-01", "- a", "a: b", "#", "", "a #b", "!!x"]
)
def test_front_matter_reads_back(text: str) -> None:
    if text == "\ud800":
        return
    line = f"license: {front_matter(text)}"
    assert "\n" not in line
    assert yaml.safe_load(line) == {"license": text}


def test_a_data_card_of_such_texts(tmp_path: Path) -> None:
    drawn = replace(family("school"), name=HOSTILE, licence=HOSTILE, description=HOSTILE)
    what = {
        "language_model": {"source": "a|`b`\n<b>", "fingerprint": "0"}, "datasets": 1, "units": 2, "wordings": 1,
        "seed": 0, "scoring": "mean", "coupling": "gumbel", "versions": {"jax": "1"},
    }  # fmt: skip
    write_card(tmp_path, drawn, what)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    _, front, body = page.split("---\n", 2)
    read = yaml.safe_load(front)
    assert list(read) == ["license", "pretty_name", "tags", "configs"]
    assert read["license"] == HOSTILE.lower()
    assert read["tags"] == ["causal-inference", "treatment-effects", "synthetic"]
    assert "<script" not in body
    assert "<!--" not in body
    assert [line for line in body.splitlines() if line.startswith("#")][1:] == ["## Columns", "## Graph"]
    assert body.count("\n```") == 2
    for line in body.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 3, line


def test_single_texts_of_markdown() -> None:
    assert plain_markdown("a\x1b[31m\n<b>") == "a\\\\x1b\\[31m &lt;b>"
    assert code_span("a|`b`\n\x07", cell=True) == "`` a\\|`b`↵\\x07 ``"
    assert mermaid_label('a"]\n```<b>#') == "a#quot;] #96;#96;#96;#lt;b#gt;#35;"
    assert "\n```" not in mermaid(replace(SPEC, title="x"))

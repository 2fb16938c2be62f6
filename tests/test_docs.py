"""The pages in docs/: their programs run, and their figures are those that the benchmarks wrote."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from types import ModuleType
from typing import Any

import pytest

from .needs import ROOT
from .printed import differing

# Numbers that no benchmark measured: definitions, a worked example, the published data, standard errors.
GIVEN = {
    "couplings": {"0.1", "0.2", "0.3", "0.5", "0.6", "30.8 %", "37.4 %", "7.1"},
    "scorings": {"0.1", "0.2", "0.6", "0.9", "0.06", "0.18", "0.25", "0.75"},
}
PAGES = {"couplings": "counterfactuals.md", "scorings": "scoring.md"}


# Pages whose blocks cannot run by themselves: none. Whoever adds one says why.
NOT_RUN: frozenset[str] = frozenset()
# What the pages for maintainers name of transformers, and of their readers.
OTHERS_FILES = {"modeling_qwen3.py", "modeling_llama.py", "mine.py"}


def programs() -> list[str]:
    """The pages with Python blocks. Those of docs/tour are notebooks, which building the site runs."""
    pages = (path.name for path in sorted((ROOT / "docs").glob("*.md")))
    return [page for page in pages if page not in NOT_RUN and blocks(page)]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


# Pages whose programs train, search or compile for long.
LONG = ("benchmarks.md", "coming-from.md", "handlers.md", "questions.md", "testing.md", "training.md")


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page in LONG else []) for page in programs()]
)
def test_pages_run(page: str) -> None:
    names: dict[str, Any] = {}
    for i, block in enumerate(blocks(page)):
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(block, f"docs/{page}, block {i}", "exec"), names)
        expected = [line.removeprefix("# ") for line in block.splitlines() if line.startswith("# ")]
        assert differing(printed.getvalue().splitlines(), expected) == [], block


def test_files_that_pages_name_are_there() -> None:
    """Python files in the prose of the pages for maintainers: as a path, or by a name that some file of ours has."""
    paths = {
        path.relative_to(ROOT)
        for room in ("sdscm_jax", "tests", "benchmarks", "docs")
        for path in (ROOT / room).rglob("*.py*")
    }
    ends = {"/".join(path.parts[-i:]) for path in paths for i in range(1, len(path.parts) + 1)}
    for page in ("architecture.md", "add-a-family.md", "extend.md"):
        named = set(re.findall(r"`([\w/]+\.pyi?)`", (ROOT / "docs" / page).read_text())) - OTHERS_FILES
        assert named, page
        assert named <= ends, page


def test_every_result_has_a_page() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "results").glob("*.md")} - {"index"}
    assert pages == {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.md")}


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_those_of_the_results(name: str) -> None:
    lines = set((ROOT / "docs" / PAGES[name]).read_text().splitlines())
    report = results(name)
    for table in benchmark(name).tables(report):
        assert not [line for line in table if line not in lines]
    assert str(report["units"]) in (ROOT / "docs" / PAGES[name]).read_text()


@pytest.mark.parametrize("name", PAGES)
def test_other_figures_are_in_the_results(name: str) -> None:
    text = (ROOT / "docs" / PAGES[name]).read_text()
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    report = results(name)
    values = list(numbers(report))
    if name == "couplings":
        values += [report["oncology"][c]["sd_ite_outcome"] / report["units"] ** 0.5 for c in ("gumbel", "independent")]
    figures = set(re.findall(r"(?<![\w.])\d+\.\d+(?: %)?", prose)) - GIVEN[name]
    assert len(figures) >= 5
    for figure in figures:
        scale, digits = (100, figure.removesuffix(" %")) if figure.endswith("%") else (1, figure)
        places = len(digits.partition(".")[2])
        assert any(f"{scale * value:.{places}f}" == digits for value in values), figure


def results(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbers(item: Any) -> Iterator[float]:
    """All numbers in nested lists and mappings."""
    if isinstance(item, dict):
        item = list(item.values())
    if isinstance(item, list):
        for part in item:
            yield from numbers(part)
    elif isinstance(item, (int, float)):
        yield float(item)

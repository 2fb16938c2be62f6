"""The benchmarks and examples: what they import from the package is there (they are run by hand)."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from .needs import ROOT

SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").rglob("*.py")])


def imported(source: str) -> Iterator[tuple[str, str]]:
    """Module and name of everything that is imported from the package, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sdscm_jax":
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name, "") for a in node.names if a.name.split(".")[0] == "sdscm_jax")


def absent(source: str) -> list[str]:
    found = []
    for module, name in imported(source):
        inside = f"{module}.{name}"
        known = importlib.util.find_spec(module) is not None
        if known and name and not hasattr(importlib.import_module(module), name):
            room = hasattr(importlib.import_module(module), "__path__")
            known = room and importlib.util.find_spec(inside) is not None
        if not known:
            found.append(inside)
    return found


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_it_imports_is_there(path: Path) -> None:
    assert absent(path.read_text(encoding="utf-8")) == []


def test_what_is_not_there_is_found() -> None:
    source = "def late():\n    from sdscm_jax.errors import NoSuchError\nimport sdscm_jax.engine\n"
    assert absent(source) == ["sdscm_jax.errors.NoSuchError"]

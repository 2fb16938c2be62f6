"""The reference in docs/reference: every public name is in it, once, and nothing that does not exist."""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import Any

import pytest

from .needs import ROOT

# What is public: the names that these modules list.
MODULES = (
    "sdscm_jax",
    "sdscm_jax.audit",
    "sdscm_jax.bench",
    "sdscm_jax.handlers",
    "sdscm_jax.effects",
    "sdscm_jax.extend",
    "sdscm_jax.families",
    "sdscm_jax.testing",
    "sdscm_jax.vignettes",
)
DIRECTIVE = re.compile(r"^\.\. auto(?:function|class|data|exception):: (sdscm_jax\S*)$", re.MULTILINE)


def documented() -> list[str]:
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    return [name for page in pages for name in DIRECTIVE.findall(page.read_text())]


def found(name: str) -> Any:
    value: Any = importlib.import_module("sdscm_jax")
    for part in name.split(".")[1:]:
        if not hasattr(value, part):
            importlib.import_module(f"{value.__name__}.{part}")
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_documented(module: str) -> None:
    there = importlib.import_module(module)
    known = {id(found(name)) for name in documented()}
    missing = [name for name in there.__all__ if _is_missing(getattr(there, name), known)]
    assert not missing, f"put these names of {module} into a page of docs/reference"


def _is_missing(value: Any, known: set[int]) -> bool:
    # Modules such as handlers have pages, whose names are checked by themselves; so are those of errors.
    return (
        value.__name__ not in (*MODULES, "sdscm_jax.errors")
        if isinstance(value, ModuleType)
        else id(value) not in known
    )


def test_every_error_is_documented() -> None:
    errors = importlib.import_module("sdscm_jax.errors")
    raised = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert {f"sdscm_jax.errors.{name}" for name in raised} <= set(documented())


def test_documented_names_exist_and_stand_once() -> None:
    values = [id(found(name)) for name in documented()]
    assert len(values) > 100
    assert len(set(values)) == len(values)


def test_every_command_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    app = importlib.import_module("sdscm_jax.cli").app
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"^```\{sdscm-command\} (\w+)$", page, re.MULTILINE)) == commands


def test_every_page_is_in_the_index() -> None:
    folder = ROOT / "docs" / "reference"
    listed = re.search(r"```\{toctree\}.*?\n\n(.*?)```", (folder / "index.md").read_text(), re.DOTALL)
    assert listed is not None
    assert set(listed[1].split()) == {page.stem for page in folder.glob("*.md")} - {"index"}

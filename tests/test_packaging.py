"""What says how the package is installed, tested and released says the same everywhere."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import tomllib
from types import ModuleType
from typing import Any

import pytest
import yaml

from .needs import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]


def workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))["jobs"]


def commands(jobs: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])


def test_every_python_that_is_promised_is_tested() -> None:
    jobs = workflow("tests.yml")
    for job in ("tests", "versions"):
        assert jobs[job]["strategy"]["matrix"]["python"] == PYTHONS
    assert f"set -- {' '.join(PYTHONS)}\n" in (ROOT / ".ci" / "versions").read_text()
    assert PROJECT["requires-python"] == f">={PYTHONS[0]},<3.{int(PYTHONS[-1].partition('.')[2]) + 1}"
    for page in ("README.md", "docs/index.md", "docs/install.md"):
        named = re.findall(r"Python (3\.\d+)", (ROOT / page).read_text(encoding="utf-8"))
        assert named
        assert set(named) <= set(PYTHONS), page


def test_workflows_run_the_commands_of_the_readme_and_install_extras_that_exist() -> None:
    said = commands(workflow("tests.yml"))
    block = (ROOT / "README.md").read_text().partition("<!-- commands -->")[2].partition("<!-- end -->")[0]
    for line in block.strip().splitlines()[1:-1]:
        assert line in said
    asked = {name for extras in re.findall(r"'\.\[([\w,]+)\]'", said) for name in extras.split(",")}
    assert asked <= PROJECT["optional-dependencies"].keys()
    # A release is published by whom the index trusts, and by no token.
    publish = workflow("release.yml")["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets" not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


def test_every_extra_is_on_the_page() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = page.partition("| `pip install '.[…]'`")[2].partition("\n\n")[0].splitlines()[2:]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == {
        *PROJECT["optional-dependencies"]
    }


def test_the_recipe_has_the_dependencies_of_the_package() -> None:
    recipe = yaml.safe_load((ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["context"]["version"] == PROJECT["version"]
    found = dict(line.split(" ", 1) for line in recipe["requirements"]["run"])
    expected: dict[str, set[str]] = {"python": {f">=${{{{ python_min }}}},{PROJECT['requires-python'].split(',')[1]}"}}
    others = {"huggingface-hub": "huggingface_hub", "matplotlib": "matplotlib-base"}
    for line in PROJECT["dependencies"]:
        name, bounds = re.match(r"([\w-]+)(\S*?)(?:;|$)", line.replace(" ", "")).groups()  # type: ignore[union-attr]
        expected.setdefault(others.get(name, name), set()).add(bounds)
    # Of several bounds, one for each Python, the recipe has the widest: one of them.
    assert found.keys() == expected.keys()
    assert all(bounds in expected[name] for name, bounds in found.items())


@pytest.fixture(scope="module")
def notebooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs" / "tour").glob("*.md")))
def test_notebooks_hold_the_pages(notebooks: ModuleType, page: str) -> None:
    text = (ROOT / "docs" / "tour" / page).read_text(encoding="utf-8")
    made = json.loads(json.dumps(notebooks.notebook(text, "sdscm-jax")))
    code = ["".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "code"]
    assert code[0].startswith("%pip install -q sdscm-jax\n")
    assert len(code) - 1 == text.count("\n```{code-cell}")
    for cell in code[1:]:
        assert cell + "\n```" in text
        ast.parse(cell)
    prose = "".join("".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "markdown")
    assert "code-cell" not in prose
    assert "](" not in re.sub(r"\]\(https?:", "", prose)

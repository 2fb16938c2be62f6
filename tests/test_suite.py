"""The suite itself: what did not run is said at the end, with what turns it on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from .needs import ROOT, what_did_not_run
from .printed import differing

# Folders of tests that are of a subject and cross the rooms of the package; so do those beside this file.
SUBJECTS = ("bad_input", "infer", "keeping", "laws", "security", "specification", "typing")

TESTS = """
import pytest
from .needs import needs, shared_path

def test_here(): pass
@pytest.mark.parametrize("name", "abc")
def test_shared(name): shared_path(name)
def test_module(): needs("no_such_module")
@pytest.mark.slow
def test_slow(): pass
@pytest.mark.oracle
@pytest.mark.parametrize("name", "ab")
def test_oracle(name): pass
"""


def test_reasons_are_grouped() -> None:
    skipped = ["Skipped: b", "a", "b", "could not import 'torch': No module named 'torch'"]
    deselected, markers = {"slow": 2, "parametrize": 9}, ["slow: long; run it", "oracle: x"]
    assert what_did_not_run(skipped, deselected, markers) == [
        "    2 skipped: b",
        "    1 skipped: a",
        "    1 skipped: torch is absent: pip install '.[oracle]'",
        "    2 not selected, slow: long; run it",
    ]


@pytest.mark.slow
def test_a_run_says_at_its_end_what_did_not_run(tmp_path: Path) -> None:
    """Also from several processes, each of which collects all tests."""
    (tmp_path / "tests").mkdir()
    for file in ("conftest.py", "pyproject.toml", "tests/__init__.py", "tests/needs.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist.plugin", "-n", "2", "-p", "no:cacheprovider", "tests"]
    here = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    here |= {"SDSCM_SHARED": str(tmp_path / "absent"), "PYTHONPATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, check=False)
    assert "1 passed, 4 skipped" in ran.stdout, ran.stdout + ran.stderr
    said = [line for line in ran.stdout.splitlines() if re.match(r" +\d+ (skipped|not selected)", line)]
    assert len(said) == 4
    assert said[0] == f"    3 skipped: no shared data in {tmp_path / 'absent'}: set SDSCM_SHARED to where they are"
    assert said[1] == "    1 skipped: no_such_module is absent: pip install '.[test]'"
    assert said[2].startswith("    1 not selected, slow: ")
    assert said[2].endswith("python -m pytest -m slow")
    assert said[3].startswith("    2 not selected, oracle: ")
    assert said[3].endswith("python -m pytest -m oracle")


def test_every_skip_says_what_turns_it_on() -> None:
    """By the helpers of ``needs``, which alone know where the shared data are."""
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text()
        if path.name not in ("needs.py", "test_suite.py"):
            assert "SDSCM_SHARED" not in text, path
            for call in re.findall(r"(?:skipif|pytest\.skip)\(.*?\)\n", text, re.DOTALL):
                assert "absent(" in call, f"{path}: {call}; see tests/needs.py"


def test_pages_are_compared_to_rounding() -> None:
    shown = ["effect -0.4316 of 12", "1.1e+02 operations"]
    assert differing(shown, shown) == differing(["effect -0.4318 of 12", "1.3e+02 operations"], shown) == []
    assert differing(["no +0.0000"], ["no -0.0000"]) == []
    for other in ("effect -0.4319 of 12", "effect +0.4316 of 12", "effect -0.4316 of 13", "an effect", ""):
        assert differing([other, shown[1]], shown) == [(other, shown[0])]
    assert differing([shown[0], "1.4e+02 operations"], shown) == [("1.4e+02 operations", shown[1])]
    assert differing(shown[:1], shown) == [(None, shown[1])]


def misplaced(tests: Iterable[str], modules: set[str]) -> list[str]:
    """Tests that are not where the module of their name is: ``x/test_y.py`` and ``x/test_y_….py`` are of ``x/y``.

    Args:
        tests: paths of test files, from the folder of tests.
        modules: paths of modules and packages, from the package's, without ``.py``.
    """
    found = []
    for test in tests:
        folder, _, file = test.removesuffix(".py").rpartition("/")
        words = file.removeprefix("test_").split("_")
        names = {"_".join(words[:n]) for n in range(1, len(words) + 1)}
        if folder and folder.split("/")[0] not in SUBJECTS and not {f"{folder}/{name}" for name in names} & modules:
            found.append(test)
    return found


def test_a_test_is_found_where_its_module_is() -> None:
    """The rule of CONTRIBUTING.md."""
    package, tests = ROOT / "sdscm_jax", ROOT / "tests"
    files = package.rglob("*")
    modules = {x.relative_to(package).with_suffix("").as_posix() for x in files if x.is_dir() or x.suffix == ".py"}
    assert misplaced([x.relative_to(tests).as_posix() for x in tests.rglob("test_*.py")], modules) == []
    small = {"dsl", "dsl/worlds", "dsl/worlds/do", "dsl/worlds/abduct"}
    right = [
        "dsl/worlds/test_do.py",
        "dsl/worlds/test_do_twice.py",
        "dsl/test_worlds.py",
        "laws/test_it.py",
        "test_x.py",
    ]
    assert misplaced(right, small) == []
    wrong = ["dsl/test_do.py", "dsl/worlds/test_doing.py", "worlds/test_do.py", "dsl/worlds/test_it.py"]
    assert misplaced(wrong, small) == wrong

"""An estimator is what its files say now: what is kept is of that one, or computed again."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from sdscm_jax.bench import evaluation
from sdscm_jax.bench.estimators import identity
from sdscm_jax.bench.estimators.registry import UNKEPT, described, make_estimator
from sdscm_jax.bench.evaluation import evaluate
from sdscm_jax.cli import app
from sdscm_jax.errors import EstimatorError

NAME = "k_mine:Mine"
MODULES = ("k_mine", "k_base", "k_help", "k_late", "k_pack", "k_pack.inner")
FILES = {
    "k_mine.py": """
import numpy as np
from k_base import Base
from k_pack.inner import TERM
SHIFT = 0.0

class Mine(Base):
    def __init__(self, factor=1.0):
        self.factor = factor

    def effect(self, x):
        from k_late import LATE
        return np.full(len(x), self.factor * self.value() + SHIFT + TERM + LATE)
""",
    "k_base.py": """
import k_help

class Base:
    def fit(self, key, x, t, y):
        return self

    def value(self):
        return k_help.VALUE

    def interval(self, x, level):
        return None

    def ate(self):
        return float(self.effect([0])[0])
""",
    "k_help.py": "VALUE = 1.0\n",
    "k_late.py": "LATE = 0.0\n",
    "k_pack/__init__.py": "HALF = 0.5\n",
    "k_pack/inner.py": "from . import HALF\nTERM = HALF - 0.5\n",
}
# File, what stands there, what stands there then, and the effect that is estimated then.
EDITS = [
    ("k_mine.py", "SHIFT = 0.0", "SHIFT = 2.0", 3.0),
    ("k_mine.py", "factor=1.0", "factor=5.0", 5.0),
    ("k_base.py", "return k_help.VALUE", "return 7.0", 7.0),
    ("k_help.py", "1.0", "3.0", 3.0),
    ("k_late.py", "0.0", "8.0", 9.0),
    ("k_pack/__init__.py", "0.5", "4.5", 5.0),
    ("k_pack/inner.py", "- 0.5", "- 2.5", -1.0),
]


def forget() -> None:
    """As in a new process."""
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with the files of an estimator; they are in no other place that Python looks in."""
    path = tmp_path / "work"
    for name, text in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    monkeypatch.chdir(path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    forget()
    yield path
    forget()


def edit(place: Path, name: str, before: str, after: str) -> None:
    text = (place / name).read_text()
    assert before in text
    (place / name).write_text(text.replace(before, after))
    forget()


def test_a_module_of_the_working_directory_is_found(place: Path) -> None:
    assert make_estimator(NAME).fit(None, None, None, None).ate() == 1.0  # type: ignore[arg-type]
    with pytest.raises(EstimatorError, match="No module named 'k_yours'"):
        make_estimator("k_yours:Mine")


def test_the_same_files_are_the_same_estimator(place: Path) -> None:
    first = described(NAME)
    assert UNKEPT not in first
    assert set(first["source"]) == {"k_mine", "k_base", "k_help", "k_late", "k_pack"}
    assert {"numpy", "jax", "jaxlib", "python", "sdscm-jax"} <= set(first["versions"])
    make_estimator(NAME).effect([0])  # type: ignore[arg-type]
    assert described(NAME) == first
    forget()
    assert described(NAME) == first
    # What it does not import is no part of it.
    (place / "k_other.py").write_text("")
    assert described(NAME) == first


@pytest.mark.parametrize("change", EDITS, ids=lambda change: f"{change[0]}: {change[2]}")
def test_each_file_is_part_of_it(place: Path, change: tuple[str, str, str, float]) -> None:
    first = described(NAME)
    edit(place, *change[:3])
    second = described(NAME)
    assert UNKEPT not in second
    assert second["source"] != first["source"]
    assert make_estimator(NAME).ate() == change[3]


def test_versions_are_part_of_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, version = described(NAME), identity.version
    monkeypatch.setattr(identity, "version", lambda name: "0.0.1" if name == "numpy" else version(name))
    assert described(NAME)["versions"] == {**first["versions"], "numpy": "0.0.1"}


def test_what_is_not_installed_is_part_of_it(place: Path) -> None:
    edit(place, "k_help.py", "VALUE", "try:\n    import k_absent\nexcept ImportError:\n    pass\nVALUE")
    assert described(NAME)["versions"]["k_absent"] == "absent"


def test_parameters_are_part_of_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(place, "k_mine.py", "self.factor = factor", "import os; self.factor = float(os.environ['K_FACTOR'])")
    found = []
    for factor in ("1", "2", "1"):
        monkeypatch.setenv("K_FACTOR", factor)
        found.append(described(NAME))
    assert found[0] == found[2]
    assert found[0]["parameters"] != found[1]["parameters"]


def test_what_was_edited_after_it_was_imported_is_not_known(place: Path) -> None:
    first = described(NAME)
    text = (place / "k_help.py").read_text()
    (place / "k_help.py").write_text("VALUE = 9.0\n")
    assert "k_help.py may have been edited after it was imported" in described(NAME)[UNKEPT]
    (place / "k_help.py").write_text(text)
    assert described(NAME) == first
    # Imported by somebody else, from a file that is younger than this process.
    forget()
    import k_mine  # type: ignore[import-not-found]

    assert "may have been edited" in described(NAME)[UNKEPT]
    assert k_mine.SHIFT == 0


def typed(source: str, module: str = "__main__") -> types.ModuleType:
    """A module as a prompt makes one: no file holds it."""
    found = types.ModuleType(module)
    exec(compile(source, "<stdin>", "exec"), vars(found))
    return found


def test_code_without_a_file_is_not_known(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FILES["k_mine.py"]
    make_estimator(NAME)
    monkeypatch.setitem(sys.modules, "k_typed", typed(source, "k_typed"))
    assert "no file holds the source of Mine.__init__" in described("k_typed:Mine")[UNKEPT]
    # A method that was put in, and a lambda among the parameters.
    patched = typed("def ate(self):\n    return 0.0\n")
    monkeypatch.setattr(sys.modules["k_mine"].Mine, "ate", patched.ate, raising=False)
    assert "no file holds the source of Mine.ate" in described(NAME)[UNKEPT]
    forget()
    make_estimator(NAME)
    monkeypatch.setattr(sys.modules["k_mine"].Mine.__init__, "__defaults__", (typed("f = lambda x: x").f,))
    assert "no file holds the source of factor" in described(NAME)[UNKEPT]


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their figures take most of the time, and say nothing here."""
    monkeypatch.setattr(evaluation, "write_report", lambda *_, **__: None)


def quiet(benchmark: Path, out: Path, **changes: Any) -> pd.DataFrame:
    arguments: dict[str, Any] = {"estimators": NAME, "covariates": ["all"], "progress": False} | changes
    return evaluate(benchmark, out, **arguments).scores.drop(columns="seconds")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_an_edited_estimator_is_run_again(benchmark: Path, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = quiet(benchmark, out)
        pd.testing.assert_frame_equal(quiet(benchmark, out), kept)
    for i, change in enumerate(EDITS):
        edit(place, *change[:3])
        with pytest.warns(UserWarning, match="'k_mine:Mine' has changed since .* computed again"):
            found = quiet(benchmark, out)
        pd.testing.assert_frame_equal(found, quiet(benchmark, tmp_path / f"fresh{i}"))
        assert set(found[found["estimator"] == NAME]["ate"]) == {change[3]}
        edit(place, change[0], change[2], change[1])


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_an_unknown_estimator_is_run_each_time(
    benchmark: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_estimator(NAME)
    found = []
    for value in (1.0, 2.0):
        source = FILES["k_mine.py"].replace("SHIFT = 0.0", f"SHIFT = {value}")
        monkeypatch.setitem(sys.modules, "k_typed", typed(source, "k_typed"))
        with pytest.warns(UserWarning, match="estimates of 'k_typed:Mine' are not kept .* no file holds the source"):
            scores = quiet(benchmark, tmp_path / "out", estimators="k_typed:Mine")
        found.append(set(scores[scores["estimator"] == "k_typed:Mine"]["ate"]))
    assert found == [{2.0}, {3.0}]


@pytest.mark.usefixtures("no_pages")
def test_command(benchmark: Path, place: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(benchmark), "--out", str(tmp_path / "out"), "--estimators", NAME, "--jobs", "1"]
    for shift, effect in (("0.0", 1.0), ("4.0", 5.0)):
        edit(place, "k_mine.py", "SHIFT = 0.0", f"SHIFT = {shift}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        scores = pd.read_csv(tmp_path / "out" / "scores.csv")
        assert set(scores[scores["estimator"] == NAME]["ate"]) == {effect}

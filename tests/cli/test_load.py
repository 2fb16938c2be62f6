"""``FILE.py:NAME`` is that file, whatever it is called and whatever stands beside it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from sdscm_jax.cli.load import load_object
from sdscm_jax.errors import SDSCMError

from ..needs import ROOT

# Of the standard library, loaded and not yet loaded; of an installed package; no identifiers.
NAMES = ("json.py", "random.py", "this.py", "antigravity.py", "jax.py", "numpy.py", "my.model.py", "1 of 2.py", "ü.py")


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("relative", [True, False])
def test_the_file_itself(name: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a:b").mkdir()
    path = tmp_path / "a:b" / name
    path.write_text("def loads(lm):\n    return 'mine'\nchoice = loads\n")
    before = {module: sys.modules.get(module) for module in ("json", "random", "jax", "numpy")}
    monkeypatch.chdir(tmp_path)
    said = f"a:b/{name}" if relative else str(path)
    assert load_object(f"{said}:loads", "a model")(None) == "mine"
    assert load_object(f"{said}:choice", "a model")(None) == "mine"
    assert {module: sys.modules.get(module) for module in before} == before


def test_two_files_of_one_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.py").write_text(f"def f():\n    return {folder!r}\n")
    one, two = (load_object(f"{tmp_path / folder / 'model.py'}:f", "a model") for folder in ("a", "b"))
    assert (one(), two()) == ("a", "b")
    assert pickle.loads(pickle.dumps(one))() == "a"
    (tmp_path / "a" / "model.py").write_text("def f():\n    return 'edited anew'\n")
    assert load_object(f"{tmp_path / 'a' / 'model.py'}:f", "a model")() == "edited anew"


@pytest.mark.slow
def test_neighbours_can_be_imported_and_shadow_nothing(tmp_path: Path) -> None:
    """In a fresh process, as other tests import these modules: some are first imported after the file is."""
    (tmp_path / "beside_it.py").write_text("word = 'beside'\n")
    for name in ("colorsys.py", "wave.py", "typer.py", "email.py"):
        (tmp_path / name).write_text("raise SystemExit('a neighbour stands in front of a library')\n")
    (tmp_path / "main.py").write_text(
        "import colorsys, dataclasses\nfrom beside_it import word\n"
        "@dataclasses.dataclass\nclass Box:\n    word: 'str' = word\n    class Inner:\n        x = 1\n"
    )
    program = (
        "from sdscm_jax.cli.load import load_object\n"
        "print(load_object('main.py:Box', 'a box')().word, load_object('main.py:Box.Inner', 'a box').x)\n"
        "import wave, typer, email.message\nfrom sdscm_jax.cli import app\n"
        "import sys\nprint(load_object('beside_it:word', 'a word'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.stdout.split() == ["beside", "1", "beside"], done.stderr


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nosuch.py:f", "there is no file .*/nosuch.py"),
        (".:f", "cannot be imported"),
        ("main.py", "is written module:name or path.py:name"),
        (":f", "is written module:name or path.py:name"),
        ("main.py:", "is written module:name or path.py:name"),
        ("main.py:g", r"/main.py has no 'g'"),
        ("json:f", r"/json/__init__.py has no 'f'"),
        ("needs.py:f", "No module named 'nothing_of_this_name'"),
        ("nothing_of_this_name:f", "No module named 'nothing_of_this_name'"),
    ],
)
def test_what_cannot_be_loaded(spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main.py").write_text("f = 1\n")
    (tmp_path / "needs.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(SDSCMError, match=message):
        load_object(spec, "a model")
    assert not [
        name for name in sys.modules if getattr(sys.modules[name], "__file__", "") == str(tmp_path / "needs.py")
    ]

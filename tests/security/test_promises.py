"""Every sentence of SECURITY.md has tests that would fail if it were not true."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import sdscm_jax as sd
from sdscm_jax.bench.benchmark import read_parquet
from sdscm_jax.bench.estimators.registry import make_estimator
from sdscm_jax.cli.load import import_from_here
from sdscm_jax.errors import DataError
from sdscm_jax.models.language_model import EMBEDDED
from sdscm_jax.testing import mock_lm

from ..needs import ROOT
from .checkpoints import EVIL, PICKLE, write

HERE = "security/test_promises.py"
# The beginning of each sentence -> the tests of it; none: it promises nothing of the program.
SHOWN: dict[str, tuple[str, ...]] = {
    "`load_lm` reads": (f"{HERE}::test_files_that_a_load_reads",),
    "It never unpickles": (
        "security/test_checkpoints.py::test_a_checkpoint_whose_tokenizer_is_a_program",
        "security/test_checkpoints.py::test_many_malicious_checkpoints",
    ),
    "A chat template is": (
        "security/test_templates.py::test_templates_that_take_too_much",
        "security/test_templates.py::test_more_templates_that_take_too_much",
        "security/test_templates.py::test_a_checkpoint_with_such_a_template",
        "models/test_chat_template.py::test_a_text_that_the_template_writes_as_it_stands",
    ),
    "Of a hub id": (f"{HERE}::test_files_of_a_hub_id",),
    "What you need to trust": (),
    "`sdscm show FILE.py:NAME`": (
        "cli/test_load.py::test_the_file_itself",
        "cli/test_load.py::test_neighbours_can_be_imported_and_shadow_nothing",
    ),
    "`sdscm evaluate --estimators": (
        f"{HERE}::test_an_estimator_of_the_working_directory",
        "bench/test_evaluation.py::test_a_crash_is_one_row",
    ),
    "Other estimators": (f"{HERE}::test_estimators_are_imported_when_they_are_used",),
    "Families (JSON": (
        "security/test_specifications.py::test_many_malicious_specifications",
        f"{HERE}::test_a_data_set_that_is_a_pickle",
    ),
    "Neither do": ("cli/test_load.py::test_neighbours_can_be_imported_and_shadow_nothing",),
    "`simulate(…, out=)`": (f"{HERE}::test_names_of_sites_are_no_paths",),
    "Reports are": (
        "security/test_pages.py::test_the_policy_names_the_page_s_own_style_and_script",
        "security/test_pages.py::test_nothing_that_the_policy_would_stop",
        "security/test_pages.py::test_the_policy_stops_attacks_that_are_markup",
    ),
    "No file of a benchmark": ("bench/test_evaluation.py::test_no_file_of_a_benchmark_is_copied_into_the_report",),
    "Texts of models": (
        "security/test_pages.py::test_attacks_are_text_in_a_browser",
        "security/test_shown.py::test_a_data_card_of_such_texts",
        "security/test_shown.py::test_a_console_prints_the_text",
        "security/test_shown.py::test_nothing_else_prints",
        "security/test_shown.py::test_pictures_of_such_names_are_well_formed",
        "security/test_shown.py::test_a_text_is_no_formula",
    ),
    "Processes of": ("engine/test_many.py::test_every_backend_writes_the_same_bytes",),
    "To report a hole": (),
    "Fixes are made": (),
}  # fmt: skip


def sentences() -> list[str]:
    """The sentences of the page, without the bold beginnings of its paragraphs."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("\n", 1)[1]
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n") if p.strip()]
    whole = [re.sub(r"^\*\*([^*]*)\*\*:? ?", lambda m: "" if m[1].endswith(".") else m[1] + " ", p) for p in paragraphs]
    return [sentence for p in whole for sentence in re.split(r"(?<=\.) (?=[A-Z`])", p)]


def test_every_sentence_has_its_tests() -> None:
    said = sentences()
    assert len(said) == len(SHOWN)
    for sentence, beginning in zip(said, SHOWN, strict=True):
        assert sentence.startswith(beginning), sentence
        for named in SHOWN[beginning]:
            file, _, name = named.partition("::")
            tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
            assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, named


@pytest.mark.slow
def test_files_that_a_load_reads(tmp_path: Path) -> None:
    """As the interpreter itself tells of every file that is opened, or looked for by a library of its."""
    others = ("evil.py", "__init__.py", "pytorch_model.bin", "model.pt", "README.md", "training_args.bin", "x.npy")
    write(tmp_path / "lm", {**dict.fromkeys(others, EVIL), "a.pkl": PICKLE, "sub/config.json": b"{}"})
    program = (
        "import sys, json\nopened = []\n"
        "sys.addaudithook(lambda event, told: opened.append(str(told[0])) if event in ('open', 'import') else None)\n"
        f"import sdscm_jax as sd\nsd.load_lm({str(tmp_path / 'lm')!r})\nprint(json.dumps(opened))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=True)
    opened = {Path(p).name for p in json.loads(done.stdout.splitlines()[-1]) if p.startswith(str(tmp_path))}
    expected = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    assert {"config.json", "tokenizer.json"} <= opened
    assert opened <= expected | {"generation_config.json", "special_tokens_map.json", "added_tokens.json", "lm"}


def test_files_of_a_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(name: str, **how: object) -> str:
        asked.update(how, name=name)
        return str(EMBEDDED)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    sd.load_lm("someone/something")
    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    assert asked == {"name": "someone/something", "allow_patterns": patterns}


def test_an_estimator_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_estimator_here.py").write_text("class Mine:\n    word = 'mine'\n")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.chdir(tmp_path)
    import_from_here()
    assert make_estimator("my_estimator_here:Mine").word == "mine"  # type: ignore[attr-defined]


@pytest.mark.slow
def test_estimators_are_imported_when_they_are_used() -> None:
    program = (
        "import sys\nfrom sdscm_jax.bench.estimators.registry import chosen, make_estimator\nchosen('all')\n"
        "print('sdscm_jax.bench.estimators.linear' in sys.modules)\nmake_estimator('linear_s')\n"
        "print('sdscm_jax.bench.estimators.linear' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_data_set_that_is_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part-00000.parquet").write_bytes(PICKLE)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_parquet(tmp_path / "part-00000.parquet")
    assert not (tmp_path / "PWNED").exists()


def test_names_of_sites_are_no_paths(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)

    def model(lm: sd.LanguageModel) -> None:
        for name in ("../../x", "/tmp/x", "a/b", "..", "x\x00y", "con", "x" * 300):
            sd.sample(name, sd.Choice(lm, "It is {}.", ["../low", "/high"]))

    sd.simulate(model, jax.random.key(0), 4, mock_lm(), out=tmp_path / "a" / "b" / "out")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["out"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]

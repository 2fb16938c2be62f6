"""A checkpoint that came with something in it runs nothing, hangs nothing, and is one error or a language model."""

from __future__ import annotations

from pathlib import Path

import pytest

from .checkpoints import _tokenizer, checkpoints, special_files, write
from .harness import Outcome, outcomes

# A child with JAX and a loaded model has some 800 MiB.
MOST_MEGABYTES = 3000


def check(found: dict[Path, Outcome], place: Path) -> None:
    wrong = {path.name: told for path, told in found.items() if told.said.startswith(("RAW", "HUNG", "DIED"))}
    assert not wrong, "\n".join(f"{name}: {told.said}" for name, told in wrong.items())
    assert max(told.megabytes for told in found.values()) < MOST_MEGABYTES
    assert not list(place.rglob("PWNED")), "code of a checkpoint ran"


@pytest.mark.slow
def test_a_checkpoint_whose_tokenizer_is_a_program(tmp_path: Path) -> None:
    """Transformers would ask whether to run it, and take the answer from whatever stands in the input."""
    auto = {"AutoTokenizer": ["evil.Evil", None]}
    write(tmp_path / "lm", _tokenizer(auto_map=auto, tokenizer_class="EvilTok"))
    found = outcomes("checkpoint", [tmp_path / "lm"], tmp_path)
    check(found, tmp_path)
    assert "custom code" not in (tmp_path / "said.txt").read_text(errors="replace")
    assert all(told.said == "accepted" or told.said.startswith("LoadError") for told in found.values())


@pytest.mark.search
def test_many_malicious_checkpoints(tmp_path: Path) -> None:
    cases = checkpoints()
    paths = [tmp_path / name.replace("/", "∕") for name in cases]
    for path, files in zip(paths, cases.values(), strict=True):
        write(path, files)
    for name, make in special_files(tmp_path).items():
        make()
        paths.append(tmp_path / name)
    assert len(set(paths)) == 152
    found = outcomes("checkpoint", paths, tmp_path)
    assert set(found) == set(paths)
    check(found, tmp_path)
    refused = {path.name for path, told in found.items() if told.said != "accepted"}
    # Where nothing that is read is another, nothing is refused.
    for name in ("a program called json.py", "a pickle as pytorch_model.bin", "auto_map of processor_config.json"):
        assert name not in refused
    for name in ("a pickle as model.safetensors", "only a pickle, model.pt", "chat loops in loops", "deep config"):
        assert name in refused

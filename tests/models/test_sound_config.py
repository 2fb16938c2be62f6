"""Checkpoints of which no model can be made are refused at once: no memory is taken, no read waits."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

import sdscm_jax as sd
from sdscm_jax.models.language_model import EMBEDDED


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED, tmp_path / "model", ignore=shutil.ignore_patterns("train*")))


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def edit(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def refused(directory: Path) -> str:
    with pytest.raises(sd.LoadError) as found:
        sd.load_lm(directory)
    assert len(str(found.value)) < 5_000
    return str(found.value)


nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rms_norm_eps": nan}, "NaN is no number"),
        ({"rms_norm_eps": inf}, "Infinity is no number"),
        ({"rms_norm_eps": 0.0}, "norm_eps is a finite number above 0, got 0.0"),
        ({"rms_norm_eps": -1e-5}, "norm_eps is a finite number above 0"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is an integer from 1 to 4096, got 1000000000"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is an integer from 1 to 4096"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is an integer from 1 to 4096"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers is an integer from 1 to 4096, got 'two'"),
        ({"num_hidden_layers": True}, "num_hidden_layers is an integer from 1 to 4096"),
        ({"hidden_size": 2**63}, "hidden_size is beyond what a model has"),
        ({"hidden_size": -64}, ""),
        ({"hidden_size": "64"}, ""),
        ({"hidden_size": [64]}, ""),
        ({"hidden_size": 2**31 - 2}, ""),
        ({"vocab_size": 0}, "vocab_size is an integer of at least 1"),
        ({"num_attention_heads": 0}, ""),
        ({"num_key_value_heads": 3}, "heads do not share 3 keys and values"),
        ({"num_key_value_heads": 0}, "kv_heads is an integer of at least 1"),
        ({"intermediate_size": -1}, "mlp_width is an integer of at least 1"),
        ({"max_position_embeddings": 0}, "max_positions is an integer of at least 1"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 0.0}}, "rope_theta is a finite number above 0"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 0.0}}, ""),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": -2.0}}, ""),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": "much"}}, ""),
        ({"rope_parameters": []}, ""),
    ],
)  # fmt: skip
def test_numbers_that_no_model_has(directory: Path, changes: dict[str, Any], said: str) -> None:
    edit(directory, **changes)
    assert said in refused(directory)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
def test_a_pipe_is_no_file(directory: Path, name: str) -> None:
    (directory / name).unlink(missing_ok=True)
    os.mkfifo(directory / name)
    assert name in refused(directory)


def test_a_link_that_leads_nowhere(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer.json").symlink_to(directory / "gone.json")
    assert "tokenizer.json is no file: it leads nowhere" in refused(directory)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "generation_config.json"])
@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a": ' + "9" * 5_000 + "}", "[]", "3", '{"weight_map": 3}', '{"weight_map": {"a": 3}}']
)
def test_nested_deeply_or_of_too_many_digits(directory: Path, name: str, content: str) -> None:
    (directory / name).write_text(content, encoding="utf-8")
    if name == "generation_config.json" and content.startswith('{"weight'):
        return
    assert name.split(".")[0] in refused(directory)


@pytest.mark.parametrize("file", ["/etc/passwd", "../model/model.safetensors", "a\0b"])
def test_an_index_names_files_of_its_own_folder(directory: Path, file: str) -> None:
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}), encoding="utf-8")
    assert "which is no file of" in refused(directory)


def test_what_is_published_is_taken(directory: Path) -> None:
    """The bounds leave room for every configuration that the families have."""
    from sdscm_jax.models.families import FAMILIES, read_config
    from sdscm_jax.models.sound_config import check_raw, check_switches

    for name in FAMILIES:
        # (Transformers' defaults have no number of DeepSeek V2's chosen experts, and no width of GLM 4.5's heads.)
        own = {"deepseek_v2": {"num_experts_per_tok": 6}, "glm4_moe": {"head_dim": 128}}
        own["lfm2_moe"] = {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}
        config = AutoConfig.for_model(name, **own.get(name, {}))
        check_raw(config.to_dict())
        check_switches(read_config(config))


def test_weights_that_are_no_numbers_are_said_at_the_first_score(directory: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    name = next(name for name in tensors if "mlp" in name)
    tensors[name] = np.full_like(tensors[name], np.nan)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    lm = sd.load_lm(directory)

    def model(lm: Any) -> None:
        sd.sample("a", sd.Choice(lm, "It is {}.", ["low", "high"]))

    with pytest.raises(sd.ScoreError, match="are its weights finite"):
        sd.simulate(model, 0, 2, lm)

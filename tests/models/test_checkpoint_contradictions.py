"""Directories that say two things about their weights are refused, and the message says which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models.checkpoint import save_parameters

from .test_checkpoint import SIZES, Tensors, edit_tensors, fails, write_model, write_shards

INDEX = "model.safetensors.index.json"
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def directory(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    write_model(tmp_path / "model", tiny_tokenizer)
    return tmp_path / "model"


def shards(directory: Path) -> tuple[Path, Path]:
    write_shards(directory)
    first, second = sorted(directory.glob("model-*.safetensors"))
    return first, second


def other_weights(directory: Path) -> Tensors:
    return {name: value + 1 for name, value in load_file(directory / "model.safetensors").items()}


def test_a_file_saved_over_shards(directory: Path) -> None:
    """The index is older than the file beside it, or newer: both are whole models."""
    saved = other_weights(directory)
    shards(directory)
    save_file(saved, directory / "model.safetensors")
    message = fails(directory)
    assert "two sets of weights" in message
    assert INDEX in message
    assert "model-00001-of-00002.safetensors" in message


def test_a_file_beside_shards_without_an_index(directory: Path) -> None:
    saved = other_weights(directory)
    shards(directory)
    (directory / INDEX).unlink()
    save_file(saved, directory / "model.safetensors")
    assert "two sets of weights" in fails(directory)


def test_an_index_may_name_the_one_file(directory: Path) -> None:
    expected = sd.load_lm(directory)
    names = load_file(directory / "model.safetensors")
    (directory / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    chex.assert_trees_all_equal(sd.load_lm(directory), expected, strict=True)


def test_a_tensor_in_two_shards(directory: Path) -> None:
    """Whichever of the two the index means, and whichever is read last."""
    first, second = shards(directory)
    for kept, stray in ((first, second), (second, first)):
        tensors = load_file(stray)
        mapped = json.loads((directory / INDEX).read_text())["weight_map"]
        name = next(n for n, file in mapped.items() if file == kept.name)
        save_file(tensors | {name: np.zeros_like(load_file(kept)[name])}, stray)
        message = fails(directory)
        assert all(part in message for part in (name, first.name, second.name))
        save_file(tensors, stray)
    sd.load_lm(directory)


def test_a_tensor_elsewhere_than_the_index_says(directory: Path) -> None:
    first, second = shards(directory)
    index = json.loads((directory / INDEX).read_text())
    index["weight_map"][UP] = {first.name: second.name, second.name: first.name}[index["weight_map"][UP]]
    (directory / INDEX).write_text(json.dumps(index))
    assert f"{UP} is in" in fails(directory)


def test_files_without_an_index(directory: Path) -> None:
    """Two states of a training: neither is last by any rule."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").rename(directory / "step_1000.safetensors")
    sd.load_lm(directory)
    save_file(tensors, directory / "step_900.safetensors")
    message = fails(directory)
    assert "step_1000.safetensors, step_900.safetensors" in message
    assert INDEX in message


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", SIZES)
def test_a_tied_head_with_values_of_its_own(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, family: str, stored: str
) -> None:
    lm = write_model(tmp_path, tiny_tokenizer, family, tie_word_embeddings=True)
    save_parameters(tmp_path, lm.config, lm.params, jnp.dtype(stored))
    table = "transformer.wte.weight" if family == "gpt2" else "model.embed_tokens.weight"

    def head_in_last_row(changed: bool) -> None:
        def edit(tensors: Tensors) -> None:
            head = tensors[table].copy()
            head[-1, -1] += changed
            tensors["lm_head.weight"] = head

        edit_tensors(tmp_path, edit)

    head_in_last_row(False)
    chex.assert_trees_all_equal(sd.load_lm(tmp_path, dtype=stored).params, lm_as(lm, stored), strict=True)
    head_in_last_row(True)
    message = fails(tmp_path)
    assert f"lm_head.weight differs from {table}" in message
    assert "tie_word_embeddings" in message


def lm_as(lm: sd.LanguageModel, dtype: str) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype), lm.params)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "consolidated.00.pth"])
def test_weights_in_another_format(directory: Path, file: str) -> None:
    """The message says what is there, and how it becomes what is read."""
    (directory / "model.safetensors").rename(directory / file)
    message = fails(directory)
    assert f"no *.safetensors file; it has {file}" in message
    assert "save_pretrained" in message


def test_saving_makes_no_second_set_of_weights(directory: Path) -> None:
    lm = sd.load_lm(directory)
    shards(directory)
    with pytest.raises(sd.SDSCMError, match="of another set of weights"):
        lm.save(directory)
    chex.assert_trees_all_equal(sd.load_lm(directory), lm, strict=True)

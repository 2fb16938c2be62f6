"""Loading and saving checkpoints: what fails says why, and what is loaded is what was stored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models.checkpoint import save_parameters
from sdscm_jax.models.families import read_config

SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "llama": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
    },
}

Tensors = dict[str, np.ndarray]


def write_model(
    directory: Path, tokenizer: PreTrainedTokenizerFast, family: str = "llama", **settings: Any
) -> sd.LanguageModel:
    """A random model and the directory that holds it, as the hub lays it out."""
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **SIZES[family] | settings)
    lm = sd.random_lm(read_config(config), tokenizer, 3)
    directory.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    save_parameters(directory, lm.config, lm.params, jnp.float32)
    return lm


@pytest.fixture
def directory(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A directory with a tiny Llama that loads."""
    write_model(tmp_path / "model", tiny_tokenizer)
    return tmp_path / "model"


def edit_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(directory: Path, edit: Callable[[Tensors], object]) -> None:
    tensors = load_file(directory / "model.safetensors")
    edit(tensors)
    save_file(tensors, directory / "model.safetensors")


def fails(directory: Path, **arguments: Any) -> str:
    """The message of the ``LoadError``."""
    with pytest.raises(sd.LoadError) as caught:
        sd.load_lm(directory, **arguments)
    return str(caught.value)


# -- what fails ---------------------------------------------------------------------------------


def test_no_directory(tmp_path: Path) -> None:
    assert fails(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'} is not a directory"


def test_a_file_is_not_a_directory(directory: Path) -> None:
    assert "is not a directory" in fails(directory / "config.json")


def test_no_config(directory: Path) -> None:
    (directory / "config.json").unlink()
    assert fails(directory) == f"{directory} has no config.json"


@pytest.mark.parametrize(
    "content", ["{", "", "[1]", '{"hidden_size": 3}', '{"model_type": "llama", "hidden_size": "x"}']
)
def test_broken_config(directory: Path, content: str) -> None:
    (directory / "config.json").write_text(content)
    assert "config.json cannot be read" in fails(directory)


def test_unknown_to_transformers(directory: Path) -> None:
    edit_config(directory, model_type="no-such-model")
    assert "no-such-model" in fails(directory)


def test_unsupported_family(directory: Path) -> None:
    """One that transformers knows and this package does not."""
    edit_config(directory, model_type="bloom")
    message = fails(directory)
    assert "'bloom' is not supported" in message
    assert "gpt2, llama" in message


def test_unsupported_rope(directory: Path) -> None:
    edit_config(directory, rope_parameters={"rope_type": "stretched", "rope_theta": 10000.0, "factor": 4.0})
    message = fails(directory)
    assert "'stretched' is not supported" in message
    assert "'llama3'" in message


def test_unsupported_activation(directory: Path) -> None:
    edit_config(directory, hidden_act="mish")
    message = fails(directory)
    assert "activation 'mish' is not supported" in message
    assert "silu" in message


@pytest.mark.parametrize("change", [{"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}])
def test_unsupported_attention_scale(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, change: dict[str, bool]
) -> None:
    write_model(tmp_path, tiny_tokenizer, "gpt2")
    edit_config(tmp_path, **change)
    assert "not supported" in fails(tmp_path)


@pytest.mark.parametrize("dtype", ["float16", jnp.float16, np.int32, np.float64])
def test_unsupported_dtype(directory: Path, dtype: Any) -> None:
    message = fails(directory, dtype=dtype)
    assert jnp.dtype(dtype).name in message
    assert "float32 or bfloat16" in message


def test_no_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    assert fails(directory) == f"{directory} has no *.safetensors file"


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_corrupt_weights(directory: Path, damage: str) -> None:
    path = directory / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "noise": b"\xff" * 64, "empty": b""}[damage])
    assert f"{path} cannot be read" in fails(directory)


def test_no_tokenizer(directory: Path) -> None:
    for path in directory.glob("*token*"):
        path.unlink()
    assert f"{directory} has no readable tokenizer" in fails(directory)


def test_tokenizer_of_another_model(directory: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    edit_config(directory, vocab_size=16)
    message = fails(directory)
    assert str(len(tiny_tokenizer)) in message
    assert "16" in message


def test_all_problems_are_listed_at_once(directory: Path) -> None:
    """Missing, mis-shaped and unexpected tensors; the mis-shaped one with both shapes."""
    missing, misshapen = "model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.k_proj.weight"

    def damage(tensors: Tensors) -> None:
        del tensors[missing], tensors["lm_head.weight"]
        tensors[misshapen] = np.zeros((7, 16), np.float32)
        tensors["model.layers.0.self_attn.q_norm.weight"] = np.ones(4, np.float32)

    edit_tensors(directory, damage)
    message = fails(directory)
    assert f"missing {missing}" in message
    assert "missing lm_head.weight" in message
    assert f"{misshapen} has shape (7, 16), expected (8, 16)" in message
    assert "unexpected model.layers.0.self_attn.q_norm.weight" in message
    assert len(message.splitlines()) == 5


def test_transposed_tensor(directory: Path) -> None:
    """A square one would go unnoticed; any other is not silently turned."""
    name = "model.layers.0.mlp.down_proj.weight"
    edit_tensors(directory, lambda tensors: tensors.update({name: np.ascontiguousarray(tensors[name].T)}))
    assert f"{name} has shape (24, 16), expected (16, 24)" in fails(directory)


def test_bias_that_the_config_denies(directory: Path) -> None:
    """Weights with biases under a configuration without them would load and be wrong."""
    name = "model.layers.0.self_attn.q_proj.bias"
    edit_tensors(directory, lambda tensors: tensors.update({name: np.ones(16, np.float32)}))
    assert f"unexpected {name}" in fails(directory)


def test_missing_layer(directory: Path) -> None:
    edit_config(directory, num_hidden_layers=3)
    message = fails(directory)
    assert "missing model.layers.2.mlp.up_proj.weight" in message
    assert "model.layers.1." not in message


def test_surplus_layer(directory: Path) -> None:
    edit_config(directory, num_hidden_layers=1)
    assert "unexpected model.layers.1.mlp.up_proj.weight" in fails(directory)


def test_missing_shard(directory: Path) -> None:
    write_shards(directory)
    (directory / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors cannot be read" in fails(directory)


@pytest.mark.parametrize("content", ["{", "{}"])
def test_broken_index(directory: Path, content: str) -> None:
    (directory / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json" in fails(directory)


# -- what loads ---------------------------------------------------------------------------------


def write_shards(directory: Path) -> None:
    """Replace the one file by two and an index."""
    single = directory / "model.safetensors"
    tensors = load_file(single)
    single.unlink()
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("family", SIZES)
def test_round_trip(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, family: str) -> None:
    """Saved and loaded: the same model, in structure and bits, so it need not be compiled again."""
    lm = write_model(tmp_path, tiny_tokenizer, family)
    first, second = sd.load_lm(tmp_path), sd.load_lm(str(tmp_path))
    chex.assert_trees_all_equal(first, second, strict=True)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert hash(jax.tree.structure(first)) == hash(jax.tree.structure(second))
    chex.assert_trees_all_equal(lm.params, first.params, strict=True)
    assert first.config == lm.config
    assert first.codec == second.codec
    assert first.fingerprint() == second.fingerprint()

    traces = []

    @jax.jit
    def logits(model: sd.LanguageModel, tokens: np.ndarray) -> jax.Array:
        traces.append(model.config)
        return model.logits(tokens)

    tokens = np.array([[1, 2, 3]])
    np.testing.assert_array_equal(logits(first, tokens), logits(second, tokens))
    assert len(traces) == 1
    assert first.codec.encode("It is low.") == lm.codec.encode("It is low.")


@pytest.mark.parametrize("family", SIZES)
def test_shards(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, family: str) -> None:
    write_model(tmp_path / "single", tiny_tokenizer, family)
    shutil.copytree(tmp_path / "single", tmp_path / "sharded")
    write_shards(tmp_path / "sharded")
    chex.assert_trees_all_equal(sd.load_lm(tmp_path / "single"), sd.load_lm(tmp_path / "sharded"), strict=True)


def test_the_index_decides_which_files_are_read(directory: Path) -> None:
    before = sd.load_lm(directory)
    write_shards(directory)
    save_file({"adapter.weight": np.ones(3, np.float32)}, directory / "other.safetensors")
    chex.assert_trees_all_equal(sd.load_lm(directory), before, strict=True)


def test_gpt2_as_published(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """openai-community/gpt2 has no ``transformer.`` in front of its names, and buffers of the mask."""
    write_model(tmp_path, tiny_tokenizer, "gpt2")
    expected = sd.load_lm(tmp_path)

    def publish(tensors: Tensors) -> None:
        assert all(name.startswith("transformer.") for name in tensors)
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(2):
            tensors[f"h.{layer}.attn.bias"] = np.tri(64, dtype=np.float32)[None, None]
            tensors[f"h.{layer}.attn.masked_bias"] = np.float32(-1e4)[None]

    edit_tensors(tmp_path, publish)
    chex.assert_trees_all_equal(sd.load_lm(tmp_path), expected, strict=True)


@pytest.mark.parametrize("family", SIZES)
def test_copy_of_a_tied_head_is_ignored(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, family: str) -> None:
    write_model(tmp_path, tiny_tokenizer, family, tie_word_embeddings=True)
    expected = sd.load_lm(tmp_path)
    table = "transformer.wte.weight" if family == "gpt2" else "model.embed_tokens.weight"
    edit_tensors(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors[table]}))
    chex.assert_trees_all_equal(sd.load_lm(tmp_path), expected, strict=True)


def test_untied_gpt2_is_saved_as_others_read_it(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """The head has no ``transformer.`` in front of its name, unlike everything else."""
    lm = write_model(tmp_path, tiny_tokenizer, "gpt2", tie_word_embeddings=False)
    chex.assert_trees_all_equal(sd.load_lm(tmp_path).params, lm.params, strict=True)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")


def test_untied_gpt2_as_others_save_it(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    lm = write_model(tmp_path, tiny_tokenizer, "gpt2", tie_word_embeddings=False)

    def rename(tensors: Tensors) -> None:
        if "transformer.lm_head.weight" in tensors:
            tensors["lm_head.weight"] = tensors.pop("transformer.lm_head.weight")

    edit_tensors(tmp_path, rename)
    chex.assert_trees_all_equal(sd.load_lm(tmp_path).params, lm.params, strict=True)


def test_old_llama_files(directory: Path) -> None:
    """Checkpoints of 2023 store the inverse frequencies."""
    expected = sd.load_lm(directory)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit_tensors(directory, lambda tensors: tensors.update({name: np.ones(2, np.float32)}))
    chex.assert_trees_all_equal(sd.load_lm(directory), expected, strict=True)


def test_old_spelling_of_rope(directory: Path) -> None:
    """Published configurations have ``rope_theta`` and ``rope_scaling`` side by side."""
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    edit_config(directory, rope_parameters={"rope_type": "llama3", "rope_theta": 5000.0, **scaling})
    new = sd.load_lm(directory).config
    config = json.loads((directory / "config.json").read_text())
    del config["rope_parameters"]
    config |= {"rope_theta": 5000.0, "rope_scaling": {"rope_type": "llama3", **scaling}}
    (directory / "config.json").write_text(json.dumps(config))
    assert sd.load_lm(directory).config == new
    rope = new.rope[0]
    assert rope is not None
    assert (rope.theta, rope.llama3) == (5000.0, (8.0, 1.0, 4.0, 32.0))


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtypes(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, stored: str, dtype: str) -> None:
    """Whatever the file's dtype, parameters have the one asked for and nothing else is rounded."""
    lm = write_model(tmp_path, tiny_tokenizer)
    save_parameters(tmp_path, lm.config, lm.params, jnp.dtype(stored))
    loaded = sd.load_lm(tmp_path, dtype=dtype)
    chex.assert_trees_all_equal(
        loaded.params, jax.tree.map(lambda x: x.astype(stored).astype(dtype), lm.params), strict=True
    )
    assert loaded.dtype == jnp.dtype(dtype)


def test_fingerprint(directory: Path) -> None:
    """One changed number in one tensor, or another switch, is another model."""
    seen = {sd.load_lm(directory).fingerprint()}

    def nudge(tensors: Tensors) -> None:
        tensors["model.layers.1.self_attn.v_proj.weight"][0, 0] += 1e-3

    edit_tensors(directory, nudge)
    seen.add(sd.load_lm(directory).fingerprint())
    edit_config(directory, rms_norm_eps=1e-4)
    seen.add(sd.load_lm(directory).fingerprint())
    seen.add(sd.load_lm(directory, dtype="bfloat16").fingerprint())
    assert len(seen) == 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_is_loaded(directory: Path, tmp_path: Path, dtype: str) -> None:
    """What is changed after loading is saved, and other libraries' keys of config.json stay."""
    edit_config(directory, transformers_version="4.40.0")
    lm = jax.tree.map(lambda x: x + x, sd.load_lm(directory, dtype=dtype))
    lm.save(tmp_path / "kept")
    again = sd.load_lm(tmp_path / "kept", dtype=dtype)
    assert again.fingerprint() == lm.fingerprint()
    written = json.loads((tmp_path / "kept" / "config.json").read_text())
    assert (written["transformers_version"], written["dtype"]) == ("4.40.0", dtype)
    assert sorted(p.suffix for p in (tmp_path / "kept").iterdir() if p.name.startswith("model")) == [".safetensors"]


def test_what_is_not_saved(directory: Path, tmp_path: Path, lm: sd.LanguageModel) -> None:
    with pytest.raises(sd.SDSCMError, match="came from no checkpoint"):
        lm.save(tmp_path)
    with pytest.raises(sd.SDSCMError, match="int8"):
        sd.load_lm(directory, weights="int8").save(tmp_path / "int8")
    with pytest.raises(sd.SDSCMError, match="virtual tokens"):
        sd.SoftPrompt(lm, 2)(lm).save(tmp_path)

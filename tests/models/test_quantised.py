"""Quantised checkpoints are the numbers that they stand for, whole and in parts; what is not understood is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoConfig, PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models.checkpoint import parameter_paths, save_parameters
from sdscm_jax.models.families import read_config
from sdscm_jax.models.quantised.registry import FORMATS, directory_tensors

from .quantised_files import CASES, Tensors, write_safetensors
from .test_checkpoint import edit_config, write_model

# Float32 products of numbers that are exact: each is rounded once or twice.
EXACT = 3e-7
KINDS = [
    name for name in CASES if name not in ("compressed, int8 packed", "gptq, int4, symmetric", "gptq, int2, version 2")
]


def quantise(directory: Path, case: str) -> Tensors:
    """Write the projections of a model anew, quantised; the tensors that they stand for are handed back."""
    write, settings = CASES[case]
    rng, file = np.random.default_rng(7), directory / "model.safetensors"
    dense = load_file(file)
    stored: Tensors = {}
    for name, array in list(dense.items()):
        if not name.endswith("_proj.weight"):
            stored[name] = array
            continue
        made = write(rng, *array.shape, settings)
        dense[name] = made.weight.astype(np.float32)
        stored |= {name.removesuffix("weight") + part: value for part, value in made.parts.items()}
    write_safetensors(file, stored)
    edit_config(directory, quantization_config=settings)
    return dense


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(16, 32)])
def test_weights_are_what_they_stand_for(case: str, shape: tuple[int, int], tmp_path: Path) -> None:
    """All of it, and windows that begin and end anywhere."""
    write, settings = CASES[case]
    rng = np.random.default_rng(3)
    made = write(rng, *shape, settings)
    write_safetensors(tmp_path / "model.safetensors", {f"a.{part}": value for part, value in made.parts.items()})
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": settings}))
    tensors = directory_tensors(tmp_path)
    assert list(tensors.entries) == ["a.weight"]
    assert (tensors.shape("a.weight"), tensors.kind("a.weight")) == (shape, "F32")
    assert np.abs(made.weight).max() > 0.01
    for _ in range(20):
        (a, b), (c, d) = (sorted(rng.integers(n + 1, size=2).tolist()) for n in shape)
        found = tensors.read("a.weight", (slice(a, b), slice(c, d)))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, made.weight[a:b, c:d], rtol=EXACT, atol=0)
    np.testing.assert_allclose(tensors.read("a.weight", (slice(None), slice(None))), made.weight, rtol=EXACT)


def test_bitsandbytes_of_odd_sizes(tmp_path: Path) -> None:
    """Rows begin within bytes and within blocks."""
    for case in ("bitsandbytes, nf4", "bitsandbytes, fp4 nested"):
        test_weights_are_what_they_stand_for(case, (5, 7), tmp_path)


def test_mxfp4(tmp_path: Path) -> None:
    """Of all bytes and exponents, as ``ml_dtypes`` reads the two types of numbers."""
    rng = np.random.default_rng(5)
    blocks = rng.integers(256, size=(3, 6, 2, 16)).astype(np.uint8)
    scales = rng.integers(100, 140, size=(3, 6, 2)).astype(np.uint8)
    write_safetensors(tmp_path / "model.safetensors", {"a.up_blocks": blocks, "a.up_scales": scales})
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "mxfp4"}}))
    tensors = directory_tensors(tmp_path)
    pairs = np.stack([blocks & 15, blocks >> 4], -1).reshape(3, 6, 2, 32)
    numbers = pairs.view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    expected = numbers * scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float64)[..., None]
    expected = expected.reshape(3, 6, 64).swapaxes(1, 2)
    assert tensors.shape("a.up") == expected.shape
    for index in [(slice(None),) * 3, (slice(1, 3), slice(5, 33), slice(2, 5)), (slice(0, 1), slice(32, 64), slice(6))]:
        np.testing.assert_array_equal(tensors.read("a.up", index), expected[index])


@pytest.mark.parametrize("case", KINDS)
def test_models_load(case: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """As the directory of what the numbers stand for, in every dtype; and are saved as that."""
    write_model(tmp_path / "a", tiny_tokenizer)
    write_model(tmp_path / "b", tiny_tokenizer)
    write_safetensors(tmp_path / "b" / "model.safetensors", quantise(tmp_path / "a", case))
    one, other = (sd.load_lm(tmp_path / place) for place in "ab")
    chex.assert_trees_all_close(parameter_paths(one.params), parameter_paths(other.params), rtol=EXACT, atol=0)
    if case == "gptq, int4":
        for options in ({"dtype": "bfloat16"}, {"weights": "int8"}):
            found, expected = (parameter_paths(sd.load_lm(tmp_path / place, **options).params) for place in "ab")
            for path, value in expected.items():
                # A number may lie on the border between two.
                step = 1 if value.dtype == jnp.int8 else 0.01 * float(jnp.abs(value.astype(jnp.float32)).max())
                difference = jnp.abs(found[path].astype(jnp.float32) - value.astype(jnp.float32))
                assert found[path].dtype == value.dtype
                assert float(difference.max()) <= step
                assert float((difference > 0).mean()) < 0.01
        one.save(tmp_path / "c")
        again = sd.load_lm(tmp_path / "c")
        assert again.fingerprint() == one.fingerprint()
        assert not hasattr(AutoConfig.from_pretrained(tmp_path / "c"), "quantization_config")


def test_gpt_oss(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Its experts as blocks, beside what is not quantised: the model of the directory that has what they stand for."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_local_experts": 3, "head_dim": 8}
    sizes |= {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 64,
    }
    config = AutoConfig.for_model("gpt_oss", vocab_size=len(tiny_tokenizer), **sizes)
    lm = sd.random_lm(read_config(config), tiny_tokenizer, 3)
    for place in (tmp_path / "a", tmp_path / "b"):
        config.save_pretrained(place)
        tiny_tokenizer.save_pretrained(place)
        save_parameters(place, lm.config, lm.params, jnp.float32)
    dense = load_file(tmp_path / "a" / "model.safetensors")
    stored, rng = dict(dense), np.random.default_rng(0)
    for name in [name for name in dense if name.endswith(("gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = dense[name].shape
        blocks = rng.integers(256, size=(experts, outputs, inputs // 32, 16)).astype(np.uint8)
        scales = rng.integers(118, 126, size=blocks.shape[:-1]).astype(np.uint8)
        pairs = np.stack([blocks & 15, blocks >> 4], -1).reshape(*scales.shape, 32)
        values = pairs.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
        values = values * np.ldexp(1.0, scales.astype(int) - 127)[..., None]
        dense[name] = np.ascontiguousarray(values.reshape(experts, outputs, inputs).swapaxes(1, 2).astype(np.float32))
        del stored[name]
        stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    write_safetensors(tmp_path / "a" / "model.safetensors", stored)
    write_safetensors(tmp_path / "b" / "model.safetensors", dense)
    edit_config(tmp_path / "a", quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    one, other = (sd.load_lm(tmp_path / place) for place in "ab")
    chex.assert_trees_all_equal(parameter_paths(one.params), parameter_paths(other.params))


# -- what is refused ------------------------------------------------------------------------------


def refusal(directory: Path) -> str:
    with pytest.raises(sd.LoadError) as caught:
        sd.load_lm(directory)
    return str(caught.value)


@pytest.fixture
def directory(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    write_model(tmp_path / "model", tiny_tokenizer)
    return tmp_path / "model"


@pytest.mark.parametrize("method", ["quip", "modelopt", "quark", 4, None])
def test_other_methods_are_named(method: Any, directory: Path) -> None:
    edit_config(directory, quantization_config={"quant_method": method})
    message = refusal(directory)
    assert (repr(method) if method else "None") in message
    assert all(name in message for name in FORMATS)
    assert "config.json" in message


SETTINGS: list[tuple[str, dict[str, Any], str]] = [
    ("gptq, int4", {"bits": 3}, "3 bits"),
    ("gptq, int4", {"bits": "four"}, "bits of the quantization_config is an integer"),
    ("gptq, int4", {"bits": 8}, "qzeros"),
    ("gptq, int4", {"checkpoint_format": "marlin"}, "'marlin'"),
    ("gptq, int4", {"desc_act": True}, "g_idx is missing"),
    ("gptq, int4", {"rotation": "hadamard"}, "rotation"),
    ("awq", {"version": "gemv"}, "'gemv'"),
    ("awq", {"zero_point": False}, "zero_point"),
    ("fp8, blocks", {"weight_block_size": [8, 5]}, "weight_scale_inv"),
    ("fp8, blocks", {"weight_block_size": [0, 5]}, "weight_block_size"),
    ("fp8, blocks", {"fmt": "e5m2"}, "'e5m2'"),
    ("compressed, int4", {"format": "marlin-24"}, "'marlin-24'"),
    ("compressed, int4", {"quantization_status": "frozen"}, "'frozen'"),
    ("compressed, int4", {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse"),
    ("compressed, int4", {"transform_config": {"config_groups": {"u": {}}}}, "transform_config"),
    (
        "compressed, int4",
        {"config_groups": {"g": {"weights": {"num_bits": 8, "strategy": "channel"}}}},
        "config_groups",
    ),
    ("compressed, int8", {"config_groups": {"g": {"weights": {"num_bits": 4, "strategy": "token"}}}}, "'token'"),
    ("bitsandbytes, nf4", {"bnb_4bit_quant_storage": "bfloat16"}, "'bfloat16'"),
]


@pytest.mark.parametrize(("case", "settings", "named"), SETTINGS)
def test_settings_that_are_not_read(case: str, settings: dict[str, Any], named: str, directory: Path) -> None:
    quantise(directory, case)
    edit_config(directory, quantization_config=CASES[case][1] | settings)
    message = refusal(directory)
    assert named in message
    assert str(directory) in message


_Q = "model.layers.0.self_attn.q_proj."


def _replace(part: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Tensors], None]:
    def edit(tensors: Tensors) -> None:
        value = change(tensors.pop(_Q + part))
        if value is not None:
            tensors[_Q + part] = value

    return edit


def _not_finite(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.reshape(-1)[0] = np.nan
    return array


_STATE = "weight.quant_state.bitsandbytes__nf4"
DAMAGES: list[tuple[str, str, Callable[[np.ndarray], np.ndarray | None], str]] = [
    ("gptq, int4", "qzeros", lambda x: None, "qzeros is missing"),
    ("gptq, int4", "scales", lambda x: x[:, :-1], "scales"),
    ("gptq, int4", "scales", lambda x: x.astype(np.int32), "scales has dtype I32"),
    ("gptq, int4", "scales", _not_finite, "scales has values that are not finite"),
    ("gptq, int4", "qweight", lambda x: x[:-1], "q_proj"),
    ("gptq, int8, reordered", "g_idx", lambda x: x + 1, "g_idx"),
    ("awq", "qzeros", lambda x: x[:, :-1], "of no one weight"),
    ("awq", "scales", _not_finite, "not finite"),
    ("fp8, blocks", "weight_scale_inv", lambda x: x[:-1], "weight_scale_inv has shape"),
    ("fp8, blocks", "weight_scale_inv", lambda x: -x, "negative"),
    ("fp8, blocks", "weight", lambda x: x.astype(np.float32), "weight has dtype F32"),
    ("fp8, outputs", "weight", _not_finite, "weight has values that are not finite"),
    ("compressed, int4", "weight_shape", lambda x: x + 8, "q_proj"),
    ("compressed, int4", "weight_shape", lambda x: None, "weight_shape is missing"),
    ("compressed, int4 with zeros", "weight_zero_point", lambda x: None, "weight_zero_point is missing"),
    ("compressed, int8", "weight_scale", lambda x: x[:-1], "weight_scale has shape"),
    ("bitsandbytes, nf4", "weight", lambda x: x[:-1], "weight has shape"),
    ("bitsandbytes, nf4", _STATE, lambda x: x[:-3], "its state cannot be read"),
    ("bitsandbytes, nf4", _STATE, lambda x: np.frombuffer(bytes(x).replace(b'"nf4"', b'"fp4"'), np.uint8), "no nf4"),
    ("bitsandbytes, nf4", "weight.absmax", lambda x: x[:-1], "weight.absmax is not of"),
    ("bitsandbytes, nf4", "weight.quant_map", lambda x: x[:-1], "16 values"),
    ("bitsandbytes, fp4 nested", "weight.nested_absmax", _not_finite, "not finite"),
    ("bitsandbytes, int8", "SCB", lambda x: x[:-1], "SCB has shape"),
]


@pytest.mark.parametrize(("case", "part", "change", "named"), DAMAGES)
def test_damaged_files(
    case: str, part: str, change: Callable[[np.ndarray], np.ndarray | None], named: str, directory: Path
) -> None:
    file, stored = directory / "model.safetensors", {}

    def keep(_: Path, tensors: Tensors) -> None:
        stored.update(tensors)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(quantise.__globals__, "write_safetensors", keep)
        quantise(directory, case)
    _replace(part, change)(stored)
    write_safetensors(file, stored)
    message = refusal(directory)
    assert named in message
    assert str(directory) in message


def test_two_things(directory: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Quantised and not; said to be quantised and not; said in two ways."""
    quantise(directory, "awq")
    config = json.loads((directory / "config.json").read_text())
    edit_config(directory, compression_config={**config["quantization_config"], "bits": 8})
    assert "two things" in refusal(directory)
    (directory / "config.json").write_text(json.dumps(config))
    write_model(directory.parent / "other", tiny_tokenizer)
    dense = load_file(directory.parent / "other" / "model.safetensors")
    edit_config(directory.parent / "other", quantization_config=config["quantization_config"])
    assert "none of them is" in refusal(directory.parent / "other")
    write, settings = CASES["awq"]
    made = write(np.random.default_rng(0), 16, 16, settings)
    write_safetensors(
        directory.parent / "other" / "model.safetensors", dense | {_Q + part: v for part, v in made.parts.items()}
    )
    assert f"{_Q}weight: quantised, and not" in refusal(directory.parent / "other")

"""Int4 weights: what they stand for is near what was stored, and a model computes with what they stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.errors import SDSCMError
from sdscm_jax.models import weight_streaming
from sdscm_jax.models.adapters import FullWeights, LowRank
from sdscm_jax.models.checkpoint import abstract_decoder, parameter_paths, save_parameters
from sdscm_jax.models.decoder import Decoder
from sdscm_jax.models.families import tiny_config
from sdscm_jax.models.int4 import GROUP, Int4Linear, largest, packed, scales, unpacked
from sdscm_jax.models.training import train_lm

from .test_checkpoint import write_model
from .test_int8 import arrays, check_logits, disturbed

# Widths that are no whole number of groups, as those of the tiny models are not.
WIDTHS = (24, 40, 64)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    where: Path = tmp_path_factory.mktemp("int4")
    lm = write_model(where, tiny_tokenizer, "llama")
    leaves, tree = jax.tree.flatten(lm.params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [x + 0.2 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    save_parameters(where, lm.config, jax.tree.unflatten(tree, noisy), jnp.float32)
    return where


@pytest.fixture(scope="module")
def small(directory: Path) -> sd.LanguageModel:
    return sd.load_lm(directory, weights="int4")


def of_floats(lm: sd.LanguageModel) -> sd.LanguageModel:
    """The model with floating-point kernels that its int4 weights stand for."""
    own = arrays(lm)
    graph, state = abstract_decoder(replace(lm.config, weights=None), lm.dtype)

    def value(path: str, like: jax.ShapeDtypeStruct) -> jax.Array:
        kernel = own[path]
        if kernel.dtype != jnp.uint8:
            return kernel
        return unpacked(kernel, own[path.removesuffix("kernel") + "scale"], like.shape[-2]).astype(lm.dtype)

    found = {path: value(path, like) for path, like in parameter_paths(state).items()}
    flat = [(path, leaf.replace(found[".".join(map(str, path))])) for path, leaf in nnx.to_flat_state(state)]
    return sd.LanguageModel(nnx.from_flat_state(flat), graph, lm.codec, lm.prompt)


@given(st.integers(0, 10_000), st.sampled_from([1e-12, 1e-3, 1.0, 1e6]), st.sampled_from(WIDTHS))
@settings(phases=[Phase.generate], derandomize=True, deadline=None, max_examples=8)
def test_a_weight_is_moved_by_half_a_scale_at_most(seed: int, size: float, inputs: int) -> None:
    kernel = size * jax.random.normal(jax.random.key(seed), (2, inputs, 5))
    # A group without weights, and one with a single one.
    kernel = kernel.at[0, :, 1].set(0).at[1, 1:, 2].set(0)
    scale, inverse = scales(np.asarray(largest(kernel)))
    integers = packed(kernel, inverse)
    groups = -(-inputs // GROUP)
    assert (integers.dtype, integers.shape) == (jnp.uint8, (2, groups * GROUP // 2, 5))
    assert (scale.dtype, scale.shape) == (jnp.bfloat16, (2, groups, 5))
    moved = np.abs(np.asarray(unpacked(integers, jnp.asarray(scale), inputs)) - np.asarray(kernel))
    bound = 0.5 * np.repeat(scale.astype(np.float32), GROUP, axis=-2)[:, :inputs]
    assert (moved <= bound * (1 + 1e-4)).all()


def test_integers_from_minus_seven_to_seven_come_back() -> None:
    """In every place of a byte, whatever stands beside it."""
    integers = np.random.default_rng(0).integers(-7, 8, size=(3, 96, 4)).astype(np.float32)
    integers[:, ::GROUP] = 7
    scale, inverse = scales(np.asarray(largest(jnp.asarray(integers))))
    assert (scale == 1).all()
    chex.assert_trees_all_equal(
        np.asarray(unpacked(packed(jnp.asarray(integers), inverse), jnp.asarray(scale), 96)), integers
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_layer_is_that_of_its_dequantized_kernel(dtype: str) -> None:
    layer = Int4Linear(40, 16, True, 0, dtype, jax.lax.Precision.HIGHEST, nnx.Rngs(0))
    layer.bias = nnx.Param(jnp.arange(16, dtype=dtype))
    x = jax.random.normal(jax.random.key(1), (3, 40), dtype)
    kernel = unpacked(layer.kernel[...], layer.scale[...], 40)
    expected = jnp.matmul(x.astype(jnp.float32), kernel, precision="highest") + jnp.arange(16)
    assert layer(x).dtype == jnp.dtype(dtype)
    chex.assert_trees_all_close(
        layer(x).astype(jnp.float32), expected, rtol=1e-5 if dtype == "float32" else 2e-2, atol=1e-5
    )


@pytest.mark.slow
def test_loaded(directory: Path, small: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of the layers are rounded, the rest is as it was; piece by piece, and in bfloat16, alike."""
    plain, got = arrays(sd.load_lm(directory)), arrays(small)
    kernels = {path for path, x in got.items() if x.dtype == jnp.uint8}
    assert kernels == {path for path in plain if path.startswith("blocks.") and path.endswith("kernel")}
    for path in kernels:
        scale = got[path.removesuffix("kernel") + "scale"]
        moved = jnp.abs(unpacked(got[path], scale, plain[path].shape[-2]) - plain[path])
        each = jnp.repeat(scale.astype(jnp.float32), GROUP, axis=-2)[..., : plain[path].shape[-2], :]
        assert bool((moved <= 0.5 * each * (1 + 1e-4)).all()), path
    for path in plain.keys() - kernels:
        chex.assert_trees_all_equal(got[path], plain[path], strict=True)
    check_logits(small, of_floats(small))
    other = arrays(sd.load_lm(directory, dtype="bfloat16", weights="int4"))
    monkeypatch.setattr(weight_streaming, "PIECE", 1000)
    monkeypatch.setattr(weight_streaming, "_on_host", lambda sharding: False)
    again = sd.load_lm(directory, weights="int4")
    chex.assert_trees_all_equal(again, small, strict=True)
    assert again.fingerprint() == small.fingerprint() != sd.load_lm(directory, weights="int8").fingerprint()
    for path in kernels:
        chex.assert_trees_all_equal(other[path], got[path], strict=True)


def test_low_rank_adds_what_it_adds_to_floats(small: sd.LanguageModel, tmp_path: Path) -> None:
    """The integers stay as they are; they are not trained or saved."""
    adapter = disturbed(LowRank(small, 2, targets=["query", "down"], alpha=3.0), 0)
    check_logits(adapter(small), adapter(of_floats(small)))
    chex.assert_trees_all_equal(
        {path: arrays(adapter(small))[path] for path in arrays(small)}, arrays(small), strict=True
    )
    expected = "floating-point numbers, and this language model has int4 weights"
    with pytest.raises(SDSCMError, match=f"FullWeights needs .*{expected}"):
        FullWeights(small)
    with pytest.raises(SDSCMError, match=f"training all weights needs .*{expected}"):
        train_lm(small, [], optax.sgd(1.0))
    with pytest.raises(SDSCMError, match=expected):
        small.save(tmp_path / "model")


@pytest.mark.slow
def test_experts(tmp_path: Path) -> None:
    """Kernels of experts are rounded as the others are."""
    config = tiny_config("mixtral")
    decoder = Decoder(config, jnp.float32, nnx.Rngs(3))
    save_parameters(tmp_path, config, nnx.state(decoder, nnx.Param), jnp.float32)
    from sdscm_jax.models.checkpoint import load_parameters

    narrow = replace(config, weights="int4")
    params = load_parameters(tmp_path, narrow, jnp.float32)
    one = sd.LanguageModel(params, abstract_decoder(narrow, jnp.float32)[0], None)  # type: ignore[arg-type]
    assert arrays(one)["blocks.experts.up.kernel"].dtype == jnp.uint8
    assert one.parameter_count > 0.9 * sum(x.size for x in jax.tree.leaves(nnx.state(decoder, nnx.Param)))
    tokens = jnp.array([[3, 1, 4, 1, 5, 9]])
    chex.assert_trees_all_close(one.logits(tokens), of_floats(one).logits(tokens), atol=1e-5)

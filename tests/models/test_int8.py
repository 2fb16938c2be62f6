"""Int8 weights: what they stand for is near what was stored, and a model computes with what they stand for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from sdscm_jax.models.adapters import FullWeights, LowRank, SoftPrompt
from sdscm_jax.models.checkpoint import abstract_decoder, parameter_paths, save_parameters
from sdscm_jax.models.codec import Codec
from sdscm_jax.models.families import tiny_config
from sdscm_jax.models.int8 import Int8Linear, largest, rounded, scales
from sdscm_jax.models.training import Batch, train_lm, weighted_loss
from sdscm_jax.models.weight_streaming import Source

from .test_checkpoint import write_model

FAMILIES = ["llama", "gpt2"]
TOKENS = jnp.array([[5, 1, 4, 1, 3, 9, 2, 6]])


@pytest.fixture(scope="module", params=FAMILIES)
def directory(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """A tiny model whose weights are large enough that its logits are not all alike, biases included."""
    where: Path = tmp_path_factory.mktemp(request.param)
    lm = write_model(where, tiny_tokenizer, request.param)
    leaves, tree = jax.tree.flatten(lm.params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [x + 0.2 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    save_parameters(where, lm.config, jax.tree.unflatten(tree, noisy), jnp.float32)
    return where


def dequantized(kernel: jax.Array, scale: jax.Array) -> jax.Array:
    """The kernel that int8 weights stand for: float32 ``[..., inputs, outputs]``."""
    return kernel.astype(jnp.float32) * scale[..., None, :]


def arrays(lm: sd.LanguageModel) -> dict[str, Any]:
    return dict(parameter_paths(lm.params))


def of_floats(lm: sd.LanguageModel) -> sd.LanguageModel:
    """The model with floating-point kernels that its int8 weights stand for."""
    own = arrays(lm)
    graph, state = abstract_decoder(replace(lm.config, weights=None), lm.dtype)

    def value(path: str) -> jax.Array:
        kernel = own[path]
        if kernel.dtype != jnp.int8:
            return kernel
        return dequantized(kernel, own[path.removesuffix("kernel") + "scale"]).astype(lm.dtype)

    flat = [(path, leaf.replace(value(".".join(map(str, path))))) for path, leaf in nnx.to_flat_state(state)]
    return sd.LanguageModel(nnx.from_flat_state(flat), graph, lm.codec, lm.prompt)


def program(lm: sd.LanguageModel) -> None:
    weather = sd.sample("weather", sd.Choice(lm, "The weather outside is {}.", ["sunny", "low", "high"]))
    friend = sd.sample("friend", sd.Choice(lm, "My friend {}.", ["goes for a run", "is low"], given=[weather]))
    sd.sample("age", sd.Choice(lm, "She is {} years old.", ["25", "old"], given=[weather, friend]))


@jax.jit
def logits(lm: sd.LanguageModel) -> jax.Array:
    return lm.logits(TOKENS)


def check_logits(got: sd.LanguageModel, expected: sd.LanguageModel, tolerance: float = 2e-5) -> None:
    expected_logits = logits(expected)
    assert float(expected_logits.std()) > 0.1
    chex.assert_trees_all_close(logits(got), expected_logits, atol=tolerance * float(jnp.abs(expected_logits).max()))


# -- rounding -------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from([1e-12, 1e-3, 1.0, 1e6]))
@settings(phases=[Phase.generate], derandomize=True, deadline=None, max_examples=10)
def test_a_weight_is_moved_by_half_a_scale_at_most(seed: int, size: float) -> None:
    kernel = size * jax.random.normal(jax.random.key(seed), (2, 7, 5))
    # An output without weights, and one with a single one.
    kernel = kernel.at[0, :, 1].set(0).at[1, 1:, 2].set(0)
    scale, inverse = scales(np.asarray(largest(kernel)))
    integers = rounded(kernel, inverse)
    assert integers.dtype == jnp.int8
    assert (np.abs(np.asarray(integers, int)).max(-2)[kernel.any(-2)] == 127).all()
    moved = np.abs(np.asarray(dequantized(integers, scale)) - np.asarray(kernel))
    assert (moved <= 0.5 * scale[..., None, :] * (1 + 1e-4)).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_layer_is_that_of_its_dequantized_kernel(dtype: str) -> None:
    layer = Int8Linear(24, 16, True, 0, dtype, jax.lax.Precision.HIGHEST, nnx.Rngs(0))
    layer.bias = nnx.Param(jnp.arange(16, dtype=dtype))
    x = jax.random.normal(jax.random.key(1), (3, 24), dtype)
    kernel = dequantized(layer.kernel[...], layer.scale[...])
    expected = jnp.matmul(x.astype(jnp.float32), kernel, precision="highest") + jnp.arange(16)
    assert layer(x).dtype == jnp.dtype(dtype)
    chex.assert_trees_all_close(
        layer(x).astype(jnp.float32), expected, rtol=1e-5 if dtype == "float32" else 1e-2, atol=1e-5
    )


# -- loading --------------------------------------------------------------------------------------


def test_loaded_weights_are_moved_by_half_a_scale_at_most(directory: Path) -> None:
    plain, lm = sd.load_lm(directory), sd.load_lm(directory, weights="int8")
    stored, got = arrays(plain), arrays(lm)
    kernels = {path for path, x in got.items() if x.dtype == jnp.int8}
    assert kernels == {path for path in stored if path.startswith("blocks.") and path.endswith("kernel")}
    for path in kernels:
        scale = got[path.removesuffix("kernel") + "scale"]
        moved = jnp.abs(dequantized(got[path], scale) - stored[path])
        assert bool((moved <= 0.5 * scale[..., None, :] * (1 + 1e-4)).all()), path
    for path in stored.keys() - kernels:
        chex.assert_trees_all_equal(got[path], stored[path], strict=True)
    assert sum(x.nbytes for path, x in got.items() if path in kernels) * 4 == sum(stored[p].nbytes for p in kernels)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_those_of_dequantized_kernels(directory: Path, dtype: str) -> None:
    lm = sd.load_lm(directory, dtype=dtype, weights="int8")
    assert lm.dtype == jnp.dtype(dtype)
    # In bfloat16 the dequantized kernels are rounded once more.
    check_logits(lm, of_floats(lm), 2e-5 if dtype == "float32" else 0.2)


def test_the_integers_do_not_depend_on_the_dtype(directory: Path) -> None:
    a, b = (arrays(sd.load_lm(directory, dtype=d, weights="int8")) for d in ("float32", "bfloat16"))
    for path in a:
        if a[path].dtype == jnp.int8 or path.endswith("kernel.scale"):
            chex.assert_trees_all_equal(a[path], b[path], strict=True)


def test_fingerprint_and_structure(directory: Path) -> None:
    plain, lm, again = sd.load_lm(directory), *(sd.load_lm(directory, weights="int8") for _ in range(2))
    assert plain.fingerprint() != lm.fingerprint() == again.fingerprint()
    assert plain.fingerprint() == sd.load_lm(directory, weights=None).fingerprint()
    assert hash(jax.tree.structure(lm)) == hash(jax.tree.structure(again))
    chex.assert_trees_all_equal(lm, again, strict=True)


@pytest.mark.parametrize(("weights", "dtype"), [(None, "float32"), (None, "bfloat16"), ("int8", "bfloat16")])
@pytest.mark.parametrize("on_host", [True, False])
def test_piece_by_piece(
    directory: Path, monkeypatch: pytest.MonkeyPatch, weights: str | None, dtype: str, on_host: bool
) -> None:
    """A layer (and a few rows of a table) at a time, as on an accelerator or on a CPU: the same parameters."""
    expected = sd.load_lm(directory, dtype=dtype, weights=weights)
    fingerprint = expected.fingerprint()
    monkeypatch.setattr(weight_streaming, "PIECE", 1000)
    monkeypatch.setattr(weight_streaming, "_on_host", lambda sharding: on_host)
    loaded = sd.load_lm(directory, dtype=dtype, weights=weights)
    chex.assert_trees_all_equal(loaded, expected, strict=True)
    assert loaded.fingerprint() == fingerprint


@given(st.integers(1, 40), st.integers(1, 1 << 27), st.booleans())
@settings(phases=[Phase.generate], derandomize=True, deadline=None, max_examples=50)
def test_pieces(count: int, row: int, split: bool) -> None:
    """They are all of the parameter, of one length, and not much larger than a piece or a row has to be."""
    source = Source(lambda bounds, dtype: np.zeros(0), (count, row), np.dtype(np.float16), False)
    found = list(source.pieces(2, split))
    assert {i for start, stop in found for i in range(start, stop)} == set(range(count))
    assert len({stop - start for start, stop in found}) == 1
    if split or 2 * row * count <= weight_streaming.PIECE:
        assert found == [(0, count)]
    else:
        least = math.ceil(weight_streaming.PIECE / (2 * row))
        assert found[0][1] < 2 * least + 1


def test_never_all_kernels_as_floats(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """What a forward pass takes beside its arguments is less than one kernel of all layers as floats."""
    config = replace(tiny_config("llama"), layers=16, width=64, mlp_width=512, rope=tiny_config("llama").rope[:1] * 16)
    graph, params = abstract_decoder(replace(config, weights="int8"), jnp.float32)
    lm = sd.LanguageModel(params, graph, Codec(tiny_tokenizer))
    used = jax.jit(lambda lm: lm.logits(jnp.arange(4))).lower(lm).compile().memory_analysis()
    assert used is not None
    assert used.temp_size_in_bytes < 4 * config.layers * config.width * config.mlp_width


@pytest.mark.parametrize("weights", ["int2", "INT8", 8, "float32"])
def test_unknown_weights(directory: Path, weights: object) -> None:
    with pytest.raises(sd.LoadError, match=r"weights .* is not supported \(known: None, 'int8', 'int4'\)"):
        sd.load_lm(directory, weights=weights)  # type: ignore[arg-type]


# -- programs, adapters, refusals -----------------------------------------------------------------


@pytest.fixture(scope="module")
def small(lm: sd.LanguageModel) -> sd.LanguageModel:
    """The tiny Llama of other tests with int8 weights."""
    params = {path: np.asarray(x) for path, x in arrays(lm).items()}
    graph, state = abstract_decoder(replace(lm.config, weights="int8"), lm.dtype)
    values = {}
    for path in parameter_paths(state):
        kernel = path.removesuffix("scale") + "kernel" if path.endswith("scale") else path
        if kernel in params and kernel.endswith("kernel"):
            scale, inverse = scales(np.asarray(largest(jnp.asarray(params[kernel]))))
            values[path] = jnp.asarray(scale) if path != kernel else rounded(jnp.asarray(params[kernel]), inverse)
        else:
            values[path] = jnp.asarray(params[path])
    flat = [(path, leaf.replace(values[".".join(map(str, path))])) for path, leaf in nnx.to_flat_state(state)]
    return sd.LanguageModel(nnx.from_flat_state(flat), graph, lm.codec)


@pytest.mark.slow
def test_programs_run_as_with_floats(small: sd.LanguageModel) -> None:
    """Staged, in graph and tabulated."""
    worlds = [{"weather": "low"}]
    staged = sd.simulate(program, 0, 30, small, worlds=worlds)
    in_graph = sd.simulate(program, 0, 30, small, worlds=worlds, execution="in_graph")
    for site in staged.values:
        np.testing.assert_array_equal(staged.values[site], in_graph.values[site])
    for name in staged.log_probs:
        np.testing.assert_allclose(staged.log_probs[name], in_graph.log_probs[name], atol=5e-4)
    looked_up = sd.simulate(sd.tabulate(program, small), 0, 30, worlds=worlds)
    for site in staged.values:
        np.testing.assert_array_equal(staged.values[site], looked_up.values[site])


def disturbed(adapter: LowRank, seed: int) -> LowRank:
    params = nnx.to_pure_dict(nnx.state(adapter, nnx.Param))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return adapter.with_params(jax.tree.unflatten(tree, noisy))


@pytest.mark.slow
def test_low_rank_adds_what_it_adds_to_floats(small: sd.LanguageModel) -> None:
    """Once and twice, on the same and on other projections; the integers stay as they are."""
    floats = of_floats(small)
    first = disturbed(LowRank(small, 2, targets=["query", "down"], alpha=3.0), 0)
    second = disturbed(LowRank(small, 3, targets=["down", "gate"]), 1)
    once, twice = first(small), second(first(small))
    check_logits(LowRank(small, 2)(small), small, 2e-5)
    check_logits(once, first(floats))
    check_logits(twice, second(first(floats)))
    assert twice.config.low_rank == (("down", 5), ("gate", 3), ("query", 2))
    assert twice.dtype == small.dtype
    assert len({lm.fingerprint() for lm in (small, once, twice)}) == 3
    for path, x in arrays(small).items():
        chex.assert_trees_all_equal(arrays(twice)[path], x, strict=True)
    with pytest.raises(ValueError, match="made for another model: query has shape"):
        LowRank(sd.random_lm(tiny_config("llama", width=16), small.tokenizer), 2)(small)


@pytest.mark.slow
def test_fitting_beside_int8_weights(small: sd.LanguageModel) -> None:
    row = np.asarray(small.codec.encode("The weather outside is sunny."))[None]
    batch = Batch(row, np.arange(row.shape[1])[None], np.ones_like(row), np.ones(row.shape, np.float32))
    for adapter in (LowRank(small, 2), SoftPrompt(small, 2)):
        before = weighted_loss(adapter(small), batch)
        fitted = train_lm(small, [batch], optax.sgd(1e-2), adapter=adapter)
        assert float(weighted_loss(fitted, batch)) < float(before)


def test_refusals(small: sd.LanguageModel, tmp_path: Path) -> None:
    expected = "floating-point numbers, and this language model has int8 weights"
    with pytest.raises(SDSCMError, match=f"FullWeights needs .*{expected}"):
        FullWeights(small)
    with pytest.raises(SDSCMError, match=f"training all weights needs .*{expected}"):
        train_lm(small, [], optax.sgd(1.0))
    with pytest.raises(SDSCMError, match=expected):
        save_parameters(tmp_path, small.config, small.params, jnp.float32)
    assert not list(tmp_path.iterdir())

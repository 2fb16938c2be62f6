"""Language models on a mesh compute what they compute on one device, and are really split.

JAX fixes the number of devices when it starts, so everything that needs several runs in processes
of its own, which execute this file: ``python -m tests.models.test_sharding``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from transformers import AutoConfig, PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.errors import SDSCMError
from sdscm_jax.models import language_model, weight_streaming
from sdscm_jax.models.adapters import LowRank
from sdscm_jax.models.checkpoint import parameter_paths, save_parameters
from sdscm_jax.models.families import read_config
from sdscm_jax.models.on_mesh import mesh_of, shard_lm
from sdscm_jax.models.sharding import (
    data_axis_size,
    gather,
    over_data,
    parameter_spec,
    place,
    replicated,
)
from sdscm_jax.models.tensor_files import TensorFiles

ROOT = Path(__file__).parents[2]

_LLAMA = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "max_position_embeddings": 64}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    # Two heads of keys on four devices, four of queries on eight.
    "few_heads": (
        "llama",
        {**_LLAMA, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512, "tie_word_embeddings": True},
    ),
    "many_heads": (
        "llama",
        {**_LLAMA, "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 512, "tie_word_embeddings": False},
    ),
    # A vocabulary that nothing divides, fused query, key and value, and biases everywhere.
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 8, "n_positions": 64, "vocab_size": 509}),
    # Fused head by head: what a device needs of a tensor is in several places.
    "gpt_neox": ("gpt_neox", {**_LLAMA, "num_attention_heads": 8, "rotary_pct": 0.5, "vocab_size": 509}),
}

KERNELS = {f"blocks.{name}.kernel" for name in ("query", "key", "value", "out", "up", "down")}
BIASES = {f"blocks.{name}.bias" for name in ("query", "key", "value", "up")}
MLP = {f"blocks.{name}.kernel" for name in ("gate", "up", "down")}
TABLE = {"embedding.embedding"}
# (model, size of the tensor axis) -> the parameters that are split.
SPLIT: dict[tuple[str, int], set[str]] = {
    ("few_heads", 4): MLP | TABLE | {"blocks.query.kernel", "blocks.out.kernel"},
    ("few_heads", 8): MLP | TABLE,
    ("many_heads", 2): KERNELS | MLP | TABLE | {"head"},
    ("many_heads", 4): KERNELS | MLP | TABLE | {"head"},
    ("many_heads", 8): KERNELS | MLP | TABLE | {"head"},
    ("gpt2", 4): KERNELS | BIASES,
    ("gpt2", 8): KERNELS | BIASES,
    ("gpt_neox", 4): KERNELS | BIASES,
    ("gpt_neox", 8): KERNELS | BIASES,
    **{(name, 1): set() for name in MODELS},
}
# Where they are: by rows, or by vocabulary; all others along their last axis.
AXES = {"blocks.out.kernel": 1, "blocks.down.kernel": 1, "embedding.embedding": 0, "head": 0}

TOKENS = np.random.default_rng(0).integers(0, 500, (8, 12))


def save_model(directory: Path, tokenizer: PreTrainedTokenizerFast, family: str, settings: dict[str, Any]) -> None:
    """A random model with weights large enough that its logits are not all alike."""
    config = AutoConfig.for_model(family, **settings)
    lm = sd.random_lm(read_config(config), tokenizer, 1)
    # Biases start at zero, where a bias that is added once per device would not be noticed.
    leaves, tree = jax.tree.flatten(lm.params)
    rng = np.random.default_rng(2)
    params = jax.tree.unflatten(tree, [x + 0.1 * rng.standard_normal(x.shape).astype(x.dtype) for x in leaves])
    directory.mkdir()
    config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    save_parameters(directory, lm.config, params, jnp.float32)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """One directory for each of the models."""
    root = tmp_path_factory.mktemp("models")
    for name, (family, settings) in MODELS.items():
        save_model(root / name, tiny_tokenizer, family, settings)
    return root


def execute(devices: int, *arguments: object) -> None:
    """Run a function of this file in a process of its own."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.test_sharding", *map(str, arguments)],
        cwd=ROOT,
        # What is compiled is compared, not timed.
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_eight_devices(directory: Path) -> None:
    execute(8, "eight_devices", directory)


@pytest.mark.slow
def test_two_processes(directory: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda process: execute(2, "two_processes", directory, port, process), range(2)))


# -- what runs in processes of their own ----------------------------------------------------------


@jax.jit
def logits(lm: sd.LanguageModel, tokens: jax.Array) -> jax.Array:
    return lm.logits(tokens)


def check_logits(lm: sd.LanguageModel, mesh: Mesh, expected: np.ndarray) -> None:
    got = logits(lm, place(TOKENS, over_data(mesh)))
    np.testing.assert_allclose(gather(got), expected, rtol=0, atol=1e-4)


class Reads:
    """Counts the elements that are read of a directory's tensors."""

    def __init__(self) -> None:
        self.elements = 0
        original = TensorFiles.read

        def read(files: TensorFiles, name: str, index: tuple[slice, ...]) -> np.ndarray:
            array = original(files, name, index)
            self.elements += array.size
            return array

        TensorFiles.read = read  # type: ignore[method-assign]

    def take(self) -> int:
        elements, self.elements = self.elements, 0
        return elements


def eight_devices(directory: Path) -> None:
    reads = Reads()
    for name in MODELS:
        lm = sd.load_lm(directory / name)
        size = sum(x.size for x in jax.tree.leaves(lm.params))
        assert reads.take() == size
        assert mesh_of(lm) is None
        expected = np.asarray(logits(lm, TOKENS))
        assert expected.std() > 0.1
        for shape in [(8, 1), (2, 4), (1, 8)]:
            mesh = jax.make_mesh(shape, ("data", "tensor"))
            loaded = sd.load_lm(directory / name, mesh=mesh)
            # Devices with the same part share what is read: every number is read once.
            assert reads.take() == size
            check_layout(name, loaded, shape[1])
            assert mesh_of(loaded) == over_data(mesh).mesh
            assert loaded.fingerprint() == lm.fingerprint()
            check_logits(loaded, mesh, expected)
            if shape == (2, 4):
                sharded = shard_lm(lm, mesh)
                chex.assert_trees_all_equal(sharded, loaded, strict=True)
                assert jax.tree.map(lambda x: x.sharding, sharded) == jax.tree.map(lambda x: x.sharding, loaded)
                assert sharded.fingerprint() == lm.fingerprint()
            assert data_axis_size(mesh) == shape[0]
            batch = place(TOKENS, over_data(mesh))
            assert {x.data.shape for x in batch.addressable_shards} == {(8 // shape[0], 12)}
            np.testing.assert_array_equal(gather(batch), TOKENS)
            assert place(TOKENS, replicated(mesh)).is_fully_replicated
    int8_weights(directory)
    several_kinds(sd.load_lm(directory / "few_heads").tokenizer)
    one_axis_only(directory / "many_heads", lm=sd.load_lm(directory / "many_heads"))
    rounded = sd.load_lm(directory / "gpt2", dtype="bfloat16")
    mesh = jax.make_mesh((2, 4), ("data", "tensor"))
    chex.assert_trees_all_equal(
        sd.load_lm(directory / "gpt2", dtype="bfloat16", mesh=mesh), shard_lm(rounded, mesh), strict=True
    )
    moved = shard_lm(shard_lm(rounded, mesh), jax.make_mesh((8,), ("data",)))
    assert moved.fingerprint() == rounded.fingerprint()
    with pytest.raises(ValueError, match="dimension size is 7"):
        place(TOKENS[:7], over_data(mesh))


def int8_weights(directory: Path) -> None:
    """The same integers and scales as on one device, also where a device has a part of the inputs only."""
    mesh = jax.make_mesh((2, 4), ("data", "tensor"))
    for name in ("many_heads", "gpt_neox"):
        lm = sd.load_lm(directory / name, weights="int8")
        loaded = sd.load_lm(directory / name, weights="int8", mesh=mesh)
        chex.assert_trees_all_equal(loaded, lm, strict=True)
        parameters = parameter_paths(loaded.params)
        assert parameters["blocks.down.kernel"].addressable_shards[0].data.shape == (2, 12, 32)
        assert parameters["blocks.up.scale"].addressable_shards[0].data.shape == (2, 12)
        assert parameters["blocks.down.scale"].is_fully_replicated
        check_logits(loaded, mesh, np.asarray(logits(lm, TOKENS)))
    weight_streaming.PIECE = 1000
    for weights in (None, "int8"):
        chex.assert_trees_all_equal(
            sd.load_lm(directory / "gpt_neox", weights=weights, mesh=mesh),
            shard_lm(sd.load_lm(directory / "gpt_neox", weights=weights), mesh),
            strict=True,
        )
    weight_streaming.PIECE = 33 << 20
    adapter = LowRank(lm, 4, targets=["up", "down"])
    for b in adapter.b.values():
        b[...] = jnp.ones(b.shape)
    adapted = shard_lm(adapter(lm), mesh)
    parts = {p: x.addressable_shards[0].data.shape for p, x in parameter_paths(adapted.params).items()}
    assert (parts["blocks.up.a"], parts["blocks.up.b"]) == ((2, 32, 4), (2, 4, 12))
    assert (parts["blocks.down.a"], parts["blocks.down.b"]) == ((2, 12, 4), (2, 4, 32))
    check_logits(adapted, mesh, np.asarray(logits(adapter(lm), TOKENS)))


def several_kinds(tokenizer: Any) -> None:
    """Layers of several kinds, whose keys have as many heads as divide the devices in one of them only."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    sizes = {"num_hidden_layers": 4, "layer_types": kinds, "num_kv_shared_layers": 2, "sliding_window": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_global_key_value_heads": 1, "head_dim": 8}
    wide = {"global_head_dim": 12, "attention_k_eq_v": True, "use_double_wide_mlp": True}
    small = {"hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": 512, "vocab_size": 512}
    config = AutoConfig.for_model("gemma4_text", **_LLAMA | heads | wide | small | sizes)
    lm = sd.random_lm(read_config(config), tokenizer, 1)
    leaves, tree = jax.tree.flatten(lm.params)
    rng = np.random.default_rng(2)
    lm = replace(lm, params=jax.tree.unflatten(tree, [x + 0.1 * rng.standard_normal(x.shape) for x in leaves]))
    expected = np.asarray(logits(lm, TOKENS))
    assert expected.std() > 0.1
    mesh = jax.make_mesh((4, 2), ("data", "tensor"))
    sharded = shard_lm(lm, mesh)
    parts = {p: x.addressable_shards[0].data.shape[-1] for p, x in parameter_paths(sharded.params).items()}
    assert (parts["sliding.key.kernel"], parts["full.key.kernel"]) == (8, 12)
    assert (parts["sliding_reading.query.kernel"], parts["full_reading.query.kernel"]) == (16, 24)
    assert (parts["single.up.kernel"], parts["double.up.kernel"]) == (24, 48)
    check_logits(sharded, mesh, expected)


def check_layout(name: str, lm: sd.LanguageModel, size: int) -> None:
    """Every parameter that should be split is, along the right axis, and no other."""
    split = SPLIT[name, size]
    parameters = parameter_paths(lm.params)
    assert split <= parameters.keys()
    for path, value in parameters.items():
        expected = list(value.shape)
        if path in split:
            expected[AXES.get(path, value.ndim - 1)] //= size
        shapes = {shard.data.shape for shard in value.addressable_shards}
        assert shapes == {tuple(expected)}, f"{name}, {size}: {path} {value.shape} has parts {shapes}"


def one_axis_only(directory: Path, lm: sd.LanguageModel) -> None:
    data, tensor = jax.make_mesh((8,), ("data",)), jax.make_mesh((8,), ("tensor",))
    copies, parts = sd.load_lm(directory, mesh=data), sd.load_lm(directory, mesh=tensor)
    check_layout("many_heads", copies, 1)
    check_layout("many_heads", parts, 8)
    assert (data_axis_size(data), data_axis_size(tensor), data_axis_size(None)) == (8, 1, 1)
    assert copies.fingerprint() == parts.fingerprint() == lm.fingerprint()
    assert place(TOKENS, over_data(tensor)).is_fully_replicated
    assert not place(TOKENS, over_data(data)).is_fully_replicated


def two_processes(directory: Path, port: str, process: str) -> None:
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(process))
    assert (jax.device_count(), jax.local_device_count()) == (4, 2)
    reads = Reads()
    lm = sd.load_lm(directory / "many_heads")
    size = reads.take()
    expected = np.asarray(logits(lm, TOKENS))
    # The data axis between the processes, then the tensor axis.
    for shape in [(2, 2), (1, 4)]:
        mesh = jax.make_mesh(shape, ("data", "tensor"))
        loaded = sd.load_lm(directory / "many_heads", mesh=mesh)
        # Whoever has half of every split parameter reads that half.
        read = reads.take()
        assert read < 0.55 * size if shape == (1, 4) else read == size
        check_layout("many_heads", loaded, shape[1])
        sharded = shard_lm(lm, mesh)
        assert loaded.fingerprint() == sharded.fingerprint() == lm.fingerprint()
        check_logits(loaded, mesh, expected)
        check_logits(sharded, mesh, expected)
        integers = sd.load_lm(directory / "many_heads", mesh=mesh, weights="int8")
        assert integers.fingerprint() == sd.load_lm(directory / "many_heads", weights="int8").fingerprint()
        reads.take()


# -- on one device --------------------------------------------------------------------------------


def test_axes_of_other_names(lm: sd.LanguageModel) -> None:
    """Whatever takes a mesh says what its axes are called."""
    mesh = jax.make_mesh((1, 1), ("data", "model"))
    elsewhere = jax.device_put(lm, NamedSharding(mesh, PartitionSpec()))
    for call in (
        lambda: sd.load_lm(mesh=mesh),
        lambda: shard_lm(lm, mesh),
        lambda: mesh_of(elsewhere),
        lambda: over_data(mesh),
        lambda: parameter_spec("head", (8, 8), lm.config, mesh),
    ):
        with pytest.raises(SDSCMError, match=r"\('data', 'model'\).*'data', 'tensor' and 'expert'"):
            call()
    with pytest.raises(SDSCMError, match=r"got \(2, 4\) as a mesh, expected a jax.sharding.Mesh"):
        sd.load_lm(mesh=(2, 4))  # type: ignore[arg-type]


def test_no_mesh_within_jit(lm: sd.LanguageModel) -> None:
    seen = []
    jax.jit(lambda lm: seen.append(mesh_of(lm)))(shard_lm(lm, jax.make_mesh((1,), ("data",))))
    assert seen == [None]
    assert mesh_of(language_model.absent_lm()) is None


def test_fingerprint_is_computed_once(lm: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not once too few: a state that was changed in place is another model."""
    graph, state = nnx.split(lm.decoder)
    own = language_model.LanguageModel(state, graph, lm.codec)
    expected, gathered = lm.fingerprint(), []
    monkeypatch.setattr(language_model, "gather", lambda x: gathered.append(x) or np.asarray(x))
    before = own.fingerprint()
    assert before == own.fingerprint() == expected
    assert len(gathered) == len(jax.tree.leaves(state))
    own.params["final_norm"]["scale"] = own.params["final_norm"]["scale"].replace(jnp.full(lm.config.width, 2.0))
    assert own.fingerprint() != before
    assert lm.fingerprint() == expected


if __name__ == "__main__":
    {"eight_devices": eight_devices, "two_processes": two_processes}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])

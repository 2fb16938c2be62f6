"""Experts: each token goes through those that its router chose, whatever else is computed beside it, and wherever.

JAX fixes the number of devices when it starts: what needs several runs in a process of its own, which executes this
file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.errors import SDSCMError
from sdscm_jax.models.adapters import LowRank
from sdscm_jax.models.checkpoint import abstract_decoder, load_parameters, parameter_paths, save_parameters
from sdscm_jax.models.config import Experts
from sdscm_jax.models.decoder import Decoder
from sdscm_jax.models.experts import ExpertMLPs, How, route
from sdscm_jax.models.families import tiny_config
from sdscm_jax.models.training import Batch, weighted_loss

from ..conftest import make_tiny_lm
from ..engine.test_staged_families import check
from .test_int8 import dequantized

ROOT = Path(__file__).parents[2]
WIDTH, COUNT = 8, 6
SWITCHES: dict[str, Experts] = {
    "normalised": Experts(COUNT, 3, 5, normalised=True),
    "shares of all": Experts(COUNT, 2, 5),
    "of the chosen, clipped": Experts(COUNT, 4, 5, of_chosen=True, bias=True, limit=0.8, alpha=1.3),
}


def layer(experts: Experts, weights: str | None = None) -> ExpertMLPs:
    """With random parameters, biases too."""
    module = ExpertMLPs(experts, WIDTH, weights, jnp.float32, nnx.Rngs(1))
    if weights is None:
        state = nnx.state(module)
        leaves, tree = jax.tree.flatten(state)
        keys = jax.random.split(jax.random.key(2), len(leaves))
        values = [0.5 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
        nnx.update(module, jax.tree.unflatten(tree, values))
    return module


def how(experts: Experts, tiled: bool = True) -> How:
    return How(experts, jax.nn.silu, jax.lax.Precision.HIGHEST, None, tiled)


def one_by_one(module: ExpertMLPs, experts: Experts, x: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """In float64, token by token, expert by expert, as the formula has it."""

    def parameter(name: str, part: str, expert: int) -> np.ndarray:
        own = getattr(module, name)
        if part == "bias":
            return np.asarray(own.bias[...], np.float64)[expert] if own.bias is not None else np.zeros(1)
        if own.scale is not None:
            return np.asarray(dequantized(own.kernel[...], own.scale[...]), np.float64)[expert]
        return np.asarray(own.kernel[...], np.float64)[expert]

    found = np.zeros_like(x, np.float64)
    for i, (token, scores) in enumerate(zip(x.astype(np.float64), logits.astype(np.float64), strict=True)):
        best = sorted(range(len(scores)), key=lambda e: -scores[e])[: experts.chosen]
        odds = np.exp(scores - scores.max())
        shares = {e: odds[e] / odds.sum() for e in best}
        if experts.normalised or experts.of_chosen:
            shares = {e: odds[e] / sum(odds[e] for e in best) for e in best}
        for e in best:
            gate, up = (token @ parameter(n, "kernel", e) + parameter(n, "bias", e) for n in ("gate", "up"))
            if experts.limit is None:
                hidden = gate / (1 + np.exp(-gate)) * up
            else:
                gate, up = np.minimum(gate, experts.limit), np.clip(up, -experts.limit, experts.limit)
                hidden = gate / (1 + np.exp(-experts.alpha * gate)) * (up + 1)
            found[i] += shares[e] * (hidden @ parameter("down", "kernel", e) + parameter("down", "bias", e))
    return found


def drawn(tokens: int, same: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(tokens)
    logits = rng.normal(size=(1 if same else tokens, COUNT)) * 2
    return rng.normal(size=(tokens, WIDTH)).astype(np.float32), np.broadcast_to(logits, (tokens, COUNT)).astype("f4")


@partial(jax.jit, static_argnums=(1, 2))
def computed(module: ExpertMLPs, experts: Experts, tiled: bool, x: jax.Array, logits: jax.Array) -> jax.Array:
    return module(how(experts, tiled), x, *route(experts, logits))


@pytest.mark.parametrize("weights", [None, "int8"])
@pytest.mark.parametrize("name", SWITCHES)
def test_a_layer_is_its_formula(name: str, weights: str | None) -> None:
    """By tiles and by grouped products; few tokens, many, and all through the same experts."""
    experts = SWITCHES[name] if weights is None else replace(SWITCHES[name], bias=False)
    module = layer(experts, weights)
    for tokens, same in ((1, False), (150, False), (40, True)):
        x, logits = drawn(tokens, same)
        expected = one_by_one(module, experts, x, logits)
        for tiled in (True, False):
            found = computed(module, experts, tiled, x, logits)
            assert found.dtype == jnp.float32
            chex.assert_trees_all_close(found, expected.astype(np.float32), atol=3e-6 * np.abs(expected).max())


def test_tokens_of_a_vmap_are_those_of_a_batch() -> None:
    """One product for all, no copy of an expert for each; also where all have the same tokens, or their own experts."""
    experts = SWITCHES["normalised"]
    module = layer(experts)
    x, logits = drawn(12)
    x, logits = x.reshape(4, 3, -1), logits.reshape(4, 3, -1)
    one = partial(computed, module, experts, True)
    expected = one(x.reshape(12, -1), logits.reshape(12, -1)).reshape(x.shape)
    chex.assert_trees_all_close(jax.vmap(one)(x, logits), expected, atol=1e-6)
    chex.assert_trees_all_close(
        jax.vmap(jax.vmap(one))(x[:, :, None], logits[:, :, None])[:, :, 0], expected, atol=1e-6
    )
    several = jax.vmap(one, in_axes=(None, 0))(x[0], logits)
    chex.assert_trees_all_close(several[0], expected[0], atol=1e-6)
    memory = jax.jit(jax.vmap(one)).lower(jnp.zeros((512, 1, WIDTH)), jnp.zeros((512, 1, COUNT))).compile()
    assert memory.memory_analysis().temp_size_in_bytes < 512 * 3 * WIDTH * 5 * 4
    graph, state = nnx.split(module)
    twice = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), state)
    own = jax.vmap(lambda s, x: computed(nnx.merge(graph, s), experts, True, x, logits[0]), in_axes=(0, None))
    chex.assert_trees_all_close(own(twice, x[0])[0], expected[0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("tiled", [True, False])
def test_gradients(tiled: bool) -> None:
    """Of tokens, scores and parameters: those of the plain formula."""
    experts = SWITCHES["of the chosen, clipped"]
    graph, state = nnx.split(layer(experts))
    x, logits = drawn(7)

    def plain(state: Any, x: jax.Array, logits: jax.Array) -> jax.Array:
        module = nnx.merge(graph, state)
        chosen, shares = route(experts, logits)
        p = {n: getattr(module, n).parameters() for n in ("gate", "up", "down")}
        gate, up = (jnp.einsum("nw,ewh->neh", x, p[n]["kernel"]) + p[n]["bias"] for n in ("gate", "up"))
        gate, up = jnp.minimum(gate, experts.limit), jnp.clip(up, -experts.limit, experts.limit)
        hidden = gate * jax.nn.sigmoid(experts.alpha * gate) * (up + 1)
        y = jnp.einsum("neh,ehw->new", hidden, p["down"]["kernel"]) + p["down"]["bias"]
        return (jnp.take_along_axis(y, chosen[..., None], 1) * shares[..., None]).sum(1)

    def total(f: Callable[..., jax.Array]) -> Callable[..., Any]:
        weights = jnp.cos(jnp.arange(7.0 * WIDTH)).reshape(7, WIDTH)
        return jax.grad(lambda *a: (f(*a) * weights).sum(), argnums=(0, 1, 2))

    own = total(lambda state, x, logits: computed(nnx.merge(graph, state), experts, tiled, x, logits))
    expected = total(plain)(state, x, logits)
    chex.assert_trees_all_close(own(state, x, logits), expected, atol=1e-5)
    each = jax.vmap(own, in_axes=(None, 0, 0))(state, jnp.stack([x, x]), jnp.stack([logits, logits]))
    chex.assert_trees_all_close(jax.tree.map(lambda v: v[1], each), expected, atol=1e-5)


@pytest.mark.parametrize("best", [1, 2])
def test_groups_and_corrections_choose_and_do_not_share(best: int) -> None:
    """DeepSeek V3's rule (arXiv 2412.19437, equations 13 to 16, and node-limited routing), written token by token."""
    experts = Experts(
        8, 3, 5, normalised=True, sigmoid=True, corrected=True, groups=(4, 2, best), scale=1.7, exact=True
    )
    rng = np.random.default_rng(0)
    logits, correction = rng.normal(size=(40, 8)).astype("f4"), rng.normal(size=8).astype("f4")
    chosen, shares = (np.asarray(x) for x in route(experts, jnp.asarray(logits), jnp.asarray(correction)))
    plain = np.asarray(route(replace(experts, groups=None, corrected=False), jnp.asarray(logits))[0])
    assert (np.sort(plain) != np.sort(chosen)).any(1).sum() > 20
    for token in range(len(logits)):
        scores = 1 / (1 + np.exp(-logits[token].astype(np.float64)))
        ranked = scores + correction
        groups = sorted(range(4), key=lambda g: -np.sort(ranked[2 * g : 2 * g + 2])[::-1][:best].sum())[:2]
        allowed = [e for e in range(8) if e // 2 in groups]
        expected = sorted(allowed, key=lambda e: -ranked[e])[:3]
        assert chosen[token].tolist() == expected
        chex.assert_trees_all_close(shares[token], (1.7 * scores[expected] / scores[expected].sum()).astype("f4"))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt_oss", pytest.param("deepseek_v3", marks=pytest.mark.search)])
def test_program(family: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Staged, in graph and by the plain scorer."""
    check(make_tiny_lm(tiny_tokenizer, family))


@pytest.mark.parametrize("family", ["qwen2_moe", "granitemoe", "gpt_oss"])
def test_int8(family: str, tmp_path: Path) -> None:
    """A model with int8 weights is the one of what they stand for, and has a quarter of the bytes."""
    config = tiny_config(family)
    decoder = Decoder(config, jnp.float32, nnx.Rngs(3))
    save_parameters(tmp_path, config, nnx.state(decoder, nnx.Param), jnp.float32)
    narrow = replace(config, weights="int8")
    params = load_parameters(tmp_path, narrow, jnp.float32)
    paths = parameter_paths(params)
    kernels = [path for path in paths if path.startswith("blocks.experts.") and path.endswith("kernel")]
    assert len(kernels) == 3
    assert all(paths[path].dtype == jnp.int8 for path in kernels)
    assert paths["blocks.router.kernel"].dtype == jnp.float32

    graph, state = abstract_decoder(config, jnp.float32)

    def value(path: str) -> jax.Array:
        scale = paths.get(path.removesuffix("kernel") + "scale")
        return paths[path] if paths[path].dtype != jnp.int8 else dequantized(paths[path], scale)

    floats = [(p, leaf.replace(value(".".join(map(str, p))))) for p, leaf in nnx.to_flat_state(state)]
    tokens = jnp.array([[3, 1, 4, 1, 5, 9]])
    one = sd.LanguageModel(params, abstract_decoder(narrow, jnp.float32)[0], None)  # type: ignore[arg-type]
    other = sd.LanguageModel(nnx.from_flat_state(floats), graph, None)  # type: ignore[arg-type]
    chex.assert_trees_all_close(one.logits(tokens), other.logits(tokens), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, "int8"])
def test_what_is_fitted(weights: str | None, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Experts learn with the rest; beside int8 ones a change of low rank does, of the router too."""
    config = replace(tiny_config("qwen2_moe", len(tiny_tokenizer)), weights=weights)
    lm = sd.random_lm(config, tiny_tokenizer, 1)
    row = np.arange(1, 11)[None]
    batch = Batch(row, np.arange(10)[None], np.ones_like(row), np.ones(row.shape, np.float32))
    if weights is None:
        change = jax.grad(lambda params: weighted_loss(replace(lm, params=params), batch))(lm.params)
        sizes = {path: float(jnp.abs(x).max()) for path, x in parameter_paths(change).items()}
        assert all(np.isfinite(size) for size in sizes.values())
        assert min(size for path, size in sizes.items() if "experts" in path or "router" in path) > 0
        return
    adapter = LowRank(lm, 2, targets=["query", "up", "router"])
    graph, state = nnx.split(adapter)
    change = jax.grad(lambda state: weighted_loss(nnx.merge(graph, state)(lm), batch))(state)
    leaves = jax.tree.leaves(change)
    assert all(bool(jnp.isfinite(x).all()) for x in leaves)
    assert sum(float(jnp.abs(x).max()) > 0 for x in leaves) == 3  # what begins at zero: the other has no gradient yet


# -- on a mesh ------------------------------------------------------------------------------------


def on_meshes(place: Path) -> None:
    """In a process with eight devices."""
    from sdscm_jax.models.on_mesh import mesh_of, shard_lm

    for family, sizes, names in (
        ("gpt_oss", (4,), ("expert",)),
        ("qwen2_moe", (2, 2, 2), ("data", "tensor", "expert")),
        ("deepseek_v3", (2, 4), ("tensor", "expert")),
    ):
        config = tiny_config(family)
        assert config.experts is not None
        config = replace(config, experts=replace(config.experts, count=8, chosen=3))
        decoder = Decoder(config, jnp.float32, nnx.Rngs(3))
        graph, params = nnx.split(decoder, nnx.Param)
        # Larger than they begin, so that routes differ.
        lm = sd.LanguageModel(jax.tree.map(lambda x: 5 * x, params), graph, None)  # type: ignore[arg-type]
        tokens = jnp.array(np.random.default_rng(0).integers(128, size=(4, 9)))
        expected = np.asarray(lm.logits(tokens))
        save_parameters(place, config, lm.params, jnp.float32)
        mesh = jax.make_mesh(sizes, names, devices=jax.devices()[: np.prod(sizes)])
        sharded = shard_lm(lm, mesh)
        parts = dict(zip(names, sizes, strict=True))
        path = f"{'blocks' if config.dense is None else 'sparse'}.experts.up.kernel"
        kernel = parameter_paths(sharded.params)[path]
        shard = kernel.addressable_shards[0].data.shape
        assert shard == (len(kernel), 8 // parts["expert"], 32, kernel.shape[-1] // parts.get("tensor", 1)), shard
        assert mesh_of(sharded) is not None
        # Where a model lies does not say which it is.
        assert repr(sharded.config) == repr(lm.config)
        compiled = jax.jit(lambda lm, tokens: lm.logits(tokens)).lower(sharded, tokens).compile()
        found = np.asarray(compiled(sharded, tokens))
        assert np.abs(found - expected).max() < 3e-6 * np.abs(expected).max(), (family, names)
        if names == ("expert",):
            # No device is sent the experts of others.
            assert "all-gather" not in compiled.as_text()
            assert "all-reduce" in compiled.as_text()
        loaded = load_parameters(place, sharded.config, jnp.float32, mesh)
        chex.assert_trees_all_equal(parameter_paths(loaded), parameter_paths(sharded.params))
        assert parameter_paths(loaded)[path].sharding == kernel.sharding
    print("done")


@pytest.mark.slow
def test_experts_lie_on_devices_of_their_own(tmp_path: Path) -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.models.test_experts", str(tmp_path)]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600, cwd=ROOT)
    assert ran.stdout.endswith("done\n"), ran.stderr[-3000:]


def test_experts_that_cannot_be_shared() -> None:
    class Three:
        """A mesh of three devices, by what is asked of it."""

    from sdscm_jax.models import sharding

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "axis_size", lambda mesh, name: 3 if name == "expert" else 1)
        with pytest.raises(SDSCMError, match="3 devices along 'expert' cannot share 4 experts"):
            sharding.expert_mesh(tiny_config("mixtral"), Three())  # type: ignore[arg-type]
        assert sharding.expert_mesh(tiny_config("llama"), Three()) is None  # type: ignore[arg-type]


if __name__ == "__main__":
    # What is compiled is compared, not timed.
    jax.config.update("jax_disable_most_optimizations", True)
    on_meshes(Path(sys.argv[1]))

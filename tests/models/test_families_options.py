"""Options of configurations: those of published files are read, those that would be ignored are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig

import sdscm_jax as sd
from sdscm_jax.models.checkpoint import read_directory_config
from sdscm_jax.models.config import DecoderConfig
from sdscm_jax.models.families import FAMILIES, read_config, tiny_config

from .published_configs import PUBLISHED

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"logit_scale": 0.5}, "logit_scale = 0.5"),
    ("llama", {"num_local_experts": 8}, "num_local_experts = 8"),
    ("llama", {"sliding_window": 128}, "sliding_window = 128"),
    ("llama", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config"),
    ("llama", {"auto_map": {"AutoModelForCausalLM": "modeling.Other"}}, "auto_map"),
    ("llama", {"rope_parameters": {"rope_type": "axial", "rope_theta": 1e4}}, "'axial'"),
    ("stablelm", {"qk_layernorm": True}, "qk_layernorm = True"),
    ("opt", {"do_layer_norm_before": False}, "norms behind the layers"),
    ("opt", {"word_embed_proj_dim": 512}, "embeddings of another width"),
    ("cohere2", {"use_parallel_block": False, "use_qk_norm": True}, "use_qk_norm = True"),
    ("starcoder2", {"norm_type": "rms_norm"}, "norm_type = 'rms_norm'"),
    ("phi3", {"embd_layer": "other"}, "embd_layer = 'other'"),
    (
        "llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        "partial_rotary_factor = 0.5",
    ),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention = True"),
    ("mistral", {"attention_bias": True}, "attention_bias = True"),
    ("qwen2", {"use_mrope": True}, "use_mrope = True"),
    (
        "qwen2",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}},
        "mrope_section",
    ),
    ("qwen3", {"layer_types": ["full_attention", "linear_attention"]}, "'linear_attention'"),
    ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding_window = None is not in use"),
    (
        "smollm3",
        {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8},
        "sliding_window = 8 is not in use",
    ),
    ("deepseek_v2", {"num_experts_per_tok": 2, "norm_topk_prob": True}, "norm_topk_prob = True"),
    ("deepseek_v2", {"num_experts_per_tok": 2, "topk_method": "noaux_tc"}, "topk_method = 'noaux_tc'"),
    ("deepseek_v3", {"scoring_func": "softmax"}, "scoring_func = 'softmax'"),
    ("deepseek_v3", {"n_group": 8, "topk_group": 1, "num_experts_per_tok": 40}, "best 1 of 8 groups"),
    ("llama4_text", {"layer_types": ["full_attention", "linear_attention"]}, "'linear_attention'"),
    ("minimax_m2", {"scoring_func": "softmax"}, "scoring_func = 'softmax'"),
    ("gemma", {"hidden_activation": "silu"}, "hidden_activation = 'silu'"),
    ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True"),
    ("gemma4_text", {"use_bidirectional_attention": "all"}, "use_bidirectional_attention = 'all'"),
    ("gemma4_text", {"num_kv_shared_layers": 1}, "num_kv_shared_layers = 1"),
    ("gemma4_text", {"vocab_size_per_layer_input": 9}, "vocab_size_per_layer_input = 9"),
    (
        "gemma4_text",
        {"per_layer_config": {1: {"head_dim": 512, "sliding_window": 8}}},
        "sliding_window of single layers",
    ),
    ("gemma3n_text", {"intermediate_size": [8, 16], "num_kv_shared_layers": 0}, "intermediate_size = [8, 16]"),
    ("gemma3n_text", {"altup_active_idx": 4, "num_kv_shared_layers": 0}, "altup_active_idx = 4"),
    ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
]


@pytest.mark.parametrize(("family", "options", "named"), REFUSED)
def test_unsupported_options_are_named(family: str, options: dict[str, Any], named: str) -> None:
    config = AutoConfig.for_model(family, **{"num_hidden_layers": 2, **options})
    with pytest.raises(sd.LoadError) as caught:
        read_config(config)
    assert named in str(caught.value)


def test_all_unsupported_options_are_named_at_once() -> None:
    with pytest.raises(sd.LoadError, match=r"llama: .*logit_scale = 2.* \(only None is\); moe = True .*add-a-family"):
        read_config(AutoConfig.for_model("llama", moe=True, logit_scale=2))


def test_options_that_change_no_logits_are_not_refused() -> None:
    training = {"attention_dropout": 0.1, "initializer_range": 0.01, "use_cache": False, "architectures": ["X"]}
    assert read_config(AutoConfig.for_model("llama", **training)) == read_config(AutoConfig.for_model("llama"))
    assert read_config(AutoConfig.for_model("llama", use_mrope=False, scale=None)).family == "llama"


@pytest.mark.parametrize("model_type", ["no-such-family"])
def test_another_family(model_type: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
    with pytest.raises(sd.LoadError) as caught:
        sd.load_lm(tmp_path)
    assert repr(model_type) in str(caught.value)
    assert all(family in str(caught.value) for family in FAMILIES)
    assert "docs/add-a-family.md" in str(caught.value)


# -- configurations as published ------------------------------------------------------------------


def published(name: str, directory: Path) -> DecoderConfig:
    """Switches of a configuration as the hub has it, in the spelling of its time."""
    (directory / "config.json").write_text(json.dumps(PUBLISHED[name]))
    return read_directory_config(directory)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_are_read(name: str, tmp_path: Path) -> None:
    config = published(name, tmp_path)
    inside = PUBLISHED[name].get("text_config", PUBLISHED[name])
    assert (config.family, config.width) == (PUBLISHED[name]["model_type"], inside["hidden_size"])
    assert config.layers == inside["num_hidden_layers"]
    assert len(config.rope) == (config.layers if config.positions == "rotary" else 0)
    if "rope_theta" in inside and any(config.rope):
        assert max(r.theta for r in config.rope if r is not None) == inside["rope_theta"]


def test_switches_of_published_configurations(tmp_path: Path) -> None:
    """Where the configuration says something by layer, or by an option of another name."""
    pythia = published("pythia-160m", tmp_path)
    assert (pythia.rope[0].rotary_dim, pythia.parallel, pythia.tied) == (16, True, False)  # type: ignore[union-attr]
    assert [r is None for r in published("SmolLM3-3B", tmp_path).rope] == [False, False, False, True] * 9
    assert published("Mistral-7B-v0.1", tmp_path).windows == (4096,) * 32
    qwen = published("Qwen2.5-0.5B", tmp_path)
    assert (qwen.qkv_bias, qwen.out_bias, qwen.windows) == (True, False, ())
    assert published("gemma-2b", tmp_path).activation == "gelu_pytorch_tanh"
    gemma2 = published("gemma-2-2b", tmp_path)
    assert (gemma2.windows, gemma2.attention_cap, gemma2.logit_cap) == ((4096, None) * 13, 50.0, 30.0)
    phi = published("Phi-4-mini-instruct", tmp_path)
    # Longer texts have other frequencies; its window is longer than any text.
    assert (phi.max_positions, phi.windows) == (4096, ())
    assert phi.rope[0] is not None
    assert (phi.rope[0].rotary_dim, phi.rope[0].divisors) == (96, (1.0,) * 48)
    assert phi.rope[0].amplitude == pytest.approx((1 + np.log(32) / np.log(4096)) ** 0.5)
    granite = published("granite-3.3-2b-instruct", tmp_path)
    assert (granite.embedding_scale, granite.residual_scale, granite.logit_scale) == (12.0, 0.22, 0.125)
    command = published("c4ai-command-r7b-12-2024", tmp_path)
    assert command.windows[:4] == (4096, 4096, 4096, None)
    assert [rope is None for rope in command.rope[:4]] == [False, False, False, True]
    assert published("GLM-4-9B-0414", tmp_path).rope[0].rotary_dim == 64  # type: ignore[union-attr]
    deep = published("DeepSeek-V3", tmp_path)
    assert deep.experts is not None
    assert deep.latent is not None
    assert (deep.dense, [k.size for k in deep.kept], deep.kv_heads) == ((0, 1, 2), [64, 512], 1)
    assert (deep.experts.groups, deep.experts.scale, deep.experts.shared_width) == ((8, 4, 2), 2.5, 2048)
    assert deep.query_scale == pytest.approx(192**-0.5 * (0.1 * np.log(40) + 1) ** 2)
    assert deep.rope[0] is not None
    assert (deep.rope[0].amplitude, deep.rope[0].rotary_dim) == (1.0, 64)
    lite = published("DeepSeek-V2-Lite", tmp_path)
    assert lite.experts is not None
    assert lite.latent is not None
    assert (lite.latent.query_rank, lite.experts.groups, lite.experts.normalised) == (0, None, False)
    air = published("GLM-4.5-Air", tmp_path)
    assert (air.dense, air.qk_norm, air.rope[0].rotary_dim) == ((0,), False, 64)  # type: ignore[union-attr]
    scout = published("Llama-4-Scout-17B-16E-Instruct", tmp_path)
    assert (scout.dense, scout.windows[:4], scout.chunked) == ((), (8192, 8192, 8192, None), True)
    assert [rope is None for rope in scout.rope[:4]] == [False, False, False, True]
    assert scout.max_positions == 2**20
    assert published("MiniMax-M2", tmp_path).rope[0].rotary_dim == 64  # type: ignore[union-attr]
    edge, sparse = published("gemma-4-E2B-it", tmp_path), published("gemma-4-26B-A4B-it", tmp_path)
    own = {name: [(kept.layers, kept.heads, kept.size) for kept in pages] for name, pages in edge.kept.items()}
    assert own == {"sliding": [(12, 1, 256)] * 2, "full": [(3, 1, 512)] * 2}
    assert edge.doubled == tuple(range(15, 35))
    assert {len(mixer.layers) for name, mixer in edge.mixers if "reading" in name} == {16, 4}
    turning = {(r.theta, r.rotary_dim // 2 - r.still) for r in edge.rope if r is not None}
    assert turning == {(1e4, 128), (1e6, 64)}
    own = {name: [(kept.layers, kept.heads, kept.size) for kept in pages] for name, pages in sparse.kept.items()}
    assert own == {"sliding": [(25, 8, 256)] * 2, "full": [(5, 2, 512)] * 2}
    assert sparse.experts is not None
    assert (sparse.experts.count, sparse.experts.apart, sparse.layer_inputs) == (128, True, None)
    nano = published("gemma-3n-E4B-it", tmp_path)
    assert [round(spread or 0, 4) for spread in nano.spreads] == [1.6449] * 10 + [0.0] * 25
    assert {name: kept.keys.layers for name, kept in nano.kept.items()} == {"sliding": 16, "full": 4}
    assert {r.theta for r in nano.rope if r is not None} == {1e4, 1e6}
    yarn = published("Qwen2.5-7B-Instruct, with YaRN", tmp_path).rope[0]
    assert yarn is not None
    assert yarn.yarn == (4.0, 32768.0, 32.0, 1.0, True)
    assert yarn.amplitude == pytest.approx(0.1 * np.log(4) + 1)
    small, large = published("gemma-3-1b-pt", tmp_path), published("gemma-3-4b-pt", tmp_path)
    assert small.windows[:7] == (512,) * 5 + (None, 512)
    assert {(r.theta, r.linear) for r in small.rope if r is not None} == {(1e4, 1.0), (1e6, 1.0)}
    assert {(r.theta, r.linear) for r in large.rope if r is not None} == {(1e4, 1.0), (1e6, 8.0)}


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_configurations(family: str) -> None:
    config = tiny_config(family, 50)
    assert (config.family, config.vocab_size, config.width, config.layers) == (family, 50, 32, 2)

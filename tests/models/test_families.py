"""Every family computes PyTorch's logits, by whatever way.

Without torch, logits are compared with those kept in ``golden_families/``; with it, live (``-m oracle``).
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
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
from sdscm_jax.models.adapters import SoftPrompt
from sdscm_jax.models.checkpoint import (
    abstract_decoder,
    load_parameters,
    parameter_paths,
    read_directory_config,
    save_parameters,
)
from sdscm_jax.models.codec import Codec
from sdscm_jax.models.config import DecoderConfig
from sdscm_jax.models.decoder import Rows
from sdscm_jax.models.families import FAMILIES

from ..needs import needs
from .family_models import GOLDEN_NAMES, LONG, MODELS, SHORT, WAYS, random_family_model, random_tokens, relative
from .make_golden import FAMILIES_GOLDEN, torch_logits

# Of the largest difference of two logits over the largest logit: float32 rounds to 6e-8, in every operation, and to
# 1e-6 in all (docs/parity.md). A switch that is forgotten moves them by ten times as much at least.
FLOAT32 = 2e-5

GOLDEN = [MODELS[name][0] for name in GOLDEN_NAMES]


def load(directory: Path, dtype: str = "float32", config: DecoderConfig | None = None) -> sd.LanguageModel:
    """The model of a directory without a tokenizer, or its weights under other switches."""
    stored = read_directory_config(directory)
    params = load_parameters(directory, stored, jnp.dtype(dtype))
    return sd.LanguageModel(params, abstract_decoder(config or stored, jnp.dtype(dtype))[0], None)  # type: ignore[arg-type]


@cache
def golden(family: str) -> tuple[sd.LanguageModel, np.ndarray, np.ndarray]:
    """A model, tokens and PyTorch's logits."""
    with np.load(FAMILIES_GOLDEN / family / "golden.npz") as file:
        return load(FAMILIES_GOLDEN / family), file["tokens"], file["logits"]


@pytest.fixture(autouse=True)
def _quick_compilation(request: pytest.FixtureRequest) -> None:
    """Half the time of the tests that are run without torch; the live ones compile as users do."""
    jax.config.update("jax_disable_most_optimizations", request.node.get_closest_marker("oracle") is None)


encode = jax.jit(lambda lm, *arguments: lm.encode(*arguments))
encode_rows = jax.jit(lambda lm, *arguments: lm.decoder.encode_rows(*arguments))


# -- logits ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_golden_families_are_all_that_golden_has_not() -> None:
    assert {
        *GOLDEN,
        "gpt2",
        "llama",
        "gemma3",
        "llama4",
        "gemma3n",
        "gemma4",
        "gemma4_unified",
        "gemma4_unified_text",
        "qwen3_5",
        "qwen3_5_moe",
        "qwen3_5_moe_text",
    } == set(FAMILIES)
    windows = {family: golden(family)[0].config.windows for family in GOLDEN}
    assert {SHORT} <= {w for of_layers in windows.values() for w in of_layers}
    named = {MODELS[name][0] for name in GOLDEN_NAMES if "windows" in name} | {"mistral", "gemma2", "gemma3_text"}
    assert {family for family, of_layers in windows.items() if of_layers} == named


@pytest.mark.parametrize("family", GOLDEN)
def test_golden(family: str) -> None:
    """In one pass, and in chunks with a cache."""
    lm, tokens, expected = golden(family)
    assert relative(WAYS["one pass"](lm, tokens), expected) < FLOAT32
    assert relative(WAYS["chunked"](lm, tokens), expected) < FLOAT32


# A decoder that does not have a switch computes what one does whose switch is at this value.
FORGOTTEN: list[tuple[str, dict[str, Any]]] = [
    ("gpt_neox", {"parallel": False}),
    ("qwen3", {"query_scale": (24 // 4) ** -0.5}),
    ("gemma", {"embedding_scale": 1.0}),
    ("gemma", {"norm_offset": False}),
    ("gemma2", {"windows": ()}),
    ("gemma2", {"windows": (SHORT + 1, None, SHORT + 1)}),
    ("gemma2", {"attention_cap": None}),
    ("gemma2", {"logit_cap": None}),
    ("gemma3_text", {"rope": "the first layer's"}),
    ("smollm3", {"rope": "the first layer's"}),
    ("olmo3", {"rope": "the first layer's"}),
    ("exaone4", {"rope": "the first layer's"}),
    ("phi3", {"rope": {"divisors": ()}}),
    ("phi3", {"rope": {"amplitude": 1.0}}),
    ("ministral3", {"rope": {"yarn": None}}),
    ("ministral3", {"rope": {"yarn": (3.0, 64.0, 32.0, 1.0, True)}}),
    ("ministral3", {"rope": {"amplitude": 1.0}}),
    ("cohere2", {"interleaved": False}),
    ("cohere2", {"logit_scale": 1.0}),
    ("glm4", {"interleaved": False}),
    ("glm4", {"rope": {"rotary_dim": 4}}),
    ("granite", {"embedding_scale": 1.0}),
    ("granite", {"residual_scale": 1.0}),
    ("granite", {"logit_scale": 1.0}),
    ("granite", {"query_scale": 6**-0.5}),
    ("opt", {"first_position": 0}),
    ("apertus", {"rope": {"amplitude": 1.0}}),
    ("falcon", {"parallel": False}),
    ("mixtral", {"experts": {"normalised": False}}),
    ("mixtral", {"experts": {"chosen": 2}}),
    ("qwen2_moe", {"experts": {"normalised": False}}),
    ("qwen3_moe", {"experts": {"normalised": False}}),
    ("olmoe", {"qkv_clip": None}),
    ("granitemoe", {"experts": {"of_chosen": False}}),
    ("gpt_oss", {"experts": {"limit": 7.0}}),
    ("deepseek_v2", {"experts": {"groups": None}}),
    ("deepseek_v2", {"interleaved": False}),
    ("deepseek_v2", {"query_scale": 0.25}),
    ("deepseek_v3", {"experts": {"groups": None}}),
    ("deepseek_v3", {"experts": {"groups": (4, 3, 1)}}),
    ("deepseek_v3", {"experts": {"scale": 1.0}}),
    ("deepseek_v3", {"experts": {"normalised": False}}),
    ("deepseek_v3", {"interleaved": False}),
    ("glm4_moe", {"experts": {"sigmoid": False}}),
    ("llama4_text", {"chunked": False}),
    ("llama4_text", {"turned_norm": False}),
    ("llama4_text", {"growth": None}),
    ("llama4_text", {"growth": (0.6, 4.0, 0, True)}),
    ("llama4_text", {"growth": (0.6, 4.0, 1, False)}),
    ("llama4_text", {"experts": {"inside": False}}),
    ("gemma4_text", {"value_norm": False}),
    ("gemma4_text", {"windows": ()}),
    ("gemma4_text", {"rope": {"still": 0}}),
    ("gemma4_text", {"rope": {"linear": 1.0}}),
    ("gemma4_text", {"logit_cap": None}),
    ("gemma3n_text", {"spreads": (None,) * 5}),
    ("gemma3n_text", {"streams": {"scaled": False}}),
    ("gemma3n_text", {"streams": {"active": 0}}),
    ("gemma3n_text", {"layer_inputs": {"vocabulary": 69}}),
    ("gpt_oss", {"experts": {"alpha": 1.702}}),
    ("granitemoehybrid", {"mixers": {"limit": (0.0, np.inf)}}),
    ("falcon_h1", {"mixers": {"gated_first": False}}),
    ("falcon_h1", {"mixers": {"parts": (1.1, 0.9, 1.3, 0.7, 1.0)}}),
    ("falcon_h1", {"mixers": {"factors": (0.8, 1.0)}}),
    ("falcon_h1", {"mlp_factors": (0.7, 1.0)}),
    ("gpt_oss", {"rope": {"yarn": (3.0, 64.0, 2.0, 0.25, True)}}),
]


@pytest.mark.parametrize(("family", "change"), FORGOTTEN)
def test_a_forgotten_switch_shows(family: str, change: dict[str, Any]) -> None:
    """The tolerance is tight enough: a switch that is not passed on moves the logits by far more."""
    lm, tokens, expected = golden(family)
    if change.get("rope") == "the first layer's":
        change = {"rope": lm.config.rope[:1] * lm.config.layers}
    elif part := {"experts", "streams", "layer_inputs"} & {*change}:
        (part,) = part
        change = {part: replace(getattr(lm.config, part), **change[part])}
    elif "mixers" in change:
        own = dict(lm.config.mixers) | {"states": replace(dict(lm.config.mixers)["states"], **change["mixers"])}
        change = {"mixers": tuple(own.items())}
    elif "rope" in change:
        change = {"rope": tuple(replace(rope, **change["rope"]) for rope in lm.config.rope)}
    other = load(FAMILIES_GOLDEN / family, config=replace(lm.config, **change))
    assert relative(WAYS["one pass"](other, tokens), expected) > 10 * FLOAT32


@pytest.mark.parametrize("family", GOLDEN)
def test_saved_as_published(family: str, tmp_path: Path) -> None:
    """What is saved has the names, shapes and numbers that transformers wrote, fused tensors too."""
    lm, *_ = golden(family)
    save_parameters(tmp_path, lm.config, lm.params, jnp.float32)
    published = [load_file(path) for path in (FAMILIES_GOLDEN / family).glob("*.safetensors")]
    assert len(published) > 1
    chex.assert_trees_all_equal(
        load_file(tmp_path / "model.safetensors"), {k: v for part in published for k, v in part.items()}, strict=True
    )


@pytest.mark.parametrize("family", ["gemma3n_text", "gemma4_text"])
def test_the_text_model_of_a_whole_checkpoint(family: str, tmp_path: Path) -> None:
    """With the other parts' tensors, and keys and values of layers that have none, as published files do."""
    lm = golden(family)[0]
    files = [load_file(path) for path in (FAMILIES_GOLDEN / family).glob("*.safetensors")]
    inside = {f"model.language_model.{k.removeprefix('model.')}": v for part in files for k, v in part.items()}
    last = f"model.language_model.layers.{lm.config.layers - 1}.self_attn"
    others = dict.fromkeys((f"{last}.k_proj.weight", f"{last}.v_norm.weight", "model.vision_tower.x"), np.ones(2))
    save_file(inside | others | {"model.embed_audio.x": np.ones(2)}, tmp_path / "model.safetensors")
    text = json.loads((FAMILIES_GOLDEN / family / "config.json").read_text())
    whole = {"model_type": family.removesuffix("_text"), "text_config": text, "vision_config": {}, "audio_config": None}
    (tmp_path / "config.json").write_text(json.dumps(whole | {"tie_word_embeddings": text["tie_word_embeddings"]}))
    found = load(tmp_path)
    assert found.config == replace(lm.config, family=whole["model_type"])
    chex.assert_trees_all_equal(found.params, lm.params, strict=True)


def test_soft_prompts_are_scaled_as_tokens_are(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """A prompt of real tokens' embeddings is those tokens."""
    lm = replace(golden("gemma2")[0], codec=Codec(tiny_tokenizer))
    adapter, table = SoftPrompt(lm, 3), np.asarray(parameter_paths(lm.params)["embedding.embedding"])
    tokens = [int(np.flatnonzero((table == row).all(1))[0]) for row in np.asarray(adapter.embedding[...])]
    prompt = adapter(lm)
    virtual, real = (np.array([[*beginning, 5, 9]]) for beginning in (prompt.prompt_tokens, tokens))
    assert relative(WAYS["one pass"](prompt, virtual), WAYS["one pass"](lm, real)) < FLOAT32


@pytest.mark.parametrize("family", ["gemma3_text"])
def test_rows_far_from_their_beginning(family: str) -> None:
    """Packed rows whose earlier tokens are mostly outside of the windows, some blocks of them entirely."""
    lm, *_ = golden(family)
    tokens = np.random.default_rng(3).integers(lm.config.vocab_size, size=(100,))
    before, after = len(tokens) - 4, 4
    _, cache = encode(lm, tokens, np.arange(len(tokens)), np.tri(len(tokens), dtype=bool))
    pool = jax.tree.map(lambda x: jnp.swapaxes(x, 1, 2), cache)
    # Slots of the new tokens are not looked at: a row sees them among its own.
    past = np.pad(np.arange(before), (0, -before % 64))[None]
    own = np.tri(after, dtype=bool)[None]
    rows = Rows(np.arange(after)[None], np.arange(after), own, past, np.array([before]))
    hidden, new = encode_rows(lm, tokens[before:], np.arange(before, len(tokens)), rows, pool)
    expected = np.asarray(lm.decoder.logits(encode(lm, tokens, np.arange(100), np.tri(100, dtype=bool))[0]))[before:]
    assert relative(np.asarray(lm.decoder.logits(hidden)), expected) < FLOAT32
    chex.assert_trees_all_close(new, jax.tree.map(lambda x: x[:, before:], pool), atol=1e-4)
    log_probs = lm.decoder.log_probs(hidden, np.arange(after), np.arange(after))
    chex.assert_trees_all_close(log_probs, np.diag(jax.nn.log_softmax(expected)[:, :after]), atol=1e-4)


def test_windows_need_the_positions_of_the_cache() -> None:
    lm, tokens, _ = golden("mistral")
    _, cache = encode(lm, tokens[0, :4], np.arange(4), np.tri(4, dtype=bool))
    with pytest.raises(ValueError, match="past_positions"):
        lm.encode(tokens[0, 4:5], np.array([4]), np.ones((1, 5), bool), cache)


# -- live -----------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("name", MODELS)
def test_live(name: str, tmp_path: Path) -> None:
    """Other weights than the golden ones, from files in shards; windows shorter and longer than the text."""
    needs("torch")
    family, settings = MODELS[name]
    model = random_family_model(family, settings, 5)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    lm, tokens = load(tmp_path), random_tokens(5)
    assert {w for w in lm.config.windows if w is not None} <= {SHORT, LONG}
    assert bool(lm.config.windows) == ("window" in name or family in ("mistral", "gemma2", "gemma3", "gemma3_text"))
    expected = torch_logits(model, tokens, np.ones_like(tokens))
    assert relative(WAYS["one pass"](lm, tokens), expected) < FLOAT32
    assert relative(WAYS["chunked"](lm, tokens), expected) < FLOAT32


@pytest.mark.oracle
@pytest.mark.parametrize("family", ["gpt_neox", "mistral", "qwen3", "gemma2", "gemma3_text"])
def test_live_bfloat16(family: str, tmp_path: Path) -> None:
    """About as far from float32 as PyTorch's own bfloat16 is."""
    torch = needs("torch")
    model = random_family_model(family, MODELS[family][1], 5)
    model.save_pretrained(tmp_path)
    tokens = random_tokens(5)
    everything = np.ones_like(tokens)
    expected = torch_logits(model, tokens, everything)
    actual = WAYS["one pass"](load(tmp_path, "bfloat16"), tokens)
    assert actual.dtype == np.float32
    with torch.no_grad():
        rounded = model.to(torch.bfloat16)(input_ids=torch.tensor(tokens), use_cache=False).logits.float().numpy()
    assert 1e-3 < relative(actual, expected) < 2 * relative(rounded, expected)

"""GGUF files of tiny models, written as llama.cpp's converter writes them (``convert_hf_to_gguf.py``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_base import generate_merges

from sdscm_jax.models.tokenizer import _PROBES

CORPUS = (
    *_PROBES,
    "the patient is 55 years old. " * 3,
    "she's low, he'll be high; they're 12,345 and 3.5%\n\nnew line\n",
)
SPACE = "\u2581"


@dataclass(frozen=True)
class Tiny:
    """A tiny model, and what a file says of it.

    Attributes:
        architecture: llama.cpp's name.
        model_type: of transformers.
        config: of ``config.json``, but for the vocabulary.
        metadata: of the file, without the architecture's name.
        kind: type of the large tensors.
    """

    architecture: str
    model_type: str
    config: dict[str, Any]
    metadata: dict[str, Any]
    kind: str = "F32"
    extra: dict[str, np.ndarray] = field(default_factory=dict)


_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-3,
}
_SAID = {
    "embedding_length": 32,
    "block_count": 3,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "feed_forward_length": 64,
    "context_length": 128,
    "attention.layer_norm_rms_epsilon": 1e-3,
}
_WIDE = {"head_dim": 10}
_SAID_WIDE = {"attention.key_length": 10, "attention.value_length": 10, "rope.dimension_count": 10}
_ROPE = {"rope_type": "default", "rope_theta": 300.0}
_GRANITE = {
    "attention_multiplier": 0.3,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.7,
    "logits_scaling": 2.5,
}
_SAID_GRANITE = {"attention.scale": 0.3, "embedding_scale": 3.0, "residual_scale": 0.7, "logit_scale": 2.5}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def llama3_factors(rope: Mapping[str, Any], head_dim: int) -> np.ndarray:
    """The factors that the converter writes, one frequency after another."""
    found = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * np.pi * rope["rope_theta"] ** (i / head_dim)
        original = rope["original_max_position_embeddings"]
        if wavelength < original / rope["high_freq_factor"]:
            found.append(1.0)
        elif wavelength > original / rope["low_freq_factor"]:
            found.append(rope["factor"])
        else:
            smooth = (original / wavelength - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            found.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(found, np.float32)


_GEMMA3_LAYERS = ["sliding_attention"] * 5 + ["full_attention"] + ["sliding_attention"]

TINY: dict[str, Tiny] = {
    "mixtral": Tiny(
        "llama",
        "mixtral",
        _SIZES | _WIDE | {"rope_parameters": _ROPE, "num_local_experts": 4, "num_experts_per_tok": 3},
        _SAID | _SAID_WIDE | {"rope.freq_base": 300.0, "expert_count": 4, "expert_used_count": 3},
    ),
    "qwen2moe, Q8_0": Tiny(
        "qwen2moe",
        "qwen2_moe",
        _SIZES
        | {
            "rope_parameters": _ROPE,
            "num_experts": 4,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 64,
        },
        _SAID
        | {
            "rope.freq_base": 300.0,
            "expert_count": 4,
            "expert_used_count": 3,
            "expert_feed_forward_length": 32,
            "expert_shared_feed_forward_length": 64,
        },
        kind="Q8_0",
    ),
    "qwen3moe": Tiny(
        "qwen3moe",
        "qwen3_moe",
        _SIZES
        | _WIDE
        | {
            "rope_parameters": _ROPE,
            "num_experts": 4,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 16,
            "norm_topk_prob": True,
        },
        _SAID
        | _SAID_WIDE
        | {"rope.freq_base": 300.0, "expert_count": 4, "expert_used_count": 3, "expert_feed_forward_length": 16},
    ),
    "olmoe": Tiny(
        "olmoe",
        "olmoe",
        _SIZES | {"num_key_value_heads": 4, "rope_parameters": _ROPE, "num_experts": 4, "num_experts_per_tok": 3},
        _SAID | {"attention.head_count_kv": 4, "rope.freq_base": 300.0, "expert_count": 4, "expert_used_count": 3},
    ),
    "granite": Tiny(
        "granite",
        "granite",
        _SIZES | {"rope_parameters": _ROPE, "mlp_bias": True, **_GRANITE},
        _SAID | {"rope.freq_base": 300.0, **_SAID_GRANITE},
    ),
    "granitemoe": Tiny(
        "granitemoe",
        "granitemoe",
        _SIZES | {"rope_parameters": _ROPE, "num_local_experts": 4, "num_experts_per_tok": 3, **_GRANITE},
        _SAID | {"rope.freq_base": 300.0, "expert_count": 4, "expert_used_count": 3, **_SAID_GRANITE},
    ),
    "gpt-oss": Tiny(
        "gpt-oss",
        "gpt_oss",
        _SIZES
        | _WIDE
        | {
            "rope_parameters": _ROPE,
            "num_local_experts": 4,
            "num_experts_per_tok": 3,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        _SAID
        | _SAID_WIDE
        | {
            "rope.freq_base": 300.0,
            "expert_count": 4,
            "expert_used_count": 3,
            "expert_feed_forward_length": 64,
            "attention.sliding_window": 5,
        },
    ),
    "llama": Tiny(
        "llama",
        "llama",
        {**_SIZES, **_WIDE, "rope_parameters": _ROPE, "tie_word_embeddings": False},
        {**_SAID, **_SAID_WIDE, "rope.freq_base": 300.0},
    ),
    "llama, biases, linear": Tiny(
        "llama",
        "llama",
        {
            **_SIZES,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 300.0, "factor": 3.0},
            "tie_word_embeddings": True,
        },
        {**_SAID, "rope.freq_base": 300.0, "rope.scaling.type": "linear", "rope.scaling.factor": 3.0},
    ),
    "llama 3": Tiny(
        "llama",
        "llama",
        {**_SIZES, "hidden_size": 64, "rope_parameters": _LLAMA3, "tie_word_embeddings": True},
        {**_SAID, "embedding_length": 64, "rope.freq_base": 500000.0, "rope.dimension_count": 16},
        extra={"rope_freqs.weight": llama3_factors(_LLAMA3, 16)},
    ),
    "llama, Q8_0": Tiny(
        "llama",
        "llama",
        {**_SIZES, "rope_parameters": _ROPE, "tie_word_embeddings": False},
        {**_SAID, "rope.freq_base": 300.0},
        kind="Q8_0",
    ),
    "smollm3": Tiny(
        "smollm3",
        "smollm3",
        {**_SIZES, "num_hidden_layers": 5, "rope_parameters": _ROPE, "no_rope_layers": [1, 1, 1, 0, 1]},
        {**_SAID, "block_count": 5, "rope.freq_base": 300.0},
    ),
    "qwen2": Tiny(
        "qwen2",
        "qwen2",
        {**_SIZES, "rope_parameters": _ROPE, "tie_word_embeddings": True},
        {**_SAID, "rope.freq_base": 300.0},
        kind="F16",
    ),
    "qwen3": Tiny(
        "qwen3",
        "qwen3",
        {**_SIZES, **_WIDE, "rope_parameters": _ROPE, "tie_word_embeddings": False},
        {**_SAID, **_SAID_WIDE, "rope.freq_base": 300.0},
        kind="BF16",
    ),
    "gemma": Tiny(
        "gemma",
        "gemma",
        {**_SIZES, **_WIDE, "rope_parameters": {**_ROPE, "rope_theta": 10000.0}, "hidden_act": "gelu_pytorch_tanh"},
        {**_SAID, **_SAID_WIDE},
    ),
    "gemma2": Tiny(
        "gemma2",
        "gemma2",
        {
            **_SIZES,
            **_WIDE,
            "rope_parameters": {**_ROPE, "rope_theta": 10000.0},
            "query_pre_attn_scalar": 10,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 7.0,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        {
            **_SAID,
            **_SAID_WIDE,
            "attention.sliding_window": 4,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 7.0,
        },
    ),
    "gemma3": Tiny(
        "gemma3",
        "gemma3_text",
        {
            **_SIZES,
            **_WIDE,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 2000.0, "factor": 8.0},
            },
            "query_pre_attn_scalar": 10,
            "sliding_window": 4,
            "layer_types": _GEMMA3_LAYERS,
        },
        {
            **_SAID,
            **_SAID_WIDE,
            "block_count": 7,
            "rope.freq_base": 2000.0,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
            "attention.sliding_window": 4,
        },
    ),
    "gpt2": Tiny(
        "gpt2",
        "gpt2",
        {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 64, "n_positions": 128, "layer_norm_epsilon": 1e-3},
        {
            "embedding_length": 32,
            "block_count": 3,
            "attention.head_count": 4,
            "feed_forward_length": 64,
            "context_length": 128,
            "attention.layer_norm_epsilon": 1e-3,
        },
    ),
    "gptneox": Tiny(
        "gptneox",
        "gpt_neox",
        {
            **{name: size for name, size in _SIZES.items() if name not in ("num_key_value_heads", "rms_norm_eps")},
            "layer_norm_eps": 1e-3,
            "use_parallel_residual": False,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        },
        {
            **{key: said for key, said in _SAID.items() if "kv" not in key and "rms" not in key},
            "attention.layer_norm_epsilon": 1e-3,
            "rope.dimension_count": 4,
            "use_parallel_residual": False,
        },
    ),
}


# -- tensors ------------------------------------------------------------------------------------------


# Architectures in whose files the dimensions that rotate together stand beside one another.
INTERLEAVED = ("llama", "smollm3", "granite", "granitemoe")


def converted(tiny: Tiny, name: str, values: np.ndarray) -> np.ndarray:
    """A tensor of the family's as the converter stores it."""
    if tiny.architecture in INTERLEAVED and (".q_proj." in name or ".k_proj." in name):
        heads = tiny.config["num_attention_heads" if ".q_proj." in name else "num_key_value_heads"]
        pairs = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        return pairs.swapaxes(1, 2).reshape(values.shape)
    if tiny.architecture.startswith("gemma") and name.endswith("norm.weight"):
        return values + 1
    if tiny.architecture == "gpt2" and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
        return values.T
    if tiny.architecture == "gptneox" and ".query_key_value." in name:
        heads = tiny.config["num_attention_heads"]
        by_head = values.reshape(heads, 3, -1, *values.shape[1:])
        return np.concatenate([by_head[:, part].reshape(-1, *values.shape[1:]) for part in range(3)])
    return values


def write_gguf(path: Path, tiny: Tiny, tensors: Mapping[str, np.ndarray], vocabulary: Mapping[str, Any]) -> None:
    """A file of a model.

    Args:
        path: the file.
        tiny: the model.
        tensors: by the names of the family's own files.
        vocabulary: metadata of the tokenizer, without ``tokenizer.ggml.``.
    """
    writer = gguf.GGUFWriter(path, tiny.architecture)
    writer.add_type("model")
    for key, value in tiny.metadata.items():
        _add(writer, f"{tiny.architecture}.{key}", value)
    for key, value in vocabulary.items():
        _add(writer, f"tokenizer.{key}" if key == "chat_template" else f"tokenizer.ggml.{key}", value)
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == tiny.architecture)
    names = gguf.get_tensor_name_map(number, tiny.metadata["block_count"])
    for name, values in _together(tensors).items():
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored is not None, name
        stored = stored if stored.endswith((".weight", ".bias")) else f"{stored}.weight"
        values = np.ascontiguousarray(converted(tiny, name, np.asarray(values, np.float32)))
        kind = gguf.GGMLQuantizationType[tiny.kind if values.ndim > 1 else "F32"]
        if kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(stored, values)
        else:
            writer.add_tensor(stored, gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name, values in tiny.extra.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _apart(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """gpt-oss's and Granite's experts as the converter stores them: gate and up apart, outputs first."""
    found: dict[str, np.ndarray] = {}
    for name, values in tensors.items():
        if name.endswith(".block_sparse_moe.input_linear.weight"):
            before = name.removesuffix("input_linear.weight")
            for own, value in zip(("w1", "w3"), np.split(values, 2, axis=-2), strict=True):
                found[f"{before}experts.{own}.weight"] = value
            continue
        before, experts, part = name.partition(".experts.")
        if part not in ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"):
            found[name] = values
            continue
        kind = "bias" if part.endswith("_bias") else "weight"
        if part.startswith("down"):
            owns = {"down_proj": values}
        else:
            owns = {own: values[..., k::2] for k, own in enumerate(("gate_proj", "up_proj"))}
        for own, value in owns.items():
            turned = value if kind == "bias" else np.swapaxes(value, -1, -2)
            found[f"{before}{experts}{own}.{kind}"] = turned
    return found


def _together(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Experts in one tensor of three axes; a matrix of one row loses that axis (the converter squeezes all)."""
    found: dict[str, Any] = {}
    for name, values in _apart(tensors).items():
        before, experts, rest = name.partition(".experts.")
        if experts and rest.partition(".")[0].isdigit():
            found.setdefault(f"{before}{experts}{rest.partition('.')[2]}", []).append(values)
        else:
            found[name] = values[0] if name.endswith("shared_expert_gate.weight") else values
    return {name: np.stack(values) if isinstance(values, list) else values for name, values in found.items()}


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


# -- tokenizers ---------------------------------------------------------------------------------------

CONTROL = ("<unk>", "<s>", "</s>", "<|turn|>")
USER_DEFINED = ("\n\n", "  ", "<table>")


def byte_level(split: str, ignore_merges: bool = False) -> tuple[PreTrainedTokenizerFast, dict[str, Any]]:
    """A byte-level BPE, and the metadata that describe it; ``split`` is llama.cpp's name of a way of splitting."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = SPLITS[split]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=list(CONTROL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.model.ignore_merges = ignore_merges
    if split == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken("<table>", normalized=False)])
    state = json.loads(tokenizer.to_str())
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
    merges = [" ".join(pair) for pair in state["model"]["merges"]]
    types = [3 if token in CONTROL else 4 if token == "<table>" else 1 for token in tokens]
    described = {"model": "gpt2", "pre": split, "tokens": tokens, "token_type": types, "merges": merges}
    return _fast(tokenizer), {**described, "bos_token_id": 1, "eos_token_id": 2, "add_bos_token": True}


def sentencepiece(prefix: bool) -> tuple[PreTrainedTokenizerFast, dict[str, Any]]:
    """SentencePiece's BPE with bytes to fall back on, and the metadata that describe it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    # Merges within words only, so that the vocabulary has pieces that begin with a space.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(f"{SPACE}?[^{SPACE}]+|{SPACE}+"), "isolated")
    some_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=560, special_tokens=[*CONTROL, *some_bytes], show_progress=False, limit_alphabet=70
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.pre_tokenizer = None
    state = json.loads(tokenizer.to_str())
    # SentencePiece merges whatever makes a piece, by its score: transformers derives the pairs.
    rank = {"".join(pair): -float(i) for i, pair in enumerate(state["model"]["merges"])}
    pieces = {t: i for t, i in tokenizer.get_vocab().items() if t not in some_bytes and t not in CONTROL}
    scores = {piece: rank.get(piece, -1e4) for piece in pieces}
    state["model"]["merges"] = [list(pair) for pair in generate_merges(pieces, scores)]
    state["added_tokens"] = [one for one in state["added_tokens"] if not one["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in USER_DEFINED])
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prefix else parts)
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
    types = [
        3 if t in CONTROL[1:] else 2 if t == "<unk>" else 6 if t in some_bytes else 4 if t in USER_DEFINED else 1
        for t in tokens
    ]
    numbers = [scores.get(token, -1e4) for token in tokens]
    described = {"model": "llama", "pre": "default", "tokens": tokens, "token_type": types, "scores": numbers}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    return _fast(tokenizer), {**described, **ids, "add_bos_token": True, "add_space_prefix": prefix}


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _pattern(pattern: str) -> Any:
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_END = r"|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
)
_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
# As the tokenizer.json files of the published models have them: GPT-2, SmolLM 2, Llama 3, Qwen 2, Mistral Nemo.
SPLITS = {
    "gpt-2": _GPT2,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _GPT2]),
    "llama-bpe": _pattern(_WORDS + r"|\p{N}{1,3}" + _SIGNS + _END),
    "qwen2": _pattern(_WORDS + r"|\p{N}" + _SIGNS + _END),
    "tekken": _pattern(_TEKKEN + _END),
}

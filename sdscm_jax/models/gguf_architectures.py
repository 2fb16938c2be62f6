"""What llama.cpp calls an architecture, as the configuration and the tensors that this package's families have.

A GGUF file has no ``config.json``: its metadata say the same under other names, some of it is constant in llama.cpp's
code, and some tensors are stored in another order. Each architecture is one row here.

Sources: llama.cpp's ``convert_hf_to_gguf.py`` and ``src/llama-model.cpp`` (what it reads, and its constants).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..checks import told
from ..errors import LoadError
from .gguf_metadata import Metadata
from .tensors import GPT_OSS_APART, GRANITE_MOE_APART, Tensor

# A tensor of the family's, by its name there, whose shape is that -> where the file has its rows, or None: in order.
Rows = Callable[[Metadata, str, int], np.ndarray | None]


@dataclass(frozen=True)
class Architecture:
    """One row.

    Attributes:
        model_type: the family, as in ``families.FAMILIES``.
        options: metadata -> ``config.json``.
        rows: see ``Rows``; None: all rows are in order.
        offset: what is added to the weights of norms in the file.
        transposed: endings of the tensors that the family stores the other way round.
        renamed: parameters whose tensors are other ones than the family's.
    """

    model_type: str
    options: Callable[[Metadata], dict[str, Any]]
    rows: Rows | None = None
    offset: float = 0.0
    transposed: tuple[str, ...] = ()
    renamed: Mapping[str, Tensor] = field(default_factory=dict)


# -- order of rows ------------------------------------------------------------------------------------


def _interleaved(m: Metadata, name: str, rows: int) -> np.ndarray | None:
    """Rotated dimensions i and i + half of a head stand beside one another."""
    if ".q_proj." not in name and ".k_proj." not in name:
        return None
    head = m.head_dim
    return np.arange(rows).reshape(-1, head // 2, 2).swapaxes(1, 2).reshape(-1)


def _fused_by_part(m: Metadata, name: str, rows: int) -> np.ndarray | None:
    """All queries, all keys, all values, which the family has head by head."""
    if ".query_key_value." not in name:
        return None
    return np.arange(rows).reshape(3, -1, m.head_dim).swapaxes(0, 1).reshape(-1)


# -- options ------------------------------------------------------------------------------------------

# (factor, low_freq_factor, high_freq_factor, original positions) of published Llama 3.1 and 3.2: the file has only the
# factors of the frequencies that come of them.
_LLAMA3_SCALINGS = ((8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192))
ROPE_FACTORS = "rope_freqs.weight"


def _common(m: Metadata) -> dict[str, Any]:
    heads = m("attention.head_count")
    return {
        "vocab_size": m.shapes["token_embd.weight"][0],
        "hidden_size": m("embedding_length"),
        "num_hidden_layers": m("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": m("attention.head_count_kv", heads),
        "intermediate_size": m("feed_forward_length"),
        "max_position_embeddings": m("context_length"),
        "tie_word_embeddings": not m.has("output.weight"),
    }


def _rms(m: Metadata) -> dict[str, Any]:
    return _common(m) | {"head_dim": m.head_dim, "rms_norm_eps": m("attention.layer_norm_rms_epsilon")}


def _rope(m: Metadata, theta: str = "rope.freq_base", scaled: bool = True) -> dict[str, Any]:
    """``rope_parameters``; ``scaled``: with what is said of scaling."""
    found = {"rope_type": "default", "rope_theta": float(m(theta, 10000.0))}
    kind, old = m.optional("rope.scaling.type"), m.optional("rope.scale_linear")
    factor = m.optional("rope.scaling.factor") or old or 1.0
    original = m.optional("rope.scaling.original_context_length")
    kind = kind or ("linear" if factor != 1 else "none")
    if not scaled or kind == "none" or (kind == "linear" and factor == 1):
        return found
    found |= {"rope_type": kind, "factor": float(factor)}
    return found if kind == "linear" else found | {"original_max_position_embeddings": original}


def _whole_head(m: Metadata) -> None:
    turned = m.optional("rope.dimension_count")
    if turned not in (None, m.head_dim):
        raise LoadError(f"{turned} of {m.head_dim} dimensions of a head rotate, which is not supported here")


def _llama(m: Metadata) -> dict[str, Any]:
    _whole_head(m)
    return _rms(m) | {
        "hidden_act": "silu",
        "rope_parameters": _rope(m),
        "attention_bias": m.has("blk.0.attn_q.bias"),
        "mlp_bias": m.has("blk.0.ffn_up.bias"),
    }


def llama3_scaling(factors: np.ndarray, theta: float, head_dim: int) -> dict[str, Any]:
    """The published Llama 3 scaling that divides frequencies by these factors.

    Args:
        factors: float ``[head_dim / 2]``, the file's ``rope_freqs``.
        theta: base of the frequencies.
        head_dim: dimensions of a head.

    Raises:
        LoadError: none does.
    """
    wavelength = 2 * np.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    for factor, low, high, original in _LLAMA3_SCALINGS:
        share = np.clip((original / wavelength - low) / (high - low), 0, 1)
        if np.allclose(1 / ((1 - share) / factor + share), factors, rtol=1e-4):
            return {
                "rope_type": "llama3",
                "rope_theta": theta,
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }
    raise LoadError(f"the factors of {ROPE_FACTORS} are of no scaling that is known (Llama 3.1 and 3.2 are)")


def _smollm3(m: Metadata) -> dict[str, Any]:
    # llama.cpp: n_no_rope_layer_step = 4.
    every = [int((i + 1) % 4 != 0) for i in range(m("block_count"))]
    return _llama(m) | {"no_rope_layers": every, "no_rope_layer_interval": 4}


def _qwen2(m: Metadata) -> dict[str, Any]:
    _whole_head(m)
    found = _rms(m) | {"hidden_act": "silu", "rope_parameters": _rope(m)}
    if found.pop("head_dim") * found["num_attention_heads"] != found["hidden_size"]:
        raise LoadError("the heads do not make up the width, which is not supported here")
    return found


def _qwen3(m: Metadata) -> dict[str, Any]:
    _whole_head(m)
    return _rms(m) | {"hidden_act": "silu", "rope_parameters": _rope(m), "attention_bias": m.has("blk.0.attn_q.bias")}


def _experts(m: Metadata, of: str = "num_experts") -> dict[str, Any]:
    return {of: m("expert_count"), "num_experts_per_tok": m("expert_used_count")}


def _mixtral(m: Metadata) -> dict[str, Any]:
    _whole_head(m)
    found = _rms(m) | {"hidden_act": "silu", "rope_parameters": _rope(m)}
    return found | _experts(m, "num_local_experts")


# Whether shares are made to add up to 1 stands in no file, but in llama.cpp's graph of each architecture.


def _qwen2_moe(m: Metadata) -> dict[str, Any]:
    found = _qwen2(m) | _experts(m) | {"norm_topk_prob": False, "qkv_bias": m.has("blk.0.attn_q.bias")}
    whole = m("feed_forward_length")
    found["moe_intermediate_size"] = m.optional("expert_feed_forward_length") or whole // m("expert_used_count")
    found["shared_expert_intermediate_size"] = m.optional("expert_shared_feed_forward_length") or whole
    return found


def _qwen3_moe(m: Metadata) -> dict[str, Any]:
    found = _qwen3(m) | _experts(m) | {"norm_topk_prob": True}
    return found | {"moe_intermediate_size": m("expert_feed_forward_length")}


def _olmoe(m: Metadata) -> dict[str, Any]:
    found = _qwen2(m) | _experts(m) | {"norm_topk_prob": False}
    return found | {"clip_qkv": m.optional("attention.clamp_kqv"), "attention_bias": m.has("blk.0.attn_q.bias")}


def _gpt_oss(m: Metadata) -> dict[str, Any]:
    _whole_head(m)
    rope = _rope(m)
    if rope["rope_type"] == "yarn":
        # Said in no file: its ramp has no integers for bounds.
        rope["truncate"] = False
        for name in ("beta_fast", "beta_slow"):
            said = m.optional(f"rope.scaling.yarn_{name}")
            rope |= {} if said is None else {name: said}
    found = _rms(m) | _experts(m, "num_local_experts")
    return found | {
        "intermediate_size": m("expert_feed_forward_length"),
        "rope_parameters": rope,
        "attention_bias": m.has("blk.0.attn_q.bias"),
        "sliding_window": m("attention.sliding_window"),
        # llama.cpp: set_swa_pattern(2).
        "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(m("block_count"))],
    }


def _granite(m: Metadata) -> dict[str, Any]:
    _whole_head(m)
    # For other architectures it says how the model was made; of these llama.cpp reads whether they rotate at all.
    if m.optional("rope.scaling.finetuned") is False:
        raise LoadError(f"{m.architecture}.rope.scaling.finetuned is false: no layer rotates, which is not supported")
    found = _rms(m) | {"hidden_act": "silu", "rope_parameters": _rope(m), "attention_bias": m.has("blk.0.attn_q.bias")}
    if found.pop("head_dim") * found["num_attention_heads"] != found["hidden_size"]:
        raise LoadError("the heads do not make up the width, which is not supported here")
    # llama.cpp: an attention scale of 0 is that of the heads; the others are factors that are not 0.
    return found | {
        "attention_multiplier": m.optional("attention.scale") or m.head_dim**-0.5,
        "embedding_multiplier": m.optional("embedding_scale") or 1.0,
        "residual_multiplier": m.optional("residual_scale") or 1.0,
        "logits_scaling": m.optional("logit_scale") or 1.0,
    }


def _granite_dense(m: Metadata) -> dict[str, Any]:
    return _granite(m) | {"mlp_bias": m.has("blk.0.ffn_up.bias")}


def _granite_moe(m: Metadata) -> dict[str, Any]:
    return _granite(m) | _experts(m, "num_local_experts")


def _gemma(m: Metadata) -> dict[str, Any]:
    _whole_head(m)
    return _rms(m) | {"hidden_act": "gelu_pytorch_tanh", "rope_parameters": _rope(m)}


def _query_scalar(m: Metadata, largest: int) -> int:
    """Gemma's largest models divide by the root of width / heads; llama.cpp knows them by their layers."""
    return m("embedding_length") // m("attention.head_count") if m("block_count") == largest else m.head_dim


def _gemma2(m: Metadata) -> dict[str, Any]:
    _whole_head(m)
    layers = range(m("block_count"))
    return _rms(m) | {
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_parameters": _rope(m),
        "query_pre_attn_scalar": _query_scalar(m, 46),
        "attn_logit_softcapping": m("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": m("final_logit_softcapping", 30.0),
        "sliding_window": m("attention.sliding_window", 4096),
        "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in layers],
    }


def _gemma3(m: Metadata) -> dict[str, Any]:
    _whole_head(m)
    pattern = m.optional("attention.sliding_window_pattern")
    if isinstance(pattern, list):
        slides = [bool(x) for x in pattern]
    else:
        # llama.cpp: set_swa_pattern(6).
        slides = [bool((i + 1) % (pattern or 6)) for i in range(m("block_count"))]
    return _rms(m) | {
        "hidden_activation": "gelu_pytorch_tanh",
        # Layers with a window turn by 10,000, unscaled: llama.cpp's rope_freq_base_train_swa.
        "rope_parameters": {
            "sliding_attention": _rope(m, "rope.freq_base_swa", scaled=False),
            "full_attention": _rope(m),
        },
        "query_pre_attn_scalar": _query_scalar(m, 62),
        "final_logit_softcapping": m.optional("final_logit_softcapping"),
        "sliding_window": m("attention.sliding_window"),
        "layer_types": ["sliding_attention" if x else "full_attention" for x in slides],
    }


def _gpt2(m: Metadata) -> dict[str, Any]:
    return {
        "vocab_size": m.shapes["token_embd.weight"][0],
        "n_embd": m("embedding_length"),
        "n_layer": m("block_count"),
        "n_head": m("attention.head_count"),
        "n_inner": m("feed_forward_length"),
        "n_positions": m("context_length"),
        "layer_norm_epsilon": m("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
        "tie_word_embeddings": not m.has("output.weight"),
    }


def _gpt_neox(m: Metadata) -> dict[str, Any]:
    turned, head = m("rope.dimension_count"), m.head_dim
    # A share whose product with the dimensions is that number again, whatever a division rounds.
    share = turned / head if int(head * (turned / head)) == turned else (turned + 0.5) / head
    found = _common(m) | {
        "layer_norm_eps": m("attention.layer_norm_epsilon"),
        "hidden_act": "gelu",
        "use_parallel_residual": bool(m("use_parallel_residual", True)),
        "rope_parameters": _rope(m) | {"partial_rotary_factor": share},
        "attention_bias": True,
    }
    found.pop("num_key_value_heads")
    return found


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("llama", _llama, _interleaved),
    "smollm3": Architecture("smollm3", _smollm3, _interleaved),
    "qwen2": Architecture("qwen2", _qwen2),
    "qwen3": Architecture("qwen3", _qwen3),
    "qwen2moe": Architecture("qwen2_moe", _qwen2_moe),
    "qwen3moe": Architecture("qwen3_moe", _qwen3_moe),
    "olmoe": Architecture("olmoe", _olmoe),
    "gpt-oss": Architecture("gpt_oss", _gpt_oss, renamed=GPT_OSS_APART),
    "granite": Architecture("granite", _granite_dense, _interleaved),
    "granitemoe": Architecture("granitemoe", _granite_moe, _interleaved, renamed=GRANITE_MOE_APART),
    "gemma": Architecture("gemma", _gemma, offset=1.0),
    "gemma2": Architecture("gemma2", _gemma2, offset=1.0),
    "gemma3": Architecture("gemma3_text", _gemma3, offset=1.0),
    "gpt2": Architecture("gpt2", _gpt2, transposed=(".c_attn.weight", ".c_proj.weight", ".c_fc.weight")),
    "gptneox": Architecture("gpt_neox", _gpt_neox, _fused_by_part),
}


# Architectures under whose name there are models with experts, too.
WITH_EXPERTS = {"llama": Architecture("mixtral", _mixtral, _interleaved)}


def find_architecture(metadata: Mapping[str, Any]) -> tuple[str, Architecture]:
    """Name and row of a file's architecture.

    Raises:
        LoadError: there is none, or the file holds something else than one whole model.
    """
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise LoadError(f"it holds no language model, but a {told(kind)}")
    if metadata.get(f"{metadata.get('general.architecture')}.attention.causal", True) is not True:
        raise LoadError("its attention is not causal: it is no model that text is drawn from")
    if metadata.get("split.count", 1) not in (0, 1):
        raise LoadError("the model lies in several files; join them with llama.cpp's llama-gguf-split --merge")
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise LoadError(f"architecture {told(name)} is not supported (known: {', '.join(ARCHITECTURES)})")
    with_experts = name in WITH_EXPERTS and metadata.get(f"{name}.expert_count")
    return name, WITH_EXPERTS[name] if with_experts else ARCHITECTURES[name]

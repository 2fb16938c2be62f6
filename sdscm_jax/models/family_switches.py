"""The switches of every family: a field of ``DecoderConfig`` -> its value, or a function of the configuration.

``families`` puts them together with the names of tensors.
"""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter as key
from typing import Any

from ..errors import LoadError
from .config import Experts
from .rope_options import head_dim, longest, partial_rope, rope_by_layer_type, rope_everywhere, rope_in_windows


def windows(c: Any) -> tuple[int | None, ...]:
    """The window of each layer that has one by ``layer_types``."""
    window, kinds = c.sliding_window, tuple(c.layer_types)
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise LoadError(f"layer_types has {kind!r}, which is not supported (known: full and sliding attention)")
    if "sliding_attention" not in kinds:
        return ()
    if not window or not getattr(c, "use_sliding_window", True):
        raise LoadError(f"layer_types has 'sliding_attention', but sliding_window = {window!r} is not in use")
    return useful(tuple(window if kind == "sliding_attention" else None for kind in kinds), c)


def window_everywhere(c: Any) -> tuple[int | None, ...]:
    return useful((c.sliding_window,) * c.num_hidden_layers, c)


def _window_if_used(c: Any) -> tuple[int | None, ...]:
    return window_everywhere(c) if c.use_sliding_window and c.sliding_window else ()


def useful(windows: tuple[int | None, ...], c: Any) -> tuple[int | None, ...]:
    """The windows, or none at all where no text is long enough to feel them."""
    return windows if any(w is not None and w < c.max_position_embeddings for w in windows) else ()


def _gpt2_query_scale(c: Any) -> float:
    if c.scale_attn_by_inverse_layer_idx or not c.scale_attn_weights:
        raise LoadError("gpt2: scaling of attention other than 1/sqrt(head_dim) is not supported")
    return (c.n_embd // c.n_head) ** -0.5


GPT2: dict[str, Any] = {
    "vocab_size": key("vocab_size"),
    "width": key("n_embd"),
    "layers": key("n_layer"),
    "heads": key("n_head"),
    "kv_heads": key("n_head"),
    "head_dim": lambda c: c.n_embd // c.n_head,
    "mlp_width": lambda c: c.n_inner or 4 * c.n_embd,
    "max_positions": key("n_positions"),
    "norm": "layer",
    "norm_eps": key("layer_norm_epsilon"),
    "positions": "learned",
    "activation": key("activation_function"),
    "gated": False,
    "query_scale": _gpt2_query_scale,
    "qkv_bias": True,
    "out_bias": True,
    "mlp_bias": True,
    "tied": key("tie_word_embeddings"),
}
LLAMA: dict[str, Any] = {
    "vocab_size": key("vocab_size"),
    "width": key("hidden_size"),
    "layers": key("num_hidden_layers"),
    "heads": key("num_attention_heads"),
    "kv_heads": key("num_key_value_heads"),
    "head_dim": head_dim,
    "mlp_width": key("intermediate_size"),
    "max_positions": longest,
    "norm": "rms",
    "norm_eps": key("rms_norm_eps"),
    "positions": "rotary",
    "rope": rope_everywhere,
    "activation": key("hidden_act"),
    "gated": True,
    "query_scale": lambda c: head_dim(c) ** -0.5,
    "qkv_bias": key("attention_bias"),
    "out_bias": key("attention_bias"),
    "mlp_bias": key("mlp_bias"),
    "tied": key("tie_word_embeddings"),
}
NO_BIAS = {"qkv_bias": False, "out_bias": False, "mlp_bias": False}
GPT_NEOX = LLAMA | {
    "kv_heads": key("num_attention_heads"),
    "norm": "layer",
    "norm_eps": key("layer_norm_eps"),
    "rope": partial_rope,
    "gated": False,
    "mlp_bias": True,
    "parallel": key("use_parallel_residual"),
}
GEMMA = LLAMA | {
    "mlp_bias": False,
    "norm_offset": True,
    "embedding_scale": lambda c: c.hidden_size**0.5,
}
GEMMA2 = GEMMA | {
    "activation": key("hidden_activation"),
    "output_norms": True,
    "query_scale": lambda c: c.query_pre_attn_scalar**-0.5,
    "windows": windows,
    "attention_cap": key("attn_logit_softcapping"),
    "logit_cap": key("final_logit_softcapping"),
}
# Its attention is never capped, whatever the configuration says; see `Options.refuse_unread`.
GEMMA3 = GEMMA2 | {"attention_cap": None, "qk_norm": True, "rope": rope_by_layer_type}
_ONLY_QUERIES_BIASED = {"out_bias": False, "mlp_bias": False}


def _phi3_positions(c: Any) -> int:
    # Some files say beside the rotation what transformers puts into it.
    for name in ("original_max_position_embeddings", "partial_rotary_factor"):
        own, inside = getattr(c, name, None), (c.rope_parameters or {}).get(name)
        if own is not None and inside not in (None, own):
            raise LoadError(f"{name} is {own!r}, and {inside!r} for the rotation")
    return longest(c)


PHI3 = LLAMA | NO_BIAS | {"rope": partial_rope, "windows": window_everywhere, "max_positions": _phi3_positions}
# Norms stand behind attention and MLP only.
NORMS_BEHIND = {"pre_norms": False, "output_norms": True}
OLMO2 = LLAMA | NORMS_BEHIND | {"mlp_bias": False, "qk_norm_whole": True}
_LAYER_NORM = {"norm": "layer", "norm_eps": key("layer_norm_eps")}
COHERE2 = (
    LLAMA
    | _LAYER_NORM
    | {
        "norm_bias": False,
        "mlp_bias": False,
        "parallel": True,
        "one_norm": True,
        "interleaved": True,
        "rope": rope_in_windows,
        "windows": windows,
        "logit_scale": key("logit_scale"),
    }
)
COHERE2_FIXED = {
    "layer_switch": 4,
    "order_of_interleaved_layers": "local_attn_first",
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1.0,
    "use_embedding_sharing": True,
    "use_gated_activation": True,
    "use_parallel_block": True,
    "use_parallel_embedding": True,
}
GLM4 = LLAMA | _ONLY_QUERIES_BIASED | {"rope": partial_rope, "interleaved": True, "output_norms": True}
STABLELM = (
    LLAMA
    | _LAYER_NORM
    | NO_BIAS
    | {
        "rope": partial_rope,
        "qkv_bias": key("use_qkv_bias"),
        "parallel": key("use_parallel_residual"),
        "one_norm": key("use_parallel_residual"),
    }
)
STARCODER2 = LLAMA | {
    "norm": "layer",
    "norm_eps": key("norm_epsilon"),
    "gated": False,
    "qkv_bias": key("use_bias"),
    "out_bias": key("use_bias"),
    "mlp_bias": key("use_bias"),
    "windows": window_everywhere,
}
GRANITE = LLAMA | {
    "embedding_scale": key("embedding_multiplier"),
    "query_scale": key("attention_multiplier"),
    "residual_scale": key("residual_multiplier"),
    "logit_scale": lambda c: 1 / c.logits_scaling,
}


def _qwen_dense(c: Any) -> tuple[int, ...] | None:
    """Layers without experts, where there are some."""
    only, step = {*c.mlp_only_layers}, c.decoder_sparse_step
    return tuple(i for i in range(c.num_hidden_layers) if i in only or (i + 1) % step) or None


def _qwen_experts(c: Any) -> Experts:
    # Read, for it is the width of layers without experts, of which there may be none.
    _ = c.intermediate_size
    return Experts(c.num_experts, c.num_experts_per_tok, c.moe_intermediate_size, normalised=c.norm_topk_prob)


def _qwen2_experts(c: Any) -> Experts:
    experts = replace(_qwen_experts(c), shared=True, shared_gate=True)
    return experts if _qwen_dense(c) is None else replace(experts, shared_width=c.shared_expert_intermediate_size)


def _mlp_width(usual: str) -> Any:
    """``intermediate_size`` where layers have no experts, what else is told where none is so."""
    return lambda c: getattr(c, usual if _qwen_dense(c) is None else "intermediate_size")


_EXPERT_WIDTH = {"mlp_width": _mlp_width("moe_intermediate_size"), "dense": _qwen_dense, "experts": _qwen_experts}
MIXTRAL = (
    LLAMA
    | NO_BIAS
    | {
        "windows": window_everywhere,
        "experts": lambda c: Experts(c.num_local_experts, c.num_experts_per_tok, c.intermediate_size, normalised=True),
    }
)
QWEN2_MOE = (
    LLAMA
    | NO_BIAS
    | {
        "qkv_bias": key("qkv_bias"),
        "windows": windows,
        "mlp_width": _mlp_width("shared_expert_intermediate_size"),
        "dense": _qwen_dense,
        "experts": _qwen2_experts,
    }
)
QWEN3_MOE = LLAMA | {"mlp_bias": False, "qk_norm": True, "windows": _window_if_used, **_EXPERT_WIDTH}
OLMOE = LLAMA | {
    "mlp_bias": False,
    "qk_norm_whole": True,
    "qkv_clip": key("clip_qkv"),
    "experts": lambda c: Experts(
        c.num_experts, c.num_experts_per_tok, c.intermediate_size, normalised=c.norm_topk_prob
    ),
}
GRANITE_MOE = GRANITE | {
    "mlp_bias": False,
    "experts": lambda c: Experts(c.num_local_experts, c.num_experts_per_tok, c.intermediate_size, of_chosen=True),
}


def _gpt_oss_experts(c: Any) -> Experts:
    return Experts(
        c.num_local_experts,
        c.num_experts_per_tok,
        c.intermediate_size,
        of_chosen=True,
        bias=True,
        limit=float(c.swiglu_limit),
        alpha=float(c.swiglu_alpha),
    )


GPT_OSS = LLAMA | {
    "mlp_bias": False,
    "windows": windows,
    "sinks": True,
    # Not read by the model; the unit is in ``Experts``.
    "activation": "silu",
    "experts": _gpt_oss_experts,
}


def _opt_width(c: Any) -> int:
    if c.word_embed_proj_dim != c.hidden_size or not c.do_layer_norm_before or c._remove_final_layer_norm:
        raise LoadError("opt: embeddings of another width, and norms behind the layers, are not supported")
    return int(c.hidden_size)


OPT: dict[str, Any] = {
    "vocab_size": key("vocab_size"),
    "width": _opt_width,
    "layers": key("num_hidden_layers"),
    "heads": key("num_attention_heads"),
    "kv_heads": key("num_attention_heads"),
    "head_dim": lambda c: c.hidden_size // c.num_attention_heads,
    "mlp_width": key("ffn_dim"),
    "max_positions": key("max_position_embeddings"),
    "norm": "layer",
    "norm_eps": 1e-5,
    "positions": "learned",
    # Two rows that no position has.
    "first_position": 2,
    "activation": key("activation_function"),
    "gated": False,
    "query_scale": lambda c: (c.hidden_size // c.num_attention_heads) ** -0.5,
    "qkv_bias": key("enable_bias"),
    "out_bias": key("enable_bias"),
    "mlp_bias": key("enable_bias"),
    "tied": key("tie_word_embeddings"),
}


APERTUS = LLAMA | {"mlp_bias": False, "gated": False, "qk_norm": True}


def _falcon_heads(c: Any) -> int:
    """Of keys and values."""
    if c.alibi:
        raise LoadError("falcon: alibi = True is not supported")
    if c.new_decoder_architecture and not c.parallel_attn:
        raise LoadError("falcon: new_decoder_architecture without parallel_attn is no model of transformers")
    # What it says without the new architecture means nothing.
    count = int(c.num_kv_heads)
    if c.new_decoder_architecture:
        return count
    return 1 if c.multi_query else int(c.num_attention_heads)


def _falcon_one_norm(c: Any) -> bool:
    return bool(c.parallel_attn) and not (c.new_decoder_architecture and c.num_ln_in_parallel_attn in (None, 2))


FALCON = LLAMA | {
    "kv_heads": _falcon_heads,
    "head_dim": lambda c: c.hidden_size // c.num_attention_heads,
    "query_scale": lambda c: (c.hidden_size // c.num_attention_heads) ** -0.5,
    "mlp_width": key("ffn_hidden_size"),
    "norm": "layer",
    "norm_eps": key("layer_norm_epsilon"),
    "activation": key("activation"),
    "gated": False,
    "qkv_bias": key("bias"),
    "out_bias": key("bias"),
    "mlp_bias": key("bias"),
    "parallel": key("parallel_attn"),
    "one_norm": _falcon_one_norm,
}


def ministral_growth(c: Any) -> tuple[float, float, int, bool] | None:
    """Queries grow behind the original positions."""
    parameters = c.rope_parameters
    scale = parameters.get("llama_4_scaling_beta")
    return (float(scale), float(parameters["original_max_position_embeddings"]), 0, False) if scale else None

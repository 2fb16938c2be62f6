"""Tiny configurations of every supported family, for comparison with PyTorch.

Every number that a decoder could forget to pass on is unlike its default, and so is every option.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import sdscm_jax as sd
from sdscm_jax.models import feed
from sdscm_jax.models.pages import Pages, length

from .make_golden import random_model

LENGTH, POSITIONS = 24, 128
# Shorter and longer than the texts; the longer one is still a window to the decoder.
SHORT, LONG = 5, 64

_SIZES = {
    "vocab_size": 96,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": POSITIONS,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2, "rms_norm_eps": 1e-3}
_WIDE = _GROUPED | {"head_dim": 10}
_ROPE = {"rope_type": "default", "rope_theta": 300.0}
_HYBRID = _SIZES | {"num_key_value_heads": 2, "rope_parameters": _ROPE}
_STATES = {
    "rms_norm_eps": 1e-3,
    "mamba_n_groups": 2,
    "mamba_d_state": 7,
    "mamba_d_conv": 3,
    "mamba_chunk_size": 8,
}
_FALCON_H1 = {
    "mamba_d_ssm": 20,
    "mamba_n_heads": 4,
    "mamba_proj_bias": True,
    "attention_bias": True,
    "lm_head_multiplier": 1.3,
    "embedding_multiplier": 1.7,
    "mlp_multipliers": [0.7, 1.4],
    "key_multiplier": 0.6,
    "attention_in_multiplier": 1.2,
    "attention_out_multiplier": 0.8,
    "ssm_multipliers": [1.1, 0.9, 1.3, 0.7, 1.2],
    "ssm_in_multiplier": 0.8,
    "ssm_out_multiplier": 1.1,
}
_NEMOTRON = {
    "vocab_size": 96,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 40,
    "max_position_embeddings": POSITIONS,
    "mamba_num_heads": 4,
    "mamba_head_dim": 5,
    "n_groups": 2,
    "ssm_state_size": 7,
    "conv_kernel": 3,
    "chunk_size": 8,
    "layer_norm_epsilon": 1e-3,
    "time_step_min": 0.2,
}
_DELTA = _WIDE | {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 7,
    "linear_value_head_dim": 5,
    "linear_conv_kernel_dim": 3,
    "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.6},
}
_LINEAR = {"rope_type": "linear", "rope_theta": 300.0, "factor": 3.0}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 3.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 2.0,
    "beta_slow": 0.25,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 500.0,
    "original_max_position_embeddings": 32,
    "short_factor": [1.0, 1.2],
    "long_factor": [1.5, 4.0],
    "partial_rotary_factor": 0.7,
}
_DEEP_YARN = {**_YARN, "mscale": 1.5, "mscale_all_dim": 0.5}
_DEEPSEEK = _SIZES | {
    "rms_norm_eps": 1e-3,
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 9,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "moe_intermediate_size": 16,
    "rope_parameters": _ROPE,
}
_LLAMA4 = _WIDE | {
    "rope_parameters": _ROPE,
    "intermediate_size": 16,
    "intermediate_size_mlp": 32,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "floor_scale": 4,
    "attn_scale": 0.6,
}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
_FALCON = {name: size for name, size in _SIZES.items() if name != "intermediate_size"} | {
    "ffn_hidden_size": 120,
    "layer_norm_epsilon": 1e-3,
    "rope_parameters": _ROPE,
    "activation": "gelu_new",
}
_GEMMA3 = _WIDE | {
    "rope_parameters": {"sliding_attention": _ROPE, "full_attention": {**_LINEAR, "rope_theta": 2000.0}},
    "layer_types": _MIXED,
    "sliding_window": SHORT,
    "query_pre_attn_scalar": 7,
    "tie_word_embeddings": True,
}

_SLIDING, _FULL = "sliding_attention", "full_attention"
_GEMMA4 = _WIDE | {
    "rope_parameters": {
        _SLIDING: _ROPE,
        _FULL: {"rope_type": "proportional", "rope_theta": 2000.0, "partial_rotary_factor": 0.6, "factor": 2.0},
    },
    "global_head_dim": 14,
    "num_hidden_layers": 4,
    "layer_types": [_SLIDING, _FULL, _SLIDING, _FULL],
    "sliding_window": SHORT,
    "vocab_size_per_layer_input": 100,
    "hidden_size_per_layer_input": 6,
    "hidden_activation": "silu",
}
# Two layers of each kind, the last ones of which read the keys and values of earlier ones.
_READING = {
    "num_hidden_layers": 7,
    "num_kv_shared_layers": 3,
    "layer_types": [_FULL, _SLIDING, _SLIDING, _FULL, _SLIDING, _SLIDING, _FULL],
}
# Not computed, and in the files.
_SENSES = {
    "vision_config": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 16,
    },
    "audio_config": None,
}
_GEMMA3N = _GEMMA4 | {
    "num_hidden_layers": 5,
    "layer_types": [_FULL, _SLIDING, _SLIDING, _FULL, _SLIDING],
    "num_kv_shared_layers": 2,
    "rope_parameters": {_SLIDING: _ROPE, _FULL: {**_LINEAR, "rope_theta": 2000.0}},
    "vocab_size_per_layer_input": 70,
    "final_logit_softcapping": 9.0,
    "altup_num_inputs": 3,
    "altup_active_idx": 1,
    "laurel_rank": 5,
    "activation_sparsity_pattern": [0.9, 0.0, 0.7, 0.0, 0.6],
}
del _GEMMA3N["global_head_dim"]

# Name -> (model_type, configuration).
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "gpt2",
        {
            "vocab_size": 96,
            "n_embd": 24,
            "n_layer": 3,
            "n_head": 4,
            "n_inner": 40,
            "n_positions": POSITIONS,
            "layer_norm_epsilon": 1e-3,
            "activation_function": "gelu",
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    ),
    "gpt_neox": (
        "gpt_neox",
        _SIZES
        | {
            "layer_norm_eps": 1e-3,
            "hidden_act": "gelu_new",
            "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.7},
        },
    ),
    "gpt_neox, sequential": (
        "gpt_neox",
        _SIZES
        | {
            "layer_norm_eps": 1e-3,
            "attention_bias": False,
            "use_parallel_residual": False,
            "tie_word_embeddings": True,
            "rope_parameters": {**_LINEAR, "partial_rotary_factor": 0.34},
        },
    ),
    "llama (2, SmolLM 2)": (
        "llama",
        _WIDE | {"rope_parameters": _ROPE, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
    ),
    "llama (3.x)": ("llama", _GROUPED | {"rope_parameters": _LLAMA3, "tie_word_embeddings": True}),
    "smollm3": (
        "smollm3",
        _GROUPED | {"rope_parameters": _ROPE, "no_rope_layers": [1, 0, 1], "attention_bias": True, "mlp_bias": True},
    ),
    "smollm3, windows": (
        "smollm3",
        _GROUPED
        | {
            "rope_parameters": _ROPE,
            "no_rope_layer_interval": 2,
            "use_sliding_window": True,
            "sliding_window": SHORT,
            "tie_word_embeddings": False,
        },
    ),
    "mistral": ("mistral", _WIDE | {"rope_parameters": _ROPE, "sliding_window": SHORT, "hidden_act": "gelu"}),
    "mistral, long window": (
        "mistral",
        _GROUPED | {"rope_parameters": _ROPE, "sliding_window": LONG, "tie_word_embeddings": True},
    ),
    "qwen2": ("qwen2", _GROUPED | {"rope_parameters": _ROPE, "tie_word_embeddings": True}),
    "qwen2, windows": (
        "qwen2",
        _GROUPED
        | {"rope_parameters": _LINEAR, "use_sliding_window": True, "sliding_window": SHORT, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", _WIDE | {"rope_parameters": _ROPE, "tie_word_embeddings": True}),
    "qwen3, windows": (
        "qwen3",
        _WIDE
        | {
            "rope_parameters": _ROPE,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": SHORT,
            "layer_types": _MIXED,
        },
    ),
    "llama, yarn": ("llama", _WIDE | {"rope_parameters": _YARN, "tie_word_embeddings": True}),
    "llama, yarn with its own amplitude": (
        "llama",
        _GROUPED | {"rope_parameters": {**_YARN, "attention_factor": 1.3, "truncate": False}},
    ),
    "llama, dynamic": (
        "llama",
        _WIDE | {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 300.0, "factor": 2.0}},
    ),
    "olmo2": ("olmo2", _GROUPED | {"rope_parameters": _ROPE, "attention_bias": True}),
    "olmo3, windows": (
        "olmo3",
        _GROUPED
        | {
            "rope_parameters": {"sliding_attention": _ROPE, "full_attention": _YARN},
            "layer_types": _MIXED,
            "sliding_window": SHORT,
            "tie_word_embeddings": True,
        },
    ),
    "phi3": (
        "phi3",
        _GROUPED | {"rope_parameters": _LONGROPE, "original_max_position_embeddings": 32, "tie_word_embeddings": True},
    ),
    "phi3, windows": ("phi3", _GROUPED | {"rope_parameters": _ROPE, "sliding_window": SHORT}),
    "granite": (
        "granite",
        _GROUPED
        | {
            "rope_parameters": _ROPE,
            "attention_bias": True,
            "mlp_bias": True,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.5,
            "residual_multiplier": 0.7,
            "attention_multiplier": 0.3,
        },
    ),
    "cohere2, windows": (
        "cohere2",
        {name: size for name, size in _GROUPED.items() if name != "rms_norm_eps"}
        | {
            "layer_norm_eps": 1e-3,
            "rope_parameters": _ROPE,
            "layer_types": _MIXED,
            "sliding_window": SHORT,
            "logit_scale": 0.3,
            "attention_bias": True,
        },
    ),
    "starcoder2, windows": (
        "starcoder2",
        {name: size for name, size in _GROUPED.items() if name != "rms_norm_eps"}
        | {"norm_epsilon": 1e-3, "rope_parameters": _ROPE, "sliding_window": SHORT, "tie_word_embeddings": False},
    ),
    "stablelm": (
        "stablelm",
        {name: size for name, size in _GROUPED.items() if name != "rms_norm_eps"}
        | {
            "layer_norm_eps": 1e-3,
            "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.67},
            "use_qkv_bias": True,
            "use_parallel_residual": True,
        },
    ),
    "stablelm, sequential": (
        "stablelm",
        {name: size for name, size in _GROUPED.items() if name != "rms_norm_eps"}
        | {"layer_norm_eps": 1e-3, "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.34}},
    ),
    "glm4": (
        "glm4",
        _WIDE | {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.6}, "tie_word_embeddings": True},
    ),
    "exaone4, windows": (
        "exaone4",
        _GROUPED
        | {"rope_parameters": _LLAMA3, "layer_types": _MIXED, "sliding_window": SHORT, "tie_word_embeddings": True},
    ),
    "exaone4": (
        "exaone4",
        _GROUPED | {"rope_parameters": _ROPE, "sliding_window": None, "layer_types": ["full_attention"] * 3},
    ),
    "ministral3": (
        "ministral3",
        _WIDE | {"rope_parameters": {**_YARN, "mscale": 1.5, "mscale_all_dim": 0.5, "llama_4_scaling_beta": 0.2}},
    ),
    "seed_oss": (
        "seed_oss",
        _WIDE | {"rope_parameters": _ROPE, "attention_out_bias": True, "mlp_bias": True, "attention_bias": True},
    ),
    "opt": (
        "opt",
        {
            "vocab_size": 96,
            "hidden_size": 24,
            "word_embed_proj_dim": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "ffn_dim": 40,
            "max_position_embeddings": POSITIONS,
            "activation_function": "gelu",
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 1,
        },
    ),
    "apertus": ("apertus", _WIDE | {"rope_parameters": _YARN, "attention_bias": True, "tie_word_embeddings": True}),
    "falcon (40B)": ("falcon", _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    "falcon (11B)": (
        "falcon",
        _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    ),
    "falcon (7B)": ("falcon", _FALCON | {"tie_word_embeddings": False}),
    "falcon, sequential": ("falcon", _FALCON | {"multi_query": False, "parallel_attn": False, "bias": True}),
    "mixtral, windows": (
        "mixtral",
        _WIDE
        | {
            "rope_parameters": _ROPE,
            "num_local_experts": 5,
            "num_experts_per_tok": 3,
            "sliding_window": SHORT,
            "hidden_act": "gelu",
            "tie_word_embeddings": True,
        },
    ),
    "qwen2_moe": (
        "qwen2_moe",
        _GROUPED
        | {
            "rope_parameters": _ROPE,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 32,
            "norm_topk_prob": True,
            "qkv_bias": False,
            "tie_word_embeddings": True,
        },
    ),
    "qwen2_moe, windows": (
        "qwen2_moe",
        _GROUPED
        | {
            "rope_parameters": _LINEAR,
            "num_experts": 4,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 32,
            "use_sliding_window": True,
            "sliding_window": SHORT,
            "max_window_layers": 3,
        },
    ),
    "qwen3_moe": (
        "qwen3_moe",
        _WIDE
        | {
            "rope_parameters": _YARN,
            "num_experts": 7,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 16,
            "norm_topk_prob": True,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3_moe, windows": (
        "qwen3_moe",
        _WIDE
        | {
            "rope_parameters": _ROPE,
            "num_experts": 4,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 16,
            "use_sliding_window": True,
            "sliding_window": SHORT,
        },
    ),
    "olmoe": (
        "olmoe",
        _GROUPED
        | {
            "rope_parameters": _ROPE,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "norm_topk_prob": True,
            "clip_qkv": 0.9,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "granitemoe": (
        "granitemoe",
        _GROUPED
        | {
            "rope_parameters": _ROPE,
            "num_local_experts": 5,
            "num_experts_per_tok": 3,
            "attention_bias": True,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.5,
            "residual_multiplier": 0.7,
            "attention_multiplier": 0.3,
        },
    ),
    "gpt_oss, windows": (
        "gpt_oss",
        _WIDE
        | {
            "rope_parameters": {**_YARN, "truncate": False},
            "num_local_experts": 5,
            "num_experts_per_tok": 3,
            "layer_types": _MIXED,
            "sliding_window": SHORT,
            "swiglu_alpha": 1.3,
            "swiglu_limit": 0.8,
            "tie_word_embeddings": True,
        },
    ),
    "deepseek_v2": (
        "deepseek_v2",
        _DEEPSEEK | {"q_lora_rank": 14, "topk_method": "greedy", "routed_scaling_factor": 1.7},
    ),
    "deepseek_v2, groups": (
        "deepseek_v2",
        _DEEPSEEK
        | {
            "q_lora_rank": None,
            "first_k_dense_replace": 1,
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
            "attention_bias": True,
            "rope_parameters": _DEEP_YARN,
        },
    ),
    "deepseek_v3": (
        "deepseek_v3",
        _DEEPSEEK
        | {
            "q_lora_rank": 14,
            "first_k_dense_replace": 2,
            "n_group": 4,
            "topk_group": 3,
            "norm_topk_prob": True,
            "routed_scaling_factor": 1.7,
            "attention_bias": True,
            "rope_parameters": _DEEP_YARN,
            "tie_word_embeddings": True,
        },
    ),
    "deepseek_v3, halves": (
        "deepseek_v3",
        _DEEPSEEK
        | {
            "q_lora_rank": None,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": False,
            "rope_interleave": False,
        },
    ),
    "ministral3, long": (
        "ministral3",
        _WIDE | {"rope_parameters": {**_YARN, "original_max_position_embeddings": 7, "llama_4_scaling_beta": 0.6}},
    ),
    "qwen2_moe, mixed": (
        "qwen2_moe",
        _GROUPED
        | {
            "rope_parameters": _ROPE,
            "num_experts": 4,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 32,
            "decoder_sparse_step": 2,
        },
    ),
    "qwen3_moe, mixed": (
        "qwen3_moe",
        _WIDE
        | {
            "rope_parameters": _ROPE,
            "num_experts": 4,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 16,
            "mlp_only_layers": [1],
        },
    ),
    "glm4_moe": (
        "glm4_moe",
        _WIDE
        | {
            "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.6},
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "n_shared_experts": 2,
            "moe_intermediate_size": 16,
            "n_group": 2,
            "topk_group": 1,
            "norm_topk_prob": True,
            "routed_scaling_factor": 1.7,
            "attention_bias": True,
            "use_qk_norm": True,
            "tie_word_embeddings": True,
        },
    ),
    "minimax_m2": (
        "minimax_m2",
        _WIDE
        | {
            "intermediate_size": 16,
            "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.6},
            "num_local_experts": 6,
            "num_experts_per_tok": 3,
        },
    ),
    "llama4_text, windows": (
        "llama4_text",
        _LLAMA4
        | {
            "interleave_moe_layer_step": 2,
            "no_rope_layers": [1, 0, 1],
            "attention_chunk_size": SHORT,
            "attention_bias": True,
        },
    ),
    "llama4_text, without norms": (
        "llama4_text",
        _LLAMA4
        | {
            "moe_layers": [0, 1, 2],
            "use_qk_norm": False,
            "attention_chunk_size": None,
            "attn_temperature_tuning": False,
            "rope_parameters": {**_LLAMA3, "high_freq_factor": 1.0},
            "tie_word_embeddings": True,
        },
    ),
    "llama4, windows": (
        "llama4",
        {
            "text_config": _LLAMA4 | {"attention_chunk_size": SHORT, "no_rope_layer_interval": 2},
            "vision_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "image_size": 28,
                "patch_size": 14,
                "projector_input_dim": 8,
                "projector_output_dim": 8,
                "vision_output_dim": 8,
            },
        },
    ),
    "lfm2": (
        "lfm2",
        _HYBRID
        | {
            "layer_types": ["conv", "full_attention", "conv"],
            "norm_eps": 1e-3,
            "conv_bias": True,
            "conv_L_cache": 4,
            "block_multiple_of": 8,
            "block_ffn_dim_multiplier": 1.3,
            "tie_embedding": False,
        },
    ),
    "lfm2, plain": (
        "lfm2",
        _HYBRID
        | {
            "layer_types": ["full_attention", "conv", "full_attention"],
            "norm_eps": 1e-3,
            "block_auto_adjust_ff_dim": False,
        },
    ),
    "lfm2_moe": (
        "lfm2_moe",
        _HYBRID
        | {
            "layer_types": ["conv", "full_attention", "conv"],
            "norm_eps": 1e-3,
            "moe_intermediate_size": 16,
            "num_experts": 5,
            "num_experts_per_tok": 3,
            "num_dense_layers": 1,
            "routed_scaling_factor": 1.7,
            "conv_bias": True,
        },
    ),
    "qwen3_next": (
        "qwen3_next",
        _DELTA
        | {
            "num_experts": 5,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 24,
            "norm_topk_prob": False,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3_next, mixed": (
        "qwen3_next",
        _DELTA
        | {
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
            "linear_num_key_heads": 3,
            "linear_num_value_heads": 3,
            "hidden_act": "gelu",
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 24,
            "mlp_only_layers": [1],
        },
    ),
    "qwen3_5_text": ("qwen3_5_text", _DELTA | {"attention_bias": True}),
    "qwen3_5_moe_text": (
        "qwen3_5_moe_text",
        {name: value for name, value in _DELTA.items() if name != "intermediate_size"}
        | {
            "num_experts": 5,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 24,
        },
    ),
    "qwen3_5": (
        "qwen3_5",
        {
            "text_config": _DELTA
            | {"rope_parameters": {**_DELTA["rope_parameters"], "mrope_section": [1, 1, 1], "mrope_interleaved": True}},
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 24,
                "num_position_embeddings": 16,
            },
        },
    ),
    "granitemoehybrid": (
        "granitemoehybrid",
        _HYBRID
        | _STATES
        | {
            "layer_types": ["mamba", "attention", "mamba"],
            "mamba_n_heads": 4,
            "mamba_proj_bias": True,
            "mamba_conv_bias": False,
            "shared_intermediate_size": 20,
            "num_local_experts": 5,
            "num_experts_per_tok": 3,
            "attention_bias": True,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.5,
            "residual_multiplier": 0.7,
            "attention_multiplier": 0.3,
            "time_step_limit": [0.02, 1.5],
        },
    ),
    "granitemoehybrid, rotated": (
        "granitemoehybrid",
        _HYBRID
        | _STATES
        | {
            "layer_types": ["attention", "mamba", "mamba"],
            "mamba_n_heads": 6,
            "num_local_experts": 0,
            "position_embedding_type": "rope",
            "shared_intermediate_size": 20,
            "tie_word_embeddings": True,
        },
    ),
    "falcon_h1": (
        "falcon_h1",
        _HYBRID | _STATES | _FALCON_H1 | {"mamba_rms_norm": True, "mamba_norm_before_gate": False, "mlp_bias": True},
    ),
    "falcon_h1, norm first": (
        "falcon_h1",
        _HYBRID
        | _STATES
        | _FALCON_H1
        | {"mamba_rms_norm": True, "mamba_norm_before_gate": True, "mlp_multipliers": [1.0, 1.0]},
    ),
    "falcon_h1, without norms": (
        "falcon_h1",
        _HYBRID | _STATES | _FALCON_H1 | {"mamba_rms_norm": False, "projectors_bias": True},
    ),
    "mamba2": (
        "mamba2",
        {
            "vocab_size": 96,
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "num_heads": 4,
            "head_dim": 18,
            "expand": 3,
            "state_size": 7,
            "n_groups": 2,
            "conv_kernel": 3,
            "use_bias": True,
            "use_conv_bias": False,
            "layer_norm_epsilon": 1e-3,
            "time_step_limit": [0.02, 1.5],
            "chunk_size": 8,
        },
    ),
    "nemotron_h": (
        "nemotron_h",
        _NEMOTRON
        | {
            "hybrid_override_pattern": "M-*EM",
            "use_bias": True,
            "mlp_bias": True,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 16,
            "moe_shared_expert_intermediate_size": 14,
            "n_group": 4,
            "topk_group": 2,
            "norm_topk_prob": True,
            "routed_scaling_factor": 1.7,
        },
    ),
    "nemotron_h, latent": (
        "nemotron_h",
        _NEMOTRON
        | {
            "hybrid_override_pattern": "EM*M",
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "moe_shared_expert_intermediate_size": 14,
            "moe_latent_size": 8,
            "mlp_hidden_act": "silu",
            "use_conv_bias": False,
        },
    ),
    "gemma": ("gemma", _WIDE | {"rope_parameters": _ROPE, "attention_bias": True, "hidden_act": "silu"}),
    "gemma2": (
        "gemma2",
        _WIDE
        | {
            "rope_parameters": _ROPE,
            "layer_types": _MIXED,
            "sliding_window": SHORT,
            "query_pre_attn_scalar": 7,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 4.0,
        },
    ),
    "gemma2, long window": (
        "gemma2",
        _WIDE
        | {
            "rope_parameters": _LLAMA3,
            "sliding_window": LONG,
            "attention_bias": True,
            "tie_word_embeddings": False,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": 6.0,
        },
    ),
    "gemma3_text": ("gemma3_text", _GEMMA3 | {"final_logit_softcapping": 5.0}),
    "gemma4_text, windows": (
        "gemma4_text",
        _GEMMA4 | _READING | {"use_double_wide_mlp": True, "final_logit_softcapping": 9.0},
    ),
    "gemma4_text, experts, windows": (
        "gemma4_text",
        _GEMMA4
        | {
            "attention_bias": True,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
            "enable_moe_block": True,
            "num_experts": 5,
            "top_k_experts": 3,
            "moe_intermediate_size": 16,
            "hidden_size_per_layer_input": 0,
            "use_bidirectional_attention": "vision",
            "tie_word_embeddings": False,
        },
    ),
    "gemma4, windows": (
        "gemma4",
        {"text_config": _GEMMA4 | {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "pad_token_id": 0}}
        | _SENSES,
    ),
    "gemma4_unified_text, windows": (
        "gemma4_unified_text",
        {name: value for name, value in _GEMMA4.items() if "per_layer_input" not in name}
        | {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "final_logit_softcapping": 9.0},
    ),
    "gemma3n_text, windows": ("gemma3n_text", _GEMMA3N),
    "gemma3": (
        "gemma3",
        {
            "text_config": _GEMMA3,
            "vision_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 16,
                "image_size": 28,
                "patch_size": 14,
            },
        },
    ),
}


# One of each family whose logits are kept in ``golden_families/`` (those of the others are in ``golden/``).
GOLDEN_NAMES = (
    "gpt_neox",
    "smollm3, windows",
    "mistral",
    "qwen2, windows",
    "qwen3, windows",
    "gemma",
    "gemma2",
    "gemma3_text",
    "olmo2",
    "olmo3, windows",
    "phi3",
    "granite",
    "cohere2, windows",
    "starcoder2, windows",
    "stablelm",
    "glm4",
    "exaone4, windows",
    "ministral3",
    "seed_oss",
    "opt",
    "apertus",
    "falcon (40B)",
    "mixtral, windows",
    "qwen2_moe",
    "qwen3_moe",
    "olmoe",
    "granitemoe",
    "gpt_oss, windows",
    "deepseek_v2, groups",
    "deepseek_v3",
    "glm4_moe",
    "minimax_m2",
    "llama4_text, windows",
    "gemma4_text, windows",
    "gemma3n_text, windows",
    "lfm2",
    "lfm2_moe",
    "qwen3_next",
    "qwen3_5_text",
    "granitemoehybrid",
    "falcon_h1",
    "mamba2",
    "nemotron_h",
)


def random_tokens(seed: int) -> np.ndarray:
    """Three texts, ``[3, LENGTH]``."""
    return np.random.default_rng(seed).integers(_SIZES["vocab_size"], size=(3, LENGTH))


def random_family_model(model_type: str, settings: dict[str, Any], seed: int) -> Any:
    """A PyTorch model whose numbers are about as large as in models of use."""
    return random_model(model_type, settings, seed, spread=0.15, embeddings=0.5)


@jax.jit
def _one_pass(lm: sd.LanguageModel, tokens: Array) -> Array:
    return lm.logits(tokens)


@jax.jit
def _next(lm: sd.LanguageModel, tokens: Array, start: Array, cache: Pages) -> tuple[Array, Pages]:
    """Logits of tokens ``[B, T]`` after those that the first ``start`` slots of a cache hold."""
    rows, count = tokens.shape
    slots = jnp.arange(length(cache))
    earlier = jnp.broadcast_to(slots < start, (rows, count, len(slots)))
    own = jnp.broadcast_to(jnp.tri(count, dtype=bool), (rows, count, count))
    at = jnp.broadcast_to(start + jnp.arange(count), (rows, count))
    mask = jnp.concatenate([earlier, own], -1)
    hidden, new = lm.encode(tokens, at, mask, cache, jnp.broadcast_to(slots, (rows, len(slots))))
    put = jax.lax.dynamic_update_slice_in_dim
    return lm.decoder.logits(hidden), jax.tree.map(lambda old, x: put(old, x, start, axis=-2), cache, new)


def one_pass(lm: sd.LanguageModel, tokens: np.ndarray) -> np.ndarray:
    """Logits ``[B, T, V]``."""
    return np.asarray(_one_pass(lm, tokens))


def in_chunks(lm: sd.LanguageModel, tokens: np.ndarray, size: int) -> np.ndarray:
    """Logits ``[B, T, V]``, of so many tokens at a time, with the keys and values of those before."""
    rows, count = tokens.shape
    cache: Pages = jax.tree.map(
        lambda kept: jnp.zeros((kept.layers, rows, kept.heads, count, kept.size), kept.dtype(lm.dtype)), lm.config.kept
    )
    logits = []
    for start in range(0, count, size):
        part, cache = _next(lm, tokens[:, start : start + size], start, cache)
        logits.append(np.asarray(part))
    return np.concatenate(logits, axis=1)


WAYS: dict[str, Callable[[sd.LanguageModel, np.ndarray], np.ndarray]] = {
    "one pass": one_pass,
    "chunked": lambda lm, tokens: in_chunks(lm, tokens, 6),
    "cached": lambda lm, tokens: in_chunks(lm, tokens, 1),
}


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of two logits, over the largest logit there is."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def choices(lm: sd.LanguageModel, tokens: np.ndarray) -> np.ndarray:
    """Which experts tokens ``[B, T]`` go through: int ``[layers, B, T, k]``, of the layers that have some, sorted."""
    found: list[np.ndarray] = []
    route = feed.route

    def seen(*arguments: Any) -> tuple[Array, Array]:
        chosen, shares = route(*arguments)
        jax.debug.callback(lambda x: found.append(np.sort(x, axis=-1)), chosen, ordered=True)
        return chosen, shares

    feed.route = seen
    try:
        jax.jit(lambda lm: lm.logits(tokens))(lm).block_until_ready()
        jax.effects_barrier()
    finally:
        feed.route = route
    return np.stack(found)


def unparted(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tokens ``[B, T]`` that go through the same experts in both, as all before them do, whose keys they see."""
    same = (some == others).all((0, -1))
    return np.logical_and.accumulate(same, axis=1)

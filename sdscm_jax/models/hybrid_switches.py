"""The switches of families whose layers take from other tokens in several ways: LFM 2, Qwen3-Next, Qwen3.5,
and with state spaces Granite 4, Falcon-H1, Mamba 2 and Nemotron-H."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter as key
from typing import Any

from ..errors import LoadError
from .config import Experts, Rope
from .family_switches import GRANITE, LLAMA, NO_BIAS, QWEN2_MOE
from .mixed_switches import sigmoid_experts
from .mixer_config import Alone, Convolution, Delta, Heads, Mixer, StateSpace
from .rope import EXACT_POSITIONS
from .rope_options import partial_rope, read_rope, rope_everywhere


def layers_by_type(c: Any, known: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Mixer -> the layers that have it, of ``layer_types`` and the mixer that each type stands for."""
    kinds = tuple(c.layer_types or ())
    if len(kinds) != c.num_hidden_layers or not {*kinds} <= {*known}:
        raise LoadError(f"layer_types = {kinds} is not supported (known: {', '.join(known)}, one for each layer)")
    named = [known[kind] for kind in kinds]
    return {name: tuple(i for i, own in enumerate(named) if own == name) for name in dict.fromkeys(known.values())}


def beside_attention(c: Any, attention: tuple[int, ...], name: str, other: Mixer) -> tuple[tuple[str, Mixer], ...]:
    """Attention in some layers, and another mixer in others; nothing where all have attention, and are alike."""
    if not other.layers:
        return ()
    return (("attention", Heads(attention)), (name, other)) if attention else ((name, other),)


def _lfm2_mixers(c: Any) -> tuple[tuple[str, Mixer], ...]:
    layers = layers_by_type(c, {"full_attention": "attention", "conv": "conv"})
    return beside_attention(c, layers["attention"], "conv", Convolution(layers["conv"], c.conv_L_cache, c.conv_bias))


def _lfm2_width(c: Any) -> int:
    size, factor, multiple = c.intermediate_size, c.block_ffn_dim_multiplier, c.block_multiple_of
    # Read, and of no meaning beside ``layer_types``.
    _ = c.full_attn_idxs
    if not c.block_auto_adjust_ff_dim:
        return int(size)
    size = int(2 * size / 3)
    return int(multiple * -(-int(factor * size) // multiple)) if factor is not None else size


LFM2 = (
    LLAMA
    | NO_BIAS
    | {
        "norm_eps": key("norm_eps"),
        "qk_norm": True,
        "activation": "silu",
        "mlp_width": _lfm2_width,
        "mixers": _lfm2_mixers,
    }
)
# Options of published files that transformers does not read, with the values that its code stands for.
LFM2_FIXED = {
    "block_mlp_init_scale": 1.0,
    "block_out_init_scale": 1.0,
    "block_use_swiglu": True,
    "block_use_xavier_init": True,
    "conv_use_xavier_init": True,
    "use_pos_enc": True,
}
LFM2_MOE = LFM2 | {
    "mlp_width": key("intermediate_size"),
    "dense": lambda c: tuple(range(min(c.num_dense_layers, c.num_hidden_layers))),
    "experts": lambda c: Experts(
        c.num_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        normalised=bool(c.norm_topk_prob),
        sigmoid=True,
        corrected=bool(c.use_expert_bias),
        scale=float(c.routed_scaling_factor),
        more=1e-6,
    ),
}


def _delta(c: Any) -> tuple[tuple[str, Mixer], ...]:
    layers = layers_by_type(c, {"full_attention": "attention", "linear_attention": "delta"})
    if c.linear_num_value_heads % c.linear_num_key_heads:
        raise LoadError(f"{c.linear_num_value_heads} values do not share {c.linear_num_key_heads} keys")
    sizes = c.linear_key_head_dim, c.linear_value_head_dim, c.linear_conv_kernel_dim
    delta = Delta(layers["delta"], c.linear_num_key_heads, c.linear_num_value_heads, *sizes)
    return beside_attention(c, layers["attention"], "delta", delta)


def _rope_of_text(c: Any) -> tuple[Rope | None, ...]:
    """In a text without images the three positions of a token are one, and sections of the rotation are no matter."""
    given = {name: value for name, value in c.rope_parameters.items() if not name.startswith("mrope_")}
    return (read_rope(given, c, partial=True),) * c.num_hidden_layers


_QWEN_HYBRID = {
    "norm_offset": True,
    "qk_norm": True,
    "gated_output": True,
    "qkv_bias": key("attention_bias"),
    "out_bias": key("attention_bias"),
    "mixers": _delta,
}
QWEN3_NEXT = (
    {name: value for name, value in QWEN2_MOE.items() if name != "windows"} | _QWEN_HYBRID | {"rope": partial_rope}
)
QWEN3_5_FIXED = {"attn_output_gate": True, "mamba_ssm_dtype": "float32"}
QWEN3_5 = LLAMA | NO_BIAS | _QWEN_HYBRID | {"rope": _rope_of_text}
QWEN3_5_MOE = QWEN3_5 | {
    "mlp_width": key("shared_expert_intermediate_size"),
    "experts": lambda c: Experts(
        c.num_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        normalised=True,
        shared=True,
        shared_gate=True,
    ),
}


# -- state spaces -------------------------------------------------------------------------------


def _unused(c: Any, *names: str) -> None:
    """Options that say how it is computed, or how it was trained, and not what."""
    for name in names:
        getattr(c, name)


def _limits(c: Any) -> tuple[float, float]:
    low, high = c.time_step_limit
    return float(low), float(high)


def _granite_mixers(c: Any) -> tuple[tuple[str, Mixer], ...]:
    _unused(c, "mamba_chunk_size", "mamba_expand")
    layers = layers_by_type(c, {"full_attention": "attention", "linear_attention": "states"})
    states = StateSpace(
        layers["states"],
        c.mamba_n_heads,
        c.mamba_d_head,
        c.mamba_n_groups,
        c.mamba_d_state,
        c.mamba_d_conv,
        bool(c.mamba_proj_bias),
        bool(c.mamba_proj_bias),
        bool(c.mamba_conv_bias),
        _limits(c),
    )
    return beside_attention(c, layers["attention"], "states", states)


def _granite_rope(c: Any) -> tuple[Rope | None, ...]:
    if c.position_embedding_type not in (None, "rope", "nope"):
        raise LoadError(f"position_embedding_type = {c.position_embedding_type!r} is not supported (known: rope, nope)")
    turned = c.position_embedding_type == "rope"
    given = rope_everywhere(c)
    return given if turned else (None,) * c.num_hidden_layers


def _granite_experts(c: Any) -> Experts | None:
    # Read, for it is an expert's, of which there may be none.
    width, chosen = c.intermediate_size, c.num_experts_per_tok
    return Experts(c.num_local_experts, chosen, width, of_chosen=True, shared=True) if c.num_local_experts else None


GRANITE_HYBRID = GRANITE | {
    "mlp_bias": False,
    "rope": _granite_rope,
    "mlp_width": key("shared_intermediate_size"),
    "experts": _granite_experts,
    "mixers": _granite_mixers,
}


GRANITE_HYBRID_FIXED = {"init_method": "mup", "normalization_function": "rmsnorm"}


def _falcon_mixers(c: Any) -> tuple[tuple[str, Mixer], ...]:
    # (Heads times their size: transformers sees to it.)
    _unused(c, "mamba_d_ssm", "mamba_chunk_size", "mamba_expand", "num_logits_to_keep")
    everywhere = tuple(range(c.num_hidden_layers))
    gate, value, state, query, step = (float(factor) for factor in c.ssm_multipliers)
    states = StateSpace(
        everywhere,
        c.mamba_n_heads,
        c.mamba_d_head,
        c.mamba_n_groups,
        c.mamba_d_state,
        c.mamba_d_conv,
        bool(c.mamba_proj_bias),
        bool(c.projectors_bias),
        bool(c.mamba_conv_bias),
        _limits(c),
        bool(c.mamba_rms_norm),
        not c.mamba_norm_before_gate,
        None,
        (gate, value, state, query, step),
        (float(c.ssm_in_multiplier), float(c.ssm_out_multiplier)),
    )
    factors = float(c.attention_in_multiplier), float(c.attention_out_multiplier)
    return ("attention", Heads(everywhere, factors=factors)), ("states", states)


FALCON_H1 = LLAMA | {
    "query_scale": lambda c: float(c.key_multiplier) * (c.hidden_size // c.num_attention_heads) ** -0.5,
    "embedding_scale": lambda c: float(c.embedding_multiplier),
    "logit_scale": lambda c: float(c.lm_head_multiplier),
    "mlp_factors": lambda c: None if set(c.mlp_multipliers) == {1.0} else tuple(map(float, c.mlp_multipliers)),
    "mixers": _falcon_mixers,
}


FALCON_H1_FIXED = {"mamba_use_mlp": True}


def _mamba2_mixers(c: Any) -> tuple[tuple[str, Mixer], ...]:
    _unused(c, "chunk_size", "expand", "residual_in_fp32", "rescale_prenorm_residual")
    _unused(c, "time_step_rank", "time_step_min", "time_step_max", "time_step_floor")
    sizes = c.num_heads, c.head_dim, c.n_groups, c.state_size, c.conv_kernel
    biases = bool(c.use_bias), bool(c.use_bias), bool(c.use_conv_bias)
    return (("states", StateSpace(tuple(range(c.num_hidden_layers)), *sizes, *biases, _limits(c))),)


MAMBA2: dict[str, Any] = {
    "vocab_size": key("vocab_size"),
    "width": key("hidden_size"),
    "layers": key("num_hidden_layers"),
    # There is no attention, and no MLP.
    "heads": 1,
    "kv_heads": 1,
    "head_dim": 1,
    "mlp_width": 1,
    "query_scale": 1.0,
    "gated": False,
    # Nor anything that would end.
    "max_positions": EXACT_POSITIONS,
    "positions": "none",
    "norm": "rms",
    "norm_eps": key("layer_norm_epsilon"),
    "activation": key("hidden_act"),
    "tied": key("tie_word_embeddings"),
    "alone": True,
    "mixers": _mamba2_mixers,
}


def _nemotron_mixers(c: Any) -> tuple[tuple[str, Mixer], ...]:
    _unused(c, "chunk_size", "expand", "residual_in_fp32", "rescale_prenorm_residual", "use_mamba_kernels")
    _unused(c, "time_step_max", "time_step_floor", "mamba_ssm_cache_dtype", "num_logits_to_keep")
    _unused(c, "mamba_proj_bias", "moe_shared_expert_overlap", "mtp_layers_block_type", "hybrid_override_pattern")
    names = {"full_attention": "attention", "linear_attention": "states", "mlp": "dense", "moe": "sparse"}
    layers = layers_by_type(c, names)
    sizes = c.mamba_num_heads, c.mamba_head_dim, c.n_groups, c.ssm_state_size, c.conv_kernel
    biases = bool(c.use_bias), bool(c.use_bias), bool(c.use_conv_bias)
    # (What transformers has in the place of ``time_step_limit``.)
    if _limits(c) != (0.0, math.inf):
        raise LoadError(f"time_step_limit = {c.time_step_limit!r} is not supported (only (0, inf) is)")
    limits = float(c.time_step_min), math.inf
    states = StateSpace(layers["states"], *sizes, *biases, limits, activation=c.mamba_hidden_act)
    own: dict[str, Mixer] = {"attention": Heads(layers["attention"]), "states": states, "dense": Alone(layers["dense"])}
    own["sparse"] = Alone(layers["sparse"], sparse=True)
    return tuple((name, mixer) for name, mixer in own.items() if mixer.layers)


def _nemotron_experts(c: Any) -> Experts | None:
    experts = replace(
        sigmoid_experts(c),
        plain=True,
        latent=c.moe_latent_size or 0,
        shared_width=c.moe_shared_expert_intermediate_size,
    )
    return experts if "moe" in c.layer_types else None


NEMOTRON_H = LLAMA | {
    "norm_eps": key("layer_norm_epsilon"),
    # Attention has no biases, whatever the configuration says (see ``Options.refuse_unread``), and knows no positions.
    "qkv_bias": False,
    "out_bias": False,
    "rope": (),
    "max_positions": key("max_position_embeddings"),
    "positions": "none",
    "gated": False,
    "activation": key("mlp_hidden_act"),
    "alone": True,
    "experts": _nemotron_experts,
    "mixers": _nemotron_mixers,
}
NEMOTRON_H_FIXED = {
    "auto_map": {
        "AutoConfig": "configuration_nemotron_h.NemotronHConfig",
        "AutoModelForCausalLM": "modeling_nemotron_h.NemotronHForCausalLM",
    },
}

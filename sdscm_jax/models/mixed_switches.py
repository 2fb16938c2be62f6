"""The switches of families whose layers differ in kind: DeepSeek V2 and V3, GLM 4.5, Llama 4, MiniMax M2."""

from __future__ import annotations

import math
from operator import attrgetter as key
from typing import Any

from ..errors import LoadError
from .config import Experts, Latent, Rope
from .family_switches import LLAMA, NO_BIAS, useful
from .rope import EXACT_POSITIONS
from .rope_options import longest, partial_rope, rope_in_some_layers


def code_of(version: str) -> dict[str, Any]:
    """Options of the published files that transformers does not read, with the values that its code stands for."""
    names = {"AutoConfig": "configuration_deepseek.Deepseek{}Config", "AutoModel": "modeling_deepseek.Deepseek{}Model"}
    names["AutoModelForCausalLM"] = "modeling_deepseek.Deepseek{}ForCausalLM"
    scoring = {"V2": "softmax", "V3": "sigmoid"}[version]
    fixed = {"auto_map": {name: code.format(version) for name, code in names.items()}}
    return (
        fixed
        | {"scoring_func": scoring, "moe_layer_freq": 1}
        | ({"topk_method": "noaux_tc"} if version == "V3" else {})
    )


def _latent(c: Any) -> Latent:
    if c.num_key_value_heads != c.num_attention_heads:
        raise LoadError(f"num_key_value_heads = {c.num_key_value_heads} is not num_attention_heads")
    if c.head_dim != c.qk_rope_head_dim:
        raise LoadError(f"head_dim = {c.head_dim} is not qk_rope_head_dim = {c.qk_rope_head_dim}")
    return Latent(c.kv_lora_rank, c.q_lora_rank or 0, c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim)


def _query_scale(c: Any) -> float:
    """YaRN's growth of the logits is here, and not in the rotation, where it is of all dimensions."""
    scale, rope = (c.qk_nope_head_dim + c.qk_rope_head_dim) ** -0.5, c.rope_parameters
    of_all = rope.get("mscale_all_dim") or 0
    if rope.get("rope_type", "default") == "default" or not of_all or rope["factor"] <= 1:
        return float(scale)
    return float(scale * (0.1 * of_all * math.log(rope["factor"]) + 1) ** 2)


def _dense(c: Any) -> tuple[int, ...]:
    return tuple(range(min(c.first_k_dense_replace, c.num_hidden_layers)))


def _groups(c: Any, best: int) -> tuple[int, int, int] | None:
    count, kept = c.n_group, c.topk_group
    if count == kept == 1:
        return None
    size, rest = divmod(c.n_routed_experts, count)
    if rest or not 1 <= kept <= count or size < best or kept * size < c.num_experts_per_tok:
        raise LoadError(
            f"{c.num_experts_per_tok} of {c.n_routed_experts} experts cannot be chosen from the best {kept} of {count} "
            f"groups by {best} scores of each"
        )
    return count, kept, best


def _experts_v2(c: Any) -> Experts:
    if c.topk_method not in ("greedy", "group_limited_greedy"):
        raise LoadError(f"topk_method = {c.topk_method!r} is not supported (known: greedy, group_limited_greedy)")
    limited = c.topk_method == "group_limited_greedy"
    # Read, and of no meaning where the best of all are chosen.
    _ = c.n_group, c.topk_group
    return Experts(
        c.n_routed_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        shared=True,
        shared_width=c.moe_intermediate_size * c.n_shared_experts,
        groups=_groups(c, 1) if limited else None,
        scale=float(c.routed_scaling_factor),
        exact=True,
    )


def sigmoid_experts(c: Any) -> Experts:
    """As DeepSeek V3 has them."""
    return Experts(
        c.n_routed_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        normalised=bool(c.norm_topk_prob),
        shared=True,
        shared_width=c.moe_intermediate_size * c.n_shared_experts,
        sigmoid=True,
        corrected=True,
        groups=_groups(c, 2),
        scale=float(c.routed_scaling_factor),
        exact=True,
    )


DEEPSEEK_V2 = (
    LLAMA
    | NO_BIAS
    | {
        "kv_heads": 1,
        # What a query is compared with.
        "head_dim": lambda c: c.kv_lora_rank + c.qk_rope_head_dim,
        "query_scale": _query_scale,
        "qkv_bias": key("attention_bias"),
        "out_bias": key("attention_bias"),
        "mlp_bias": key("mlp_bias"),
        "interleaved": True,
        "latent": _latent,
        "dense": _dense,
        "experts": _experts_v2,
    }
)
DEEPSEEK_V3 = DEEPSEEK_V2 | {
    "mlp_bias": False,
    "interleaved": lambda c: bool(c.rope_interleave),
    "experts": sigmoid_experts,
}


GLM4_MOE = (
    LLAMA
    | NO_BIAS
    | {
        "rope": partial_rope,
        "qkv_bias": key("attention_bias"),
        "qk_norm": key("use_qk_norm"),
        "dense": _dense,
        "experts": sigmoid_experts,
    }
)


def _minimax_rope(c: Any) -> tuple[Rope | None, ...]:
    # Some files say it beside the rotation, and transformers puts it there.
    _ = getattr(c, "rotary_dim", None)
    return partial_rope(c)


MINIMAX_M2 = (
    LLAMA
    | NO_BIAS
    | {
        "rope": _minimax_rope,
        "qk_norm_whole": True,
        "experts": lambda c: Experts(
            c.num_local_experts,
            c.num_experts_per_tok,
            c.intermediate_size,
            normalised=True,
            sigmoid=True,
            corrected=True,
        ),
    }
)
MINIMAX_M2_FIXED = {
    "auto_map": {
        "AutoConfig": "configuration_minimax_m2.MiniMaxM2Config",
        "AutoModelForCausalLM": "modeling_minimax_m2.MiniMaxM2ForCausalLM",
    },
    "qk_norm_type": "per_layer",
    "scoring_func": "sigmoid",
    "shared_intermediate_size": 0,
    "use_qk_norm": True,
    "use_routing_bias": True,
}


def _llama4_chunks(c: Any) -> tuple[int | None, ...]:
    size, kinds = c.attention_chunk_size, tuple(c.layer_types)
    if not {*kinds} <= {"full_attention", "chunked_attention"}:
        raise LoadError(f"layer_types = {kinds} is not supported (known: full and chunked attention)")
    if "chunked_attention" in kinds and not size:
        raise LoadError(f"layer_types has 'chunked_attention', but attention_chunk_size = {size!r}")
    return useful(tuple(size if kind == "chunked_attention" else None for kind in kinds), c)


def _llama4_growth(c: Any) -> tuple[float, float, int, bool] | None:
    scale, every = float(c.attn_scale), float(c.floor_scale)
    return (scale, every, 1, True) if c.attn_temperature_tuning else None


def _llama4_experts(c: Any) -> Experts:
    return Experts(
        c.num_local_experts,
        c.num_experts_per_tok,
        c.intermediate_size,
        of_chosen=True,
        shared=True,
        shared_width=c.intermediate_size,
        sigmoid=True,
        inside=True,
    )


LLAMA4 = (
    LLAMA
    | NO_BIAS
    | {
        "qkv_bias": key("attention_bias"),
        "out_bias": key("attention_bias"),
        # Scout is published with ten million.
        "max_positions": lambda c: min(longest(c), EXACT_POSITIONS),
        "mlp_width": key("intermediate_size_mlp"),
        "rope": rope_in_some_layers,
        "interleaved": True,
        "windows": _llama4_chunks,
        "chunked": lambda c: bool(_llama4_chunks(c)),
        "turned_norm": key("use_qk_norm"),
        "growth": _llama4_growth,
        "dense": lambda c: tuple(i for i in range(c.num_hidden_layers) if i not in c.moe_layers),
        "experts": _llama4_experts,
    }
)

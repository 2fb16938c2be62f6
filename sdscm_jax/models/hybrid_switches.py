"""The switches of families whose layers take from other tokens in several ways: LFM 2, Qwen3-Next and Qwen3.5."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter as key
from typing import Any

from ..errors import LoadError
from .config import Experts, Rope
from .family_switches import LLAMA, NO_BIAS, QWEN2_MOE
from .mixer_config import Convolution, Delta, Heads, Mixer
from .rope_options import partial_rope, read_rope


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

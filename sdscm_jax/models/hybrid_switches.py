"""The switches of families whose layers take from other tokens in several ways: LFM 2."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter as key
from typing import Any

from ..errors import LoadError
from .config import Experts
from .family_switches import LLAMA, NO_BIAS
from .mixer_config import Convolution, Heads, Mixer


def layers_by_type(c: Any, known: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Mixer -> the layers that have it, of ``layer_types`` and the mixer that each type stands for."""
    kinds = tuple(c.layer_types or ())
    if len(kinds) != c.num_hidden_layers or not {*kinds} <= {*known}:
        raise LoadError(f"layer_types = {kinds} is not supported (known: {', '.join(known)}, one for each layer)")
    named = [known[kind] for kind in kinds]
    return {name: tuple(i for i, own in enumerate(named) if own == name) for name in dict.fromkeys(known.values())}


def _lfm2_mixers(c: Any) -> tuple[tuple[str, Mixer], ...]:
    layers = layers_by_type(c, {"full_attention": "attention", "conv": "conv"})
    attention, conv = Heads(layers["attention"]), Convolution(layers["conv"], c.conv_L_cache, c.conv_bias)
    # Without convolutions all layers are alike.
    if not conv.layers:
        return ()
    return (("attention", attention), ("conv", conv)) if attention.layers else (("conv", conv),)


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

"""The switches of Gemma 3n and Gemma 4 (their text models)."""

from __future__ import annotations

from operator import attrgetter as key
from statistics import NormalDist
from typing import Any

from ..errors import LoadError
from .config import Experts, LayerInputs, Rope, Streams
from .family_switches import LLAMA, windows
from .mixer_config import Heads
from .rope_options import read_rope, rope_by_layer_type

# What differs between layers of Gemma 4, by the file.
_SIZES = {"head_dim", "num_key_value_heads"}
_SLIDING, _FULL = "sliding", "full"
_KINDS = {"sliding_attention": _SLIDING, "full_attention": _FULL}


def _borrowers(c: Any) -> int:
    """The first of the layers that read the keys and values of earlier ones."""
    first = c.num_hidden_layers - (c.num_kv_shared_layers or 0)
    kinds = tuple(c.layer_types)
    if not 0 <= first <= len(kinds) or {*kinds[first:]} - {*kinds[:first]}:
        raise LoadError(
            f"num_kv_shared_layers = {c.num_kv_shared_layers}: no earlier layer of the same kind has the keys and "
            "values that these layers read"
        )
    return int(first)


def _mixers(c: Any, changes: dict[str, dict[str, Any]]) -> tuple[tuple[str, Heads], ...]:
    """Layers with and without windows; those behind ``_borrowers`` read the keys and values of the others.

    Args:
        c: the configuration.
        changes: kind -> switches that are others there.
    """
    first, kinds, found = _borrowers(c), tuple(c.layer_types), []
    for kind, name in _KINDS.items():
        own = tuple(i for i, other in enumerate(kinds) if other == kind)
        some = tuple(changes.get(kind, {}).items())
        for called, layers, reads in (
            (name, tuple(i for i in own if i < first), None),
            (f"{name}_reading", tuple(i for i in own if i >= first), name),
        ):
            if layers:
                found.append((called, Heads(layers, some, reads=reads)))
    return tuple(found)


# -- Gemma 4 ------------------------------------------------------------------------------------------


def _of_kind(c: Any) -> dict[str, Any]:
    """Kind of layers -> the configuration that they have; those of a kind are alike."""
    said = c.to_dict().get("per_layer_config") or {}
    own_of_layers = {name for own in said.values() for name in own}
    # The others are read, too.
    _ = [getattr(c, name) for name in _SIZES - own_of_layers]
    if others := own_of_layers - _SIZES:
        raise LoadError(f"per_layer_config: {', '.join(sorted(others))} of single layers is not supported")
    found: dict[str, Any] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for i, kind in enumerate(c.layer_types):
        own = c.per_layer_config[i]
        found.setdefault(kind, own)
        if sizes.setdefault(kind, (own.head_dim, own.num_key_value_heads)) != (own.head_dim, own.num_key_value_heads):
            raise LoadError(f"per_layer_config: layers of the kind {kind} that differ are not supported")
    return found


def _largest(c: Any, name: str) -> int:
    return max(int(getattr(own, name)) for own in _of_kind(c).values())


def _gemma4_mixers(c: Any) -> tuple[tuple[str, Heads], ...]:
    changes = {
        kind: {
            "head_dim": int(own.head_dim),
            "kv_heads": int(own.num_key_value_heads),
            "one_projection": bool(c.attention_k_eq_v) and kind == "full_attention",
        }
        for kind, own in _of_kind(c).items()
    }
    return _mixers(c, changes)


def _gemma4_rope(c: Any) -> tuple[Rope | None, ...]:
    own = {kind: read_rope(c.rope_parameters[kind], config) for kind, config in _of_kind(c).items()}
    return tuple(own[kind] for kind in c.layer_types)


def _layer_inputs(c: Any) -> LayerInputs | None:
    size, vocabulary = c.hidden_size_per_layer_input, c.vocab_size_per_layer_input
    return LayerInputs(vocabulary, size) if size else None


def _gemma4_inputs(c: Any) -> LayerInputs | None:
    found = _layer_inputs(c)
    if found is not None and found.vocabulary < c.vocab_size:
        raise LoadError(f"vocab_size_per_layer_input = {found.vocabulary} is less than vocab_size = {c.vocab_size}")
    return found


def _gemma4_experts(c: Any) -> Experts | None:
    count, chosen, width = c.num_experts, c.top_k_experts, c.moe_intermediate_size
    if not c.enable_moe_block:
        return None
    return Experts(count, chosen, width, normalised=True, shared=True, apart=True)


def _doubled(c: Any) -> tuple[int, ...] | None:
    first = _borrowers(c)
    return tuple(range(first, c.num_hidden_layers)) or None if c.use_double_wide_mlp else None


def _only_causal(c: Any) -> bool:
    # "vision": only images look ahead.
    if c.use_bidirectional_attention not in (None, "vision"):
        raise LoadError(f"use_bidirectional_attention = {c.use_bidirectional_attention!r} is not supported")
    return True


_GEMMA = LLAMA | {
    "mlp_bias": False,
    "activation": key("hidden_activation"),
    "embedding_scale": lambda c: c.hidden_size**0.5,
    "query_scale": 1.0,
    "qk_norm": True,
    "value_norm": True,
    "output_norms": True,
    "windows": windows,
    "logit_cap": key("final_logit_softcapping"),
}
GEMMA4 = _GEMMA | {
    "head_dim": lambda c: _largest(c, "head_dim") if _only_causal(c) else 0,
    "kv_heads": lambda c: _largest(c, "num_key_value_heads"),
    "rope": _gemma4_rope,
    "mixers": _gemma4_mixers,
    "layer_inputs": _gemma4_inputs,
    "layer_scale": True,
    "doubled": _doubled,
    "experts": _gemma4_experts,
}

# Without images and sound of its own kind, vectors for each layer, and experts.
GEMMA4_UNIFIED = GEMMA4 | {"layer_inputs": None, "experts": None}


# -- Gemma 3n -----------------------------------------------------------------------------------------


def _one_width(c: Any) -> int:
    widths = {*c.intermediate_size}
    if len(widths) != 1:
        raise LoadError(f"intermediate_size = {c.intermediate_size}: layers that differ in it are not supported")
    return int(widths.pop())


def _streams(c: Any) -> Streams:
    count, active = c.altup_num_inputs, c.altup_active_idx
    # Bounds coefficients while they are trained.
    _ = c.altup_coef_clip
    if count < 2 or not 0 <= active < count:
        raise LoadError(f"altup_active_idx = {active} of altup_num_inputs = {count} is not supported")
    return Streams(count, active, bool(c.altup_correct_scale), c.laurel_rank)


def _spreads(c: Any) -> tuple[float | None, ...]:
    shares = tuple(c.activation_sparsity_pattern)
    if any(not 0 <= share < 1 for share in shares):
        raise LoadError(f"activation_sparsity_pattern = {shares}: shares from 0 on, and below 1")
    spreads = tuple(NormalDist().inv_cdf(share) if share else None for share in shares)
    return spreads if any(spread is not None for spread in spreads) else ()


GEMMA3N = _GEMMA | {
    "mlp_width": _one_width,
    "rope": rope_by_layer_type,
    "mixers": lambda c: _mixers(c, {}),
    "layer_inputs": _layer_inputs,
    "streams": _streams,
    "spreads": _spreads,
}
# Of older files: of training, and of a scale that the model has in its norms.
GEMMA3N_FIXED = {"altup_lr_multiplier": 1.0, "query_pre_attn_scalar": 256}

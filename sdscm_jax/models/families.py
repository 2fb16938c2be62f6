"""Families of language models as tables: how a configuration sets the switches, and (in ``tensors``)
which tensor of a checkpoint fills which parameter. Adding a family means adding a row; see
docs/add-a-family.md.

Sources: the Hugging Face configuration classes, read through ``AutoConfig`` (which normalises old
spellings to ``rope_parameters`` and ``layer_types``), and the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter as key
from typing import Any

from ..errors import LoadError
from .block import ACTIVATIONS
from .config import DecoderConfig
from .config_options import Options
from .rope import EXACT_POSITIONS
from .rope_options import (
    head_dim,
    longest,
    partial_rope,
    rope_by_layer_type,
    rope_everywhere,
    rope_in_some_layers,
    rope_in_windows,
    rope_in_windows_if_any,
)
from .tensors import (
    GLM4_TENSORS,
    GPT2_TENSORS,
    GPT_NEOX_TENSORS,
    LAYER_NORM_TENSORS,
    LLAMA_TENSORS,
    NORMS_BEHIND_TENSORS,
    OPT_TENSORS,
    OUTPUT_NORM_TENSORS,
    PHI3_TENSORS,
    QK_NORM_TENSORS,
    STARCODER2_TENSORS,
    Tensor,
)


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Attributes:
        switches: field of ``DecoderConfig`` -> its value, or a function that gives it of the
            Hugging Face configuration. Options of the configuration that no function reads must
            have their defaults.
        tensors: parameter path (``blocks.`` paths hold one tensor per layer) -> ``Tensor``.
        prefixes: prefixes that published checkpoints put in front of every name.
        ignored: endings of tensor names that carry no parameters (mask buffers and the like).
        fixed: options of published files that no function reads, with the one value that is computed.
        inside: option that holds the configuration of the text model, where there are other parts.
        other_parts: beginnings of the tensor names of those.
    """

    switches: dict[str, Any]
    tensors: dict[str, Tensor]
    prefixes: tuple[str, ...] = ("model.", "")
    ignored: tuple[str, ...] = (".rotary_emb.inv_freq",)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    inside: str | None = None
    other_parts: tuple[str, ...] = ()


# -- switches -----------------------------------------------------------------------------------


def _windows(c: Any) -> tuple[int | None, ...]:
    """The window of each layer that has one by ``layer_types``."""
    window, kinds = c.sliding_window, tuple(c.layer_types)
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise LoadError(f"layer_types has {kind!r}, which is not supported (known: full and sliding attention)")
    if "sliding_attention" not in kinds:
        return ()
    if not window or not getattr(c, "use_sliding_window", True):
        raise LoadError(f"layer_types has 'sliding_attention', but sliding_window = {window!r} is not in use")
    return _useful(tuple(window if kind == "sliding_attention" else None for kind in kinds), c)


def _window_everywhere(c: Any) -> tuple[int | None, ...]:
    return _useful((c.sliding_window,) * c.num_hidden_layers, c)


def _useful(windows: tuple[int | None, ...], c: Any) -> tuple[int | None, ...]:
    """The windows, or none at all where no text is long enough to feel them."""
    return windows if any(w is not None and w < c.max_position_embeddings for w in windows) else ()


def _gpt2_query_scale(c: Any) -> float:
    if c.scale_attn_by_inverse_layer_idx or not c.scale_attn_weights:
        raise LoadError("gpt2: scaling of attention other than 1/sqrt(head_dim) is not supported")
    return (c.n_embd // c.n_head) ** -0.5


_GPT2: dict[str, Any] = {
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
_LLAMA: dict[str, Any] = {
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
_NO_BIAS = {"qkv_bias": False, "out_bias": False, "mlp_bias": False}
_GPT_NEOX = _LLAMA | {
    "kv_heads": key("num_attention_heads"),
    "norm": "layer",
    "norm_eps": key("layer_norm_eps"),
    "rope": partial_rope,
    "gated": False,
    "mlp_bias": True,
    "parallel": key("use_parallel_residual"),
}
_GEMMA = _LLAMA | {
    "mlp_bias": False,
    "norm_offset": True,
    "embedding_scale": lambda c: c.hidden_size**0.5,
}
_GEMMA2 = _GEMMA | {
    "activation": key("hidden_activation"),
    "output_norms": True,
    "query_scale": lambda c: c.query_pre_attn_scalar**-0.5,
    "windows": _windows,
    "attention_cap": key("attn_logit_softcapping"),
    "logit_cap": key("final_logit_softcapping"),
}
# Its attention is never capped, whatever the configuration says; see `Options.refuse_unread`.
_GEMMA3 = _GEMMA2 | {"attention_cap": None, "qk_norm": True, "rope": rope_by_layer_type}
_ONLY_QUERIES_BIASED = {"out_bias": False, "mlp_bias": False}


def _phi3_positions(c: Any) -> int:
    # Some files say beside the rotation what transformers puts into it.
    for name in ("original_max_position_embeddings", "partial_rotary_factor"):
        own, inside = getattr(c, name, None), (c.rope_parameters or {}).get(name)
        if own is not None and inside not in (None, own):
            raise LoadError(f"{name} is {own!r}, and {inside!r} for the rotation")
    return longest(c)


_PHI3 = _LLAMA | _NO_BIAS | {"rope": partial_rope, "windows": _window_everywhere, "max_positions": _phi3_positions}
# Norms stand behind attention and MLP only.
_NORMS_BEHIND = {"pre_norms": False, "output_norms": True}
_OLMO2 = _LLAMA | _NORMS_BEHIND | {"mlp_bias": False, "qk_norm_whole": True}
_LAYER_NORM = {"norm": "layer", "norm_eps": key("layer_norm_eps")}
_COHERE2 = (
    _LLAMA
    | _LAYER_NORM
    | {
        "norm_bias": False,
        "mlp_bias": False,
        "parallel": True,
        "one_norm": True,
        "interleaved": True,
        "rope": rope_in_windows,
        "windows": _windows,
        "logit_scale": key("logit_scale"),
    }
)
_COHERE2_FIXED = {
    "layer_switch": 4,
    "order_of_interleaved_layers": "local_attn_first",
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1.0,
    "use_embedding_sharing": True,
    "use_gated_activation": True,
    "use_parallel_block": True,
    "use_parallel_embedding": True,
}
_GLM4 = _LLAMA | _ONLY_QUERIES_BIASED | {"rope": partial_rope, "interleaved": True, "output_norms": True}
_STABLELM = (
    _LLAMA
    | _LAYER_NORM
    | _NO_BIAS
    | {
        "rope": partial_rope,
        "qkv_bias": key("use_qkv_bias"),
        "parallel": key("use_parallel_residual"),
        "one_norm": key("use_parallel_residual"),
    }
)
_STARCODER2 = _LLAMA | {
    "norm": "layer",
    "norm_eps": key("norm_epsilon"),
    "gated": False,
    "qkv_bias": key("use_bias"),
    "out_bias": key("use_bias"),
    "mlp_bias": key("use_bias"),
    "windows": _window_everywhere,
}
_GRANITE = _LLAMA | {
    "embedding_scale": key("embedding_multiplier"),
    "query_scale": key("attention_multiplier"),
    "residual_scale": key("residual_multiplier"),
    "logit_scale": lambda c: 1 / c.logits_scaling,
}


def _opt_width(c: Any) -> int:
    if c.word_embed_proj_dim != c.hidden_size or not c.do_layer_norm_before or c._remove_final_layer_norm:
        raise LoadError("opt: embeddings of another width, and norms behind the layers, are not supported")
    return int(c.hidden_size)


_OPT: dict[str, Any] = {
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


# -- the table ----------------------------------------------------------------------------------

_MASKS = (".attn.bias", ".attn.masked_bias")
_NEOX_MASKS = (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")
_GEMMA3_FAMILY = Family(_GEMMA3, LLAMA_TENSORS | OUTPUT_NORM_TENSORS | QK_NORM_TENSORS)

FAMILIES: dict[str, Family] = {
    "gpt2": Family(_GPT2, GPT2_TENSORS, prefixes=("transformer.", ""), ignored=_MASKS),
    "llama": Family(_LLAMA, LLAMA_TENSORS),
    "smollm3": Family(_LLAMA | {"rope": rope_in_some_layers, "windows": _windows}, LLAMA_TENSORS),
    "mistral": Family(_LLAMA | _NO_BIAS | {"windows": _window_everywhere}, LLAMA_TENSORS),
    "qwen2": Family(_LLAMA | _NO_BIAS | {"qkv_bias": True, "windows": _windows}, LLAMA_TENSORS),
    "qwen3": Family(
        _LLAMA | {"mlp_bias": False, "qk_norm": True, "windows": _windows}, LLAMA_TENSORS | QK_NORM_TENSORS
    ),
    "olmo2": Family(_OLMO2, LLAMA_TENSORS | QK_NORM_TENSORS | NORMS_BEHIND_TENSORS),
    "olmo3": Family(
        _OLMO2 | {"rope": rope_by_layer_type, "windows": _windows},
        LLAMA_TENSORS | QK_NORM_TENSORS | NORMS_BEHIND_TENSORS,
    ),
    "phi3": Family(_PHI3, LLAMA_TENSORS | PHI3_TENSORS),
    "granite": Family(_GRANITE, LLAMA_TENSORS),
    "cohere2": Family(_COHERE2, LLAMA_TENSORS, fixed=_COHERE2_FIXED),
    "starcoder2": Family(
        _STARCODER2,
        LLAMA_TENSORS | STARCODER2_TENSORS,
        fixed={"mlp_type": "default", "norm_type": "layer_norm"},
    ),
    "stablelm": Family(_STABLELM, LLAMA_TENSORS | LAYER_NORM_TENSORS),
    "glm4": Family(_GLM4, LLAMA_TENSORS | GLM4_TENSORS),
    "exaone4": Family(
        _LLAMA | _NO_BIAS | _NORMS_BEHIND | {"qk_norm": True, "rope": rope_in_windows_if_any, "windows": _windows},
        LLAMA_TENSORS | QK_NORM_TENSORS | NORMS_BEHIND_TENSORS,
    ),
    "ministral3": Family(_LLAMA | _NO_BIAS | {"windows": _window_everywhere}, LLAMA_TENSORS),
    "seed_oss": Family(_LLAMA | {"out_bias": key("attention_out_bias")}, LLAMA_TENSORS),
    "opt": Family(_OPT, OPT_TENSORS, prefixes=("model.decoder.", "decoder.", "")),
    "gpt_neox": Family(_GPT_NEOX, GPT_NEOX_TENSORS, prefixes=("gpt_neox.", ""), ignored=_NEOX_MASKS),
    "gemma": Family(_GEMMA, LLAMA_TENSORS),
    "gemma2": Family(_GEMMA2, LLAMA_TENSORS | OUTPUT_NORM_TENSORS),
    "gemma3_text": _GEMMA3_FAMILY,
    # With images: only the text model is read, and computes what the whole does on text alone.
    "gemma3": replace(
        _GEMMA3_FAMILY,
        prefixes=("language_model.model.", "model.language_model."),
        inside="text_config",
        other_parts=("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."),
    ),
}


def find_family(model_type: str) -> Family:
    """The row of a ``model_type``.

    Raises:
        LoadError: there is none.
    """
    if model_type not in FAMILIES:
        raise LoadError(
            f"model_type {model_type!r} is not supported (known: {', '.join(FAMILIES)}); "
            "docs/add-a-family.md says how to add one"
        )
    return FAMILIES[model_type]


def read_config(config: Any) -> DecoderConfig:
    """Switches of a Hugging Face configuration object.

    Raises:
        LoadError: the family, its rotary scaling, its activation or another option is not supported.
    """
    family = find_family(config.model_type)
    options = [Options(config, family.fixed)]
    if family.inside is not None:
        options.append(Options(getattr(options[0], family.inside)))
        if options[0].tie_word_embeddings != options[1].tie_word_embeddings:
            raise LoadError(f"tie_word_embeddings is not the same in {family.inside} as outside of it")
    values = {name: value(options[-1]) if callable(value) else value for name, value in family.switches.items()}
    for read in options:
        read.refuse_unread()
    switches = DecoderConfig(family=config.model_type, **values)
    if switches.activation not in ACTIVATIONS:
        raise LoadError(f"activation {switches.activation!r} is not supported (known: {', '.join(ACTIVATIONS)})")
    if switches.rope and switches.max_positions > EXACT_POSITIONS:
        raise LoadError(f"{switches.max_positions} positions are not supported (angles are exact to {EXACT_POSITIONS})")
    return switches


_TINY = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


def tiny_config(family: str = "llama", vocab_size: int = 128, **changes: Any) -> DecoderConfig:
    """Switches of a very small model of ``family``, for examples and tests.

    >>> tiny_config("gpt2").positions
    'learned'
    """
    from transformers import AutoConfig

    inside = find_family(family).inside
    default = AutoConfig.for_model(family)
    known = (default if inside is None else getattr(default, inside)).to_dict()
    settings: dict[str, Any] = {name: size for name, size in _TINY.items() if name in known}
    settings["vocab_size"] = vocab_size
    config = AutoConfig.for_model(family, **(settings if inside is None else {inside: settings}))
    return replace(read_config(config), **changes)

"""Families of language models as tables: how a configuration sets the switches, and (in ``tensors``)
which tensor of a checkpoint fills which parameter. Adding a family means adding a row; see
docs/add-a-family.md.

Sources: the Hugging Face configuration classes, read through ``AutoConfig`` (which normalises old
spellings to ``rope_parameters`` and ``layer_types``), and the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter as key
from typing import Any

from transformers import AutoConfig

from ..errors import LoadError
from .block import ACTIVATIONS
from .config import DecoderConfig, Rope
from .config_options import Options
from .rope import EXACT_POSITIONS
from .tensors import (
    GPT2_TENSORS,
    GPT_NEOX_TENSORS,
    LLAMA_TENSORS,
    OUTPUT_NORM_TENSORS,
    QK_NORM_TENSORS,
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
        inside: option that holds the configuration of the text model, where there are other parts.
        other_parts: beginnings of the tensor names of those.
    """

    switches: dict[str, Any]
    tensors: dict[str, Tensor]
    prefixes: tuple[str, ...] = ("model.", "")
    ignored: tuple[str, ...] = (".rotary_emb.inv_freq",)
    inside: str | None = None
    other_parts: tuple[str, ...] = ()


# -- switches -----------------------------------------------------------------------------------


def _head_dim(c: Any) -> int:
    return getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads


def _read_rope(parameters: dict[str, Any], head_dim: int, partial: bool = False) -> Rope:
    """Rotation of one layer, of a head whole or in part."""
    given = {name: value for name, value in parameters.items() if value is not None and name != "type"}
    kind, theta = given.pop("rope_type", "default"), float(given.pop("rope_theta"))
    share = given.pop("partial_rotary_factor", 1.0)
    if share != 1 and not partial:
        raise LoadError(f"partial_rotary_factor = {share!r} is not supported here (only 1 is)")
    rope = Rope(theta, int(head_dim * share))
    if kind == "linear":
        rope = replace(rope, linear=float(given.pop("factor")))
    elif kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        factor, low, high, original = (float(given.pop(name)) for name in names)
        rope = replace(rope, llama3=(factor, low, high, original))
    elif kind != "default":
        raise LoadError(f"rotary scaling {kind!r} is not supported (known: 'default', 'linear', 'llama3')")
    if given:
        raise LoadError(f"rotary scaling {kind!r} does not have the options {given}")
    return rope


def _rope(c: Any) -> tuple[Rope | None, ...]:
    return (_read_rope(c.rope_parameters, _head_dim(c)),) * c.num_hidden_layers


def _partial_rope(c: Any) -> tuple[Rope | None, ...]:
    return (_read_rope(c.rope_parameters, _head_dim(c), partial=True),) * c.num_hidden_layers


def _rope_in_some_layers(c: Any) -> tuple[Rope | None, ...]:
    rope, used = _read_rope(c.rope_parameters, _head_dim(c)), c.no_rope_layers[: c.num_hidden_layers]
    return tuple(rope if has_rope else None for has_rope in used)


def _rope_by_layer_type(c: Any) -> tuple[Rope | None, ...]:
    return tuple(_read_rope(c.rope_parameters[kind], _head_dim(c)) for kind in c.layer_types)


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
    "head_dim": _head_dim,
    "mlp_width": key("intermediate_size"),
    "max_positions": key("max_position_embeddings"),
    "norm": "rms",
    "norm_eps": key("rms_norm_eps"),
    "positions": "rotary",
    "rope": _rope,
    "activation": key("hidden_act"),
    "gated": True,
    "query_scale": lambda c: _head_dim(c) ** -0.5,
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
    "rope": _partial_rope,
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
_GEMMA3 = _GEMMA2 | {"attention_cap": None, "qk_norm": True, "rope": _rope_by_layer_type}


# -- the table ----------------------------------------------------------------------------------

_MASKS = (".attn.bias", ".attn.masked_bias")
_NEOX_MASKS = (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")
_GEMMA3_FAMILY = Family(_GEMMA3, LLAMA_TENSORS | OUTPUT_NORM_TENSORS | QK_NORM_TENSORS)

FAMILIES: dict[str, Family] = {
    "gpt2": Family(_GPT2, GPT2_TENSORS, prefixes=("transformer.", ""), ignored=_MASKS),
    "llama": Family(_LLAMA, LLAMA_TENSORS),
    "smollm3": Family(_LLAMA | {"rope": _rope_in_some_layers, "windows": _windows}, LLAMA_TENSORS),
    "mistral": Family(_LLAMA | _NO_BIAS | {"windows": _window_everywhere}, LLAMA_TENSORS),
    "qwen2": Family(_LLAMA | _NO_BIAS | {"qkv_bias": True, "windows": _windows}, LLAMA_TENSORS),
    "qwen3": Family(
        _LLAMA | {"mlp_bias": False, "qk_norm": True, "windows": _windows}, LLAMA_TENSORS | QK_NORM_TENSORS
    ),
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
    options = [Options(config)]
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
    inside = find_family(family).inside
    default = AutoConfig.for_model(family)
    known = (default if inside is None else getattr(default, inside)).to_dict()
    settings: dict[str, Any] = {name: size for name, size in _TINY.items() if name in known}
    settings["vocab_size"] = vocab_size
    config = AutoConfig.for_model(family, **(settings if inside is None else {inside: settings}))
    return replace(read_config(config), **changes)

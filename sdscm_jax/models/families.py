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
from .config import DecoderConfig
from .config_options import Options
from .family_switches import (
    APERTUS,
    COHERE2,
    COHERE2_FIXED,
    FALCON,
    GEMMA,
    GEMMA2,
    GEMMA3,
    GLM4,
    GPT2,
    GPT_NEOX,
    GPT_OSS,
    GRANITE,
    GRANITE_MOE,
    LLAMA,
    MIXTRAL,
    NO_BIAS,
    NORMS_BEHIND,
    OLMO2,
    OLMOE,
    OPT,
    PHI3,
    QWEN2_MOE,
    QWEN3_MOE,
    STABLELM,
    STARCODER2,
    ministral_growth,
    window_everywhere,
    windows,
)
from .feed import ACTIVATIONS, XIELU
from .gemma_switches import GEMMA3N, GEMMA3N_FIXED, GEMMA4, GEMMA4_UNIFIED
from .gemma_tensors import GEMMA3N_TENSORS, GEMMA4_TENSORS, UNREAD
from .hybrid_switches import (
    FALCON_H1,
    FALCON_H1_FIXED,
    GRANITE_HYBRID,
    GRANITE_HYBRID_FIXED,
    LFM2,
    LFM2_FIXED,
    LFM2_MOE,
    MAMBA2,
    NEMOTRON_H,
    NEMOTRON_H_FIXED,
    QWEN3_5,
    QWEN3_5_FIXED,
    QWEN3_5_MOE,
    QWEN3_NEXT,
)
from .hybrid_tensors import (
    FALCON_H1_TENSORS,
    GRANITE_HYBRID_TENSORS,
    LFM2_MOE_TENSORS,
    LFM2_TENSORS,
    MAMBA2_TENSORS,
    NEMOTRON_H_TENSORS,
    QWEN3_5_MOE_TENSORS,
    QWEN3_5_TENSORS,
    QWEN3_NEXT_TENSORS,
    QWEN_EXPERTS_TOGETHER,
)
from .mixed_switches import DEEPSEEK_V2, DEEPSEEK_V3, GLM4_MOE, LLAMA4, MINIMAX_M2, MINIMAX_M2_FIXED, code_of
from .mixer_config import Heads
from .refused_models import REFUSED
from .rope import EXACT_POSITIONS
from .rope_options import rope_by_layer_type, rope_in_some_layers, rope_in_windows_if_any
from .tensors import (
    APERTUS_TENSORS,
    FALCON_NORMS,
    FALCON_TENSORS,
    GLM4_TENSORS,
    GPT2_TENSORS,
    GPT_NEOX_TENSORS,
    GPT_OSS_TENSORS,
    GRANITE_MOE_TENSORS,
    LATENT_QUERIES,
    LATENT_TENSORS,
    LAYER_NORM_TENSORS,
    LLAMA4_TENSORS,
    LLAMA_TENSORS,
    MINIMAX_M2_TENSORS,
    MIXTRAL_TENSORS,
    NORMS_BEHIND_TENSORS,
    OPT_TENSORS,
    OUTPUT_NORM_TENSORS,
    PHI3_TENSORS,
    QK_NORM_TENSORS,
    QWEN_MIXED_TENSORS,
    QWEN_MOE_TENSORS,
    QWEN_SHARED_MIXED_TENSORS,
    SHARED_EXPERT_TENSORS,
    SHARED_EXPERTS_TENSORS,
    STARCODER2_TENSORS,
    Tensor,
)
from .tiny_sizes import TINY, TINY_OF


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
        instead: what has other names in some files.
        further_layers: how many layers may stand behind those of the model, to predict further tokens.
        latent_queries: what has other names where queries are no projections of a small vector.
        parallel_norms: what has other names where attention and MLP are computed side by side, with a norm each.
    """

    switches: dict[str, Any]
    tensors: dict[str, Tensor]
    prefixes: tuple[str, ...] = ("model.", "")
    ignored: tuple[str, ...] = (".rotary_emb.inv_freq",)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    inside: str | None = None
    other_parts: tuple[str, ...] = ()
    parallel_norms: Mapping[str, Tensor] = field(default_factory=dict)
    latent_queries: Mapping[str, Tensor] = field(default_factory=dict)
    instead: Mapping[str, Tensor] = field(default_factory=dict)
    further_layers: int = 0

    def names(self, config: DecoderConfig) -> dict[str, Tensor]:
        """Parameter path -> tensor, of a decoder."""
        if config.parallel and not config.one_norm:
            return self.tensors | dict(self.parallel_norms)
        if config.latent is not None and not config.latent.query_rank:
            return self.tensors | dict(self.latent_queries)
        return self.tensors

    def passed_over(self, config: DecoderConfig) -> tuple[str, ...]:
        """Beginnings of the names of tensors that published files have beside those of the model."""
        layers = f"{self.prefixes[0]}layers."
        behind = [f"{layers}{i}." for i in range(config.layers, config.layers + self.further_layers)]
        reading = [i for _, own in config.mixers if isinstance(own, Heads) and own.reads for i in own.layers]
        return (*self.other_parts, *behind, *(f"{layers}{i}.self_attn.{name}." for i in reading for name in UNREAD))


# -- the table ----------------------------------------------------------------------------------

_MASKS = (".attn.bias", ".attn.masked_bias")
_NEOX_MASKS = (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")
_GEMMA3_FAMILY = Family(GEMMA3, LLAMA_TENSORS | OUTPUT_NORM_TENSORS | QK_NORM_TENSORS)
_SENSES = ("model.vision", "model.audio", "model.embed_vision.", "model.embed_audio.")
_GEMMA3N = Family(GEMMA3N, LLAMA_TENSORS | OUTPUT_NORM_TENSORS | GEMMA3N_TENSORS, fixed=GEMMA3N_FIXED)
_GEMMA4 = Family(GEMMA4, LLAMA_TENSORS | OUTPUT_NORM_TENSORS | GEMMA4_TENSORS)
_MINISTRAL3 = Family(LLAMA | NO_BIAS | {"windows": window_everywhere, "growth": ministral_growth}, LLAMA_TENSORS)
_LLAMA4 = Family(LLAMA4, LLAMA_TENSORS | LLAMA4_TENSORS)
# Beside layers that predict further tokens, which stand apart.
_FURTHER = ("mtp.",)
_QWEN3_5 = Family(QWEN3_5, QWEN3_5_TENSORS, other_parts=_FURTHER, fixed=QWEN3_5_FIXED)
_QWEN3_5_MOE = replace(_QWEN3_5, switches=QWEN3_5_MOE, tensors=QWEN3_5_MOE_TENSORS, instead=QWEN_EXPERTS_TOGETHER)
_WITH_IMAGES: dict[str, Any] = {
    "prefixes": ("model.language_model.", "language_model.model."),
    "inside": "text_config",
    "other_parts": (*_FURTHER, "model.visual.", "visual."),
}
_DEEPSEEK_V2 = Family(
    DEEPSEEK_V2,
    LLAMA_TENSORS | LATENT_TENSORS | SHARED_EXPERTS_TENSORS,
    fixed=code_of("V2"),
    latent_queries=LATENT_QUERIES,
)

FAMILIES: dict[str, Family] = {
    "gpt2": Family(GPT2, GPT2_TENSORS, prefixes=("transformer.", ""), ignored=_MASKS),
    "llama": Family(LLAMA, LLAMA_TENSORS),
    "smollm3": Family(LLAMA | {"rope": rope_in_some_layers, "windows": windows}, LLAMA_TENSORS),
    "mistral": Family(LLAMA | NO_BIAS | {"windows": window_everywhere}, LLAMA_TENSORS),
    "qwen2": Family(LLAMA | NO_BIAS | {"qkv_bias": True, "windows": windows}, LLAMA_TENSORS),
    "qwen3": Family(LLAMA | {"mlp_bias": False, "qk_norm": True, "windows": windows}, LLAMA_TENSORS | QK_NORM_TENSORS),
    "olmo2": Family(OLMO2, LLAMA_TENSORS | QK_NORM_TENSORS | NORMS_BEHIND_TENSORS),
    "olmo3": Family(
        OLMO2 | {"rope": rope_by_layer_type, "windows": windows},
        LLAMA_TENSORS | QK_NORM_TENSORS | NORMS_BEHIND_TENSORS,
    ),
    "phi3": Family(PHI3, LLAMA_TENSORS | PHI3_TENSORS),
    "granite": Family(GRANITE, LLAMA_TENSORS),
    "cohere2": Family(COHERE2, LLAMA_TENSORS, fixed=COHERE2_FIXED),
    "starcoder2": Family(
        STARCODER2,
        LLAMA_TENSORS | STARCODER2_TENSORS,
        fixed={"mlp_type": "default", "norm_type": "layer_norm"},
    ),
    "stablelm": Family(STABLELM, LLAMA_TENSORS | LAYER_NORM_TENSORS),
    "glm4": Family(GLM4, LLAMA_TENSORS | GLM4_TENSORS),
    "exaone4": Family(
        LLAMA | NO_BIAS | NORMS_BEHIND | {"qk_norm": True, "rope": rope_in_windows_if_any, "windows": windows},
        LLAMA_TENSORS | QK_NORM_TENSORS | NORMS_BEHIND_TENSORS,
    ),
    "ministral3": _MINISTRAL3,
    "seed_oss": Family(LLAMA | {"out_bias": key("attention_out_bias")}, LLAMA_TENSORS),
    "opt": Family(OPT, OPT_TENSORS, prefixes=("model.decoder.", "decoder.", "")),
    "apertus": Family(APERTUS, LLAMA_TENSORS | QK_NORM_TENSORS | APERTUS_TENSORS),
    "falcon": Family(FALCON, FALCON_TENSORS, prefixes=("transformer.", ""), parallel_norms=FALCON_NORMS),
    "mixtral": Family(MIXTRAL, LLAMA_TENSORS | MIXTRAL_TENSORS),
    "qwen2_moe": Family(
        QWEN2_MOE, LLAMA_TENSORS | QWEN_MOE_TENSORS | SHARED_EXPERT_TENSORS | QWEN_SHARED_MIXED_TENSORS
    ),
    "qwen3_moe": Family(QWEN3_MOE, LLAMA_TENSORS | QK_NORM_TENSORS | QWEN_MOE_TENSORS | QWEN_MIXED_TENSORS),
    "olmoe": Family(OLMOE, LLAMA_TENSORS | QK_NORM_TENSORS | QWEN_MOE_TENSORS),
    "granitemoe": Family(GRANITE_MOE, LLAMA_TENSORS | GRANITE_MOE_TENSORS),
    "gpt_oss": Family(GPT_OSS, LLAMA_TENSORS | GPT_OSS_TENSORS, fixed={"initial_context_length": 4096}),
    "deepseek_v2": _DEEPSEEK_V2,
    "deepseek_v3": replace(_DEEPSEEK_V2, switches=DEEPSEEK_V3, fixed=code_of("V3"), further_layers=1),
    "glm4_moe": Family(
        GLM4_MOE,
        LLAMA_TENSORS | QK_NORM_TENSORS | SHARED_EXPERTS_TENSORS,
        further_layers=1,
    ),
    "minimax_m2": Family(
        MINIMAX_M2,
        LLAMA_TENSORS | QK_NORM_TENSORS | MINIMAX_M2_TENSORS,
        fixed=MINIMAX_M2_FIXED,
        further_layers=3,
    ),
    "lfm2": Family(LFM2, LFM2_TENSORS, fixed=LFM2_FIXED),
    "lfm2_moe": Family(LFM2_MOE, LFM2_MOE_TENSORS, fixed=LFM2_FIXED),
    "qwen3_next": Family(QWEN3_NEXT, QWEN3_NEXT_TENSORS, other_parts=_FURTHER),
    "qwen3_5_text": _QWEN3_5,
    "qwen3_5": replace(_QWEN3_5, **_WITH_IMAGES),
    "qwen3_5_moe_text": _QWEN3_5_MOE,
    "qwen3_5_moe": replace(_QWEN3_5_MOE, **_WITH_IMAGES),
    "granitemoehybrid": Family(GRANITE_HYBRID, GRANITE_HYBRID_TENSORS, fixed=GRANITE_HYBRID_FIXED),
    "falcon_h1": Family(FALCON_H1, FALCON_H1_TENSORS, fixed=FALCON_H1_FIXED),
    "mamba2": Family(MAMBA2, MAMBA2_TENSORS, prefixes=("backbone.", "")),
    "nemotron_h": Family(
        NEMOTRON_H,
        NEMOTRON_H_TENSORS,
        prefixes=("backbone.", "model.", ""),
        other_parts=_FURTHER,
        fixed=NEMOTRON_H_FIXED,
    ),
    "llama4_text": _LLAMA4,
    # With images: only the text model is read.
    "llama4": replace(
        _LLAMA4,
        prefixes=("language_model.model.",),
        inside="text_config",
        other_parts=("vision_model.", "multi_modal_projector."),
    ),
    "gpt_neox": Family(GPT_NEOX, GPT_NEOX_TENSORS, prefixes=("gpt_neox.", ""), ignored=_NEOX_MASKS),
    "gemma": Family(GEMMA, LLAMA_TENSORS),
    "gemma2": Family(GEMMA2, LLAMA_TENSORS | OUTPUT_NORM_TENSORS),
    "gemma3_text": _GEMMA3_FAMILY,
    # With images: only the text model is read, and computes what the whole does on text alone.
    "gemma3": replace(
        _GEMMA3_FAMILY,
        prefixes=("language_model.model.", "model.language_model."),
        inside="text_config",
        other_parts=("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."),
    ),
    "gemma3n_text": _GEMMA3N,
    "gemma3n": replace(_GEMMA3N, prefixes=("model.language_model.",), inside="text_config", other_parts=_SENSES),
    "gemma4_text": _GEMMA4,
    "gemma4": replace(_GEMMA4, prefixes=("model.language_model.",), inside="text_config", other_parts=_SENSES),
    "gemma4_unified_text": replace(_GEMMA4, switches=GEMMA4_UNIFIED),
    "gemma4_unified": replace(
        _GEMMA4,
        switches=GEMMA4_UNIFIED,
        prefixes=("model.language_model.",),
        inside="text_config",
        other_parts=_SENSES,
    ),
}


def find_family(model_type: str) -> Family:
    """The row of a ``model_type``.

    Raises:
        LoadError: there is none.
    """
    if model_type in REFUSED:
        raise LoadError(f"model_type {model_type!r} is not supported: {REFUSED[model_type][1]}")
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
        options.append(Options(getattr(options[0], family.inside), family.fixed))
        if options[0].tie_word_embeddings != options[1].tie_word_embeddings:
            raise LoadError(f"tie_word_embeddings is not the same in {family.inside} as outside of it")
    values = {name: value(options[-1]) if callable(value) else value for name, value in family.switches.items()}
    for read in options:
        read.refuse_unread()
    switches = DecoderConfig(family=config.model_type, **values)
    known = {*ACTIVATIONS, *([XIELU] if "blocks.activation.beta" in family.tensors else ())}
    if switches.activation not in known:
        raise LoadError(f"activation {switches.activation!r} is not supported (known: {', '.join(ACTIVATIONS)})")
    if switches.rope and switches.max_positions > EXACT_POSITIONS:
        raise LoadError(f"{switches.max_positions} positions are not supported (angles are exact to {EXACT_POSITIONS})")
    return switches


def tiny_config(family: str = "llama", vocab_size: int = 128, **changes: Any) -> DecoderConfig:
    """Switches of a very small model of ``family``, for examples and tests.

    >>> tiny_config("gpt2").positions
    'learned'
    """
    from transformers import AutoConfig

    inside = find_family(family).inside
    default = AutoConfig.for_model(family)
    known = (default if inside is None else getattr(default, inside)).to_dict()
    settings: dict[str, Any] = {name: size for name, size in TINY.items() if name in known}
    settings |= {"vocab_size": vocab_size, **TINY_OF.get(family, {})}
    if "vocab_size_per_layer_input" in known:
        settings["vocab_size_per_layer_input"] = vocab_size
    if "per_layer_config" in known:
        settings["global_head_dim"] = 12
    if "kv_lora_rank" in settings:
        settings |= {"num_key_value_heads": settings["num_attention_heads"], "head_dim": settings["qk_rope_head_dim"]}
    whole = settings if inside is None else {inside: settings, "tie_word_embeddings": settings["tie_word_embeddings"]}
    config = AutoConfig.for_model(family, **whole)
    return replace(read_config(config), **changes)

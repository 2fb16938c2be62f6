"""Which published models a family stands for, what of them was tried on real weights, and which are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .families import FAMILIES
from .gguf_architectures import ARCHITECTURES, WITH_EXPERTS
from .refused_models import REFUSED


@dataclass(frozen=True)
class Known:
    """A model type.

    Attributes:
        model_type: as in ``config.json``.
        models: published models of the type.
        tried: on which real weights; empty: on random ones only.
        refused: why it does not load; None: it does.
    """

    model_type: str
    models: str
    tried: str = ""
    refused: str | None = None

    @property
    def gguf(self) -> tuple[str, ...]:
        """Names of the architecture in GGUF files that are read as this type."""
        known = (*ARCHITECTURES.items(), *WITH_EXPERTS.items())
        return tuple(name for name, row in known if row.model_type == self.model_type)


_LOADED = (
    Known(
        "llama", "Llama 2, 3.1, 3.2, 3.3, SmolLM 2, TinyLlama, Falcon 3, Yi", "the embedded one, stories260K, babyllama"
    ),
    Known("mistral", "Mistral 7B and NeMo, Mistral Small 24B"),
    Known("ministral3", "Ministral 3"),
    Known("qwen2", "Qwen 2 and 2.5, DeepSeek R1 distilled into Qwen"),
    Known("qwen3", "Qwen 3, dense"),
    Known("gemma", "Gemma 1"),
    Known("gemma2", "Gemma 2"),
    Known("gemma3_text", "Gemma 3 270M and 1B", "Gemma 3 270M"),
    Known("gemma3", "Gemma 3 4B to 27B, without images"),
    Known("gemma3n", "Gemma 3n E2B and E4B, without images and sound"),
    Known("gemma3n_text", "Gemma 3n, the text model alone"),
    Known("gemma4", "Gemma 4 E2B, E4B, 26B-A4B and 31B, without images and sound"),
    Known("gemma4_unified", "Gemma 4 12B, without images and sound"),
    Known("gemma4_unified_text", "Gemma 4 12B, the text model alone"),
    Known("gemma4_text", "Gemma 4, the text model alone"),
    Known("phi3", "Phi 3, 3.5 and 4 (texts of up to its original positions where it has LongRoPE)"),
    Known("olmo2", "OLMo 2"),
    Known("olmo3", "OLMo 3"),
    Known("granite", "Granite 3, dense"),
    Known("cohere2", "Command R7B, Command A"),
    Known("glm4", "GLM 4 0414"),
    Known("exaone4", "EXAONE 4"),
    Known("seed_oss", "Seed-OSS"),
    Known("smollm3", "SmolLM 3"),
    Known("starcoder2", "StarCoder 2"),
    Known("stablelm", "StableLM 2 (1.6B)"),
    Known("gpt_neox", "Pythia, GPT-NeoX 20B"),
    Known("gpt2", "GPT-2", "the tokenizer only"),
    Known("opt", "OPT, but for 350M"),
    Known("gpt_oss", "gpt-oss 20B and 120B"),
    Known("mixtral", "Mixtral"),
    Known("apertus", "Apertus 8B and 70B"),
    Known("falcon", "Falcon 7B, 11B, 40B and 180B"),
    Known("qwen2_moe", "Qwen 1.5 and 2, with experts"),
    Known("qwen3_moe", "Qwen 3 30B-A3B and 235B-A22B"),
    Known("olmoe", "OLMoE"),
    Known("granitemoe", "Granite 3, with experts"),
    Known("deepseek_v3", "DeepSeek V3, V3.1 and R1"),
    Known("deepseek_v2", "DeepSeek V2, V2 Lite and V2.5"),
    Known("llama4", "Llama 4 Scout and Maverick, without images"),
    Known("llama4_text", "Llama 4, the text model alone"),
    Known("glm4_moe", "GLM 4.5 to 4.7"),
    Known("minimax_m2", "MiniMax M2"),
    Known("qwen3_next", "Qwen 3 Next"),
    Known("qwen3_5", "Qwen 3.5, dense, without images"),
    Known("qwen3_5_text", "Qwen 3.5, dense, the text model alone"),
    Known("qwen3_5_moe", "Qwen 3.5, with experts, without images"),
    Known("qwen3_5_moe_text", "Qwen 3.5, with experts, the text model alone"),
    Known("granitemoehybrid", "Granite 4"),
    Known("falcon_h1", "Falcon H1"),
    Known("mamba2", "Mamba 2"),
    Known("nemotron_h", "Nemotron H and Nano 2 and 3"),
    Known("lfm2", "LFM 2, dense"),
    Known("lfm2_moe", "LFM 2, with experts"),
)
_REFUSED = tuple(Known(name, models, refused=why) for name, (models, why) in REFUSED.items())

# The thirty that were most used in 2026, as far as the project can tell: no registry counts them for it.
MOST_USED = (
    *("qwen3", "qwen3_moe", "qwen2", "qwen3_5", "qwen3_5_moe", "qwen3_next", "qwen3_vl", "llama", "llama4", "gemma3"),
    *("gemma3_text", "gemma3n", "gemma4", "gpt_oss", "deepseek_v3", "deepseek_v32", "glm4_moe", "glm_moe_dsa"),
    *("minimax_m2", "kimi_k25", "mistral", "mistral3", "ministral3", "phi3", "olmo3", "smollm3", "granitemoehybrid"),
    *("lfm2", "nemotron_h", "exaone4"),
)


def known_models() -> Iterator[Known]:
    """Model types, those that load first.

    >>> [known.model_type for known in known_models() if known.tried][:2]
    ['llama', 'gemma3_text']
    """
    yield from _LOADED
    yield from _REFUSED
    named = {known.model_type for known in _LOADED}
    yield from (Known(family, "") for family in FAMILIES if family not in named)


def rows() -> list[tuple[str, str, str, str, str]]:
    """For a table: model type, does it load, models, real weights on which it was tried, architecture in GGUF files."""
    return [
        (
            known.model_type,
            "loads" if known.refused is None else f"refused: {known.refused}",
            known.models,
            known.tried or ("random weights only" if known.refused is None else ""),
            ", ".join(known.gguf),
        )
        for known in known_models()
    ]


def most_used() -> list[tuple[str, str, str]]:
    """For a table: model type, models, does it load.

    >>> len(most_used())
    30
    """
    found = {row[0]: row for row in rows()}
    return [(name, found[name][2], found[name][1]) for name in MOST_USED]

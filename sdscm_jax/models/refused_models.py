"""Models that people use and that do not load: why not, in the words of the error and of ``sdscm models``."""

from __future__ import annotations

RECURRENT = (
    "layers with a recurrent state, a copy of which would have to be kept wherever texts branch (docs/models.md, "
    "section Recurrent layers)"
)
GEMMA3N = (
    "four streams that are updated in turn (AltUp), a second residual of low rank (LAuReL), embeddings of each layer, "
    "and layers that read the keys and values of earlier ones (docs/models.md, section Gemma 3n and 4)"
)
GEMMA4 = (
    "heads of two sizes and numbers in one model, whose keys and values are pages of two sizes, and layers that read "
    "those of earlier ones (docs/models.md, section Gemma 3n and 4)"
)
CHOSEN_TOKENS = "attention to tokens that an indexer chooses (sparse attention), which depends on the whole text so far"
ROTATED_IN_PARTS = "a rotation in parts for images (mrope); the text model is not read without it"
INSIDE = "a text model inside one for images, of a family that loads by itself and is not read from there yet"

# Model type -> published models, and why they do not load.
REFUSED: dict[str, tuple[str, str]] = {
    "granitemoehybrid": ("Granite 4", RECURRENT),
    "falcon_h1": ("Falcon H1", RECURRENT),
    "nemotron_h": ("Nemotron H and Nano 2 and 3", RECURRENT),
    "mamba2": ("Mamba 2", RECURRENT),
    "gemma3n": ("Gemma 3n, with images and sound", GEMMA3N),
    "gemma3n_text": ("Gemma 3n", GEMMA3N),
    "gemma4": ("Gemma 4, with images", GEMMA4),
    "gemma4_text": ("Gemma 4", GEMMA4),
    "deepseek_v32": ("DeepSeek V3.2", CHOSEN_TOKENS),
    "glm_moe_dsa": ("GLM 5", CHOSEN_TOKENS),
    "qwen2_5_vl": ("Qwen 2.5 VL", ROTATED_IN_PARTS),
    "qwen3_vl": ("Qwen 3 VL", ROTATED_IN_PARTS),
    "mistral3": ("Mistral Small 3.1 and 3.2, Ministral 3, with images", INSIDE),
    "kimi_k25": ("Kimi K2.5", INSIDE),
}

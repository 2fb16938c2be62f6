"""Models that people use and that do not load: why not, in the words of the error and of ``sdscm models``."""

from __future__ import annotations

CHOSEN_TOKENS = "attention to tokens that an indexer chooses (sparse attention), which depends on the whole text so far"
ROTATED_IN_PARTS = "a rotation in parts for images (mrope); the text model is not read without it"
INSIDE = "a text model inside one for images, of a family that loads by itself and is not read from there yet"

# Model type -> published models, and why they do not load.
REFUSED: dict[str, tuple[str, str]] = {
    "deepseek_v32": ("DeepSeek V3.2", CHOSEN_TOKENS),
    "glm_moe_dsa": ("GLM 5", CHOSEN_TOKENS),
    "qwen2_5_vl": ("Qwen 2.5 VL", ROTATED_IN_PARTS),
    "qwen3_vl": ("Qwen 3 VL", ROTATED_IN_PARTS),
    "mistral3": ("Mistral Small 3.1 and 3.2, Ministral 3, with images", INSIDE),
    "kimi_k25": ("Kimi K2.5", INSIDE),
}

"""Writes ``golden/`` and ``golden_families/``: tiny random models and the logits that PyTorch gives them.

Run by hand where torch is installed: ``python -m tests.models.make_golden``. Directories that are there are
kept; delete those that are to be made anew. The tests read the files and need no torch. Every number of a
configuration that a decoder could forget to pass on is unlike its default, and norm weights and biases are
random: a value that is dropped shows in the logits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent / "golden"
FAMILIES_GOLDEN = Path(__file__).parent / "golden_families"
VOCABULARY, ROWS, LENGTH, POSITIONS = 64, 3, 10, 256

OFFSET_NORMS = (
    *("gemma", "gemma2", "gemma3", "gemma3_text"),
    *("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"),
)
# Their queries are scaled by the weights of a norm alone.
SCALED_BY_NORMS = ("gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gemma4_unified_text")

_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 40,
    "n_positions": 64,
    "layer_norm_epsilon": 1e-3,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": POSITIONS,
    "rms_norm_eps": 1e-3,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_PLAIN_ROPE = {"rope_type": "default", "rope_theta": 5000.0}
_LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}

# Name -> (model_type, configuration).
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", _GPT2),
    "llama": ("llama", _LLAMA | {"rope_parameters": _PLAIN_ROPE}),
    "llama-grouped": ("llama", _LLAMA | {"rope_parameters": _PLAIN_ROPE, "num_key_value_heads": 2, "head_dim": 6}),
    "llama-biased": (
        "llama",
        _LLAMA
        | {
            "rope_parameters": _PLAIN_ROPE,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": False,
            "head_dim": 8,
        },
    ),
    "llama-llama3": ("llama", _LLAMA | {"rope_parameters": _LLAMA3_ROPE, "num_key_value_heads": 1, "head_dim": 8}),
    "llama-linear": ("llama", _LLAMA | {"rope_parameters": _LINEAR_ROPE}),
}


def random_model(
    model_type: str, settings: dict[str, Any], seed: int, spread: float = 0.3, embeddings: float | None = None
) -> Any:
    """A PyTorch model of which every parameter, norms and biases too, is random.

    Small embeddings behind a norm make rounding errors large: ``embeddings`` is their spread where it is another.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **settings)
    auto = AutoModelForImageTextToText if "text_config" in settings else AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = any(part in name for part in ("norm", "ln_")) and name.endswith("weight")
            # Gemma's norms multiply by 1 + their weight, and Qwen's but for those behind a recurrence.
            offset = model_type in OFFSET_NORMS and "linear_attn" not in name
            center = 1.0 if (is_norm or "scale" in name) and not offset else 0.0
            if name.endswith("q_norm.weight") and model_type in SCALED_BY_NORMS:
                center = 0.3
            is_table = any(part in name for part in ("embed_tokens", "embed_in", "wte", "wpe"))
            parameter.normal_(center, embeddings if is_table and embeddings is not None else spread)
            if name.endswith(("A_log", "dt_bias", ".D")):  # states that fade within a token, and ones that hardly do
                parameter.normal_(-1.0, 1.5)
        for name, buffer in model.named_buffers():
            if name.endswith(("correction_bias", "expert_bias")):  # of experts' scores
                buffer.normal_(0, spread)
            if name.endswith("layer_scalar"):
                buffer.normal_(1, spread)
    return model


def torch_logits(model: Any, tokens: np.ndarray, mask: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
    """Float32 logits ``[B, T, V]``.

    The mask is always given: without it transformers takes a jump in ``position_ids`` for the border
    between two packed texts, and lets no token look across.
    """
    import torch

    if model.config.model_type == "llama4":
        # As a whole it wants images (transformers 5.24).
        model = model.language_model
    arguments = {"input_ids": torch.tensor(tokens), "attention_mask": torch.tensor(mask.astype(np.int64))}
    if positions is not None:
        arguments["position_ids"] = torch.tensor(positions)
    with torch.no_grad():
        return model(**arguments, use_cache=False).logits.float().numpy()


def cases(rng: np.random.Generator, max_position: int) -> dict[str, np.ndarray]:
    """Tokens, a mask with right and left padding, and positions with gaps that increase."""
    padding = np.ones((ROWS, LENGTH), np.int64)
    padding[1, 7:] = 0
    padding[2, :4] = 0
    return {
        "tokens": rng.integers(VOCABULARY, size=(ROWS, LENGTH)),
        "padding": padding,
        # As generation numbers them: real tokens count from 0 wherever the padding stands.
        "padding_positions": np.maximum(padding.cumsum(-1) - 1, 0),
        "positions": np.sort(np.stack([rng.permutation(max_position)[:LENGTH] for _ in range(ROWS)]), axis=-1),
    }


def write(directory: Path, model_type: str, settings: dict[str, Any], seed: int) -> None:
    """``config.json``, ``model.safetensors`` and ``golden.npz`` of one model."""
    model = random_model(model_type, settings, seed)
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    max_position = model.config.max_position_embeddings
    given = cases(np.random.default_rng(seed), max_position)
    tokens, everything = given["tokens"], np.ones_like(given["tokens"])
    np.savez_compressed(
        directory / "golden.npz",
        **given,
        logits_plain=torch_logits(model, tokens, everything),
        logits_padded=torch_logits(model, tokens, given["padding"]),
        logits_padded_positions=torch_logits(model, tokens, given["padding"], given["padding_positions"]),
        logits_positions=torch_logits(model, tokens, everything, given["positions"]),
    )


def write_family(directory: Path, model_type: str, settings: dict[str, Any], seed: int) -> None:
    """A model of a family, in shards, and its logits of texts without padding."""
    from .family_models import random_family_model, random_tokens

    model = random_family_model(model_type, settings, seed)
    model.save_pretrained(directory, max_shard_size="60KB")
    (directory / "generation_config.json").unlink(missing_ok=True)
    tokens = random_tokens(seed)
    logits = torch_logits(model, tokens, np.ones_like(tokens))
    np.savez_compressed(directory / "golden.npz", tokens=tokens, logits=logits)


def main() -> None:
    from .family_models import GOLDEN_NAMES
    from .family_models import MODELS as FAMILY_MODELS

    for seed, (name, (model_type, settings)) in enumerate(MODELS.items(), start=1):
        if not (GOLDEN / name).exists():
            write(GOLDEN / name, model_type, settings, seed)
    for name in GOLDEN_NAMES:
        model_type, settings = FAMILY_MODELS[name]
        if not (FAMILIES_GOLDEN / model_type).exists():
            write_family(FAMILIES_GOLDEN / model_type, model_type, settings, 1)
    for directory in (GOLDEN, FAMILIES_GOLDEN):
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        print(f"{directory.name}: {len(list(directory.iterdir()))} models, {size} bytes")


if __name__ == "__main__":
    main()

"""Which options of a configuration a family reads, and what becomes of the others.

An option that nobody reads is a silent error: the model loads and computes something else. So what is
read is recorded, and of the rest every option is refused by name that is neither at its default nor
known to leave the logits alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import LoadError

# Options that do not change the logits of a causal text: bookkeeping, training, and what
# ``transformers`` has already turned into ``rope_parameters``, ``layer_types`` or ``no_rope_layers``.
_HARMLESS = {
    *("architectures", "attn_implementation", "cache_implementation", "chunk_size_feed_forward", "dtype"),
    *("gradient_checkpointing", "id2label", "initializer_range", "is_decoder", "is_llama_config", "label2id"),
    *("max_sequence_length", "max_window_layers", "mm_tokens_per_image", "model_max_length", "model_type", "n_ctx"),
    *("no_rope_layer_interval", "pretraining_tp", "problem_type", "reorder_and_upcast_attn", "return_dict"),
    *("sliding_window_pattern", "task_specific_params", "tokenizer_class", "torch_dtype", "use_cache"),
    *("aux_loss_alpha", "ep_size", "num_mtp_layers", "num_nextn_predict_layers", "qk_head_dim", "seq_aux"),
    *(
        "init_std",
        "audio_config",
        "full_attention_interval",
        "mlp_expansion_factor",
        "mtp_num_hidden_layers",
        "mtp_use_dedicated_embeddings",
        "time_step_floor",
        "time_step_max",
        "time_step_min",
        "time_step_rank",
        "interleave_moe_layer_step",
        "layerdrop",
        "prefix",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "vision_config",
    ),
}
_HARMLESS_BEGINNINGS = ("_", "output_", "summary_", "transformers", "unsloth_")
_HARMLESS_ENDINGS = ("_token_id", "_token_ids", "_token_index", "_soft_tokens_per_image", "dropout", "_pdrop")

# Options that some files say twice; the second must then agree with the first.
_ECHOES = {
    "hidden_act": "hidden_activation",
    "hidden_activation": "hidden_act",
    "sliding_window_size": "sliding_window",
    "experts_per_token": "num_experts_per_tok",
    "block_dim": "hidden_size",
    "conv_dim": "hidden_size",
    "conv_dim_out": "hidden_size",
    "num_heads": "num_attention_heads",
    "block_norm_eps": "norm_eps",
    "rms_norm_eps": "layer_norm_epsilon",
}


class Options:
    """A Hugging Face configuration that remembers which of its attributes were read.

    Args:
        config: the configuration.
        fixed: options that published files have and nobody reads, with the one value that is computed.

    >>> from transformers import LlamaConfig
    >>> options = Options(LlamaConfig(hidden_act="silu", logit_scale=0.5))
    >>> options.hidden_act
    'silu'
    >>> [name for name, *_ in options.unread()]
    ['logit_scale']
    """

    def __init__(self, config: Any, fixed: Mapping[str, Any] | None = None):
        self._config, self._read, self._fixed = config, set[str](), fixed or {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._config, name)
        self._read.add(self._config.attribute_map.get(name, name))
        return value

    def unread(self) -> list[tuple[str, Any, Any]]:
        """Options that were not read, are not at their default and may matter: name, value, default."""
        defaults = type(self._config)().to_dict()
        found = []
        for name in sorted(self._config.to_dict()):
            if name in self._of_layers():
                continue
            value, default = getattr(self._config, name, None), defaults.get(name)
            settled = name in self._read or value == default or (_off(value) and _off(default))
            settled = settled or (name in self._fixed and value == self._fixed[name])
            if not settled and not _harmless(name) and not self._echoed(name, value):
                found.append((name, value, default))
        return found

    def _of_layers(self) -> set[str]:
        """Options that single layers have, where those are read."""
        if "per_layer_config" not in self._read:
            return set()
        return {name for own in (self._config.to_dict().get("per_layer_config") or {}).values() for name in own}

    def _echoed(self, name: str, value: Any) -> bool:
        first = _ECHOES.get(name)
        return first in self._read and value == getattr(self._config, first)

    def refuse_unread(self) -> None:
        """
        Raises:
            LoadError: lists the options of ``unread``.
        """
        options = [f"{name} = {value!r} (only {default!r} is)" for name, value, default in self.unread()]
        if options:
            raise LoadError(
                f"{self._config.model_type}: not supported: {'; '.join(options)}. Where an option does not change "
                "what the model computes, take it out of config.json; otherwise see docs/add-a-family.md"
            )


def _off(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def _harmless(name: str) -> bool:
    return name in _HARMLESS or name.startswith(_HARMLESS_BEGINNINGS) or name.endswith(_HARMLESS_ENDINGS)

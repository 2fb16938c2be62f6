"""Families of language models as tables: how a configuration sets the switches, and which tensor
of a checkpoint fills which parameter. Adding a family means adding a row here.

Sources: the Hugging Face configuration classes, read through ``AutoConfig`` (which normalises old
spellings to ``rope_parameters`` and ``layer_types``), and the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from transformers import AutoConfig

from ..errors import LoadError
from .config import DecoderConfig, Rope
from .decoder import ACTIVATIONS


@dataclass(frozen=True)
class Tensor:
    """Where one parameter comes from.

    Attributes:
        source: the tensor's name; ``{i}`` stands for the layer.
        transpose: stored as ``[out, in]`` and needed as ``[in, out]``.
        part: ``(k, n)``: the k-th of n equal parts along the last stored axis.
        prefixed: does the family's prefix stand before the name?
    """

    source: str
    transpose: bool = False
    part: tuple[int, int] | None = None
    prefixed: bool = True


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Attributes:
        switches: from the Hugging Face configuration to a ``DecoderConfig``.
        tensors: parameter path (``blocks.`` paths hold one tensor per layer) -> ``Tensor``.
        prefixes: prefixes that published checkpoints put in front of every name.
        ignored: endings of tensor names that carry no parameters (mask buffers and the like).
    """

    switches: Callable[[Any], DecoderConfig]
    tensors: dict[str, Tensor]
    prefixes: tuple[str, ...] = ("",)
    ignored: tuple[str, ...] = ()


def _norm_names(path: str, source: str, bias: bool) -> dict[str, Tensor]:
    names = {f"{path}.scale": Tensor(f"{source}.weight")}
    return names | ({f"{path}.bias": Tensor(f"{source}.bias")} if bias else {})


def _linear_names(path: str, source: str, transpose: bool, part: tuple[int, int] | None = None) -> dict[str, Tensor]:
    return {
        f"{path}.kernel": Tensor(f"{source}.weight", transpose, part),
        f"{path}.bias": Tensor(f"{source}.bias", part=part),
    }


def _gpt2(c: Any) -> DecoderConfig:
    if c.scale_attn_by_inverse_layer_idx or not c.scale_attn_weights:
        raise LoadError("gpt2: scaling of attention other than 1/sqrt(head_dim) is not supported")
    head_dim = c.n_embd // c.n_head
    return DecoderConfig(
        family="gpt2",
        vocab_size=c.vocab_size,
        width=c.n_embd,
        layers=c.n_layer,
        heads=c.n_head,
        kv_heads=c.n_head,
        head_dim=head_dim,
        mlp_width=c.n_inner or 4 * c.n_embd,
        max_positions=c.n_positions,
        norm="layer",
        norm_eps=c.layer_norm_epsilon,
        positions="learned",
        activation=c.activation_function,
        gated=False,
        query_scale=head_dim**-0.5,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        tied=c.tie_word_embeddings,
    )


def _rope(parameters: dict[str, Any], head_dim: int) -> Rope:
    kind = parameters.get("rope_type", "default")
    rotary_dim = int(head_dim * parameters.get("partial_rotary_factor", 1.0))
    theta = float(parameters["rope_theta"])
    if kind == "default":
        return Rope(theta, rotary_dim)
    if kind == "linear":
        return Rope(theta, rotary_dim, linear=float(parameters["factor"]))
    if kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        factor, low, high, original = (float(parameters[name]) for name in names)
        return Rope(theta, rotary_dim, llama3=(factor, low, high, original))
    raise LoadError(f"rotary scaling {kind!r} is not supported (known: 'default', 'linear', 'llama3')")


def _llama(c: Any) -> DecoderConfig:
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    return DecoderConfig(
        family="llama",
        vocab_size=c.vocab_size,
        width=c.hidden_size,
        layers=c.num_hidden_layers,
        heads=c.num_attention_heads,
        kv_heads=c.num_key_value_heads,
        head_dim=head_dim,
        mlp_width=c.intermediate_size,
        max_positions=c.max_position_embeddings,
        norm="rms",
        norm_eps=c.rms_norm_eps,
        positions="rotary",
        rope=(_rope(c.rope_parameters, head_dim),) * c.num_hidden_layers,
        activation=c.hidden_act,
        gated=True,
        query_scale=head_dim**-0.5,
        qkv_bias=c.attention_bias,
        out_bias=c.attention_bias,
        mlp_bias=c.mlp_bias,
        tied=c.tie_word_embeddings,
    )


_GPT2_TENSORS = {
    "embedding.embedding": Tensor("wte.weight"),
    "position_embedding.embedding": Tensor("wpe.weight"),
    **_norm_names("final_norm", "ln_f", bias=True),
    "head": Tensor("lm_head.weight", prefixed=False),
    **_norm_names("blocks.attention_norm", "h.{i}.ln_1", bias=True),
    **_norm_names("blocks.mlp_norm", "h.{i}.ln_2", bias=True),
    **_linear_names("blocks.query", "h.{i}.attn.c_attn", transpose=False, part=(0, 3)),
    **_linear_names("blocks.key", "h.{i}.attn.c_attn", transpose=False, part=(1, 3)),
    **_linear_names("blocks.value", "h.{i}.attn.c_attn", transpose=False, part=(2, 3)),
    **_linear_names("blocks.out", "h.{i}.attn.c_proj", transpose=False),
    **_linear_names("blocks.up", "h.{i}.mlp.c_fc", transpose=False),
    **_linear_names("blocks.down", "h.{i}.mlp.c_proj", transpose=False),
}

_LLAMA_TENSORS = {
    "embedding.embedding": Tensor("model.embed_tokens.weight"),
    **_norm_names("final_norm", "model.norm", bias=False),
    "head": Tensor("lm_head.weight", prefixed=False),
    **_norm_names("blocks.attention_norm", "model.layers.{i}.input_layernorm", bias=False),
    **_norm_names("blocks.mlp_norm", "model.layers.{i}.post_attention_layernorm", bias=False),
    **_linear_names("blocks.query", "model.layers.{i}.self_attn.q_proj", transpose=True),
    **_linear_names("blocks.key", "model.layers.{i}.self_attn.k_proj", transpose=True),
    **_linear_names("blocks.value", "model.layers.{i}.self_attn.v_proj", transpose=True),
    **_linear_names("blocks.out", "model.layers.{i}.self_attn.o_proj", transpose=True),
    **_linear_names("blocks.gate", "model.layers.{i}.mlp.gate_proj", transpose=True),
    **_linear_names("blocks.up", "model.layers.{i}.mlp.up_proj", transpose=True),
    **_linear_names("blocks.down", "model.layers.{i}.mlp.down_proj", transpose=True),
}

FAMILIES: dict[str, Family] = {
    "gpt2": Family(_gpt2, _GPT2_TENSORS, prefixes=("transformer.", ""), ignored=(".attn.bias", ".attn.masked_bias")),
    "llama": Family(_llama, _LLAMA_TENSORS, ignored=(".rotary_emb.inv_freq",)),
}


def read_config(config: Any) -> DecoderConfig:
    """Switches of a Hugging Face configuration object.

    Raises:
        LoadError: the family, its rotary scaling or its activation is not supported.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise LoadError(f"model_type {config.model_type!r} is not supported (known: {', '.join(FAMILIES)})")
    switches = family.switches(config)
    if switches.activation not in ACTIVATIONS:
        raise LoadError(f"activation {switches.activation!r} is not supported (known: {', '.join(ACTIVATIONS)})")
    return switches


def tiny_config(family: str = "llama", vocab_size: int = 128, **changes: Any) -> DecoderConfig:
    """Switches of a very small model of ``family``, for examples and tests.

    >>> tiny_config("gpt2").positions
    'learned'
    """
    sizes: dict[str, dict[str, Any]] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
        "llama": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 256,
            "tie_word_embeddings": True,
        },
    }
    config = read_config(AutoConfig.for_model(family, vocab_size=vocab_size, **sizes[family]))
    return replace(config, **changes)

"""Tensors of families whose layers take from other tokens in several ways; see ``tensors``."""

from __future__ import annotations

from typing import Any

from .tensors import (
    LLAMA_TENSORS,
    QK_NORM_TENSORS,
    QWEN_MOE_TENSORS,
    QWEN_SHARED_MIXED_TENSORS,
    SHARED_EXPERT_TENSORS,
    Cut,
    Tensor,
    in_stack,
    linear_names,
    norm_names,
)

_FEED, _CONV = "layers.{i}.feed_forward", "layers.{i}.conv"
_LFM2_ATTENTION = {
    **linear_names("blocks.query", "layers.{i}.self_attn.q_proj"),
    **linear_names("blocks.key", "layers.{i}.self_attn.k_proj"),
    **linear_names("blocks.value", "layers.{i}.self_attn.v_proj"),
    **linear_names("blocks.out", "layers.{i}.self_attn.out_proj"),
    **norm_names("blocks.query_norm", "layers.{i}.self_attn.q_layernorm"),
    **norm_names("blocks.key_norm", "layers.{i}.self_attn.k_layernorm"),
}
_LFM2_MLP = {
    **linear_names("blocks.gate", f"{_FEED}.w1"),
    **linear_names("blocks.up", f"{_FEED}.w3"),
    **linear_names("blocks.down", f"{_FEED}.w2"),
}
LFM2_TENSORS = {
    **{name: LLAMA_TENSORS[name] for name in ("embedding.embedding", "head")},
    **norm_names("final_norm", "embedding_norm"),
    **norm_names("blocks.attention_norm", "layers.{i}.operator_norm"),
    **norm_names("blocks.mlp_norm", "layers.{i}.ffn_norm"),
    **_LFM2_ATTENTION,
    **in_stack(_LFM2_ATTENTION, "attention"),
    **_LFM2_MLP,
    **linear_names("conv.before", f"{_CONV}.in_proj", part=(0, 3)),
    **linear_names("conv.behind", f"{_CONV}.in_proj", part=(1, 3)),
    **linear_names("conv.value", f"{_CONV}.in_proj", part=(2, 3)),
    **linear_names("conv.out", f"{_CONV}.out_proj"),
    "conv.convolution.kernel": Tensor(f"{_CONV}.conv.weight"),
    "conv.convolution.bias": Tensor(f"{_CONV}.conv.bias"),
}
LFM2_MOE_TENSORS = {
    **LFM2_TENSORS,
    **in_stack(_LFM2_MLP, "dense"),
    "sparse.router.kernel": Tensor(f"{_FEED}.gate.weight", transpose=True),
    "sparse.correction": Tensor(f"{_FEED}.expert_bias"),
    **{
        f"sparse.experts.{name}.kernel": Tensor(f"{_FEED}.experts.{{e}}.{own}.weight", transpose=True)
        for name, own in (("gate", "w1"), ("up", "w3"), ("down", "w2"))
    },
}


def _query_and_gate(c: Any) -> tuple[int, tuple[int, ...]]:
    return c.heads, (c.head_dim, c.head_dim)


def _of_delta(c: Any) -> Any:
    return dict(c.mixers)["delta"]


def _by_delta_key(c: Any) -> tuple[int, tuple[int, ...]]:
    """A query, a key, and the values and gates that share them."""
    own = _of_delta(c)
    values = own.value_heads // own.key_heads * own.value_size
    return own.key_heads, (own.key_size, own.key_size, values, values)


def _shares_and_steps(c: Any) -> tuple[int, tuple[int, ...]]:
    own = _of_delta(c)
    return own.key_heads, (own.value_heads // own.key_heads,) * 2


def _by_delta_kind(c: Any) -> tuple[int, tuple[int, ...]]:
    own = _of_delta(c)
    return 1, (*(own.key_heads * own.key_size,) * 2, own.value_heads * own.value_size)


def _parts(stack: str, names: tuple[str, ...], source: str, cut: Cut) -> dict[str, Tensor]:
    """Projections that are parts of one tensor."""
    return {
        f"{stack}.{name}.kernel": Tensor(f"{source}.weight", True, (i, len(names)), cut) for i, name in enumerate(names)
    }


_DELTA = "layers.{i}.linear_attn"
_GATED_ATTENTION = {
    **{path: tensor for path, tensor in LLAMA_TENSORS.items() if path.startswith(("blocks.key", "blocks.value"))},
    **{path: tensor for path, tensor in LLAMA_TENSORS.items() if path.startswith("blocks.out")},
    **QK_NORM_TENSORS,
    **linear_names("blocks.query", "layers.{i}.self_attn.q_proj", part=(0, 2), cut=_query_and_gate),
    **linear_names("blocks.output_gate", "layers.{i}.self_attn.q_proj", part=(1, 2), cut=_query_and_gate),
}
_DELTA_TENSORS = {
    **LLAMA_TENSORS,
    **_GATED_ATTENTION,
    **in_stack(_GATED_ATTENTION, "attention"),
    "delta.convolution.kernel": Tensor(f"{_DELTA}.conv1d.weight"),
    "delta.step_bias": Tensor(f"{_DELTA}.dt_bias"),
    "delta.rate": Tensor(f"{_DELTA}.A_log"),
    **norm_names("delta.norm", f"{_DELTA}.norm"),
    **linear_names("delta.out", f"{_DELTA}.out_proj"),
}
QWEN3_NEXT_TENSORS = {
    **_DELTA_TENSORS,
    **_parts("delta", ("query", "key", "value", "gate"), f"{_DELTA}.in_proj_qkvz", _by_delta_key),
    **_parts("delta", ("share", "step"), f"{_DELTA}.in_proj_ba", _shares_and_steps),
    **QWEN_MOE_TENSORS,
    **SHARED_EXPERT_TENSORS,
    **QWEN_SHARED_MIXED_TENSORS,
}
QWEN3_5_TENSORS = {
    **_DELTA_TENSORS,
    **_parts("delta", ("query", "key", "value"), f"{_DELTA}.in_proj_qkv", _by_delta_kind),
    **linear_names("delta.gate", f"{_DELTA}.in_proj_z"),
    **linear_names("delta.share", f"{_DELTA}.in_proj_b"),
    **linear_names("delta.step", f"{_DELTA}.in_proj_a"),
}
QWEN3_5_MOE_TENSORS = QWEN3_5_TENSORS | QWEN_MOE_TENSORS | SHARED_EXPERT_TENSORS
# As some files have them.
QWEN_EXPERTS_TOGETHER = {
    "blocks.experts.gate.kernel": Tensor("layers.{i}.mlp.experts.gate_up_proj", transpose=True, part=(0, 2)),
    "blocks.experts.up.kernel": Tensor("layers.{i}.mlp.experts.gate_up_proj", transpose=True, part=(1, 2)),
    "blocks.experts.down.kernel": Tensor("layers.{i}.mlp.experts.down_proj", transpose=True),
}

"""Tensors of families whose layers take from other tokens in several ways; see ``tensors``."""

from __future__ import annotations

from typing import Any

from .tensors import (
    GRANITE_MOE_TENSORS,
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
        path: tensor
        for i, name in enumerate(names)
        for path, tensor in linear_names(f"{stack}.{name}", source, part=(i, len(names)), cut=cut).items()
    }


_ATTENTION = {
    path: tensor
    for path, tensor in LLAMA_TENSORS.items()
    if path.startswith(tuple(f"blocks.{name}." for name in ("query", "key", "value", "out")))
}
_DELTA = "layers.{i}.linear_attn"
_GATED_ATTENTION = {
    **_ATTENTION,
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


def _by_space_part(c: Any) -> tuple[int, tuple[int, ...]]:
    """Gate, input, B, C and step."""
    own = dict(c.mixers)["states"]
    return 1, (own.inner, own.inner, *(own.groups * own.state,) * 2, own.heads)


def _space_names(source: str) -> dict[str, Tensor]:
    return {
        **_parts("states", ("gate", "value", "key", "query", "step"), f"{source}.in_proj", _by_space_part),
        "states.convolution.kernel": Tensor(f"{source}.conv1d.weight"),
        "states.convolution.bias": Tensor(f"{source}.conv1d.bias"),
        "states.step_bias": Tensor(f"{source}.dt_bias"),
        "states.rate": Tensor(f"{source}.A_log"),
        "states.direct": Tensor(f"{source}.D"),
        "states.norm": Tensor(f"{source}.norm.weight"),
        **linear_names("states.out", f"{source}.out_proj"),
    }


_SHARED = "layers.{i}.shared_mlp"
GRANITE_HYBRID_TENSORS = {
    **LLAMA_TENSORS,
    **in_stack(_ATTENTION, "attention"),
    **_space_names("layers.{i}.mamba"),
    **GRANITE_MOE_TENSORS,
    **linear_names("blocks.gate", f"{_SHARED}.input_linear", part=(0, 2)),
    **linear_names("blocks.up", f"{_SHARED}.input_linear", part=(1, 2)),
    **linear_names("blocks.down", f"{_SHARED}.output_linear"),
}
FALCON_H1_TENSORS = {
    **LLAMA_TENSORS,
    **norm_names("final_norm", "final_layernorm"),
    **norm_names("blocks.mlp_norm", "layers.{i}.pre_ff_layernorm"),
    **in_stack(_ATTENTION, "attention"),
    **_space_names("layers.{i}.mamba"),
    **linear_names("blocks.gate", f"{_FEED}.gate_proj"),
    **linear_names("blocks.up", f"{_FEED}.up_proj"),
    **linear_names("blocks.down", f"{_FEED}.down_proj"),
}
_MIXER = "layers.{i}.mixer"
MAMBA2_TENSORS = {
    "embedding.embedding": Tensor("embeddings.weight", also=("backbone.embedding.weight",)),
    "head": LLAMA_TENSORS["head"],
    **norm_names("final_norm", "norm_f"),
    **norm_names("blocks.attention_norm", "layers.{i}.norm"),
    **_space_names(_MIXER),
}
NEMOTRON_H_TENSORS = {
    **MAMBA2_TENSORS,
    **linear_names("attention.query", f"{_MIXER}.q_proj"),
    **linear_names("attention.key", f"{_MIXER}.k_proj"),
    **linear_names("attention.value", f"{_MIXER}.v_proj"),
    **linear_names("attention.out", f"{_MIXER}.o_proj"),
    **linear_names("dense.up", f"{_MIXER}.up_proj"),
    **linear_names("dense.down", f"{_MIXER}.down_proj"),
    **linear_names("sparse.up", f"{_MIXER}.shared_experts.up_proj"),
    **linear_names("sparse.down", f"{_MIXER}.shared_experts.down_proj"),
    **linear_names("sparse.inwards", f"{_MIXER}.fc1_latent_proj"),
    **linear_names("sparse.outwards", f"{_MIXER}.fc2_latent_proj"),
    "sparse.router.kernel": Tensor(f"{_MIXER}.gate.weight", transpose=True),
    "sparse.correction": Tensor(f"{_MIXER}.gate.e_score_correction_bias"),
    "sparse.experts.up.kernel": Tensor(f"{_MIXER}.experts.{{e}}.up_proj.weight", transpose=True),
    "sparse.experts.down.kernel": Tensor(f"{_MIXER}.experts.{{e}}.down_proj.weight", transpose=True),
}

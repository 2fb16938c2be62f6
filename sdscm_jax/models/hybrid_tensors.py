"""Tensors of families whose layers take from other tokens in several ways; see ``tensors``."""

from __future__ import annotations

from .tensors import LLAMA_TENSORS, Tensor, in_stack, linear_names, norm_names

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

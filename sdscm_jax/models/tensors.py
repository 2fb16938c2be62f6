"""Which tensor of a checkpoint fills which parameter of the decoder, by family.

The names are those of the published files. A table may name parameters that a model does not have,
such as biases: what a model has is decided by its switches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

# Of a ``DecoderConfig``.
Cut = Callable[[Any], tuple[int, tuple[int, ...]]]


def by_head(c: Any) -> tuple[int, tuple[int, ...]]:
    """Query, key and value of each head stand together."""
    return c.heads, (c.head_dim,) * 3


def by_kind(c: Any) -> tuple[int, tuple[int, ...]]:
    """Queries, keys and values, of as many heads as there are of each."""
    return 1, (c.heads * c.head_dim, c.kv_heads * c.head_dim, c.kv_heads * c.head_dim)


def by_group(c: Any) -> tuple[int, tuple[int, ...]]:
    """The queries that share a key, that key and its value, group by group."""
    return c.kv_heads, (c.heads // c.kv_heads * c.head_dim, c.head_dim, c.head_dim)


def by_latent_head(c: Any) -> tuple[int, tuple[int, ...]]:
    """A key without rotation and a value, of each head."""
    return c.heads, (c.latent.plain, c.latent.value)


@dataclass(frozen=True)
class Tensor:
    """Where one parameter comes from.

    Attributes:
        source: the tensor's name; ``{i}`` stands for the layer, ``{e}`` for the expert.
        transpose: stored as ``[out, in]`` and needed as ``[in, out]``.
        part: ``(k, n)``: the k-th of n equal parts along the outputs.
        cut: how many groups of parts there are, and how large the parts of each are, of a configuration; None: one
            group of equal ones.
        prefixed: does the family's prefix stand before the name?
        also: other names that the tensor has in some files, without a prefix.
    """

    source: str
    transpose: bool = False
    part: tuple[int, int] | None = None
    cut: Cut | None = None
    prefixed: bool = True
    alternating: bool = False
    also: tuple[str, ...] = ()


def norm_names(path: str, source: str, bias: bool = False) -> dict[str, Tensor]:
    names = {f"{path}.scale": Tensor(f"{source}.weight")}
    return names | ({f"{path}.bias": Tensor(f"{source}.bias")} if bias else {})


def linear_names(
    path: str,
    source: str,
    transpose: bool = True,
    part: tuple[int, int] | None = None,
    cut: Cut | None = None,
) -> dict[str, Tensor]:
    return {
        f"{path}.kernel": Tensor(f"{source}.weight", transpose, part, cut),
        f"{path}.bias": Tensor(f"{source}.bias", False, part, cut),
    }


GPT2_TENSORS = {
    "embedding.embedding": Tensor("wte.weight"),
    "position_embedding.embedding": Tensor("wpe.weight"),
    **norm_names("final_norm", "ln_f", bias=True),
    "head": Tensor("lm_head.weight", prefixed=False),
    **norm_names("blocks.attention_norm", "h.{i}.ln_1", bias=True),
    **norm_names("blocks.mlp_norm", "h.{i}.ln_2", bias=True),
    **linear_names("blocks.query", "h.{i}.attn.c_attn", transpose=False, part=(0, 3)),
    **linear_names("blocks.key", "h.{i}.attn.c_attn", transpose=False, part=(1, 3)),
    **linear_names("blocks.value", "h.{i}.attn.c_attn", transpose=False, part=(2, 3)),
    **linear_names("blocks.out", "h.{i}.attn.c_proj", transpose=False),
    **linear_names("blocks.up", "h.{i}.mlp.c_fc", transpose=False),
    **linear_names("blocks.down", "h.{i}.mlp.c_proj", transpose=False),
}
GPT_NEOX_TENSORS = {
    "embedding.embedding": Tensor("embed_in.weight"),
    **norm_names("final_norm", "final_layer_norm", bias=True),
    "head": Tensor("embed_out.weight", prefixed=False, also=("lm_head.weight",)),
    **norm_names("blocks.attention_norm", "layers.{i}.input_layernorm", bias=True),
    **norm_names("blocks.mlp_norm", "layers.{i}.post_attention_layernorm", bias=True),
    **linear_names("blocks.query", "layers.{i}.attention.query_key_value", part=(0, 3), cut=by_head),
    **linear_names("blocks.key", "layers.{i}.attention.query_key_value", part=(1, 3), cut=by_head),
    **linear_names("blocks.value", "layers.{i}.attention.query_key_value", part=(2, 3), cut=by_head),
    **linear_names("blocks.out", "layers.{i}.attention.dense"),
    **linear_names("blocks.up", "layers.{i}.mlp.dense_h_to_4h"),
    **linear_names("blocks.down", "layers.{i}.mlp.dense_4h_to_h"),
}
LLAMA_TENSORS = {
    "embedding.embedding": Tensor("embed_tokens.weight"),
    **norm_names("final_norm", "norm"),
    "head": Tensor("lm_head.weight", prefixed=False, also=("language_model.lm_head.weight",)),
    **norm_names("blocks.attention_norm", "layers.{i}.input_layernorm"),
    **norm_names("blocks.mlp_norm", "layers.{i}.post_attention_layernorm"),
    **linear_names("blocks.query", "layers.{i}.self_attn.q_proj"),
    **linear_names("blocks.key", "layers.{i}.self_attn.k_proj"),
    **linear_names("blocks.value", "layers.{i}.self_attn.v_proj"),
    **linear_names("blocks.out", "layers.{i}.self_attn.o_proj"),
    **linear_names("blocks.gate", "layers.{i}.mlp.gate_proj"),
    **linear_names("blocks.up", "layers.{i}.mlp.up_proj"),
    **linear_names("blocks.down", "layers.{i}.mlp.down_proj"),
}
QK_NORM_TENSORS = {
    **norm_names("blocks.query_norm", "layers.{i}.self_attn.q_norm"),
    **norm_names("blocks.key_norm", "layers.{i}.self_attn.k_norm"),
}
# What is called post-attention norm stands before the MLP in Llama, and behind the attention here.
OUTPUT_NORM_TENSORS = {
    **norm_names("blocks.attention_output_norm", "layers.{i}.post_attention_layernorm"),
    **norm_names("blocks.mlp_norm", "layers.{i}.pre_feedforward_layernorm"),
    **norm_names("blocks.mlp_output_norm", "layers.{i}.post_feedforward_layernorm"),
}
# In OLMo 2 and EXAONE 4 nothing stands before attention and MLP.
NORMS_BEHIND_TENSORS = {
    **norm_names("blocks.attention_output_norm", "layers.{i}.post_attention_layernorm"),
    **norm_names("blocks.mlp_output_norm", "layers.{i}.post_feedforward_layernorm"),
}
# Layer norms under Llama's names.
LAYER_NORM_TENSORS = {
    **norm_names("final_norm", "norm", bias=True),
    **norm_names("blocks.attention_norm", "layers.{i}.input_layernorm", bias=True),
    **norm_names("blocks.mlp_norm", "layers.{i}.post_attention_layernorm", bias=True),
}
STARCODER2_TENSORS = {
    **LAYER_NORM_TENSORS,
    **linear_names("blocks.up", "layers.{i}.mlp.c_fc"),
    **linear_names("blocks.down", "layers.{i}.mlp.c_proj"),
}
GATE_AND_UP_TENSORS = {
    **linear_names("blocks.gate", "layers.{i}.mlp.gate_up_proj", part=(0, 2)),
    **linear_names("blocks.up", "layers.{i}.mlp.gate_up_proj", part=(1, 2)),
}
PHI3_TENSORS = {
    **GATE_AND_UP_TENSORS,
    **linear_names("blocks.query", "layers.{i}.self_attn.qkv_proj", part=(0, 3), cut=by_kind),
    **linear_names("blocks.key", "layers.{i}.self_attn.qkv_proj", part=(1, 3), cut=by_kind),
    **linear_names("blocks.value", "layers.{i}.self_attn.qkv_proj", part=(2, 3), cut=by_kind),
}
GLM4_TENSORS = {
    **GATE_AND_UP_TENSORS,
    **norm_names("blocks.attention_output_norm", "layers.{i}.post_self_attn_layernorm"),
    **norm_names("blocks.mlp_output_norm", "layers.{i}.post_mlp_layernorm"),
}
OPT_TENSORS = {
    "embedding.embedding": Tensor("embed_tokens.weight"),
    "position_embedding.embedding": Tensor("embed_positions.weight"),
    **norm_names("final_norm", "final_layer_norm", bias=True),
    "head": Tensor("lm_head.weight", prefixed=False),
    **norm_names("blocks.attention_norm", "layers.{i}.self_attn_layer_norm", bias=True),
    **norm_names("blocks.mlp_norm", "layers.{i}.final_layer_norm", bias=True),
    **linear_names("blocks.query", "layers.{i}.self_attn.q_proj"),
    **linear_names("blocks.key", "layers.{i}.self_attn.k_proj"),
    **linear_names("blocks.value", "layers.{i}.self_attn.v_proj"),
    **linear_names("blocks.out", "layers.{i}.self_attn.out_proj"),
    **linear_names("blocks.up", "layers.{i}.fc1"),
    **linear_names("blocks.down", "layers.{i}.fc2"),
}


APERTUS_TENSORS = {
    **norm_names("blocks.attention_norm", "layers.{i}.attention_layernorm"),
    **norm_names("blocks.mlp_norm", "layers.{i}.feedforward_layernorm"),
    **{
        f"blocks.activation.{name}": Tensor(f"layers.{{i}}.mlp.act_fn.{name}")
        for name in ("alpha_p", "alpha_n", "beta", "eps")
    },
}
_FALCON = "h.{i}.self_attention"
FALCON_TENSORS = {
    "embedding.embedding": Tensor("word_embeddings.weight"),
    **norm_names("final_norm", "ln_f", bias=True),
    "head": Tensor("lm_head.weight", prefixed=False),
    **norm_names("blocks.attention_norm", "h.{i}.input_layernorm", bias=True),
    **norm_names("blocks.mlp_norm", "h.{i}.post_attention_layernorm", bias=True),
    **linear_names("blocks.query", f"{_FALCON}.query_key_value", part=(0, 3), cut=by_group),
    **linear_names("blocks.key", f"{_FALCON}.query_key_value", part=(1, 3), cut=by_group),
    **linear_names("blocks.value", f"{_FALCON}.query_key_value", part=(2, 3), cut=by_group),
    **linear_names("blocks.out", f"{_FALCON}.dense"),
    **linear_names("blocks.up", "h.{i}.mlp.dense_h_to_4h"),
    **linear_names("blocks.down", "h.{i}.mlp.dense_4h_to_h"),
}
# Where attention and MLP have a norm each and read the same.
FALCON_NORMS = {
    **norm_names("blocks.attention_norm", "h.{i}.ln_attn", bias=True),
    **norm_names("blocks.mlp_norm", "h.{i}.ln_mlp", bias=True),
}


def _expert_names(source: str, gate: str, up: str, down: str) -> dict[str, Tensor]:
    """Experts that are stored one by one."""
    names = {"gate": gate, "up": up, "down": down}
    return {
        f"blocks.experts.{name}.kernel": Tensor(f"layers.{{i}}.{source}.{{e}}.{own}.weight", transpose=True)
        for name, own in names.items()
    }


MIXTRAL_TENSORS = {
    "blocks.router.kernel": Tensor("layers.{i}.block_sparse_moe.gate.weight", transpose=True),
    **_expert_names("block_sparse_moe.experts", "w1", "w3", "w2"),
}
QWEN_MOE_TENSORS = {
    "blocks.router.kernel": Tensor("layers.{i}.mlp.gate.weight", transpose=True),
    **_expert_names("mlp.experts", "gate_proj", "up_proj", "down_proj"),
}
SHARED_EXPERT_TENSORS = {
    "blocks.shared_gate.kernel": Tensor("layers.{i}.mlp.shared_expert_gate.weight", transpose=True),
    **linear_names("blocks.gate", "layers.{i}.mlp.shared_expert.gate_proj"),
    **linear_names("blocks.up", "layers.{i}.mlp.shared_expert.up_proj"),
    **linear_names("blocks.down", "layers.{i}.mlp.shared_expert.down_proj"),
}
# Experts that are stored together; gate and up are halves of one tensor, or alternate in it.
_GRANITE_MOE, _GPT_OSS = "layers.{i}.block_sparse_moe", "layers.{i}.mlp"
GRANITE_MOE_TENSORS = {
    "blocks.router.kernel": Tensor(f"{_GRANITE_MOE}.router.layer.weight", transpose=True),
    "blocks.experts.gate.kernel": Tensor(f"{_GRANITE_MOE}.input_linear.weight", transpose=True, part=(0, 2)),
    "blocks.experts.up.kernel": Tensor(f"{_GRANITE_MOE}.input_linear.weight", transpose=True, part=(1, 2)),
    "blocks.experts.down.kernel": Tensor(f"{_GRANITE_MOE}.output_linear.weight", transpose=True),
}
# As llama.cpp's files have them: the gates of all experts are a tensor, as their other matrices are.
GRANITE_MOE_APART = _expert_names("block_sparse_moe.experts", "w1", "w3", "w2")
GPT_OSS_APART = {
    path: replace(tensor, transpose=path.endswith("kernel"))
    for name in ("gate", "up", "down")
    for path, tensor in linear_names(f"blocks.experts.{name}", f"{_GPT_OSS}.experts.{{e}}.{name}_proj").items()
}
GPT_OSS_TENSORS = {
    "blocks.sinks": Tensor("layers.{i}.self_attn.sinks"),
    **linear_names("blocks.router", f"{_GPT_OSS}.router"),
    "blocks.experts.gate.kernel": Tensor(f"{_GPT_OSS}.experts.gate_up_proj", part=(0, 2), alternating=True),
    "blocks.experts.up.kernel": Tensor(f"{_GPT_OSS}.experts.gate_up_proj", part=(1, 2), alternating=True),
    "blocks.experts.down.kernel": Tensor(f"{_GPT_OSS}.experts.down_proj"),
    "blocks.experts.gate.bias": Tensor(f"{_GPT_OSS}.experts.gate_up_proj_bias", part=(0, 2), alternating=True),
    "blocks.experts.up.bias": Tensor(f"{_GPT_OSS}.experts.gate_up_proj_bias", part=(1, 2), alternating=True),
    "blocks.experts.down.bias": Tensor(f"{_GPT_OSS}.experts.down_proj_bias"),
}


def in_stack(names: dict[str, Tensor], stack: str) -> dict[str, Tensor]:
    """The same tensors, in the stack of the layers of one kind where there are several."""
    return {path.replace("blocks.", f"{stack}.", 1): tensor for path, tensor in names.items()}


def mlp_names(source: str) -> dict[str, Tensor]:
    names: dict[str, Tensor] = {}
    for name in ("gate", "up", "down"):
        names |= linear_names(f"blocks.{name}", f"layers.{{i}}.{source}.{name}_proj")
    return names


# Where some layers have an MLP in place of experts.
MIXED_TENSORS = in_stack(mlp_names("mlp"), "dense")
QWEN_MIXED_TENSORS = MIXED_TENSORS | in_stack(QWEN_MOE_TENSORS, "sparse")
QWEN_SHARED_MIXED_TENSORS = QWEN_MIXED_TENSORS | in_stack(SHARED_EXPERT_TENSORS, "sparse")
SHARED_EXPERTS_TENSORS = QWEN_MIXED_TENSORS | in_stack(
    mlp_names("mlp.shared_experts") | {"blocks.correction": Tensor("layers.{i}.mlp.gate.e_score_correction_bias")},
    "sparse",
)
_ATTENTION = "layers.{i}.self_attn"
LATENT_TENSORS = {
    **linear_names("blocks.latent.query_down", f"{_ATTENTION}.q_a_proj"),
    **norm_names("blocks.latent.query_norm", f"{_ATTENTION}.q_a_layernorm"),
    "blocks.latent.query.kernel": Tensor(f"{_ATTENTION}.q_b_proj.weight", transpose=True),
    **linear_names("blocks.latent.down", f"{_ATTENTION}.kv_a_proj_with_mqa"),
    **norm_names("blocks.latent.norm", f"{_ATTENTION}.kv_a_layernorm"),
    **{
        f"blocks.latent.{name}.kernel": Tensor(f"{_ATTENTION}.kv_b_proj.weight", True, (number, 2), cut=by_latent_head)
        for number, name in enumerate(("key", "value"))
    },
}
# Where queries are of the layer's input.
LATENT_QUERIES = {"blocks.latent.query.kernel": Tensor(f"{_ATTENTION}.q_proj.weight", transpose=True)}
MINIMAX_M2_TENSORS = MIXTRAL_TENSORS | {
    "blocks.correction": Tensor("layers.{i}.block_sparse_moe.e_score_correction_bias")
}
_FEED = "layers.{i}.feed_forward"
LLAMA4_TENSORS = {
    **in_stack(mlp_names("feed_forward"), "dense"),
    **in_stack(mlp_names("feed_forward.shared_expert"), "sparse"),
    "sparse.router.kernel": Tensor(f"{_FEED}.router.weight", transpose=True),
    "sparse.experts.gate.kernel": Tensor(f"{_FEED}.experts.gate_up_proj", part=(0, 2)),
    "sparse.experts.up.kernel": Tensor(f"{_FEED}.experts.gate_up_proj", part=(1, 2)),
    "sparse.experts.down.kernel": Tensor(f"{_FEED}.experts.down_proj"),
}

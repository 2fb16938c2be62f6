"""Names of tensors of Gemma 3n and Gemma 4 (their text models)."""

from __future__ import annotations

from .tensors import QK_NORM_TENSORS, Tensor, in_stack, linear_names, mlp_names, norm_names

_ATTENTION = "layers.{i}.self_attn"
# Layers with and without windows, and those that read the keys and values of earlier ones.
_GEMMA_MIXERS = {
    name: tensor
    for stack in ("sliding", "full", "sliding_reading", "full_reading")
    for name, tensor in in_stack(
        {
            **QK_NORM_TENSORS,
            **linear_names("blocks.query", f"{_ATTENTION}.q_proj"),
            **linear_names("blocks.key", f"{_ATTENTION}.k_proj"),
            **linear_names("blocks.value", f"{_ATTENTION}.v_proj"),
            **linear_names("blocks.out", f"{_ATTENTION}.o_proj"),
        },
        stack,
    ).items()
}
_LAYER_INPUT_TENSORS = {
    "layer_inputs.table.embedding": Tensor("embed_tokens_per_layer.weight"),
    "layer_inputs.projection.kernel": Tensor("per_layer_model_projection.weight", transpose=True),
    **norm_names("layer_inputs.norm", "per_layer_projection_norm"),
    **linear_names("blocks.layer_input.into", "layers.{i}.per_layer_input_gate"),
    **linear_names("blocks.layer_input.out_of", "layers.{i}.per_layer_projection"),
    **norm_names("blocks.layer_input.norm", "layers.{i}.post_per_layer_input_norm"),
}
GEMMA4_TENSORS = {
    **_GEMMA_MIXERS,
    **_LAYER_INPUT_TENSORS,
    "blocks.layer_scale": Tensor("layers.{i}.layer_scalar"),
    **in_stack(mlp_names("mlp"), "single"),
    **in_stack(mlp_names("mlp"), "double"),
    "blocks.router.kernel": Tensor("layers.{i}.router.proj.weight", transpose=True),
    "blocks.router_scale": Tensor("layers.{i}.router.scale"),
    "blocks.expert_scale": Tensor("layers.{i}.router.per_expert_scale"),
    "blocks.experts.gate.kernel": Tensor("layers.{i}.experts.gate_up_proj", transpose=True, part=(0, 2)),
    "blocks.experts.up.kernel": Tensor("layers.{i}.experts.gate_up_proj", transpose=True, part=(1, 2)),
    "blocks.experts.down.kernel": Tensor("layers.{i}.experts.down_proj", transpose=True),
    **norm_names("blocks.dense_norm", "layers.{i}.pre_feedforward_layernorm"),
    **norm_names("blocks.dense_output_norm", "layers.{i}.post_feedforward_layernorm_1"),
    **norm_names("blocks.expert_norm", "layers.{i}.pre_feedforward_layernorm_2"),
    **norm_names("blocks.expert_output_norm", "layers.{i}.post_feedforward_layernorm_2"),
}
GEMMA3N_TENSORS = {
    **_GEMMA_MIXERS,
    **_LAYER_INPUT_TENSORS,
    "streams.into": Tensor("altup_projections.{e}.weight", transpose=True),
    "streams.out_of": Tensor("altup_unembed_projections.{e}.weight", transpose=True),
    **norm_names("blocks.streams.router_norm", "layers.{i}.altup.router_norm"),
    "blocks.streams.router.kernel": Tensor("layers.{i}.altup.modality_router.weight", transpose=True),
    "blocks.streams.prediction.kernel": Tensor("layers.{i}.altup.prediction_coefs.weight", transpose=True),
    "blocks.streams.correction.kernel": Tensor("layers.{i}.altup.correction_coefs.weight", transpose=True),
    "blocks.streams.scale": Tensor("layers.{i}.altup.correct_output_scale"),
    **linear_names("blocks.streams.left", "layers.{i}.laurel.linear_left"),
    **linear_names("blocks.streams.right", "layers.{i}.laurel.linear_right"),
    **norm_names("blocks.streams.norm", "layers.{i}.laurel.post_laurel_norm"),
}
# Of layers that read the keys and values of earlier ones, in published files.
UNREAD = ("k_proj", "v_proj", "k_norm", "v_norm")

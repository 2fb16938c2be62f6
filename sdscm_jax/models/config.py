"""The switches of the decoder: what distinguishes one family of language models from another."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding of one layer (Su et al. 2021, RoFormer).

    Attributes:
        theta: base of the geometric progression of wavelengths.
        rotary_dim: number of leading head dimensions that rotate; the rest pass through. 0: none.
        llama3: ``(factor, low_freq_factor, high_freq_factor, original_max_positions)`` of the
            Llama-3 frequency scaling, or None.
        linear: positions are divided by this factor (linear scaling).
    """

    theta: float
    rotary_dim: int
    llama3: tuple[float, float, float, float] | None = None
    linear: float = 1.0


@dataclass(frozen=True)
class DecoderConfig:
    """Everything static about a decoder-only transformer.

    Attributes:
        family: the checkpoint's ``model_type``; selects the table of parameter names.
        vocab_size, width, layers, heads, kv_heads, head_dim, mlp_width: sizes.
        max_positions: the longest sequence the model was built for, in tokens.
        norm: ``"layer"`` or ``"rms"``.
        norm_eps: epsilon inside the norm's square root.
        positions: ``"learned"`` (a table) or ``"rotary"``.
        rope: one entry per layer (None: the layer has no rotation), empty for learned positions.
        windows: per layer, the number of positions that a query sees, its own included (None: all);
            empty where no layer has a window.
        activation: name of the MLP's activation function, see ``block.ACTIVATIONS``.
        gated: True for ``down(act(gate(x)) * up(x))``, False for ``down(act(up(x)))``.
        qkv_bias, out_bias, mlp_bias: which projections have biases.
        qk_norm: normalise queries and keys over ``head_dim`` before the rotation.
        parallel: attention and MLP read the same input and are added together.
        tied: the output head is the token embedding.
        query_scale: factor of the attention logits.
        norm_offset: norms multiply by 1 + their weight (RMS only).
        output_norms: attention and MLP have a norm behind them too, before they are added.
        embedding_scale: factor of the token embeddings where they are read.
        attention_cap, logit_cap: attention logits and output logits are ``cap * tanh(x / cap)``
            (None: as they are).
        weights: ``"int8"``: the kernels of the layers are int8 with a scale for each output (see
            ``int8``); None: they are of the model's dtype.
        low_rank: with int8 weights, the projections that have a change of low rank, and its rank.
    """

    family: str
    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    max_positions: int
    norm: str
    norm_eps: float
    positions: str
    activation: str
    gated: bool
    query_scale: float
    rope: tuple[Rope | None, ...] = ()
    windows: tuple[int | None, ...] = ()
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    parallel: bool = False
    tied: bool = True
    norm_offset: bool = False
    output_norms: bool = False
    embedding_scale: float = 1.0
    attention_cap: float | None = None
    logit_cap: float | None = None
    # Not in what a model is identified by: the parameters differ themselves.
    weights: str | None = field(default=None, repr=False)
    low_rank: tuple[tuple[str, int], ...] = field(default=(), repr=False)

"""The switches of the decoder: what distinguishes one family of language models from another."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from jax.sharding import Mesh

from .mixer_config import Heads, Mixer
from .pages import Kept, KeyValues, Pages

# A field that came later: it is not in the representation, by which models are identified, where it is off.
_LATER = {"later": True}


def _told(value: Any) -> str:
    """As a dataclass writes itself, without what is later and off."""
    shown = [
        f for f in fields(value) if f.repr and not (f.metadata.get("later") and getattr(value, f.name) == f.default)
    ]
    return f"{type(value).__name__}({', '.join(f'{f.name}={getattr(value, f.name)!r}' for f in shown)})"


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding of one layer (Su et al. 2021, RoFormer).

    Attributes:
        theta: base of the geometric progression of wavelengths.
        rotary_dim: number of leading head dimensions that rotate; the rest pass through. 0: none.
        llama3: ``(factor, low_freq_factor, high_freq_factor, original_max_positions)`` of the
            Llama-3 frequency scaling, or None.
        linear: positions are divided by this factor (linear scaling).
        yarn: ``(factor, original_max_positions, beta_fast, beta_slow, whole)`` of YaRN's scaling (Peng et al.
            2023, arXiv 2309.00071, section 3), or None; ``whole``: the bounds of its ramp are integers.
        divisors: each frequency is divided by its own (LongRoPE, Ding et al. 2024, arXiv 2402.13753), one for each
            rotated pair; empty: none is.
        amplitude: factor of the cosine and the sine.
        still: how many of the pairs, the last ones, do not turn (``"proportional"``).
    """

    theta: float
    rotary_dim: int
    llama3: tuple[float, float, float, float] | None = None
    linear: float = 1.0
    yarn: tuple[float, float, float, float, bool] | None = field(default=None, metadata=_LATER)
    divisors: tuple[float, ...] = field(default=(), metadata=_LATER)
    amplitude: float = field(default=1.0, metadata=_LATER)
    still: int = field(default=0, metadata=_LATER)

    def __repr__(self) -> str:
        return _told(self)


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the MLP of every layer; see ``experts``.

    Attributes:
        count: how many experts there are.
        chosen: how many a token goes through.
        width: of an expert's hidden layer.
        of_chosen: shares are a softmax over the scores of the chosen ones, not of all.
        normalised: shares of all are divided by what the chosen ones add up to.
        bias: the router and the experts have biases.
        shared: every token goes through another MLP too (of ``mlp_width``), ...
        shared_gate: ... with a share of its own.
        limit, alpha: the clipped gated unit of gpt-oss; None: the gated unit of the activation.
        sigmoid: scores are sigmoids, not a softmax over all.
        corrected: each expert has a number that is added to its score where the best are chosen, and not to its share.
        groups: ``(n, m, k)``: experts are chosen from the best m of n groups, by the k best scores of each; None: from
            all.
        scale: factor of the shares.
        exact: router and corrections are float32, whatever the model is.
        shared_width: of the other MLP's hidden layer; 0: ``mlp_width``.
        inside: shares multiply what experts read, not what they give.
        plain: experts have no gate.
        latent: size of what experts read and give, between projections of all of them; 0: the model's width.
        more: what normalised shares add up to is divided by this more.
        apart: experts and the other MLP have norms of their own, before and behind, and the router one without weights;
            shares are multiplied by a number of each expert (Gemma 4).
    """

    count: int
    chosen: int
    width: int
    of_chosen: bool = False
    normalised: bool = False
    bias: bool = False
    shared: bool = False
    shared_gate: bool = False
    limit: float | None = None
    alpha: float = 1.0
    sigmoid: bool = field(default=False, metadata=_LATER)
    corrected: bool = field(default=False, metadata=_LATER)
    groups: tuple[int, int, int] | None = field(default=None, metadata=_LATER)
    scale: float = field(default=1.0, metadata=_LATER)
    exact: bool = field(default=False, metadata=_LATER)
    shared_width: int = field(default=0, metadata=_LATER)
    inside: bool = field(default=False, metadata=_LATER)
    more: float = field(default=0.0, metadata=_LATER)
    apart: bool = field(default=False, metadata=_LATER)
    plain: bool = field(default=False, metadata=_LATER)
    latent: int = field(default=0, metadata=_LATER)

    def __repr__(self) -> str:
        return _told(self)


@dataclass(frozen=True)
class Latent:
    """Keys and values of all heads as projections of one small vector (DeepSeek-AI 2024, arXiv 2405.04434, section
    2.1); see ``latent``.

    Attributes:
        rank: size of that vector.
        query_rank: size of the one that queries are projections of; 0: they are of the layer's input.
        plain, turned: sizes of a query's and a key's parts without and with rotation; the latter is one for all heads.
        value: size of a value.
    """

    rank: int
    query_rank: int
    plain: int
    turned: int
    value: int


@dataclass(frozen=True)
class LayerInputs:
    """A vector of each token for each layer; see ``layer_inputs``.

    Attributes:
        vocabulary: tokens of the table that they are looked up in; others are its first.
        size: of a vector.
    """

    vocabulary: int
    size: int


@dataclass(frozen=True)
class Streams:
    """Several states of each token (AltUp), and a second residual (LAuReL); see ``altup``.

    Attributes:
        count: how many there are.
        active: the one that layers compute.
        scaled: what is added to the others is of the active one times a weight.
        rank: of the second residual.
    """

    count: int
    active: int
    scaled: bool
    rank: int


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
        chunked: what is written so are no windows, but the sizes of chunks of positions: a query sees its own chunk.
        turned_norm: queries and keys of layers that rotate are normed after it, without weights.
        growth: ``(scale, every, offset, still)``: queries are multiplied by ``1 + scale * log(1 + n)``, n the whole
            number of ``every`` positions up to theirs (``offset`` more); still: only in layers without a rotation.
        activation: name of the MLP's activation function, see ``block.ACTIVATIONS``.
        gated: True for ``down(act(gate(x)) * up(x))``, False for ``down(act(up(x)))``.
        qkv_bias, out_bias, mlp_bias: which projections have biases.
        qk_norm: normalise queries and keys over ``head_dim`` before the rotation.
        qk_norm_whole: normalise them over all heads together.
        parallel: attention and MLP read the same input and are added together.
        one_norm: and behind one norm.
        tied: the output head is the token embedding.
        query_scale: factor of the attention logits.
        norm_offset: norms multiply by 1 + their weight (RMS only).
        output_norms: attention and MLP have a norm behind them too, before they are added.
        pre_norms: they have norms before them.
        norm_bias: layer norms have a bias.
        interleaved: dimensions 2 i and 2 i + 1 of a head rotate together, not i and i + half of them.
        embedding_scale: factor of the token embeddings where they are read.
        residual_scale: factor of what attention and MLP add.
        logit_scale: factor of the output logits.
        first_position: row of the table of positions that the first one has.
        attention_cap, logit_cap: attention logits and output logits are ``cap * tanh(x / cap)``
            (None: as they are).
        value_norm: values are normed over ``head_dim``, without weights.
        one_projection: values are what keys are before norm and rotation.
        layer_scale: what a layer gives is multiplied by a number of its own.
        layer_inputs: layers add something of a vector that each token has for them; None: they do not.
        streams: tokens have several states; None: they have one.
        spreads: for each layer, by how many standard deviations a gate's input is above their mean where it is not
            nothing (None: all are as they are); empty: all layers have none.
        doubled: numbers of the layers whose MLP is twice as wide, where layers differ in this; MLPs are then a stack
            for each kind (``single``, ``double``). None: they do not.
        experts: a mixture of them stands in place of the MLP; None: there is none.
        sinks: each head has a score that takes a share of attention and gives nothing (gpt-oss).
        qkv_clip: queries, keys and values are kept within this of zero (None: as they are).
        dense: numbers of the layers that have an MLP in place of experts, where layers differ in this; what comes
            behind attention is then a stack for each kind (``dense``, ``sparse``). None: they do not.
        latent: keys and values are projections of one vector, which is kept in their place: ``kv_heads`` is 1 and
            ``head_dim`` the size of what queries are compared with. None: they are not.
        gated_output: what heads take is multiplied by a sigmoid of a projection of the layer's input (Qwen3-Next).
        mlp_factors: of what an MLP's gate and an MLP give; None: they are as they are.
        alone: a layer is one mixer behind one norm, with no MLP behind it (which may be a layer by itself).
        mixers: what layers take from other tokens, where they differ in this: names of mixers, and their switches.
            Empty: all have the attention that the fields above describe.
        expert_mesh: the mesh over whose axis ``"expert"`` experts lie; None: over none.
        weights: ``"int8"``: the kernels of the layers are int8 with a scale for each output (see
            ``int8``); ``"int4"``: they are int4 (see ``int4``); None: they are of the model's dtype.
        low_rank: with such weights, the projections that have a change of low rank, and its rank.
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
    qk_norm_whole: bool = field(default=False, metadata=_LATER)
    one_norm: bool = field(default=False, metadata=_LATER)
    pre_norms: bool = field(default=True, metadata=_LATER)
    norm_bias: bool = field(default=True, metadata=_LATER)
    interleaved: bool = field(default=False, metadata=_LATER)
    residual_scale: float = field(default=1.0, metadata=_LATER)
    logit_scale: float = field(default=1.0, metadata=_LATER)
    first_position: int = field(default=0, metadata=_LATER)
    value_norm: bool = field(default=False, metadata=_LATER)
    one_projection: bool = field(default=False, metadata=_LATER)
    layer_scale: bool = field(default=False, metadata=_LATER)
    layer_inputs: LayerInputs | None = field(default=None, metadata=_LATER)
    streams: Streams | None = field(default=None, metadata=_LATER)
    spreads: tuple[float | None, ...] = field(default=(), metadata=_LATER)
    doubled: tuple[int, ...] | None = field(default=None, metadata=_LATER)
    experts: Experts | None = field(default=None, metadata=_LATER)
    sinks: bool = field(default=False, metadata=_LATER)
    qkv_clip: float | None = field(default=None, metadata=_LATER)
    dense: tuple[int, ...] | None = field(default=None, metadata=_LATER)
    latent: Latent | None = field(default=None, metadata=_LATER)
    chunked: bool = field(default=False, metadata=_LATER)
    turned_norm: bool = field(default=False, metadata=_LATER)
    growth: tuple[float, float, int, bool] | None = field(default=None, metadata=_LATER)
    gated_output: bool = field(default=False, metadata=_LATER)
    mlp_factors: tuple[float, float] | None = field(default=None, metadata=_LATER)
    alone: bool = field(default=False, metadata=_LATER)
    mixers: tuple[tuple[str, Mixer], ...] = field(default=(), metadata=_LATER)
    # Where a model lies does not say which it is.
    expert_mesh: Mesh | None = field(default=None, repr=False)
    # Not in what a model is identified by: the parameters differ themselves.
    weights: str | None = field(default=None, repr=False)
    low_rank: tuple[tuple[str, int], ...] = field(default=(), repr=False)

    def key_values(self, layers: int) -> KeyValues:
        """Sizes of the keys and values of a token in so many layers of attention."""
        sizes = (self.head_dim, self.head_dim) if self.latent is None else (self.latent.turned, self.latent.rank)
        return KeyValues(*(Kept(layers, self.kv_heads, size) for size in sizes))

    @property
    def kept(self) -> Pages:
        """Sizes of what is kept of a token: a pytree of ``Kept``, as pages are one of arrays."""
        if not self.mixers:
            return self.key_values(self.layers)
        found = {name: mixer.kept(self.of(mixer)) for name, mixer in self.mixers}
        return {name: kept for name, kept in found.items() if kept is not None}

    def of(self, mixer: Mixer) -> DecoderConfig:
        """The switches of a mixer's layers."""
        return replace(self, mixers=(), **dict(mixer.changes if isinstance(mixer, Heads) else ()))

    def products(self, seen: float) -> float:
        """Products of numbers that a token takes in all layers, beside those with parameters, if it sees so many."""
        if self.mixers:
            return sum(mixer.products(self.of(mixer), seen) for _, mixer in self.mixers)
        return self.layers * self.of_heads(seen)

    def of_heads(self, seen: float) -> float:
        """Products that attention takes of a token in one layer, if it sees so many."""
        return self.heads * (self.head_dim + (self.head_dim if self.latent is None else self.latent.rank)) * seen

    @property
    def feeds(self) -> dict[str, tuple[int, ...]]:
        """Stacks of what stands behind attention, where layers differ in it, and the layers of each."""
        if self.dense is None and self.doubled is None:
            return {}
        some, names = (self.doubled, ("double", "single")) if self.dense is None else (self.dense, ("dense", "sparse"))
        others = tuple(i for i in range(self.layers) if i not in (some or ()))
        return dict(zip(names, (some or (), others), strict=True))

    def layers_of(self, path: str) -> tuple[int, ...] | None:
        """The layers that a parameter has a part of each for; None: it is of none of them."""
        stack = path.split(".", 1)[0]
        if stack == "blocks":
            return tuple(range(self.layers))
        if stack in self.feeds:
            return self.feeds[stack]
        return next((mixer.layers for name, mixer in self.mixers if name == stack), None)

    def __repr__(self) -> str:
        return _told(self)

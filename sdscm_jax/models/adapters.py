"""Adapters: parameters with which a language model is calibrated to data.

An adapter is a Flax NNX module from a language model to the adapted language model. Its parameters
are only what is fitted; those of the language model stay outside, so that NumPyro's
``nnx_module("adapter", adapter)`` registers the former alone, and inside a model one writes
``lm = nnx_module("adapter", adapter)(lm)``.

Parameters are float32 whatever the dtype of the language model: the steps of an optimiser are lost
in bfloat16. What an adapter returns is an ordinary language model in the dtype of the given one.

Shapes: L layers, V the vocabulary; kernels are ``[L, inputs, outputs]``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from ..checks import count, instance, items, one_of, real, text
from ..errors import ProgramError, SDSCMError
from .checkpoint import abstract_decoder, parameter_paths
from .int8 import ROUNDED, refuse_rounded
from .language_model import LanguageModel, as_rngs

Path = tuple[Any, ...]

_EMBEDDING: Path = ("embedding", "embedding")


class Adapter(nnx.Module):
    """An NNX module from a language model to the adapted language model."""

    @abstractmethod
    def __call__(self, lm: LanguageModel) -> LanguageModel:
        """The adapted language model; ``lm`` is left unchanged.

        Raises:
            ValueError: ``lm`` does not have the shapes of the model that the adapter was made for.
        """

    def with_params(self, params: Mapping[str, Any]) -> Self:
        """This adapter with other parameters, such as those that inference found.

        Args:
            params: nested dictionary as NumPyro names it, e.g. ``result.params["adapter$params"]``
                of an ``SVIRunResult``.

        Raises:
            ValueError: the adapter has no parameter of that name.

        >>> from sdscm_jax.models.language_model import load_lm
        >>> adapter = SoftPrompt(load_lm(), 2)
        >>> bool((adapter.with_params({"embedding": adapter.embedding * 0}).embedding[...] == 0).all())
        True
        """
        graph, state = nnx.split(self)
        nnx.replace_by_pure_dict(state, dict(params))
        return nnx.merge(graph, state)


class SoftPrompt(Adapter):
    """Learned input embeddings at the beginning of every text, after BOS where there is one.

    Prompt tuning (Lester et al. 2021, arXiv 2104.08691). They take positions like other tokens do.
    A prompt of a model that has one already stands behind it.

    Args:
        lm: the language model.
        length: number of virtual tokens.
        init: text whose tokens' embeddings the first ones start from; the others start from those
            of random tokens.
        rngs: seed or randomness of the start.

    Attributes:
        embedding: float32 ``[length, width]``.

    Raises:
        SDSCMError: the length is not positive, or ``init`` has more tokens; tokens of the model have vectors for each
            layer beside their embeddings (Gemma 3n and 4), which a virtual token has not.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> lm = load_lm()
    >>> adapted = SoftPrompt(lm, 4, init="Two of three")(lm)
    >>> adapted.prompt, [token - lm.config.vocab_size for token in adapted.prompt_tokens]
    (4, [0, 1, 2, 3])
    """

    def __init__(self, lm: LanguageModel, length: int, *, init: str = "", rngs: nnx.Rngs | int = 0):
        tokens = _checked(lm).codec.encode(text(init, "init", empty=True))
        if lm.config.layer_inputs is not None:
            raise SDSCMError(
                f"SoftPrompt: a token of {lm.config.family} has a vector for each layer beside its embedding, which a "
                "virtual token has not; use LowRank, or another language model"
            )
        length = count(length, "length", least=max(1, len(tokens)), most=lm.config.max_positions)
        # Real embeddings: what the layers are used to, in scale and in direction.
        rows = jax.random.randint(as_rngs(rngs, "rngs").params(), (length,), 0, lm.config.vocab_size)
        rows = rows.at[: len(tokens)].set(jnp.array(tokens, rows.dtype))
        self.embedding = nnx.Param(_at(lm, _EMBEDDING)[rows].astype(jnp.float32))

    def __call__(self, lm: LanguageModel) -> LanguageModel:
        table, rows = _at(lm, _EMBEDDING), self.embedding[...]
        _check_shape("embedding", rows.shape[1:], table.shape[1:])
        table = jnp.concatenate([table, rows.astype(table.dtype)])
        return replace(lm, params=_with_values(lm, {_EMBEDDING: table}), prompt=lm.prompt + len(rows))


class LowRank(Adapter):
    """Low-rank changes of projections in every layer: kernels become ``kernel + alpha / rank * a @ b``.

    LoRA (Hu et al. 2021, arXiv 2106.09685). ``b`` starts at zero, so that the adapted model starts
    as the given one. The changed kernels are added up before the model runs (in float32, and
    rounded once), so it runs no slower than the given one. Kernels that are integers (int8, int4)
    stay as they are: ``a`` and ``b`` become parameters of the model, and what they give is added in
    each layer (Dettmers et al. 2023, QLoRA, arXiv 2305.14314).

    Args:
        lm: the language model.
        rank: the rank of the changes.
        targets: names of projections: ``"query"``, ``"key"``, ``"value"``, ``"out"``, ``"up"``,
            ``"down"``, and ``"gate"`` where the MLP is gated; where layers differ, in all kinds of layers that have it.
        alpha: scale of the changes; None: the rank, which makes the factor 1.
        rngs: seed or randomness of ``a``.

    Attributes:
        a: target -> float32 ``[L, inputs, rank]``; where layers differ, the target of each stack: ``"sliding.query"``.
        b: target -> float32 ``[L, rank, outputs]``.

    Raises:
        SDSCMError: the rank or alpha is not positive, there are no targets, or one is unknown.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> lm = load_lm()
    >>> adapter = LowRank(lm, 2, targets=["value"])
    >>> bool((adapter(lm).logits([1, 2, 3]) == lm.logits([1, 2, 3])).all())
    True
    >>> adapter.a["value"].shape == (lm.config.layers, lm.config.width, 2)
    True
    """

    def __init__(
        self,
        lm: LanguageModel,
        rank: int,
        *,
        targets: Sequence[str] = ("query", "value"),
        alpha: float | None = None,
        rngs: nnx.Rngs | int = 0,
    ):
        lm = _checked(lm)
        rank = count(rank, "rank", most=max(lm.config.width, lm.config.mlp_width, lm.config.heads * lm.config.head_dim))
        alpha = rank if alpha is None else real(alpha, "alpha", above=0)
        stacks = _stacks(lm)
        known = list(dict.fromkeys(name for names in stacks.values() for name in names))
        targets = items(targets, "targets")
        if not targets:
            raise SDSCMError(f"targets names no projection (known: {known})")
        targets = [one_of(target, known, "target") for target in targets]
        rngs = as_rngs(rngs, "rngs")
        self.factor = alpha / rank
        self.a, self.b = nnx.Dict(), nnx.Dict()
        for target in (_named(stack, t) for t in targets for stack, names in stacks.items() if t in names):
            layers, inputs, outputs = _shape(lm, target)
            # Normed inputs give products of scale 1.
            normal = nnx.initializers.normal(inputs**-0.5)
            self.a[target] = nnx.Param(normal(rngs.params(), (layers, inputs, rank), jnp.float32))
            self.b[target] = nnx.Param(jnp.zeros((layers, rank, outputs), jnp.float32))

    def __call__(self, lm: LanguageModel) -> LanguageModel:
        kernels: dict[Path, Array] = {}
        beside: dict[str, tuple[Array, Array]] = {}
        for target, a in self.a.items():
            kernel = _at(lm, _kernel(target))
            if kernel.dtype in ROUNDED:
                shape = (*a.shape[:2], self.b[target].shape[-1])
                _check_shape(target, shape, _shape(lm, target))
                beside[target] = a[...], self.factor * self.b[target][...]
                continue
            change = self.factor * jnp.matmul(a[...], self.b[target][...], precision=jax.lax.Precision.HIGHEST)
            _check_shape(target, change.shape, kernel.shape)
            kernels[_kernel(target)] = (kernel.astype(jnp.float32) + change).astype(kernel.dtype)
        return _with_low_rank(replace(lm, params=_with_values(lm, kernels)), beside)


class FullWeights(Adapter):
    """All parameters of a language model: fine-tuning, for NumPyro; ``train_lm`` does so without an adapter.

    Args:
        lm: the language model to start from. The one that the adapter is called with gives the
            dtypes and the tokenizer, and none of its weights.

    Attributes:
        decoder: the model's parameters in float32.

    Raises:
        SDSCMError: the language model has int8 or int4 weights.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> lm = load_lm()
    >>> adapter = FullWeights(lm)
    >>> adapter(lm).fingerprint() == lm.fingerprint()
    True
    """

    def __init__(self, lm: LanguageModel):
        refuse_rounded(_checked(lm).params, "FullWeights")
        self.decoder = nnx.merge(lm.graph, jax.tree.map(lambda x: x.astype(jnp.float32), lm.params))

    def __call__(self, lm: LanguageModel) -> LanguageModel:
        own = dict(nnx.to_flat_state(nnx.state(self.decoder, nnx.Param)))
        given = dict(nnx.to_flat_state(lm.params))
        if own.keys() != given.keys():
            raise ValueError(f"the adapter was made for another model: parameters {own.keys() ^ given.keys()} differ")
        for path in own:
            _check_shape(".".join(map(str, path)), own[path].shape, given[path].shape)
        values = {path: weight[...].astype(given[path].dtype) for path, weight in own.items()}
        return replace(lm, params=_with_values(lm, values))


def _stacks(lm: LanguageModel) -> dict[str, list[str]]:
    """Stacks of layers, and the projections that each has."""
    names = ("blocks", *lm.config.feeds, *dict(lm.config.mixers))
    return {
        stack: [name for name, module in lm.params[stack].items() if isinstance(module, Mapping) and "kernel" in module]
        for stack in names
        if stack in lm.params
    }


def _named(stack: str, projection: str) -> str:
    return projection if stack == "blocks" else f"{stack}.{projection}"


def _kernel(target: str) -> Path:
    stack, _, projection = target.rpartition(".")
    return stack or "blocks", projection, "kernel"


def _shape(lm: LanguageModel, target: str) -> tuple[int, ...]:
    """Layers, inputs and outputs, which integers that share bytes do not tell."""
    kernel = _at(lm, _kernel(target))
    if kernel.dtype not in ROUNDED:
        return tuple(kernel.shape)
    plain = abstract_decoder(replace(lm.config, weights=None, low_rank=()), lm.dtype)[1]
    return tuple(parameter_paths(plain)[".".join(_kernel(target))].shape)


def _checked(lm: Any) -> LanguageModel:
    return instance(lm, LanguageModel, "lm", ProgramError)


def _at(lm: LanguageModel, path: Path) -> Array:
    found: Any = lm.params
    for key in path:
        found = found[key]
    return found[...]


def _with_values(lm: LanguageModel, values: Mapping[Path, Array]) -> nnx.State:
    """The parameters of ``lm`` with other values at some paths; ``lm`` keeps its own."""
    flat = nnx.to_flat_state(lm.params)
    return nnx.from_flat_state([(path, leaf.replace(values[path]) if path in values else leaf) for path, leaf in flat])


def _with_low_rank(lm: LanguageModel, changes: Mapping[str, tuple[Array, Array]]) -> LanguageModel:
    """A model with rounded weights that adds ``x @ a @ b`` to what projections give, beside what it adds already."""
    if not changes:
        return lm
    ranks, values = dict(lm.config.low_rank), dict(nnx.to_flat_state(lm.params))
    found: dict[Path, Array] = {path: leaf.get_value() for path, leaf in values.items()}
    for target, (a, b) in changes.items():
        for name, new, axis in (("a", a, -1), ("b", b, -2)):
            path, new = (*_kernel(target)[:-1], name), new.astype(lm.dtype)
            found[path] = jnp.concatenate([found[path], new], axis) if path in found else new
        # (All stacks that have a projection have a change of it.)
        projection = _kernel(target)[1]
        ranks[projection] = dict(lm.config.low_rank).get(projection, 0) + a.shape[-1]
    graph, state = abstract_decoder(replace(lm.config, low_rank=tuple(sorted(ranks.items()))), lm.dtype)
    params = nnx.from_flat_state([(path, leaf.replace(found[path])) for path, leaf in nnx.to_flat_state(state)])
    return replace(lm, params=params, graph=graph)


def _check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise ValueError(f"the adapter was made for another model: {name} has shape {shape}, not {expected}")

"""A mixture of experts in place of an MLP: each token goes through a few of them.

Shazeer et al. 2017 (arXiv 1701.06538), as Mixtral has it (Jiang et al. 2024, arXiv 2401.04088): a router scores the
experts, the best are computed, and what they give is added with their shares. No expert has a capacity: what a token is
given depends on no other token. The tokens of an expert are laid together, and the products are grouped
(``jax.lax.ragged_dot``); on a processor, where that would be a product with all experts, tiles of a few tokens are
taken through theirs.

Shapes: N tokens, k chosen of E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from . import int4, int8
from .config import Experts

# The axis of a mesh whose devices have experts of their own.
EXPERT = "expert"
# Tokens of a tile: few where there are few of each expert.
_FEW, _MANY = 8, 32

Parameters = Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True)
class How:
    """What is static about a layer's experts.

    Attributes:
        experts: the switches.
        activation: of the gate.
        precision: of products.
        mesh: over whose axis ``"expert"`` they lie; None: over none.
        tiled: are tokens taken in tiles?
    """

    experts: Experts
    activation: Callable[[Array], Array]
    precision: Any
    mesh: Mesh | None
    tiled: bool


class ExpertLinear(nnx.Module):
    """A linear map of each expert: parameters only.

    Attributes:
        kernel: ``[E, inputs, outputs]``; int8 where weights are; or int4, see ``int4.packed``.
        scale: float32 ``[E, outputs]`` of an int8 kernel, bfloat16 ``[E, groups, outputs]`` of int4, or None.
        bias: ``[E, outputs]``, or None.
    """

    def __init__(
        self, count: int, inputs: int, outputs: int, bias: bool, weights: str | None, dtype: Any, rngs: nnx.Rngs
    ):
        shape = count, inputs, outputs
        values = nnx.initializers.normal(0.02)(rngs.params(), shape, dtype if weights is None else jnp.float32)
        scale = None
        if weights is not None:
            how: Any = int4 if weights == int8.INT4 else int8
            own, inverse = how.scales(how.largest(values))
            values = (how.packed if weights == int8.INT4 else how.rounded)(values, inverse)
            scale = nnx.Param(own)
        self.kernel, self.scale = nnx.Param(values), scale
        self.bias = nnx.Param(jnp.zeros((count, outputs), dtype)) if bias else None

    def parameters(self) -> dict[str, Array]:
        own = {"kernel": self.kernel, "scale": self.scale, "bias": self.bias}
        return {name: value[...] for name, value in own.items() if value is not None}


class ExpertMLPs(nnx.Module):
    """MLPs, of which each token goes through those that are chosen for it."""

    def __init__(self, experts: Experts, width: int, weights: str | None, dtype: Any, rngs: nnx.Rngs):
        def linear(inputs: int, outputs: int) -> ExpertLinear:
            return ExpertLinear(experts.count, inputs, outputs, experts.bias, weights, dtype, rngs)

        width = experts.latent or width
        if not experts.plain:
            self.gate = linear(width, experts.width)
        self.up, self.down = linear(width, experts.width), linear(experts.width, width)

    def __call__(self, how: How, x: Array, chosen: Array, shares: Array) -> Array:
        """What the chosen experts add up to: ``[..., width]``, of ``x`` ``[..., width]``.

        Args:
            how: see there.
            x: what they read.
            chosen, shares: of ``route``.
        """
        params = {name: getattr(self, name).parameters() for name in ("gate", "up", "down") if hasattr(self, name)}
        return _mixture(how)(x, chosen, shares, params)


def route(experts: Experts, logits: Array, correction: Array | None = None) -> tuple[Array, Array]:
    """Which experts a token goes through: int ``[..., k]``, and their shares, float32 ``[..., k]``.

    Args:
        experts: the switches.
        logits: of the router, ``[..., E]``.
        correction: ``[E]``, where scores are corrected before the best are chosen.

    >>> some = Experts(count=3, chosen=2, width=4, of_chosen=True)
    >>> chosen, shares = route(some, jnp.array([0.0, 2.0, 2.0]))
    >>> chosen.tolist(), shares.tolist()
    ([1, 2], [0.5, 0.5])
    """
    logits = logits.astype(jnp.float32)
    if experts.of_chosen:
        best, chosen = jax.lax.top_k(logits, experts.chosen)
        # (Sigmoids of large scores are all 1.)
        return chosen, jax.nn.sigmoid(best) if experts.sigmoid else jax.nn.softmax(best, axis=-1)
    scores = jax.nn.sigmoid(logits) if experts.sigmoid else jax.nn.softmax(logits, axis=-1)
    ranked = scores if correction is None else scores + correction.astype(jnp.float32)
    _, chosen = jax.lax.top_k(_of_best_groups(experts, ranked), experts.chosen)
    shares = jnp.take_along_axis(scores, chosen, -1)
    if experts.normalised:
        # (Sigmoids can all be nothing: as DeepSeek V3 and GLM 4.5 have it.)
        shares = shares / (shares.sum(-1, keepdims=True) + (experts.more or (1e-20 if experts.sigmoid else 0.0)))
    return chosen, shares if experts.scale == 1 else shares * experts.scale


def _of_best_groups(experts: Experts, ranked: Array) -> Array:
    """Scores ``[..., E]`` of the experts of the best groups; of others nothing is left (DeepSeek-AI 2024, arXiv
    2405.04434, section 2.2.2; by the two best scores of a group: arXiv 2412.19437, section 2.1.2)."""
    if experts.groups is None:
        return ranked
    count, kept, best = experts.groups
    grouped = ranked.reshape(*ranked.shape[:-1], count, -1)
    totals = jax.lax.top_k(grouped, best)[0].sum(-1)
    chosen = jax.lax.top_k(totals, kept)[1]
    there = (chosen[..., None] == jnp.arange(count)).any(-2)
    return jnp.where(there[..., None], grouped, -jnp.inf).reshape(ranked.shape)


@lru_cache(maxsize=64)
def _mixture(how: How) -> Callable[[Array, Array, Array, Parameters], Array]:
    """The computation, with a gradient, that lays the tokens of a ``vmap`` together as it does those of a batch."""

    def plain(x: Array, chosen: Array, shares: Array, params: Parameters) -> Array:
        flat = x.reshape(-1, x.shape[-1]), chosen.reshape(-1, chosen.shape[-1]), shares.reshape(-1, shares.shape[-1])
        return _over_mesh(how, *flat, params).reshape(x.shape)

    together = jax.custom_batching.custom_vmap(plain)

    @together.def_vmap
    def _(size: int, batched: Any, x: Array, chosen: Array, shares: Array, params: Parameters) -> tuple[Array, bool]:
        if any(jax.tree.leaves(batched[3])):
            # Every one has experts of its own.
            def one(i: Array) -> Array:
                own = jax.tree.map(lambda v, b: v[i] if b else v, (x, chosen, shares, params), tuple(batched))
                return plain(*own)

            return jax.lax.map(one, jnp.arange(size)), True

        def whole(value: Array, is_batched: bool) -> Array:
            return value if is_batched else jnp.broadcast_to(value, (size, *value.shape))

        tokens = [whole(v, b) for v, b in zip((x, chosen, shares), batched[:3], strict=True)]
        return together(*tokens, params), True

    @jax.custom_vjp
    def mixture(x: Array, chosen: Array, shares: Array, params: Parameters) -> Array:
        return together(x, chosen, shares, params)

    def forward(*arguments: Any) -> tuple[Array, Any]:
        return together(*arguments), arguments

    # (``ragged_dot`` has no rule for the gradient's other axes.)
    @jax.custom_batching.sequential_vmap
    def back(x: Array, chosen: Array, shares: Array, params: Parameters, change: Array) -> tuple[Any, ...]:
        if "scale" in params["up"]:  # integers are not trained
            return jax.vjp(lambda x, shares: plain(x, chosen, shares, params), x, shares)[1](change)
        return jax.vjp(lambda x, shares, params: plain(x, chosen, shares, params), x, shares, params)[1](change)

    def backward(arguments: Any, change: Array) -> tuple[Any, ...]:
        of_x, of_shares, *of_params = back(*arguments, change)
        return of_x, None, of_shares, of_params[0] if of_params else None

    mixture.defvjp(forward, backward)
    return mixture


def _over_mesh(how: How, x: Array, chosen: Array, shares: Array, params: Parameters) -> Array:
    """Sum over the devices, each of which computes those experts that it has."""
    mesh = how.mesh
    if mesh is None:
        return _computed(how, how.experts.count, x, chosen, shares, params)
    own = how.experts.count // mesh.shape[EXPERT]

    def local(x: Array, chosen: Array, shares: Array, params: Parameters) -> Array:
        mine = chosen - jax.lax.axis_index(EXPERT) * own
        mine = jnp.where((mine >= 0) & (mine < own), mine, own)
        return jax.lax.psum(_computed(how, own, x, mine, shares, params), EXPERT)

    everywhere, split = PartitionSpec(), jax.tree.map(lambda _: PartitionSpec(EXPERT), params)
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(everywhere, everywhere, everywhere, split),
        out_specs=everywhere,
        axis_names={EXPERT},
        check_vma=False,
    )(x, chosen, shares, params)


def _computed(how: How, count: int, x: Array, chosen: Array, shares: Array, params: Parameters) -> Array:
    """What ``count`` experts add: ``[N, width]``; an expert of that number is none of them."""
    numbers = chosen.reshape(-1)
    order = jnp.argsort(numbers, stable=True)
    places = jnp.argsort(order)
    ends = jnp.searchsorted(numbers[order], jnp.arange(count), side="right")
    tokens = x[order // chosen.shape[-1]]
    if how.experts.inside:
        tokens = tokens * shares.reshape(-1)[order][:, None].astype(x.dtype)
    given = (_tiled if how.tiled else _grouped)(how, tokens, ends, params)[places]
    added = given.reshape(*chosen.shape, -1)
    added = added if how.experts.inside else added * shares[..., None]
    # Of an expert that is elsewhere nothing is added, whatever stands in its place.
    return jnp.where((chosen < count)[..., None], added, 0).sum(-2).astype(x.dtype)


def _hidden(how: How, linear: Callable[[Mapping[str, Array]], Array], params: Parameters) -> Array:
    """An expert's hidden layer; ``linear``: of its inputs."""
    if how.experts.plain:
        return how.activation(linear(params["up"]))
    gate, up, limit = linear(params["gate"]), linear(params["up"]), how.experts.limit
    if limit is None:
        return how.activation(gate) * up
    # gpt-oss (OpenAI 2025, arXiv 2508.10925): clipped, and the linear part begins at 1.
    gate, up = jnp.minimum(gate, limit), jnp.clip(up, -limit, limit)
    return gate * jax.nn.sigmoid(how.experts.alpha * gate) * (up + 1)


def _grouped(how: How, tokens: Array, ends: Array, params: Parameters) -> Array:
    """Float32 ``[M, width]`` of tokens ``[M, width]`` laid together, those of an expert up to its end."""
    sizes = jnp.diff(ends, prepend=0)
    of = jnp.searchsorted(ends, jnp.arange(len(tokens)), side="right")

    def linear(x: Array, own: Mapping[str, Array]) -> Array:
        kernel = _kernel(own, x)
        y = jax.lax.ragged_dot(x, kernel, sizes, precision=how.precision, preferred_element_type=jnp.float32)
        return _with_rest(y, own, of)

    hidden = _hidden(how, partial(linear, tokens), params)
    return linear(hidden.astype(tokens.dtype), params["down"])


def _kernel(own: Mapping[str, Array], x: Array) -> Array:
    """What ``x`` is multiplied by; the scales of int8 come afterwards."""
    kernel = own["kernel"]
    if kernel.dtype == jnp.uint8:
        kernel = int4.unpacked(kernel, own["scale"], x.shape[-1])
    return kernel.astype(x.dtype)


def _with_rest(y: Array, own: Mapping[str, Array], of: Array) -> Array:
    """Products of int8 kernels with their scales, and with biases; experts beyond the last are whatever."""
    if own["kernel"].dtype == jnp.int8:
        y = y * jnp.take(own["scale"], of, axis=0, mode="clip")
    return y + jnp.take(own["bias"], of, axis=0, mode="clip") if "bias" in own else y


def _tiled(how: How, tokens: Array, ends: Array, params: Parameters) -> Array:
    """The same by tiles, each of one expert's tokens; a tile's other places are computed for nothing."""
    count, experts = len(tokens), len(ends)
    size = _FEW if count <= _FEW * experts else _MANY
    starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]])
    tiles_end = jnp.cumsum(-(-(ends - starts) // size))
    tiles_start = jnp.concatenate([jnp.zeros(1, tiles_end.dtype), tiles_end[:-1]])

    def linear(x: Array, own: Mapping[str, Array], expert: Array) -> Array:
        kernel = _kernel({name: value[expert] for name, value in own.items()}, x)
        y = jnp.matmul(x, kernel, precision=how.precision, preferred_element_type=jnp.float32)
        return _with_rest(y, own, expert)

    def computed(tile: Array) -> Array:
        expert = jnp.searchsorted(tiles_end, tile, side="right")
        at = starts[expert] + (tile - tiles_start[expert]) * size + jnp.arange(size)
        x = jnp.take(tokens, at, axis=0, mode="clip")
        hidden = _hidden(how, lambda own: linear(x, own, expert), params)
        return linear(hidden.astype(x.dtype), params["down"], expert)

    def nothing(tile: Array) -> Array:
        return jnp.zeros((size, tokens.shape[-1]), jnp.float32)

    numbers = jnp.arange(count // size + min(count, experts))
    tiles = jax.lax.map(lambda tile: jax.lax.cond(tile < tiles_end[-1], computed, nothing, tile), numbers)
    rows = jnp.arange(count)
    of = jnp.searchsorted(ends, rows, side="right")
    at = jnp.take(tiles_start, of, mode="clip") * size + rows - jnp.take(starts, of, mode="clip")
    return jnp.take(tiles.reshape(-1, tokens.shape[-1]), at, axis=0, mode="clip")

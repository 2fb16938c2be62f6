"""What a layer of the decoder adds behind its attention: an MLP, or a few of many experts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from .attention import precision_of
from .config import DecoderConfig
from .experts import ExpertMLPs, How, route
from .int4 import Int4Linear
from .int8 import INT4, INT8, Int8Linear
from .norms import make_norm, unweighted

# Twice the factor inside the tanh.
_GELU = 2 * math.sqrt(2 / math.pi)


def _gelu_by_tanh(x: Array) -> Array:
    """``x (1 + tanh(u)) / 2``, written without a tanh: XLA's has several times the error of its exponential."""
    return x * jax.nn.sigmoid(_GELU * (x + 0.044715 * x**3))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_new": _gelu_by_tanh,
    "gelu_pytorch_tanh": _gelu_by_tanh,
}


# An activation with parameters of its own in each layer.
XIELU = "xielu"


class Xielu(nnx.Module):
    """xIELU (Huang and Schlag 2024, arXiv 2411.13010, equation 5; its parameters as in transformers).

    Attributes:
        alpha_p, alpha_n: ``[1]``, before a softplus.
        beta, eps: numbers, which are not trained.
    """

    def __init__(self, dtype: Any):
        self.alpha_p = nnx.Param(jnp.log(jnp.expm1(jnp.full(1, 0.8))).astype(dtype))
        self.alpha_n = nnx.Param(jnp.log(jnp.expm1(jnp.full(1, 0.3))).astype(dtype))
        self.beta, self.eps = nnx.Param(jnp.asarray(0.5, dtype)), nnx.Param(jnp.asarray(-1e-6, dtype))

    def __call__(self, x: Array) -> Array:
        alpha_p, alpha_n, beta, eps = (
            v[...].astype(jnp.float32) for v in (self.alpha_p, self.alpha_n, self.beta, self.eps)
        )
        beta, eps, y = jax.lax.stop_gradient(beta), jax.lax.stop_gradient(eps), x.astype(jnp.float32)
        above = jax.nn.softplus(alpha_p) * y * y
        below = (jnp.expm1(jnp.minimum(y, eps)) - y) * (beta + jax.nn.softplus(alpha_n))
        return (jnp.where(y > 0, above, below) + beta * y).astype(x.dtype)


def sparsely(x: Array, spread: Array) -> Array:
    """What of a gate's inputs ``[..., size]`` is above their mean by ``spread`` standard deviations, less that (Gemma
    3n: a share of them if they are Gaussian); -inf: they stay."""
    y = x.astype(jnp.float32)
    mean = y.mean(-1, keepdims=True)
    deviation = jnp.sqrt(jnp.square(y - mean).mean(-1, keepdims=True))
    some = jax.nn.relu(y - (mean + deviation * jnp.where(jnp.isfinite(spread), spread, 0)))
    return jnp.where(jnp.isfinite(spread), some, y).astype(x.dtype)


_ROUNDED = {INT8: Int8Linear, INT4: Int4Linear}


def linear(
    config: DecoderConfig, name: str, inputs: int, outputs: int, bias: bool, dtype: Any, rngs: nnx.Rngs
) -> nnx.Linear | Int8Linear:
    if config.weights in _ROUNDED:
        rank = dict(config.low_rank).get(name, 0)
        return _ROUNDED[config.weights](inputs, outputs, bias, rank, dtype, precision_of(dtype), rngs)
    return plain_linear(inputs, outputs, bias, dtype, rngs)


def plain_linear(inputs: int, outputs: int, bias: bool, dtype: Any, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=bias,
        param_dtype=dtype,
        precision=precision_of(dtype),
        kernel_init=nnx.initializers.normal(0.02),
        rngs=rngs,
    )


class Feed(nnx.Module):
    """An MLP, or experts in its place.

    Args:
        config: the switches.
        sparse: are there experts?
        dtype, rngs: of the parameters.
    """

    def __init__(self, config: DecoderConfig, sparse: bool, dtype: Any, rngs: nnx.Rngs):
        self.config, self.sparse = config, sparse
        self._make(dtype, rngs)

    def _make(self, dtype: Any, rngs: nnx.Rngs) -> None:
        c, experts, width = self.config, self.config.experts, self.config.mlp_width
        if c.activation == XIELU:
            self.activation = Xielu(dtype)
        if self.sparse and experts is not None:
            kind = jnp.float32 if experts.exact else dtype
            self.router = plain_linear(c.width, experts.count, experts.bias, kind, rngs)
            if experts.corrected:
                self.correction = nnx.Param(jnp.zeros(experts.count, jnp.float32))
            self.experts = ExpertMLPs(experts, c.width, c.weights, dtype, rngs)
            if experts.apart:
                self.router_scale = nnx.Param(jnp.ones(c.width, dtype))
                self.expert_scale = nnx.Param(jnp.ones(experts.count, dtype))
                for name in ("expert_norm", "expert_output_norm", "dense_norm", "dense_output_norm"):
                    setattr(self, name, make_norm(c, c.width, dtype, rngs))
            if experts.latent:
                self.inwards = plain_linear(c.width, experts.latent, c.mlp_bias, dtype, rngs)
                self.outwards = plain_linear(experts.latent, c.width, c.mlp_bias, dtype, rngs)
            if experts.shared_gate:
                self.shared_gate = plain_linear(c.width, 1, False, dtype, rngs)
            if not experts.shared:
                return
            width = experts.shared_width or width
        self.up = linear(c, "up", c.width, width, c.mlp_bias, dtype, rngs)
        self.down = linear(c, "down", width, c.width, c.mlp_bias, dtype, rngs)
        if c.gated:
            self.gate = linear(c, "gate", c.width, width, c.mlp_bias, dtype, rngs)

    def mlp(self, x: Array, spread: Array | None = None) -> Array:
        """What is added ``[..., T, width]``, before norms.

        Args:
            x: what is read, ``[..., T, width]``.
            spread: see ``DecoderConfig.spreads``; None: all layers have none.
        """
        experts = self.config.experts
        if experts is None or not self.sparse:
            return self._dense(x, spread)
        precision = precision_of(x.dtype)
        processor = jax.default_backend() == "cpu"
        how = How(experts, ACTIVATIONS[self.config.activation], precision, self.config.expert_mesh, processor)
        if experts.apart:
            return self._apart(how, x)
        scores = self.router(x.astype(jnp.float32) if experts.exact else x)
        routed = route(experts, scores, self.correction[...] if experts.corrected else None)
        added = self.experts(how, self.inwards(x) if experts.latent else x, *routed)
        added = self.outwards(added) if experts.latent else added
        if not experts.shared:
            return added
        shared = self._dense(x)
        return added + (jax.nn.sigmoid(self.shared_gate(x)) * shared if experts.shared_gate else shared)

    def _apart(self, how: How, x: Array) -> Array:
        """Experts and an MLP, which read the same ``x`` behind norms of their own."""
        c, experts = self.config, how.experts
        read = unweighted(x, c.norm_eps) * self.router_scale[...] * jnp.asarray(c.width**-0.5, x.dtype)
        chosen, shares = route(experts, self.router(read))
        shares = shares * self.expert_scale[...].astype(jnp.float32)[chosen]
        added = self.experts(how, self.expert_norm(x).astype(x.dtype), chosen, shares)
        beside = self._dense(self.dense_norm(x).astype(x.dtype))
        return (self.expert_output_norm(added) + self.dense_output_norm(beside)).astype(x.dtype)

    def _dense(self, x: Array, spread: Array | None = None) -> Array:
        own = self.config.activation == XIELU
        activation = self.activation if own else ACTIVATIONS[self.config.activation]
        if self.config.mlp_factors is not None:
            gate, given = (jnp.asarray(factor, x.dtype) for factor in self.config.mlp_factors)
            return self.down(activation(self.gate(x) * gate) * self.up(x)) * given
        if self.config.gated:
            gate = self.gate(x)
            return self.down(activation(gate if spread is None else sparsely(gate, spread)) * self.up(x))
        return self.down(activation(self.up(x)))

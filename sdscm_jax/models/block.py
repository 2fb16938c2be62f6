"""One layer of the decoder: attention and MLP, each between norms and added to what they read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from .attention import KeyValues, precision_of
from .config import DecoderConfig
from .experts import ExpertMLPs, How, route
from .int8 import INT8, Int8Linear
from .rope import Angles, halves, rotate

# Twice the factor inside the tanh.
_GELU = 2 * math.sqrt(2 / math.pi)


def _gelu_by_tanh(x: Array) -> Array:
    """``x (1 + tanh(u)) / 2``, written without a tanh: XLA's has several times the error of its exponential."""
    return x * jax.nn.sigmoid(_GELU * (x + 0.044715 * x**3))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
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


class OffsetRMSNorm(nnx.Module):
    """RMS norm whose weight says how far the factor is from 1, so that zeros change nothing (Gemma)."""

    def __init__(self, width: int, epsilon: float, dtype: Any):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.zeros(width, dtype))

    def __call__(self, x: Array) -> Array:
        """Float32, of the shape of ``x`` ``[..., width]``."""
        x = x.astype(jnp.float32)
        # The 1 is added in float32: in bfloat16 it would swallow most of a small weight.
        factor = 1 + self.scale[...].astype(jnp.float32)
        return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.epsilon) * factor


def make_norm(config: DecoderConfig, width: int, dtype: Any, rngs: nnx.Rngs) -> nnx.Module:
    """A norm of the configuration's kind over ``width`` values; what it gives is float32."""
    # Statistics are float32 whatever the dtype: bfloat16 sums lose three digits.
    if config.norm == "layer":
        return nnx.LayerNorm(
            width,
            epsilon=config.norm_eps,
            use_bias=config.norm_bias,
            param_dtype=dtype,
            dtype=jnp.float32,
            use_fast_variance=False,
            rngs=rngs,
        )
    if config.norm_offset:
        return OffsetRMSNorm(width, config.norm_eps, dtype)
    return nnx.RMSNorm(width, epsilon=config.norm_eps, param_dtype=dtype, dtype=jnp.float32, rngs=rngs)


def _linear(
    config: DecoderConfig, name: str, inputs: int, outputs: int, bias: bool, dtype: Any, rngs: nnx.Rngs
) -> nnx.Linear | Int8Linear:
    if config.weights == INT8:
        rank = dict(config.low_rank).get(name, 0)
        return Int8Linear(inputs, outputs, bias, rank, dtype, precision_of(dtype), rngs)
    return _plain_linear(inputs, outputs, bias, dtype, rngs)


def _plain_linear(inputs: int, outputs: int, bias: bool, dtype: Any, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=bias,
        param_dtype=dtype,
        precision=precision_of(dtype),
        kernel_init=nnx.initializers.normal(0.02),
        rngs=rngs,
    )


class Block(nnx.Module):
    """One transformer layer."""

    def __init__(self, config: DecoderConfig, dtype: Any, rngs: nnx.Rngs):
        c, self.config = config, config
        if c.pre_norms:
            self.attention_norm = make_norm(c, c.width, dtype, rngs)
        if c.pre_norms and not c.one_norm:
            self.mlp_norm = make_norm(c, c.width, dtype, rngs)
        self.query = _linear(c, "query", c.width, c.heads * c.head_dim, c.qkv_bias, dtype, rngs)
        self.key = _linear(c, "key", c.width, c.kv_heads * c.head_dim, c.qkv_bias, dtype, rngs)
        self.value = _linear(c, "value", c.width, c.kv_heads * c.head_dim, c.qkv_bias, dtype, rngs)
        self.out = _linear(c, "out", c.heads * c.head_dim, c.width, c.out_bias, dtype, rngs)
        if c.activation == XIELU:
            self.activation = Xielu(dtype)
        if c.sinks:
            self.sinks = nnx.Param(jnp.zeros(c.heads, dtype))
        if c.experts is not None:
            self.router = _plain_linear(c.width, c.experts.count, c.experts.bias, dtype, rngs)
            self.experts = ExpertMLPs(c.experts, c.width, c.weights, dtype, rngs)
            if c.experts.shared_gate:
                self.shared_gate = _plain_linear(c.width, 1, False, dtype, rngs)
        if c.experts is None or c.experts.shared:
            self.up = _linear(c, "up", c.width, c.mlp_width, c.mlp_bias, dtype, rngs)
            self.down = _linear(c, "down", c.mlp_width, c.width, c.mlp_bias, dtype, rngs)
            if c.gated:
                self.gate = _linear(c, "gate", c.width, c.mlp_width, c.mlp_bias, dtype, rngs)
        if c.qk_norm or c.qk_norm_whole:
            self.query_norm = make_norm(c, c.head_dim * (c.heads if c.qk_norm_whole else 1), dtype, rngs)
            self.key_norm = make_norm(c, c.head_dim * (c.kv_heads if c.qk_norm_whole else 1), dtype, rngs)
        if c.output_norms:
            self.attention_output_norm = make_norm(c, c.width, dtype, rngs)
            self.mlp_output_norm = make_norm(c, c.width, dtype, rngs)

    def project(self, x: Array, angles: Angles | None) -> tuple[Array, Array, Array]:
        """Queries ``[..., heads, T, head_dim]``, and keys and values ``[..., kv_heads, T, head_dim]``."""
        c = self.config

        def heads(y: Array) -> Array:  # [..., T, n * head_dim] -> [..., n, T, head_dim]
            return jnp.swapaxes(y.reshape(*y.shape[:-1], -1, c.head_dim), -2, -3)

        q, k, v = self.query(x), self.key(x), self.value(x)
        if c.qk_norm_whole:
            q, k = self.query_norm(q).astype(x.dtype), self.key_norm(k).astype(x.dtype)
        if c.qkv_clip is not None:
            q, k, v = (jnp.clip(y, -c.qkv_clip, c.qkv_clip) for y in (q, k, v))
        q, k, v = heads(q), heads(k), heads(v)
        if c.qk_norm:
            q, k = self.query_norm(q).astype(x.dtype), self.key_norm(k).astype(x.dtype)
        if angles is not None:
            if c.interleaved:
                # Products of queries and keys do not depend on the order of the dimensions that both have.
                q, k = halves(q, 2 * angles.cos.shape[-1]), halves(k, 2 * angles.cos.shape[-1])
            q, k = rotate(q, *angles), rotate(k, *angles)
        return q, k, v

    def mlp(self, x: Array) -> Array:
        """What the layer adds behind its attention ``[..., T, width]``, before norms."""
        experts = self.config.experts
        if experts is None:
            return self._dense(x)
        precision = precision_of(x.dtype)
        processor = jax.default_backend() == "cpu"
        how = How(experts, ACTIVATIONS[self.config.activation], precision, self.config.expert_mesh, processor)
        added = self.experts(how, x, *route(experts, self.router(x)))
        if not experts.shared:
            return added
        shared = self._dense(x)
        return added + (jax.nn.sigmoid(self.shared_gate(x)) * shared if experts.shared_gate else shared)

    def _dense(self, x: Array) -> Array:
        own = self.config.activation == XIELU
        activation = self.activation if own else ACTIVATIONS[self.config.activation]
        if self.config.gated:
            return self.down(activation(self.gate(x)) * self.up(x))
        return self.down(activation(self.up(x)))

    def __call__(
        self, x: Array, angles: Angles | None, attention: Callable[[Array, Array, Array], Array]
    ) -> tuple[Array, KeyValues]:
        """The layer's output ``[..., T, width]``, and the tokens' keys and values.

        Args:
            x: ``[..., T, width]``.
            angles: of the rotation, None: there is none.
            attention: of this layer's queries, keys and values.
        """
        c = self.config
        normed = self.attention_norm(x).astype(x.dtype) if c.pre_norms else x
        q, k, v = self.project(normed, angles)
        mixed = jnp.swapaxes(attention(q, k, v), -2, -3)
        attended = self.out(mixed.reshape(*x.shape[:-1], -1))
        if c.output_norms:
            attended = self.attention_output_norm(attended).astype(x.dtype)
        if c.parallel:
            other = normed if c.one_norm else self.mlp_norm(x).astype(x.dtype)
            return x + attended + self.mlp(other), KeyValues(k, v)
        x = x + self._scaled(attended)
        added = self.mlp(self.mlp_norm(x).astype(x.dtype) if c.pre_norms else x)
        if c.output_norms:
            added = self.mlp_output_norm(added).astype(x.dtype)
        return x + self._scaled(added), KeyValues(k, v)

    def _scaled(self, added: Array) -> Array:
        scale = self.config.residual_scale
        return added if scale == 1 else added * jnp.asarray(scale, added.dtype)

"""Recurrences with decay, as attention without a softmax: what a token adds to the state is kept, never the state.

A layer with a recurrent state S of matrices (one for each head) has, of token t with log-decay g_t <= 0, key k_t and
query q_t,

    S_t = exp(g_t) S_{t-1} + k_t u_t^T,        o_t = S_t^T q_t,

so that S_t = sum_{i <= t} exp(G_t - G_i) k_i u_i^T with G the running sum of the log-decays, and

    o_t = sum_{i <= t} exp(G_t - G_i) (q_t . k_i) u_i.

In Mamba 2 (Dao and Gu 2024, arXiv 2405.21060, section 3) u_t is the token's input times its step. In the gated delta
rule (Yang et al. 2024, arXiv 2412.06464, equation 10) it is what the value has beyond what the state says already,

    u_t = beta_t (v_t - exp(g_t) S_{t-1}^T k_t) = beta_t (v_t - sum_{i < t} exp(G_t - G_i) (k_t . k_i) u_i),

which needs such sums over earlier tokens, and a triangular system among the new tokens of a text. Of a token k, u and G
are kept, as keys and values are. The sums are over the ancestors of t, so texts may branch at any token, at no cost.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .attention import precision_of
from .pages import Pages, Recurrent
from .sight import Sight, Together, part

# Sums of multiples of this are exact in float32.
_UNIT = 2.0**-12
# Of what is not seen: exp is 0, and finite before.
_UNSEEN = -1e30


def running(sight: Sight, g: Array, stored: Any) -> Array:
    """Running sums of log-decays ``[..., H, T]`` (float32, <= 0): whole numbers and fractions, ``[..., H, T, 2]``.

    Only differences count, which a float32 of a long text's whole sum would have to few digits: at -500, one token's is
    exact to 3e-5. So what is whole and what is a multiple of 2**-12 are summed apart, exactly.

    Args:
        sight: which tokens each sees.
        g: of the new tokens.
        stored: the layer's sums of earlier tokens; None: there are none.
    """
    whole = jax.lax.stop_gradient(jnp.round(g))
    fine = jax.lax.stop_gradient(jnp.round((g - whole) / _UNIT) * _UNIT)
    sums = sight.sums(jnp.stack([whole, fine, g - whole - fine], -1))
    before = jnp.zeros(2) if stored is None else sight.last(stored)[..., :2]
    carried = jnp.round(sums[..., 1])
    part = sums[..., 1] - carried + (sums[..., 2] + before[..., 1])
    more = jax.lax.stop_gradient(jnp.round(part))
    return jnp.stack([sums[..., 0] + before[..., 0] + carried + more, part - more], -1)


def decayed(later: Array, earlier: Array, seen: Array) -> Array:
    """What is left, at each of T tokens, of what each of S added: float32 ``[..., H, T, S]``.

    Args:
        later, earlier: of ``running``, ``[..., H, T, 2]`` and ``[..., H, S, 2]``.
        seen: bool ``[..., T, S]``; nothing is left of what is not.
    """
    apart = later[..., :, None, :] - earlier[..., None, :, :]
    return jnp.exp(jnp.where(seen[..., None, :, :], apart[..., 0] + apart[..., 1], _UNSEEN))


def _compared(queries: Array, keys: Array, heads: int) -> Array:
    """Products ``[..., heads, T, S]`` of ``[..., n, T, size]`` and ``[..., n, S, size]``; n heads share them."""
    found = jnp.einsum(
        "...td,...sd->...ts", queries, keys, precision=precision_of(queries.dtype), preferred_element_type=jnp.float32
    )
    return jnp.repeat(found, heads // found.shape[-3], axis=-3)


def _mixed(weights: Array, values: Array) -> Array:
    return jnp.matmul(weights, values.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)


def delta_rule(
    sight: Sight, q: Array, k: Array, share: Array, value: Array, decay: Array, stored: Pages
) -> tuple[Array, Array]:
    """Outputs o and additions u of the gated delta rule, float32 ``[..., H, T, size]`` each.

    Args:
        sight: which tokens each sees.
        q, k: queries and keys, ``[..., n, T, key size]``; H is a multiple of n.
        share: float32 ``[..., H, T, 1]``, beta.
        value: float32 ``[..., H, T, size]``, beta times the value.
        decay: of ``running``, ``[..., H, T, 2]``.
        stored: the layer's pages of earlier tokens (``Recurrent``).
    """
    heads, size = value.shape[-3], value.shape[-1]

    def of(together: Together, q: Array, k: Array, share: Array, value: Array, decay: Array) -> Array:
        def step(so_far: Array, pages: Recurrent, seen: Array, _: Array) -> Array:
            left = decayed(decay, pages.decay, seen)
            both = [_compared(x, pages.keys, heads) * left for x in (q, k)]
            return so_far + _mixed(jnp.concatenate(both, -2), pages.values)

        count = q.shape[-2]
        read = together.earlier(step, jnp.zeros((*value.shape[:-2], 2 * count, size), jnp.float32))
        left = decayed(decay, decay, together.own)
        # A token's ancestors stand before it. (The inverse as a product of powers would lose all digits where keys are
        # alike; substitution does not.)
        system = jnp.tril(share * _compared(k, k, heads) * left, -1) + jnp.eye(count)
        right = value - share * read[..., count:, :]
        added = jax.lax.linalg.triangular_solve(system, right, left_side=True, lower=True, unit_diagonal=True)
        found = read[..., :count, :] + _mixed(_compared(q, k, heads) * left, added)
        return jnp.concatenate([found, added], -1)

    like = jax.ShapeDtypeStruct((heads, 2 * size), jnp.float32)
    found = sight.by_text(of, (q, k, share, value, decay), part(stored, lambda pages: pages._replace(read=())), like)
    return found[..., :size], found[..., size:]


def scan(sight: Sight, q: Array, k: Array, value: Array, decay: Array, stored: Pages) -> Array:
    """Outputs of a state space whose additions are inputs times steps, float32 ``[..., H, T, size]``.

    Args:
        sight: which tokens each sees.
        q, k: queries and keys (C and B), ``[..., n, T, state]``; H is a multiple of n.
        value: inputs, ``[..., H, T, size]``.
        decay: of ``running``, and then steps, ``[..., H, T, 3]``.
        stored: the layer's pages of earlier tokens (``Recurrent``).
    """
    heads = value.shape[-3]

    def of(together: Together, q: Array, k: Array, value: Array, decay: Array) -> Array:
        def taken(keys: Array, values: Array, earlier: Array, seen: Array) -> Array:
            left = decayed(decay[..., :2], earlier[..., :2], seen) * jnp.swapaxes(earlier[..., 2:], -1, -2)
            return _mixed(_compared(q, keys, heads) * left, values)

        def step(so_far: Array, pages: Recurrent, seen: Array, _: Array) -> Array:
            return so_far + taken(pages.keys, pages.values, pages.decay, seen)

        return together.earlier(step, taken(k, value, decay, together.own))

    like = jax.ShapeDtypeStruct((heads, value.shape[-1]), jnp.float32)
    return sight.by_text(of, (q, k, value, decay), part(stored, lambda pages: pages._replace(read=())), like)

"""Recurrences as sums over ancestors: against states that go from token to token, with a copy where texts part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdscm_jax.models.pages import Recurrent
from sdscm_jax.models.recurrence import decayed, delta_rule, running, scan
from sdscm_jax.models.sight import OverCache, OverRows, Rows, Stored

# Two heads of queries and keys, four of values; tokens of a tree.
KEYS, HEADS, SIZE, VALUE, TOKENS = 2, 4, 5, 3, 26


class Tree(NamedTuple):
    """Tokens, parents first, with what the layer makes of each."""

    parent: np.ndarray
    depth: np.ndarray
    ancestors: np.ndarray
    q: np.ndarray
    k: np.ndarray
    share: np.ndarray
    value: np.ndarray
    g: np.ndarray


def tree() -> Tree:
    rng = np.random.default_rng(2)
    parent = np.array([-1, *(rng.integers(max(0, i - 4), i) for i in range(1, TOKENS))])
    ancestors, depth = np.eye(TOKENS, dtype=bool), np.zeros(TOKENS, np.int64)
    for i, up in enumerate(parent[1:], 1):
        ancestors[i] |= ancestors[up]
        depth[i] = depth[up] + 1
    q, k = (rng.normal(size=(KEYS, TOKENS, SIZE)).astype(np.float32) for _ in range(2))
    share = rng.uniform(size=(HEADS, TOKENS)).astype(np.float32) * 0.3
    value = rng.normal(size=(HEADS, TOKENS, VALUE)).astype(np.float32)
    g = -np.exp(rng.normal(-1, 1.5, (HEADS, TOKENS))).astype(np.float32)
    return Tree(parent, depth, ancestors, q, k, share, value, g)


def states(of: Tree, delta: bool) -> tuple[np.ndarray, np.ndarray]:
    """What comes of each token, and what it adds, with a state at each (float64)."""
    kept: list[np.ndarray] = []
    outputs, additions = (np.zeros((HEADS, TOKENS, VALUE)) for _ in range(2))
    for t, up in enumerate(of.parent):
        state = np.zeros((HEADS, SIZE, VALUE)) if up < 0 else kept[up]
        state = state * np.exp(of.g[:, t, None, None].astype(np.float64))
        k, q = (np.repeat(x[:, t].astype(np.float64), HEADS // KEYS, 0) for x in (of.k, of.q))
        added = of.share[:, t, None] * of.value[:, t].astype(np.float64)
        if delta:
            added = added - of.share[:, t, None] * np.einsum("hsv,hs->hv", state, k)
        kept.append(state + k[:, :, None] * added[:, None, :])
        outputs[:, t], additions[:, t] = np.einsum("hsv,hs->hv", kept[t], q), added
    return outputs, additions


def compute(sight: Any, of: Tree, own: np.ndarray, stored: Any, delta: bool) -> tuple[Any, Recurrent]:
    """Outputs of some tokens, and their pages."""
    q, k, value, share, g = (x[:, own] for x in (of.q, of.k, of.value, of.share, of.g))
    decays = stored._replace(pages=stored.pages.decay) if isinstance(stored, Stored) else stored and stored.decay
    decay = running(sight, jnp.asarray(g), decays)
    if delta:
        share = share[..., None]
        found, added = delta_rule(sight, q, k, jnp.asarray(share), jnp.asarray(share * value), decay, stored)
        return found, Recurrent(k, added, decay, jnp.zeros((1, len(own), 1)))
    decay = jnp.concatenate([decay, share[..., None]], -1)
    return scan(sight, q, k, jnp.asarray(value), decay, stored), Recurrent(k, value, decay, jnp.zeros((1, len(own), 1)))


@partial(jax.jit, static_argnums=1)
def whole(of: Tree, delta: bool) -> Any:
    sight = OverCache(jnp.asarray(of.ancestors), jnp.asarray(of.depth), None, None)
    return compute(sight, of, np.arange(TOKENS), None, delta)[0]


@partial(jax.jit, static_argnums=1)
def in_two_calls(of: Tree, delta: bool) -> Any:
    first, rest = np.arange(11), np.arange(11, TOKENS)
    sight = OverCache(jnp.asarray(of.ancestors[:11, :11]), jnp.asarray(of.depth[:11]), None, None)
    before, pages = compute(sight, of, first, None, delta)
    later = OverCache(jnp.asarray(of.ancestors[11:]), jnp.asarray(of.depth[11:]), None, jnp.asarray(of.depth[:11]))
    return jnp.concatenate([before, compute(later, of, rest, pages, delta)[0]], -2)


def in_rows(of: Tree, delta: bool) -> Any:
    """One token after another, each a row of a packed call that has an empty row too, from a pool with slots mixed."""
    slot, found = np.random.default_rng(1).permutation(TOKENS + 3)[:TOKENS], []
    empty = Recurrent(
        jnp.zeros((1, TOKENS + 3, KEYS, SIZE)),
        jnp.zeros((1, TOKENS + 3, HEADS, VALUE)),
        jnp.full((1, TOKENS + 3, HEADS, 2 if delta else 3), -7.0),
        jnp.zeros((1, TOKENS + 3, 1, 1)),
    )
    pool = empty

    @jax.jit
    def step(pool: Recurrent, past: Any, lengths: Any, own: Any, depth: Any, of: Tree) -> Any:
        rows = Rows(np.zeros((2, 1), np.int32), np.zeros(1, np.int32), jnp.array([[[True]], [[False]]]), past, lengths)
        sight = OverRows(rows, depth[None], pool)
        stored = sight.of_layer(jnp.int32(0))
        out, pages = compute(sight, of, own[None], stored, delta)
        return out, pages

    for t in range(TOKENS):
        path = np.flatnonzero(of.ancestors[t])[:-1]
        past = np.zeros((2, 128), np.int32)
        past[0, : len(path)] = slot[path]
        out, pages = step(pool, past, np.array([len(path), 0]), np.int32(t), np.int32(of.depth[t]), of)
        found.append(out)
        pool = jax.tree.map(lambda old, x, t=t: old.at[0, slot[t]].set(x[:, 0]), pool, pages)
    return jnp.concatenate(found, -2)


@pytest.mark.parametrize("way", [whole, in_two_calls, in_rows])
@pytest.mark.parametrize("delta", [True, False])
def test_texts_that_part(way: Callable[[Tree, bool], Any], delta: bool) -> None:
    of = tree()
    expected, _ = states(of, delta)
    assert np.abs(np.asarray(way(of, delta)) - expected).max() < 3e-6 * np.abs(expected).max()


def test_additions_are_those_of_the_states() -> None:
    of = tree()
    sight = OverCache(jnp.asarray(of.ancestors), jnp.asarray(of.depth), None, None)
    added = jax.jit(lambda of: compute(sight, of, np.arange(TOKENS), None, True)[1].values)(of)
    np.testing.assert_allclose(added, states(of, True)[1], atol=3e-6)


def test_gradients_are_those_of_differences() -> None:
    """Also of the log-decays, whose whole numbers are summed apart."""
    of = tree()

    def loss(scale: Any) -> Any:
        return (whole(of._replace(g=of.g * scale, q=of.q * scale), True) ** 2).mean()

    loss, gradient = jax.jit(loss), jax.jit(jax.grad(loss))
    near = [float(loss(jnp.float32(1 + change))) for change in (-1e-2, 1e-2)]
    assert float(gradient(jnp.float32(1))) == pytest.approx((near[1] - near[0]) / 2e-2, rel=2e-3)


def test_sums_of_log_decays_have_as_many_digits_in_long_texts() -> None:
    """The sum is -4,500, of which float32 has steps of 5e-4; differences of neighbours have all digits."""
    rng = np.random.default_rng(0)
    g = -np.exp(rng.normal(-1, 1.5, (2, 1500))).astype(np.float32)
    g[:, ::10] -= 20
    sight = OverCache(jnp.tri(1500, dtype=bool), jnp.arange(1500), None, None)
    sums = jax.jit(lambda g: running(sight, g, None))(g)
    expected = np.cumsum(g.astype(np.float64), -1)
    assert np.abs(expected).max() > 4000
    np.testing.assert_allclose(np.asarray(sums, np.float64).sum(-1), expected, atol=1e-7, rtol=0)
    some = np.arange(1400, 1500)
    left = jax.jit(decayed)(sums[:, some], sums[:, some], jnp.tri(100, dtype=bool))
    apart = expected[:, some, None] - expected[:, None, some]
    np.testing.assert_allclose(left, np.where(np.tri(100), np.exp(np.minimum(apart, 0)), 0), atol=3e-7)

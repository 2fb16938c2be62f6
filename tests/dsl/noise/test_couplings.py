"""Couplings and the posterior of their noise, on dice whose answers are known in closed form."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sdscm_jax as sd
from sdscm_jax.dsl.noise.couplings.inverse_cdf import Cell
from sdscm_jax.dsl.noise.couplings.registry import COUPLINGS, parse_coupling
from sdscm_jax.dsl.noise.double_float import Double, double, less, minus, running_sums, times
from sdscm_jax.handlers import couple, exogenous

from ...dice import FACES, die

P, Q = np.array([0.2, 0.5, 0.3]), np.array([0.1, 0.6, 0.3])
DRAWS = 40_000
EULER = float(np.euler_gamma)


def throw(lm: sd.LanguageModel) -> sd.Phrase:
    loaded = sd.sample("loaded", die(lm, [0.5, 0.5], ("no", "yes")))
    return sd.sample("face", die(lm, jnp.stack([P, Q])[loaded.index]))


def agreement(coupling: str) -> float:
    """P(X = Y) of a die with P and one with Q that share their noise."""
    if coupling == "independent":
        return float((P * Q).sum())
    if coupling == "inverse_cdf":
        low, high = (np.concatenate([[0], np.cumsum(p)]) for p in (P, Q))
        overlap = np.minimum(low[1:], high[1:]) - np.maximum(low[:-1], high[:-1])
        return float(np.maximum(overlap, 0).sum())
    if coupling == "maximal":
        return float(np.minimum(P, Q).sum())
    # Both pick k: G_k exceeds all G_j + max(log p_j/p_k, log q_j/q_k).
    return float(sum(1 / np.maximum(P / P[k], Q / Q[k]).sum() for k in range(3)))


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_marginals_are_equal_and_couplings_differ(lm: sd.LanguageModel, coupling: str) -> None:
    worlds = [{"loaded": "no"}, {"loaded": "yes"}]
    result = sd.simulate(couple(throw, coupling), 3, DRAWS, lm, worlds=worlds, logp=[])
    faces = result.values["face"]
    for world, probs in ((1, P), (2, Q), (0, (P + Q) / 2)):
        share = np.bincount(faces[:, world], minlength=3) / DRAWS
        np.testing.assert_allclose(share, probs, atol=4 * 0.5 / np.sqrt(DRAWS))
    np.testing.assert_allclose((faces[:, 1] == faces[:, 2]).mean(), agreement(coupling), atol=2 / np.sqrt(DRAWS))
    own = np.where(result.values["loaded"][:, 0] == 0, faces[:, 1], faces[:, 2])
    factual = (own == faces[:, 0]).mean()
    if coupling == "independent":
        # The paper's procedure: a unit agrees with its own potential outcome by chance only.
        np.testing.assert_allclose(factual, ((P**2).sum() + (Q**2).sum()) / 2, atol=2 / np.sqrt(DRAWS))
    else:
        assert factual == 1.0


@pytest.mark.slow
def test_independent_worlds_of_one_intervention_agree(lm: sd.LanguageModel) -> None:
    model = couple(throw, "independent")
    together = sd.simulate(model, 1, 200, lm, worlds=[{"loaded": "no"}, {"loaded": "yes"}], logp=[])
    alone = sd.simulate(model, 1, 200, lm, worlds=[{"loaded": 1}], logp=[])
    under = sd.simulate(model, 1, 200, lm, do={"loaded": "yes"}, logp=[])
    chex.assert_trees_all_equal(together.values["face"][:, 2], alone.values["face"][:, 1], under.values["face"][:, 0])


def test_couplings_mix(lm: sd.LanguageModel) -> None:
    mixed = couple(couple(throw, "inverse_cdf"), "gumbel", sites=["loaded"])
    a = sd.simulate(mixed, 0, 50, lm, logp=[]).values
    chex.assert_trees_all_equal(a["loaded"], sd.simulate(throw, 0, 50, lm, logp=[]).values["loaded"])
    assert (a["face"] != sd.simulate(throw, 0, 50, lm, logp=[]).values["face"]).any()
    with pytest.raises(sd.SiteError, match="did you mean 'face'"):
        exogenous(couple(throw, "gumbel", sites=["faces"]), 0)(lm)
    with pytest.raises(sd.OptionError, match="did you mean 'gumbel'"):
        couple(throw, "gumble")


@partial(jax.jit, static_argnums=0)
def replayed(coupling: str, key: jax.Array, logits: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(key, 50)
    noise = jax.vmap(lambda key: parse_coupling(coupling).posterior(key, tuple("abcd"), logits, index))(keys)
    return noise, parse_coupling(coupling).respond(logits, noise)


@given(
    weights=st.lists(
        st.floats(0.0, 1.0, allow_subnormal=False).filter(lambda w: w == 0 or w > 1e-30)
        | st.sampled_from([1e-30, 1e-12, 1e-9]),
        min_size=4,
        max_size=4,
    ).filter(lambda w: sum(w) > 0.1),
    coupling=st.sampled_from(COUPLINGS),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_posterior_noise_replays_its_evidence(weights: list[float], coupling: str, seed: int) -> None:
    probs = np.array(weights) / sum(weights)
    with np.errstate(divide="ignore"):
        logits = jnp.log(jnp.asarray(probs, jnp.float32))
    for index in np.flatnonzero(probs > 0):
        noise, again = replayed(coupling, jax.random.key(seed), logits, jnp.int32(index))
        if parse_coupling(coupling).gumbels:
            assert np.isfinite(noise).all()
        assert (again == index).all()


def place(cell: Cell) -> np.ndarray:
    """The uniform that fell in a cell, in float64."""
    distance = np.asarray(cell.distance.high, float) + np.asarray(cell.distance.low, float)
    return np.where(cell.above, 1 - distance, distance)


@pytest.mark.slow
def test_moments_of_truncated_gumbels() -> None:
    logits = jnp.log(jnp.asarray(P, jnp.float32))
    keys = jax.random.split(jax.random.key(0), DRAWS)
    error = 4 * np.pi / np.sqrt(6 * DRAWS)
    for k in range(3):
        noise = np.asarray(
            jax.vmap(lambda key, k=k: parse_coupling("gumbel").posterior(key, FACES, logits, jnp.int32(k)))(keys)
        )
        # The maximum of log p + G is a standard Gumbel whichever option has it.
        np.testing.assert_allclose(noise[:, k].mean(), EULER - np.log(P[k]), atol=error)
        np.testing.assert_allclose(noise[:, k].var(), np.pi**2 / 6, rtol=0.08)
        for j in set(range(3)) - {k}:
            # From E[G_j] = P(X=j) E[G_j | X=j] + P(X!=j) E[G_j | X!=j].
            expected = (EULER - P[j] * (EULER - np.log(P[j]))) / (1 - P[j])
            np.testing.assert_allclose(noise[:, j].mean(), expected, atol=error)
    # Averaged over the evidence, the posterior is the prior.
    for coupling in ("gumbel", "inverse_cdf"):

        def again(key: jax.Array, coupling: str = coupling) -> jax.Array:
            first, second = jax.random.split(key)
            value = parse_coupling(coupling).respond(logits, parse_coupling(coupling).draw(first, FACES, ()))
            return parse_coupling(coupling).posterior(second, FACES, logits, value)

        noise = jax.vmap(again)(keys)
        noise = place(noise) if coupling == "inverse_cdf" else np.asarray(noise)
        grid = np.linspace(0.05, 0.95, 19)
        prior = grid if coupling == "inverse_cdf" else -np.log(-np.log(grid))
        below = (noise.reshape(DRAWS, -1)[:, :, None] <= prior).mean(0)
        np.testing.assert_allclose(below, np.broadcast_to(grid, below.shape), atol=4 * 0.5 / np.sqrt(DRAWS))


def test_the_posterior_of_the_inverse_cdf_is_uniform_in_the_cell() -> None:
    keys = jax.random.split(jax.random.key(1), DRAWS)
    logits = jnp.log(jnp.asarray(P, jnp.float32))
    noise = place(jax.vmap(lambda key: parse_coupling("inverse_cdf").posterior(key, FACES, logits, jnp.int32(1)))(keys))
    assert float(noise.min()) >= 0.2
    assert float(noise.max()) < 0.7
    np.testing.assert_allclose([noise.mean(), noise.var()], [0.45, 0.5**2 / 12], atol=0.005)


def test_pairs_of_float32_hold_48_bits() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((300, 40)).astype(np.float32), rng.random((300, 40)).astype(np.float32)

    def exact(pair: Double) -> np.ndarray:
        return np.asarray(pair.high, float) + np.asarray(pair.low, float)

    up, down = jax.jit(running_sums)(x), jax.jit(partial(running_sums, reverse=True))(x)
    np.testing.assert_allclose(exact(up), x.astype(float).cumsum(-1), rtol=1e-13)
    np.testing.assert_allclose(exact(down), x.astype(float)[:, ::-1].cumsum(-1)[:, ::-1], rtol=1e-13)
    np.testing.assert_allclose(exact(jax.jit(times)(up, y)), exact(up) * y.astype(float), rtol=1e-13)
    # What nearly cancels is where a float32 has nothing left.
    small = jax.jit(lambda a, b: minus(times(double(a), b), double(a * b)))(x, y)
    np.testing.assert_allclose(exact(small), x.astype(float) * y - (x * y).astype(float), rtol=1e-6, atol=0)
    assert (np.asarray(less(double(jnp.float32(0)), small)) == (exact(small) > 0)).all()


@pytest.mark.slow
def test_an_unlikely_option_in_the_middle_has_its_cell() -> None:
    """Float32 numbers around 1/2 lie 6e-8 apart; the cell of an option of 1e-9 is there all the same."""
    logits = jnp.log(jnp.array([0.5, 1e-9, 0.5]))
    # They add up to 1 + 1e-9, so the cell is 1e-9 wide around 1/2.
    low = jnp.array([-6e-10, -4e-10, 4e-10, 6e-10], jnp.float32)
    found = parse_coupling("inverse_cdf").respond(logits, Double(jnp.full(4, 0.5, jnp.float32), low))
    assert found.tolist() == [0, 1, 1, 2]
    draws = parse_coupling("inverse_cdf").draw(jax.random.key(0), FACES, (100_000,))
    np.testing.assert_allclose(np.asarray(draws.low).mean() * 2.0**25, 1.0, atol=0.01)
    # Evidence on it: replayed, and in another world where the exact uniform is.
    keys = jax.random.split(jax.random.key(1), 2000)
    for probs in ([0.5, 1e-9, 0.5], [0.5, 1e-12, 0.5], [1e-30, 0.5, 0.5], [0.5, 0.5, 1e-30]):
        index = int(np.argmin(probs))
        logits = jnp.log(jnp.array(probs))
        noise = jax.vmap(
            lambda key, logits=logits, index=index: parse_coupling("inverse_cdf").posterior(
                key, (), logits, jnp.int32(index)
            )
        )(keys)
        assert (parse_coupling("inverse_cdf").respond(logits, noise) == index).all()
        start = float(np.cumsum([0, *probs])[index])
        for other in ([0.2, 0.2, 0.6], [0.7, 0.1, 0.2], [0.0, 0.6, 0.4]):
            there = min(2, int(np.searchsorted(np.cumsum(other), start, side="right")))
            assert (parse_coupling("inverse_cdf").respond(jnp.log(jnp.array(other)), noise) == there).all()
    # Upper tails: an option of 1e-30 that has 1e-28 in another world stays the last.
    tails = [jnp.log(jnp.array([1.0, p, p])) for p in (1e-30, 1e-28)]
    noise = jax.vmap(lambda key: parse_coupling("inverse_cdf").posterior(key, (), tails[0], jnp.int32(1)))(keys)
    assert (parse_coupling("inverse_cdf").respond(tails[1], noise) == 2).all()


@pytest.mark.parametrize("gap", [1e3, 1e7, 1e12])
def test_gumbels_below_a_far_top_keep_their_own_noise(gap: float) -> None:
    """An option that was impossible said nothing of its noise: in another world it is drawn as if unseen."""
    logits, other = jnp.array([0.0, -gap], jnp.float32), jnp.log(jnp.array([0.4, 0.6]))
    keys = jax.random.split(jax.random.key(2), DRAWS)
    noise = jax.vmap(lambda key: parse_coupling("gumbel").posterior(key, ("a", "b"), logits, jnp.int32(0)))(keys)
    assert (parse_coupling("gumbel").respond(logits, noise) == 0).all()
    share = float((parse_coupling("gumbel").respond(other, noise) == 0).mean())
    np.testing.assert_allclose(share, 0.4, atol=4 * 0.5 / np.sqrt(DRAWS))

"""The joint law of one site's answers in two worlds, against draws with shared noise."""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sdscm_jax.dsl.noise.couplings.registry import COUPLINGS, parse_coupling
from sdscm_jax.effects import Factor, Network, exact, pns
from sdscm_jax.effects.responses import joint_responses, with_axes
from sdscm_jax.errors import EffectError, OptionError

N = 400_000
LAWS = [
    ([0.5, 0.3, 0.2], [0.1, 0.3, 0.6]),
    ([0.5, 0.5, 0.0], [0.0, 0.4, 0.6]),
    ([0.0, 0.0, 1.0], [0.3, 0.3, 0.4]),
    ([0.0, 0.2, 0.8, 0.0], [0.0, 0.7, 0.3, 0.0]),
    ([1.0, 0.0], [0.0, 1.0]),
    ([1.0], [1.0]),
    ([0.9, 0.1], [0.1, 0.9]),
]
some = settings(max_examples=150, deadline=None, derandomize=True, phases=[Phase.generate])


@st.composite
def pairs_of_laws(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two laws of up to 6 options, with zeros, ties and very small numbers."""
    size = draw(st.integers(1, 6))
    weight = st.sampled_from([0.0, 0.0, 1e-30, 1e-9, 0.25, 0.5, 1.0, 1.0]) | st.floats(1e-3, 1.0)
    weights = st.lists(weight, min_size=size, max_size=size).filter(lambda w: sum(w) > 0)
    p, q = (np.array(draw(weights)) for _ in range(2))
    return p / p.sum(), q / q.sum()


def draws(coupling: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Shares of each pair of answers among units, by the definition of the coupling."""
    rng = np.random.default_rng(0)
    size = len(p)
    if coupling == "inverse_cdf":
        uniform = rng.random(N)[:, None]
        first, second = ((uniform >= law.cumsum()[:-1]).sum(-1) for law in (p, q))
    else:
        noise = rng.gumbel(size=(2, N, size))
        with np.errstate(divide="ignore"):
            first = np.argmax(np.log(p) + noise[0], -1)
            second = np.argmax(np.log(q) + noise[0 if coupling == "gumbel" else 1], -1)
            if coupling == "maximal":
                stays = rng.random(N) * p[first] < q[first]
                second = np.where(stays, first, np.argmax(np.log(np.maximum(q - p, 0.0)) + noise[1], -1))
    return np.bincount(first * size + second, minlength=size * size).reshape(size, size) / N


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("laws", LAWS, ids=str)
def test_shared_noise(laws: tuple[list[float], list[float]], coupling: str) -> None:
    p, q = map(np.array, laws)
    joint = joint_responses(coupling, p, q)
    seen = draws(coupling, p, q)
    assert (np.abs(seen - joint) < 5 * np.sqrt(joint * (1 - joint) / N) + 1e-9).all()


@given(laws=pairs_of_laws(), coupling=st.sampled_from(COUPLINGS))
@some
def test_laws(laws: tuple[np.ndarray, np.ndarray], coupling: str) -> None:
    p, q = laws
    joint = joint_responses(coupling, p, q)
    assert np.isfinite(joint).all()
    assert (joint >= 0).all()
    chex.assert_trees_all_close(joint.sum(1), p, atol=1e-12, rtol=0)
    chex.assert_trees_all_close(joint.sum(0), q, atol=1e-12, rtol=0)
    # The two worlds can be named in either order.
    chex.assert_trees_all_close(joint_responses(coupling, q, p), joint.T, atol=1e-12, rtol=0)
    if not parse_coupling(coupling).redraws:
        chex.assert_trees_all_close(joint_responses(coupling, p, p), np.diag(p), atol=1e-12, rtol=0)
    if coupling == "inverse_cdf":
        # The distribution function of the pair is the smaller one: no coupling agrees more often in order.
        least = np.minimum(p.cumsum()[:, None], q.cumsum()[None, :])
        chex.assert_trees_all_close(joint.cumsum(0).cumsum(1), least, atol=1e-12, rtol=0)
    if coupling == "maximal":
        # No coupling agrees more often.
        assert np.trace(joint) == pytest.approx(np.minimum(p, q).sum(), abs=1e-12)
    if not parse_coupling(coupling).ordered:
        order = np.random.default_rng(len(p)).permutation(len(p))
        chex.assert_trees_all_close(
            joint_responses(coupling, p[order], q[order]), joint[np.ix_(order, order)], atol=1e-12, rtol=0
        )
    if parse_coupling(coupling).stable:
        # Nobody leaves an option for one whose odds against it fall.
        falls = q[None, :] * p[:, None] < p[None, :] * q[:, None]
        assert (joint[falls] == 0).all()


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_many_contexts_at_once(coupling: str) -> None:
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(3), (4, 1)), rng.dirichlet(np.ones(3), (1, 5))
    found = joint_responses(coupling, p, q)
    chex.assert_shape(found, (4, 5, 3, 3))
    for i, j in np.ndindex(4, 5):
        chex.assert_trees_all_close(found[i, j], joint_responses(coupling, p[i, 0], q[0, j]), atol=1e-12)


def test_repeated_axes() -> None:
    joint = np.random.default_rng(0).dirichlet(np.ones(6), 2).reshape(2, 2, 3)
    found = with_axes(joint, [1, 0, 1])
    chex.assert_shape(found, (2, 3, 2, 3))
    for i, a, b, c in np.ndindex(found.shape):
        assert found[i, a, b, c] == (joint[i, b, a] if a == c else 0)


@pytest.mark.parametrize("wrong", ["gumble", "Gumbel", "inverse-cdf", "indep", None, 0])
def test_no_law_answers_for_a_coupling_that_there_is_not(wrong: Any) -> None:
    p, q = map(np.array, LAWS[0])
    with pytest.raises(EffectError, match="unknown coupling"):
        joint_responses(wrong, p, q)
    with pytest.raises(OptionError, match="unknown coupling"):
        parse_coupling(wrong)


def test_necessity_and_sufficiency_by_counting_answers_to_the_same_noise() -> None:
    """The noise of ``y`` is what it answers to either level; each coupling is a law of these pairs of answers."""
    laws = np.array([[0.1, 0.1, 0.4, 0.4], [0.4, 0.3, 0.2, 0.1]])
    steps = np.round(laws.cumsum(1) * 10).astype(int)
    shares = {"inverse_cdf": 0.0, "independent": 0.0}
    # Laws are in tenths: ten cells of one uniform, and ten times ten of two.
    for i in range(10):
        for j in range(10):
            first, second = np.searchsorted(steps[0], i, side="right"), np.searchsorted(steps[1], j, side="right")
            shares["independent"] += 0.01 * (first != 1 and second == 1)
            shares["inverse_cdf"] += 0.1 * (i == j and first != 1 and second == 1)
    seen = draws("gumbel", *laws)
    shares["gumbel"] = seen[:, 1].sum() - seen[1, 1]
    t = Factor("t", (), np.array([0.5, 0.5]), ("n", "y"))
    y = Factor("y", ("t",), laws, ("a", "b", "c", "d"))
    found = {c: float(pns(exact(Network((t, y)), coupling=c), "t", "y", option="b")) for c in shares}
    assert round(found["independent"], 12) == 0.27
    assert round(found["inverse_cdf"], 12) == round(shares["inverse_cdf"], 12) == 0.3
    assert found["independent"] == pytest.approx(shares["independent"], abs=1e-12)
    assert found["gumbel"] == pytest.approx(shares["gumbel"], abs=5 * 0.5 / np.sqrt(N))
    own = {c: float(pns(exact(Network((t, dataclasses.replace(y, coupling=c)))), "t", "y", option="b")) for c in found}
    assert own == found


@pytest.mark.parametrize("wrong", ["gumble", "Gumbel", "inverse-cdf", 0, True])
def test_a_coupling_that_there_is_not_is_refused_where_it_is_given(wrong: Any) -> None:
    t = Factor("t", (), np.array([0.5, 0.5]), ("n", "y"))
    with pytest.raises(EffectError, match=r"site 't': unknown coupling .*known: 'gumbel'"):
        Factor("t", (), np.array([0.5, 0.5]), ("n", "y"), coupling=wrong)
    with pytest.raises(EffectError, match=r"unknown coupling .*known: 'gumbel'"):
        exact(Network((t,)), coupling=wrong)

"""Laws that tie effects to each other, over random models."""

from __future__ import annotations

import chex
import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sdscm_jax import effects
from sdscm_jax.effects.counterfactual_graph import Target

from .brute import COUPLINGS, Model, random_model

some = settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.generate])
TOLERANCE = 1e-10


@st.composite
def sources(draw: st.DrawFn, density: float = 0.7) -> tuple[Model, effects.Exact]:
    """A model of 3 to 5 sites and its exact effects under some coupling."""
    model = random_model(draw(st.integers(0, 10_000)), draw(st.integers(3, 5)), density=density)
    return model, effects.exact(model.network(draw(st.sampled_from(COUPLINGS))))


def close(a: np.ndarray, b: np.ndarray) -> None:
    chex.assert_trees_all_close(np.asarray(a), np.asarray(b), atol=TOLERANCE, rtol=0)


@given(drawn=sources())
@some
def test_averages(drawn: tuple[Model, effects.Exact]) -> None:
    model, source = drawn
    ate = effects.ate(source, "t", "y").value
    groups = effects.cate(source, "t", "y", by=["c"]).value.reshape(model.size("c"), -1)
    occurs = model.tables["c"] > 0
    close(model.tables["c"][occurs] @ groups[occurs], ate)
    p = model.law("t", {})
    treated, others = (effects.att(source, "t", "y", f"t{1 - k}", f"t{k}").value for k in (1, 0))
    close(p[1] * treated - p[0] * others, ate)
    close(ate.sum(), np.zeros(()))
    close(effects.ate(source, "t", "y", "t1", "t0").value, -ate)
    score = np.random.default_rng(0).normal(size=len(ate))
    close(effects.ate(source, "t", "y", score=list(score)).value, [ate @ score])
    far = float(effects.total_variation(source, "t", "y"))
    assert np.abs(ate).max() - TOLERANCE <= far <= 1
    # One apart in one or another order, the options are at most so far from each other.
    assert far - TOLERANCE <= float(effects.wasserstein(source, "t", "y")) <= (len(ate) - 1) * far + TOLERANCE


@given(drawn=sources(density=0.9))
@some
def test_decomposition(drawn: tuple[Model, effects.Exact]) -> None:
    model, source = drawn
    ate = effects.ate(source, "t", "y").value
    direct = effects.nde(source, "t", "y").value
    close(direct - effects.nie(source, "t", "y", "t1", "t0").value, ate)
    close(effects.path_effect(source, "t", "y", edges=model.edges).value, ate)
    if ("t", "y") in model.edges:
        close(effects.path_effect(source, "t", "y", edges=[("t", "y")]).value, direct)
    others = [edge for edge in model.edges if edge != ("t", "y")]
    if model.between("t", "y"):
        close(effects.path_effect(source, "t", "y", edges=others).value, effects.nie(source, "t", "y").value)
    else:
        close(effects.nie(source, "t", "y").value, np.zeros(len(ate)))
        close(direct, ate)


@given(drawn=sources(density=0.4))
@some
def test_no_path_no_effect(drawn: tuple[Model, effects.Exact]) -> None:
    model, source = drawn
    for outcome in model.names:
        if outcome == "t" or outcome in model.below("t"):
            continue
        zero = np.zeros(model.size(outcome))
        for f in (effects.ate, effects.att, effects.nde, effects.nie):
            close(f(source, "t", outcome).value, zero)
        assert float(effects.total_variation(source, "t", outcome)) < TOLERANCE
        assert float(effects.pns(source, "t", outcome, option=0)) < TOLERANCE


@given(drawn=sources())
@some
def test_joint_outcomes(drawn: tuple[Model, effects.Exact]) -> None:
    model, source = drawn
    size = model.size("y")
    found = effects.potential_outcomes(source, "t", "y")
    joint = found.value.reshape(size, size)
    low, high = (model.law("y", {"t": value}) for value in (0, 1))
    close(joint.sum(1), low)
    close(joint.sum(0), high)
    for k in range(size):
        there = float(effects.pns(source, "t", "y", option=k))
        back = float(effects.pns(source, "t", "y", "t1", "t0", option=k))
        close(there, joint[:, k].sum() - joint[k, k])
        close(there - back, high[k] - low[k])


@given(drawn=sources())
@some
def test_consistency(drawn: tuple[Model, effects.Exact]) -> None:
    # Those whose natural level it is have the outcome that they have when they are set to it; unless the coupling
    # draws anew, each of them.
    _, source = drawn
    for level in range(2):
        natural = [(Target("t"), level)]
        world = Target("y", {"t": level})
        close(source.joint([world], natural).value, source.joint([Target("y")], natural).value)
        if not source.coupling_of("y").redraws:
            both = source.joint([Target("y"), world], natural).value
            close(both, np.diag(np.diag(both)))

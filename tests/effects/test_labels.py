"""Worlds read back from the labels that a simulation has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sdscm_jax import effects
from sdscm_jax.dsl.graph import Graph
from sdscm_jax.dsl.intervention import nested
from sdscm_jax.dsl.structure import Site
from sdscm_jax.dsl.worlds import world_label
from sdscm_jax.effects.labels import world_of
from sdscm_jax.engine.simulation import Simulation
from sdscm_jax.errors import EffectError

GRAPH = Graph(
    (
        Site("age", "choice", options=("25", "55")),
        Site("t", "choice", options=("low", "low, or lower", "a=b", "do(t=low)", "nested()", "1")),
        Site("m (mg)", "choice", options=("yes", "no)", "no, nested(t=low)")),
        Site("age, t", "choice", options=("x", "y")),
    )
)


@st.composite
def worlds(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(GRAPH.names), min_size=1, max_size=3, unique=True))
    world: dict[str, Any] = {}
    for name in names:
        values = st.sampled_from(GRAPH[name].options)
        if depth and draw(st.integers(0, 3)) == 0:
            world[name] = nested(draw(worlds(depth=depth - 1)))
        else:
            world[name] = draw(values)
    return world


@given(world=worlds())
@settings(max_examples=200, deadline=None, derandomize=True, phases=[Phase.generate])
def test_round_trip(world: dict[str, Any]) -> None:
    # What is read is what was written, or nothing where the label can be read in two ways.
    assert world_of(world_label(world), GRAPH) in (world, None)


@pytest.mark.parametrize(
    "world",
    [
        {"t": "low"},
        {"t": "low, or lower", "age": "25"},
        {"t": "a=b", "m (mg)": "no)"},
        {"t": "do(t=low)"},
        {"m (mg)": nested({}), "age": "55"},
        {"m (mg)": nested({"t": nested({"age": "25"}), "age, t": "y"}), "t": "low"},
        {"age, t": "x", "age": "25"},
    ],
    ids=world_label,
)
def test_read_back(world: dict[str, Any]) -> None:
    assert world_of(world_label(world), GRAPH) == world


@pytest.mark.parametrize(
    "label", ["do(t=<lambda>)", "do(t=uniform)", "do(t=4 values)", "do(t=7)", "do(s=low)", "t=low"]
)
def test_no_constants(label: str) -> None:
    assert world_of(label, GRAPH) is None


def test_two_readings() -> None:
    # The option "1" has the number 5, and the number 1 is the option "low, or lower".
    label = world_label({"t": "1"})
    assert label == world_label({"t": 1})
    assert world_of(label, GRAPH) is None
    assert world_of(label, GRAPH, {"t": np.full(3, 5)}) == {"t": "1"}
    assert world_of(label, GRAPH, {"t": np.full(3, 1)}) == {"t": 1}
    assert world_of(label, GRAPH, {"t": np.array([1, 5, 1])}) is None


def test_values_decide_in_a_simulation() -> None:
    graph = Graph(
        (
            Site("t", "choice", options=("0", "2", "1"), coupling="gumbel"),
            Site("y", "choice", parents=("t",), options=("no", "yes"), coupling="gumbel"),
        )
    )
    # Someone set t to its options number 1 and 2, which are called "2" and "1".
    t, y = np.array([[0, 1, 2]] * 4), np.array([[0, 1, 0], [0, 1, 1], [1, 1, 0], [0, 0, 0]])
    data = Simulation(graph, ("", "do(t=1)", "do(t=2)"), {"t": t, "y": y}, {})
    found = effects.ate(data, "t", "y", "1", "2")
    assert found.value.tolist() == [-0.5, 0.5]
    with pytest.raises(EffectError, match=r"no world do\(t=0\)"):
        effects.ate(data, "t", "y", "0", "2")

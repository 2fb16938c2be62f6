"""Adjustment: equal to the truth where and only where the graph says so.

The truth is summed by hand: the product of a network's tables, with the treatment's table replaced.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import chex
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import sdscm_jax as sd
from sdscm_jax import effects
from sdscm_jax.effects import Factor, Network
from sdscm_jax.effects.adjustment import adjustment_sets, backdoor, frontdoor, naive
from sdscm_jax.effects.identification import identify
from sdscm_jax.errors import EffectError, SiteError

from .graphs import FRONT, dag, drawn, effect_by_hand, random_dag, subsets


@pytest.mark.parametrize("seed", range(12))
def test_a_set_of_covariates_is_valid_where_and_only_where_it_gives_the_truth(seed: int) -> None:
    # No covariate is caused by the treatment here; then the criterion is necessary too, but for chance tables.
    graph = random_dag(np.random.default_rng(seed), "abcde", 0.6)
    source = effects.exact(drawn(graph, seed, {"a": 3}))
    for x, y in [("b", "d"), ("c", "e"), ("d", "b")]:
        truth = effect_by_hand(source.network, x, y)
        for adjust in subsets(set(graph) - nx.descendants(graph, x) - {x, y}):
            found = backdoor(source, x, y, 0, 1, adjust=adjust)
            chex.assert_trees_all_close(found.truth, truth, atol=1e-12)
            assert found.valid == (np.abs(found.difference).max() < 1e-9), (x, y, adjust, graph.edges)


@pytest.mark.parametrize("seed", range(6))
def test_adjustment_sets_are_the_minimal_valid_ones(seed: int) -> None:
    graph = random_dag(np.random.default_rng(seed), "abcdef", 0.5)
    source = effects.exact(drawn(graph, seed))
    for x, y, hidden in [("d", "f", ()), ("c", "e", ("a",)), ("b", "f", ("a",))]:
        valid = [
            set(z)
            for z in subsets(set(graph) - {x, y, *hidden})
            if backdoor(source, x, y, adjust=z, hidden=hidden).valid
        ]
        minimal = {frozenset(z) for z in valid if not any(less < z for less in valid)}
        for largest in (0, 1, 4):
            found = adjustment_sets(source, x, y, hidden=hidden, largest=largest)
            small = {z for z in minimal if len(z) <= largest}
            assert set(map(frozenset, found)) == small if small else len(found) == bool(minimal)
            assert set(map(frozenset, found)) <= minimal


@pytest.mark.parametrize(
    ("edges", "adjust", "reason"),
    [
        ("c>x c>y x>y", [], "x <- c -> y is open"),
        ("c>x c>y x>y", ["c"], None),
        ("u>x v>y u>m v>m x>y", [], None),  # M-bias: nothing needs adjusting
        ("u>x v>y u>m v>m x>y", ["m"], "x <- u -> m <- v -> y is open"),  # and m opens a path
        ("u>x v>y u>m v>m x>y", ["m", "v"], None),
        ("u>x v>y u>m v>m m>x m>y x>y", ["m"], "x <- u -> m <- v -> y is open"),  # the butterfly needs m and another
        ("u>x v>y u>m v>m m>x m>y x>y", ["m", "u"], None),
        ("x>y x>c y>c", ["c"], "c is caused by the treatment: x -> c"),
        ("x>m m>y", ["m"], "m is caused by the treatment: x -> m"),
        ("u>x v>y u>m v>m m>n x>y", ["n"], "x <- u -> m <- v -> y is open"),  # a collider's effect opens it as well
        ("y>x", [], "x <- y is open"),
    ],
)
def test_textbook_graphs(edges: str, adjust: list[str], reason: str | None) -> None:
    found = backdoor(drawn(dag(edges), 8), "x", "y", adjust=adjust)
    assert found.valid == (reason is None)
    assert reason in (None, found.reason)
    assert (np.abs(found.difference).max() > 1e-4) == (reason is not None)


def test_naive_is_the_difference_of_conditional_probabilities() -> None:
    net = drawn(dag("c>x c>y x>y"), 3)
    c, x, y = (net[name].table for name in "cxy")
    joint = np.einsum("c,cx,cxy->xy", c, x, y)
    given = joint / joint.sum(1, keepdims=True)
    found = naive(net, "x", "y")
    chex.assert_trees_all_close(found.value, given[1] - given[0], atol=1e-12)
    assert not found.valid
    assert naive(drawn(dag("x>y"), 0), "x", "y").valid


def test_scores_give_means_and_levels_their_order() -> None:
    net = drawn(dag("c>x c>y x>y"), 4, {"x": 3, "y": 3})
    found = backdoor(net, "x", "y", "x2", "x1", adjust="c", score=[1.0, 5.0, -2.0])
    wanted = effect_by_hand(net, "x", "y", 2, 1) @ [1.0, 5.0, -2.0]
    chex.assert_trees_all_close(found.value, np.array([wanted]), atol=1e-12)
    chex.assert_trees_all_close(found.truth, found.value, atol=1e-12)
    assert found.contrast == "x=x1 minus x=x2"
    assert "mean y" in str(found)


def without_positivity(prior: Sequence[float]) -> Network:
    """Units whose c is c1 never have x1, and those whose c is c0 never x2."""
    c = Factor("c", (), np.array(prior), ("c0", "c1"))
    x = Factor("x", ("c",), np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]]), ("x0", "x1", "x2"))
    y = Factor("y", ("c", "x"), np.random.default_rng(0).dirichlet([1, 1], (2, 3)), ("y0", "y1"))
    return Network((c, x, y))


def test_failed_positivity_names_the_group() -> None:
    net = without_positivity([0.5, 0.5])
    with pytest.raises(EffectError, match=r"positivity fails.*P\(y \| x, c\).*no unit has c=c1, x=x1;"):
        backdoor(net, "x", "y", "x0", "x1", adjust=["c"])
    with pytest.raises(EffectError, match="no unit has c=c0, x=x2;"):
        identify(net, "x", "y").evaluate(net, "x0", "x2")


def test_groups_that_do_not_occur_do_not_matter() -> None:
    net = without_positivity([1.0, 0.0])
    found = backdoor(net, "x", "y", "x0", "x1", adjust=["c"])
    chex.assert_trees_all_close(found.value, effect_by_hand(net, "x", "y"), atol=1e-12)


def test_front_door_gives_the_truth_in_spite_of_a_hidden_confounder() -> None:
    net = drawn(dag(FRONT), 0, {"m": 3, "x": 3})
    found = frontdoor(net, "x", "y", "x2", "x0", mediators="m", hidden=["mood"])
    assert found.valid
    chex.assert_trees_all_close(found.value, effect_by_hand(net, "x", "y", 2, 0), atol=1e-9)
    assert np.abs(naive(net, "x", "y", "x2", "x0").difference).max() > 1e-3
    assert adjustment_sets(net, "x", "y", hidden=["mood"]) == ()


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        (FRONT + " x>y", "x -> y goes past the mediators"),
        (FRONT + " v>x v>m", "x <- v -> m is open"),
        (FRONT + " mood>m", "x <- mood -> m is open"),
        (FRONT + " v>m v>y", "m <- v -> y is open, given x"),
    ],
)
def test_front_doors_that_are_not_closed(edges: str, reason: str) -> None:
    found = frontdoor(drawn(dag(edges), 2), "x", "y", mediators=["m"])
    assert (found.valid, found.reason) == (False, reason)
    assert np.abs(found.difference).max() > 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_valid_front_doors_give_the_truth(seed: int) -> None:
    graph = random_dag(np.random.default_rng(seed), "abcde", 0.4)
    source = effects.exact(drawn(graph, seed))
    found = [
        frontdoor(source, x, y, mediators=names)
        for x, y in itertools.permutations("abcde", 2)
        for names in subsets(set(graph) - {x, y})
    ]
    valid = [f for f in found if f.valid]
    assert any(f.adjust for f in valid)
    for f in valid:
        chex.assert_trees_all_close(f.value, f.truth, atol=1e-9)


def test_unusable_adjustments_are_refused() -> None:
    net = drawn(dag(FRONT), 0)
    with pytest.raises(EffectError, match=r"adjust: 'mood' is hidden; take it out"):
        backdoor(net, "x", "y", adjust=["mood"], hidden=["mood"])
    with pytest.raises(EffectError, match="mediators: 'm' is hidden"):
        frontdoor(net, "x", "y", mediators=["m"], hidden=["m"])
    with pytest.raises(EffectError, match="adjust: 'x' is the treatment"):
        backdoor(net, "x", "y", adjust="x")
    with pytest.raises(SiteError, match="unknown site 'mod'; did you mean 'mood'"):
        adjustment_sets(net, "x", "y", hidden=["mod"])
    with pytest.raises(SiteError, match="unknown site 'q'"):
        naive(net, "q", "y")
    with pytest.raises(EffectError, match="not from int"):
        backdoor(3, "x", "y", adjust=[])


def test_simulated_units_are_refused() -> None:
    def model() -> None:
        x = numpyro.sample("x", dist.Bernoulli(0.5))
        numpyro.sample("y", dist.Bernoulli(0.25 + 0.5 * x))

    with pytest.raises(EffectError, match=r"effects.exact\(model, …\), not from Simulation"):
        naive(sd.simulate(model, 0, 4), "x", "y")

"""Identification: what is identifiable evaluates to the truth from observations alone, and the rest is said not to be.

The truth is summed by hand: the product of a network's tables, with the treatment's table replaced.
"""

from __future__ import annotations

import itertools

import chex
import networkx as nx
import numpy as np
import pytest

from sdscm_jax import effects
from sdscm_jax.dsl.analysis.graph import Graph
from sdscm_jax.dsl.analysis.structure import Site
from sdscm_jax.effects import Factor, Network
from sdscm_jax.effects.adjustment import adjustment_sets, frontdoor, naive
from sdscm_jax.effects.admg import latent_projection
from sdscm_jax.effects.counterfactual_graph import Target
from sdscm_jax.effects.identification import identify
from sdscm_jax.errors import EffectError, SiteError

from ..needs import needs
from .graphs import FRONT, dag, drawn, effect_by_hand, random_dag, subsets

BOW = "u>x u>y x>y"
NAPKIN = "w>z z>x x>y u>w u>x v>w v>y"
VERMA = "a>b b>c c>d u>b u>d"
# Tian's graph, in which a sum over the treatment is divided by another (Tikka and Karvanen 2017, figure 7).
TIAN = "x>z1 z1>y z2>x z2>z1 z2>z3 z3>y u1>x u1>y u2>x u2>z2 u3>x u3>z3 u4>y u4>z2"


def confounded(rng: np.random.Generator, share: float = 0.5, hidden_share: float = 0.3) -> nx.DiGraph:
    """A random graph of four sites, some pairs of which have a hidden cause (``u…``) in common."""
    graph = random_dag(rng, "abcd", share)
    for i, pair in enumerate(itertools.combinations("abcd", 2)):
        if rng.random() < hidden_share:
            graph.add_edges_from((f"u{i}", name) for name in pair)
    return graph


def hidden_of(graph: nx.DiGraph) -> list[str]:
    return [name for name in graph if name.startswith("u")]


@pytest.mark.parametrize(
    ("edges", "x", "y", "estimand"),
    [
        (FRONT, "x", "y", "Σ_{m} P(m | x) (Σ_{x'} P(x') P(y | x', m))"),
        ("c>x c>y x>y", "x", "y", "Σ_{c} P(c) P(y | c, x)"),
        ("x>y", "y", "x", "P(x)"),
        ("x>z y>z", "x", "y", "P(y)"),
        (NAPKIN, "x", "y", "(Σ_{w} P(w) P(x | w, z) P(y | w, z, x)) / (Σ_{w} P(w) P(x | w, z))"),
        (VERMA, "c", "d", "Σ_{b} P(b | a) P(d | a, b, c)"),
        (VERMA, "b", "d", "Σ_{c} P(c | b) (Σ_{b'} P(b' | a) P(d | a, b', c))"),
        (TIAN, "x", "y", None),
    ],
)
def test_estimands_of_known_graphs(edges: str, x: str, y: str, estimand: str | None) -> None:
    graph = dag(edges)
    net = drawn(graph, 5, {x: 3, y: 3})
    hidden = [name for name in graph if name[0] in "uv" or name == "mood"]
    found = identify(net, x, y, hidden=hidden)
    assert found.identifiable
    if estimand is not None:
        assert str(found).splitlines()[0] == f"P({y} | do({x})) = {estimand}"
    effect = found.evaluate(net, 2, 1)
    chex.assert_trees_all_close(effect.value, effect_by_hand(net, x, y, 2, 1), atol=1e-9)
    assert effect.valid
    associated = np.abs(naive(net, x, y, 2, 1).difference).max() > 1e-3
    assert associated == (nx.has_path(graph, y, x) or edges in (FRONT, "c>x c>y x>y", NAPKIN, VERMA, TIAN))


def test_an_estimand_of_further_sites_is_constant_in_them() -> None:
    net = drawn(dag(NAPKIN), 6, {"z": 3})
    found = identify(net, "x", "y", hidden=["u", "v"])
    assert found.others == ("z",)
    assert "with any option of z" in str(found)
    # One option of z never comes with x1; another one is taken.
    tables = {f.site: f for f in net.factors}
    sparse = tables["x"].table.copy()
    at = [slice(None)] * sparse.ndim
    at[tables["x"].parents.index("z")] = 0
    sparse[tuple(at)] = [1.0, 0.0]
    x = Factor("x", tables["x"].parents, sparse, tables["x"].options)
    other = Network(tuple(x if f.site == "x" else f for f in net.factors))
    chex.assert_trees_all_close(found.evaluate(other).value, effect_by_hand(other, "x", "y"), atol=1e-9)


def agreeing_bows() -> tuple[Network, Network]:
    """Two programs u -> x, u -> y, x -> y whose x and y have one law: x acts, or u does."""
    u = Factor("u", (), np.array([0.5, 0.5]), ("u0", "u1"))
    x = Factor("x", ("u",), np.eye(2), ("x0", "x1"))
    law = np.array([[0.9, 0.1], [0.2, 0.8]])
    by_x, by_u = np.stack([law, law]), np.stack([law, law], 1)
    return tuple(Network((u, x, Factor("y", ("u", "x"), table, ("y0", "y1")))) for table in (by_x, by_u))


def test_the_bow_is_not_identifiable() -> None:
    found = identify(dag(BOW), "x", "y", hidden=["u"])
    assert not found.identifiable
    assert "x, y" in found.reason
    assert "hedge" in str(found)
    first, second = agreeing_bows()
    seen = [effects.exact(net).joint([Target("x"), Target("y")]).value for net in (first, second)]
    chex.assert_trees_all_close(*seen, atol=1e-12)
    assert np.abs(effect_by_hand(first, "x", "y") - effect_by_hand(second, "x", "y")).max() > 0.5
    with pytest.raises(EffectError, match="not identifiable"):
        found.evaluate(first)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_identifiable_evaluates_to_the_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = confounded(rng)
    source = effects.exact(drawn(graph, seed))
    for x, y in itertools.permutations("abcd", 2):
        found = identify(source, x, y, hidden=hidden_of(graph))
        if found.identifiable:
            effect = found.evaluate(source)
            chex.assert_trees_all_close(effect.value, effect_by_hand(source.network, x, y), atol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_hidden_sites_anywhere(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    graph = random_dag(rng, "abcdef", 0.5)
    hidden = [str(name) for name in rng.choice(list("abcdef"), 2, replace=False)]
    source = effects.exact(drawn(graph, seed))
    seen = [name for name in graph if name not in hidden]
    found = [identify(source, x, y, hidden=hidden) for x, y in itertools.permutations(seen, 2)]
    assert any(f.identifiable for f in found)
    for f in found:
        if f.identifiable:
            truth = effect_by_hand(source.network, f.treatment, f.outcome)
            chex.assert_trees_all_close(f.evaluate(source).value, truth, atol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_valid_adjustments_are_identifiable_and_all_effects_are_without_hidden_sites(seed: int) -> None:
    graph = confounded(np.random.default_rng(200 + seed))
    source, hidden = effects.exact(drawn(graph, seed)), hidden_of(graph)
    for x, y in itertools.permutations("abcd", 2):
        assert identify(graph, x, y).identifiable
        doors = [frontdoor(source, x, y, mediators=m, hidden=hidden).valid for m in subsets(set("abcd") - {x, y})]
        if adjustment_sets(source, x, y, hidden=hidden) or any(doors):
            assert identify(graph, x, y, hidden=hidden).identifiable


def test_verdicts_are_those_of_y0() -> None:
    needs("y0")
    from y0.algorithm.identify import identify_outcomes
    from y0.dsl import Variable
    from y0.graph import NxMixedGraph

    verdicts = []
    for seed in range(60):
        graph = confounded(np.random.default_rng(300 + seed), hidden_share=0.4)
        mixed = NxMixedGraph()
        for name in "abcd":
            mixed.add_node(Variable(name))
        for a, b in graph.edges:
            if a.startswith("u"):
                mixed.add_undirected_edge(*graph.successors(a))
            else:
                mixed.add_directed_edge(a, b)
        for x, y in itertools.permutations("abcd", 2):
            theirs = identify_outcomes(mixed, Variable(x), Variable(y)) is not None
            verdicts.append(theirs)
            assert identify(graph, x, y, hidden=hidden_of(graph)).identifiable == theirs, (x, y, graph.edges)
    assert 0.1 < np.mean(verdicts) < 0.9


def test_latent_projection() -> None:
    # h1 is a hidden cause of b and, through h2, of c and d; h3 is hidden between a and d.
    found = latent_projection(dag("h1>b h1>h2 h2>c h2>d a>h3 h3>d d>e"), ["h1", "h2", "h3"])
    assert set(found.directed.edges) == {("a", "d"), ("d", "e")}
    assert {frozenset(edge) for edge in found.bidirected.edges} == set(map(frozenset, ["bc", "bd", "cd"]))
    assert latent_projection(dag("h>b"), ["h"]).bidirected.number_of_edges() == 0


def test_graphs_of_several_kinds() -> None:
    sites = (Site("c", "choice"), Site("x", "choice", parents=("c",)), Site("y", "choice", parents=("c", "x")))
    net = drawn(dag("c>x c>y x>y"), 0)
    assert identify(Graph(sites), "x", "y") == identify(net, "x", "y") == identify(effects.exact(net), "x", "y")


def test_names_of_sites_are_kept() -> None:
    graph = nx.DiGraph([("PD-L1 level", "drug_{1}"), ("age (years)", "drug_{1}"), ("age (years)", "PD-L1 level")])
    net = drawn(graph, 0)
    found = identify(net, "PD-L1 level", "drug_{1}")
    assert "Σ_{age (years)} P(age (years)) P(drug_{1} | age (years), PD-L1 level)" in str(found)
    assert found.latex.startswith(r"\sum_{\text{age (years)}} P(\text{age (years)}) P(\text{drug\_\{1\}} \mid ")
    chex.assert_trees_all_close(found.evaluate(net).value, effect_by_hand(net, "PD-L1 level", "drug_{1}"), atol=1e-12)


def test_unusable_input_is_refused() -> None:
    graph = dag(FRONT)
    with pytest.raises(EffectError, match="'y' is the treatment or the outcome, and hidden"):
        identify(graph, "x", "y", hidden=["y"])
    with pytest.raises(EffectError, match="both 'x'"):
        identify(graph, "x", "x")
    with pytest.raises(SiteError, match="unknown site 'mod'; did you mean 'mood'"):
        identify(graph, "x", "y", hidden=["mod"])
    with pytest.raises(EffectError, match="cycle"):
        identify(nx.DiGraph([("x", "y"), ("y", "x")]), "x", "y")

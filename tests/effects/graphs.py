"""Small causal graphs, random tables for them, and effects summed by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import networkx as nx
import numpy as np

from sdscm_jax.effects import Factor, Network

# A hidden mood confounds, and x acts through m.
FRONT = "mood>x x>m m>y mood>y"


def dag(edges: str) -> nx.DiGraph:
    return nx.DiGraph([edge.split(">") for edge in edges.split()])


def drawn(graph: nx.DiGraph, seed: int, sizes: Mapping[str, int] | None = None) -> Network:
    """Random tables for a graph, whose sites have two options unless it is said."""
    rng, options = np.random.default_rng(seed), {name: (sizes or {}).get(name, 2) for name in graph}
    factors = []
    for name in nx.topological_sort(graph):
        parents = tuple(p for p in (f.site for f in factors) if graph.has_edge(p, name))
        table = rng.dirichlet(np.ones(options[name]), [options[p] for p in parents])
        factors.append(Factor(name, parents, table, tuple(f"{name}{k}" for k in range(options[name]))))
    return Network(tuple(factors))


def by_hand(net: Network, wanted: str, do: Mapping[str, int]) -> np.ndarray:
    """The law of a site under interventions."""
    numbers = {name: i for i, name in enumerate(net.names)}
    operands = []
    for factor in net.factors:
        table = factor.table
        if factor.site in do:
            table = np.broadcast_to(np.eye(len(factor.options))[do[factor.site]], table.shape)
        operands += [table, [numbers[name] for name in (*factor.parents, factor.site)]]
    return np.einsum(*operands, [numbers[wanted]])


def effect_by_hand(net: Network, x: str, y: str, low: int = 0, high: int = 1) -> np.ndarray:
    return by_hand(net, y, {x: high}) - by_hand(net, y, {x: low})


def subsets(names: Iterable[str]) -> Iterable[tuple[str, ...]]:
    names = list(names)
    return itertools.chain.from_iterable(itertools.combinations(names, k) for k in range(len(names) + 1))


def random_dag(rng: np.random.Generator, nodes: Sequence[str], share: float) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(pair for pair in itertools.combinations(nodes, 2) if rng.random() < share)
    return graph

"""Causal graphs of observed sites, in which hidden common causes are bidirected edges."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True, eq=False)
class Mixed:
    """An acyclic directed mixed graph.

    Attributes:
        order: its nodes, causes first.
        directed: who causes whom.
        bidirected: who has a hidden cause in common.
    """

    order: tuple[str, ...]
    directed: nx.DiGraph
    bidirected: nx.Graph

    def subgraph(self, keep: Collection[str]) -> Mixed:
        """The graph of some of its nodes."""
        order = tuple(name for name in self.order if name in keep)
        return Mixed(order, self.directed.subgraph(keep), self.bidirected.subgraph(keep))

    def ancestors(self, names: Iterable[str], cut: Collection[str] = ()) -> frozenset[str]:
        """Some nodes and what causes them, in the graph without the edges into ``cut``."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += [] if name in cut else self.directed.predecessors(name)
        return frozenset(found)

    def districts(self) -> list[frozenset[str]]:
        """Sets of nodes that bidirected edges connect (c-components), in the order of their first nodes."""
        import networkx as nx

        found = [frozenset(nodes) for nodes in nx.connected_components(self.bidirected)]
        return sorted(found, key=lambda nodes: min(map(self.order.index, nodes)))

    def pillow(self, name: str) -> tuple[str, ...]:
        """The earlier nodes that a node depends on, given them: its district among them, and that one's parents.

        That is the ordered local Markov property of mixed graphs (Richardson 2003, "Markov properties for acyclic
        directed mixed graphs").
        """
        earlier = self.subgraph(self.order[: self.order.index(name) + 1])
        district = next(nodes for nodes in earlier.districts() if name in nodes)
        near = district.union(*(earlier.directed.predecessors(node) for node in district)) - {name}
        return tuple(node for node in earlier.order if node in near)


def latent_projection(graph: nx.DiGraph, hidden: Collection[str]) -> Mixed:
    """The graph of the sites that are not hidden (Verma and Pearl 1990, "Equivalence and synthesis of causal models").

    Args:
        graph: a directed acyclic graph, whose noises are independent.
        hidden: nodes of it.

    Returns:
        ``a -> b`` where a directed path goes from a to b through hidden nodes only; ``a <-> b`` where such paths go to
        both from a hidden node.

    >>> import networkx as nx
    >>> front = nx.DiGraph([("u", "x"), ("x", "m"), ("m", "y"), ("u", "y")])
    >>> found = latent_projection(front, ["u"])
    >>> found.order, sorted(found.directed.edges), found.districts()[0] == {"x", "y"}
    (('x', 'm', 'y'), [('m', 'y'), ('x', 'm')], True)
    """
    import networkx as nx

    order = tuple(name for name in nx.topological_sort(graph) if name not in hidden)
    directed, bidirected = nx.DiGraph(), nx.Graph()
    directed.add_nodes_from(order)
    bidirected.add_nodes_from(order)
    reached: dict[str, set[str]] = {}
    for name in reversed(list(nx.topological_sort(graph))):
        reached[name] = set().union(*(reached[c] if c in hidden else {c} for c in graph.successors(name)))
        if name in hidden:
            bidirected.add_edges_from(itertools.combinations(sorted(reached[name]), 2))
        else:
            directed.add_edges_from((name, below) for below in reached[name])
    return Mixed(order, directed, bidirected)

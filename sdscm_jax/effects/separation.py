"""What separates a treatment from an outcome in a causal graph, and the path that is open where it does not."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx


def spelled(graph: nx.DiGraph, path: Sequence[str]) -> str:
    """A path with its arrows.

    >>> import networkx as nx
    >>> spelled(nx.DiGraph([("age", "x"), ("age", "drug")]), ["x", "age", "drug"])
    'x <- age -> drug'
    """
    steps = [f" {'->' if graph.has_edge(a, b) else '<-'} {b}" for a, b in itertools.pairwise(path)]
    return path[0] + "".join(steps)


def open_path(
    graph: nx.DiGraph, starts: Iterable[str], ends: Collection[str], given: Collection[str] = ()
) -> tuple[str, ...] | None:
    """A shortest path between two sets that d-connects them given a third, or None where the third separates them.

    Args:
        graph: a directed acyclic graph.
        starts, ends, given: disjoint sets of nodes.

    >>> import networkx as nx
    >>> collider = nx.DiGraph([("x", "c"), ("y", "c")])
    >>> open_path(collider, ["x"], ["y"]), open_path(collider, ["x"], ["y"], ["c"])
    (None, ('x', 'c', 'y'))
    """
    import networkx as nx

    # A collider is open where it, or something that it causes, is given.
    opened = set(given).union(*(nx.ancestors(graph, name) for name in given))
    todo: deque[tuple[str, ...]] = deque((name,) for name in starts)
    while todo:
        path = todo.popleft()
        if path[-1] in ends:
            return path
        for step in (*graph.predecessors(path[-1]), *graph.successors(path[-1])):
            if step in path:
                continue
            if len(path) > 1:
                before, here = path[-2:]
                collides = graph.has_edge(before, here) and graph.has_edge(step, here)
                if (here not in opened) if collides else (here in given):
                    continue
            todo.append((*path, step))
    return None


def without_effects(graph: nx.DiGraph, names: Collection[str]) -> nx.DiGraph:
    """The graph without the edges out of some nodes; its open paths from them are the open back-door paths."""
    found = graph.copy()
    found.remove_edges_from([(a, b) for a, b in graph.edges if a in names])
    return found


def backdoor_criterion(graph: nx.DiGraph, treatment: str, outcome: str, adjust: Sequence[str]) -> tuple[bool, str]:
    """Does a set satisfy the back-door criterion (Pearl 2009, definition 3.3.1)? And why, or why not."""
    import networkx as nx

    for name in adjust:
        if name in nx.descendants(graph, treatment):
            return (
                False,
                f"{name} is caused by the treatment: {spelled(graph, nx.shortest_path(graph, treatment, name))}",
            )
    back = without_effects(graph, {treatment})
    if nx.is_d_separator(back, {treatment}, {outcome}, set(adjust)):
        return True, f"every back-door path from {treatment} to {outcome} is blocked"
    return False, f"{_opened(back, [treatment], [outcome], adjust)} is open"


def frontdoor_criterion(graph: nx.DiGraph, treatment: str, outcome: str, mediators: Sequence[str]) -> tuple[bool, str]:
    """Do sites satisfy the front-door criterion (Pearl 2009, definition 3.3.3)? And why, or why not."""
    import networkx as nx

    others = graph.subgraph(set(graph) - set(mediators))
    if nx.has_path(others, treatment, outcome):
        return False, f"{spelled(others, nx.shortest_path(others, treatment, outcome))} goes past the mediators"
    back = without_effects(graph, {treatment})
    if mediators and not nx.is_d_separator(back, {treatment}, set(mediators), set()):
        return False, f"{_opened(back, [treatment], mediators, ())} is open"
    beyond = without_effects(graph, set(mediators))
    if mediators and not nx.is_d_separator(beyond, set(mediators), {outcome}, {treatment}):
        return False, f"{_opened(beyond, mediators, [outcome], [treatment])} is open, given {treatment}"
    if not mediators:
        return True, f"{treatment} has no effect on {outcome}"
    through = ", ".join(mediators)
    return True, f"every effect of {treatment} on {outcome} is through {through}, and nothing confounds {through}"


def _opened(graph: nx.DiGraph, starts: Sequence[str], ends: Sequence[str], given: Sequence[str]) -> str:
    path = open_path(graph, starts, ends, given)
    return "a path" if path is None else spelled(graph, path)

"""Places for the variables of a causal graph: causes above effects, long arrows around what they pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

# A node, or the corner of a long edge: (parent, child, layer); child is "" where edges of one parent go together.
Stop = str | tuple[str, str, int]
Edge = tuple[str, str]


def implied(names: Sequence[str], edges: Collection[Edge]) -> set[Edge]:
    """Edges from a cause to what also depends on it through others: all but the transitive reduction.

    Args:
        names: in causal order.
        edges: (cause, effect) pairs.

    >>> implied(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])
    {('a', 'c')}
    """
    below: dict[str, set[str]] = {}
    found = set[Edge]()
    for name in reversed(names):
        effects = {b for a, b in edges if a == name}
        through = set[str]().union(*(below[b] for b in effects))
        found |= {(name, b) for b in effects & through}
        below[name] = effects | through
    return found


def layered(
    names: Sequence[str], edges: Sequence[Edge], bundled: Collection[Edge] = ()
) -> tuple[list[list[Stop]], dict[Edge, list[Stop]]]:
    """Layers from top to bottom, each from left to right, and the stops of every edge.

    The layer of a variable is the length of the longest path to it; an edge that skips layers gets a place of its own
    in each, so that it crosses no variable (Sugiyama, Tagawa and Toda 1981).

    Args:
        names: in causal order.
        edges: (cause, effect) pairs.
        bundled: those of them that share a way with others of the same cause, as far as they go together.

    >>> layers, routes = layered(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])
    >>> layers
    [['a'], ['b', ('a', 'c', 1)], ['c']]
    >>> routes["a", "c"]
    ['a', ('a', 'c', 1), 'c']
    """
    depth: dict[str, int] = {}
    for name in names:
        depth[name] = max((depth[a] + 1 for a, b in edges if b == name), default=0)
    # A variable without causes stands just above the first one that depends on it.
    for name in reversed(names):
        below = [depth[b] for a, b in edges if a == name]
        if below and not any(b == name for _, b in edges):
            depth[name] = min(below) - 1
    layers: list[list[Stop]] = [[n for n in names if depth[n] == i] for i in range(max(depth.values(), default=0) + 1)]
    routes: dict[Edge, list[Stop]] = {}
    for a, b in edges:
        way = "" if (a, b) in bundled else b
        corners: list[Stop] = [(a, way, i) for i in range(depth[a] + 1, depth[b])]
        for i, corner in enumerate(corners, depth[a] + 1):
            if corner not in layers[i]:
                layers[i].append(corner)
        routes[a, b] = [a, *corners, b]
    steps = list(dict.fromkeys(pair for route in routes.values() for pair in pairwise(route)))
    best = layers
    for sweep in range(8):
        layers = _swept(layers, steps, down=sweep % 2 == 0)
        best = min(best, layers, key=lambda order: _crossings(order, steps))
    return best, routes


def _swept(layers: list[list[Stop]], steps: Sequence[tuple[Stop, Stop]], *, down: bool) -> list[list[Stop]]:
    """Every layer sorted by the mean place of its neighbours in the layer before it (below it, if not ``down``)."""
    order = layers if down else layers[::-1]
    done = [order[0]]
    for layer in order[1:]:
        place = _places([done[-1]])
        pairs = steps if down else [(b, a) for a, b in steps]
        means: dict[Stop, float] = {}
        for i, stop in enumerate(layer):
            near = [place[a] for a, b in pairs if b == stop and a in place]
            means[stop] = sum(near) / len(near) if near else (i + 0.5) / len(layer)
        done.append(sorted(layer, key=means.__getitem__))
    return done if down else done[::-1]


def _places(layers: list[list[Stop]]) -> dict[Stop, float]:
    return {stop: (i + 0.5) / len(layer) for layer in layers for i, stop in enumerate(layer)}


def _crossings(layers: list[list[Stop]], steps: Sequence[tuple[Stop, Stop]]) -> int:
    place = _places(layers)
    row = {stop: i for i, layer in enumerate(layers) for stop in layer}
    return sum(
        row[a] == row[c] and (place[a] - place[c]) * (place[b] - place[d]) < 0
        for i, (a, b) in enumerate(steps)
        for c, d in steps[:i]
    )

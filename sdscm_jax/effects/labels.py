"""Worlds from their labels: ``do(pdl1=low, age=55)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dsl.graph import Graph
from ..dsl.intervention import Nested, nested


def world_of(label: str, graph: Graph, values: Mapping[str, np.ndarray] | None = None) -> dict[str, Any] | None:
    """The interventions that a label of ``Simulation.worlds`` tells; None where they are no constants.

    Args:
        label: the label.
        graph: the sites with their options.
        values: site -> its values in that world. What they contradict the label does not tell; where they leave
            two readings (or there are none and the label has two), it tells nothing.

    >>> from sdscm_jax.dsl.structure import Site
    >>> graph = Graph((Site("a", "choice", options=("x", "y, b=z")), Site("b", "choice", options=("z",))))
    >>> world_of("do(a=y, b=z, b=z)", graph), world_of("do(a=<lambda>)", graph), world_of("", graph)
    ({'a': 'y, b=z', 'b': 'z'}, None, {})
    """
    if not label:
        return {}
    if not (label.startswith("do(") and label.endswith(")")):
        return None
    found = [world for world, rest in _worlds(label[3:-1], graph) if not rest]
    readings = {_numbers(world, graph): world for world in found if values is None or _agree(world, graph, values)}
    return next(iter(readings.values())) if len(readings) == 1 else None


def _number(site: str, value: Any, graph: Graph) -> int:
    return graph[site].options.index(value) if isinstance(value, str) else int(value)


def _numbers(world: Mapping[str, Any], graph: Graph) -> tuple[Any, ...]:
    """A world as option numbers, hashable."""
    return tuple(
        (site, _numbers(value.world, graph) if isinstance(value, Nested) else _number(site, value, graph))
        for site, value in world.items()
    )


def _agree(world: Mapping[str, Any], graph: Graph, values: Mapping[str, np.ndarray]) -> bool:
    return all(
        isinstance(value, Nested) or bool((values[site] == _number(site, value, graph)).all())
        for site, value in world.items()
    )


def _worlds(text: str, graph: Graph) -> list[tuple[dict[str, Any], str]]:
    """Every way to read a world at the start of a text, and what is left after it."""
    found = []
    for site in graph.sites:
        if not text.startswith(f"{site.name}="):
            continue
        for value, rest in _values(text[len(site.name) + 1 :], site.options, graph):
            found.append(({site.name: value}, rest))
            if rest.startswith(", "):
                found += [({site.name: value, **more}, left) for more, left in _worlds(rest[2:], graph)]
    return found


def _values(text: str, options: tuple[str, ...], graph: Graph) -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = [(o, text[len(o) :]) for o in options if text.startswith(o)]
    digits = len(text) - len(text.lstrip("0123456789"))
    if digits and int(text[:digits]) < len(options):
        found.append((int(text[:digits]), text[digits:]))
    if text.startswith("nested("):
        inside = [({}, text[7:]), *_worlds(text[7:], graph)]
        found += [(nested(world), rest[1:]) for world, rest in inside if rest.startswith(")")]
    return found

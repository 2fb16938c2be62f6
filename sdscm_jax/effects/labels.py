"""Worlds from their labels: ``do(pdl1=low, age=55)``."""

from __future__ import annotations

from typing import Any

from ..dsl.graph import Graph
from ..dsl.intervention import nested


def world_of(label: str, graph: Graph) -> dict[str, Any] | None:
    """The interventions that a label of ``Simulation.worlds`` tells; None where they are no constants.

    >>> from sdscm_jax.dsl.structure import Site
    >>> graph = Graph((Site("a", "choice", options=("x", "y, b=z")), Site("b", "choice", options=("z",))))
    >>> world_of("do(a=y, b=z, b=z)", graph), world_of("do(a=<lambda>)", graph), world_of("", graph)
    ({'a': 'y, b=z', 'b': 'z'}, None, {})
    """
    if not label:
        return {}
    if not (label.startswith("do(") and label.endswith(")")):
        return None
    return next((world for world, rest in _worlds(label[3:-1], graph) if not rest), None)


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

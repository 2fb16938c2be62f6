"""What a failed check says."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from ..dsl.analysis.graph import Graph


def fail(law: str, site: str, what: str, *, unit: Any = None, world: str | None = None) -> NoReturn:
    """Raise an ``AssertionError`` that names where a law does not hold.

    Args:
        law: the law, in a few words.
        site: name of the site.
        what: the values, and what they were to be.
        unit, world: where.
    """
    place = f"site {site!r}"
    if unit is not None:
        place += f", unit {int(unit)}"
    if world is not None:
        place += f", world {world or '{} (the factual one)'}"
    raise AssertionError(f"{law}: {place}: {what}")


def require(holds: Any, *what: str) -> None:
    """Raise an ``AssertionError`` of parts joined by colons, unless something holds."""
    if not holds:
        raise AssertionError(": ".join(what))


def shown(graph: Graph, site: str, value: np.ndarray) -> str:
    """A value as a person reads it."""
    phrase, options = graph[site].phrase, graph[site].options
    if options and np.ndim(value) == 0 and 0 <= int(value) < len(options):
        return repr(options[int(value)])
    if phrase is not None and not options:
        return repr(phrase.at(value).text)
    return str(np.asarray(value).tolist())


def same_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which rows of two arrays are equal to the last bit; NaN equals NaN."""
    equal = (a == b) | ((a != a) & (b != b))
    return equal.reshape(len(equal), -1).all(1)

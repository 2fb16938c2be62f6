"""Reaching the sites inside NumPyro's ``scan`` and ``cond``, whose bodies hide from outer handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def wrap_bodies(msg: dict[str, Any], wrap: Callable[[Callable], Callable]) -> None:
    """Wrap the functions that a ``control_flow`` message will run."""
    # NumPyro's scan takes its body first; cond takes a predicate and two branches.
    args = list(msg["args"])
    places = [0] if callable(args[0]) else [1, 2]
    for place in places:
        args[place] = wrap(args[place])
    msg["args"] = tuple(args)

"""Reaching the sites inside NumPyro's ``scan`` and ``cond``, whose bodies hide from outer handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def wrap_bodies(msg: dict[str, Any], wrap: Callable[[Callable], Callable]) -> None:
    """Wrap the functions that a ``control_flow`` message will run."""
    # NumPyro's scan takes its body first; cond takes a predicate and two branches.
    args = list(msg["args"])
    places = [0] if has_steps(msg) else [1, 2]
    for place in places:
        args[place] = wrap(args[place])
    msg["args"] = tuple(args)


def has_steps(msg: dict[str, Any]) -> bool:
    """Is a ``control_flow`` message a ``scan``? (``cond`` has no steps.)"""
    return callable(msg["args"][0])


def count_steps(msg: dict[str, Any], told: Callable[[Callable, Any, int], Callable]) -> None:
    """Tell the body of a ``scan`` which step it is at.

    Args:
        msg: a ``control_flow`` message that ``has_steps``.
        told: makes the body of one step, from the body, the step's number and how many there are.
    """
    body, init, xs, length, *rest = msg["args"]
    if length is None:
        length = len(jax.tree.leaves(xs)[0])

    def counted(carry: Any, x: Any) -> Any:
        x, step = x
        return told(body, step, length)(carry, x)

    msg["args"] = (counted, init, (xs, jnp.arange(length)), length, *rest)

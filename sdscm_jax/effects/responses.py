"""How one site answers in two worlds at once: the joint law of two responses to the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dsl.couplings.registry import parse_coupling
from ..errors import EffectError


def joint_responses(coupling: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """``P(X = a in one world, X = b in the other)`` where the worlds' laws of X are p and q.

    Args:
        coupling: see ``Choice``.
        p, q: float64 ``[..., K]``, probabilities; they broadcast.

    Returns:
        float64 ``[..., K, K]``; its margins are p and q.

    Raises:
        EffectError: there is no such coupling.

    >>> joint_responses("gumbel", np.array([0.5, 0.5]), np.array([0.2, 0.8])).round(3).tolist()
    [[0.2, 0.3], [0.0, 0.5]]
    """
    law = parse_coupling(coupling, error=EffectError).joint
    return law(*np.broadcast_arrays(np.asarray(p, np.float64), np.asarray(q, np.float64)))


def with_axes(joint: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """A joint law ``[..., K_1, …, K_V]`` of V variables with an axis for each of ``axes``, which may repeat some.

    All V must occur. A variable that is there twice has one value: off that diagonal the law is 0.

    >>> with_axes(np.array([0.25, 0.75]), [0, 0]).tolist()
    [[0.25, 0.0], [0.0, 0.75]]
    """
    count = len(set(axes))
    batch = joint.ndim - count
    into = list(range(batch, joint.ndim))
    operands: list[Any] = [joint, [*range(batch), *into]]
    out, unused = list(range(batch)), joint.ndim
    for place, axis in enumerate(axes):
        if axis in axes[:place]:
            operands += [np.eye(joint.shape[batch + axis]), [into[axis], unused]]
            out.append(unused)
            unused += 1
        else:
            out.append(into[axis])
    return np.asarray(np.einsum(*operands, out))

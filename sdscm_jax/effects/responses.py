"""How one site answers in two worlds at once: the joint law of two responses to the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dsl.noise.couplings.registry import parse_coupling
from ..errors import EffectError


def joint_responses(coupling: str, p: np.ndarray, q: np.ndarray, r: np.ndarray | None = None) -> np.ndarray:
    """``P(X = a in one world, X = b in the other)`` where the worlds' laws of X are p and q.

    Args:
        coupling: see ``Choice``.
        p, q: float64 ``[..., K]``, probabilities; they broadcast. Of a ``relative`` coupling p is the factual law.
        r: of such a coupling, the law in a third world.

    Returns:
        float64 ``[..., K, K]`` (or with three laws ``[..., K, K, K]``); its margins are the laws.

    Raises:
        EffectError: there is no such coupling.

    >>> joint_responses("gumbel", np.array([0.5, 0.5]), np.array([0.2, 0.8])).round(3).tolist()
    [[0.2, 0.3], [0.0, 0.5]]
    """
    own = parse_coupling(coupling, error=EffectError)
    laws = np.broadcast_arrays(*(np.asarray(law, np.float64) for law in (p, q, r) if law is not None))
    return own.joint(*laws) if r is None else own.joint_of_two(*laws)


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

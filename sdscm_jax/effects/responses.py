"""How one site answers in two worlds at once: the joint law of two responses to the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dsl.coupling import parse_coupling
from ..errors import EffectError


def joint_responses(coupling: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """``P(X = a in one world, X = b in the other)`` where the worlds' laws of X are p and q.

    ``"gumbel"``: X is ``argmax(log p + G)``, that is, the first of K exponential clocks with rates p. Both laws
    race on the same clocks: with ``r`` the ratio of the winning times and ``h(r) = sum_k max(p_k, q_k r)``, the
    pair (a, b) has the density ``p_a q_b / h(r)^2`` between ``p_b / q_b`` and ``p_a / q_a``, and (a, a) the mass
    ``1 / sum_k max(p_k / p_a, q_k / q_a)`` (the latter is the Poisson matching lemma's, Li and Anantharam 2021,
    arXiv 1812.03616). ``"inverse_cdf"``: overlap of the cells of the two cumulative distributions.
    ``"independent"``: the product.

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
    law = _LAWS[parse_coupling(coupling, error=EffectError)]
    return law(*np.broadcast_arrays(np.asarray(p, np.float64), np.asarray(q, np.float64)))


def _product(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.asarray(p[..., :, None] * q[..., None, :])


def _overlaps(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    upper_p, upper_q = (np.minimum(np.cumsum(x, -1), 1.0) for x in (p, q))
    upper_p[..., -1] = upper_q[..., -1] = 1.0
    lower_p, lower_q = (np.concatenate([np.zeros_like(x[..., :1]), x[..., :-1]], -1) for x in (upper_p, upper_q))
    high = np.minimum(upper_p[..., :, None], upper_q[..., None, :])
    return np.maximum(high - np.maximum(lower_p[..., :, None], lower_q[..., None, :]), 0.0)


def _gumbel(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(q > 0, p / np.where(q > 0, q, 1.0), np.where(p > 0, np.inf, 0.0))
    order = np.argsort(ratio, -1)
    sorted_p, sorted_q, r = (np.take_along_axis(x, order, -1) for x in (p, q, ratio))
    # Between two neighbouring ratios, h(r) = (sum of p beyond) + r (sum of q up to here).
    beyond = np.cumsum(sorted_p[..., ::-1], -1)[..., ::-1]
    below = np.cumsum(sorted_q, -1)
    # mass[i]: integral of 1 / h^2 from r[i] to r[i+1].
    left, right = r[..., :-1], r[..., 1:]
    constant, slope = beyond[..., 1:], below[..., :-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        closed = (right - left) / ((constant + slope * left) * (constant + slope * right))
        to_infinity = 1.0 / (slope * (constant + slope * left))
        mass = np.where(np.isinf(right), np.where(np.isinf(left), 0.0, to_infinity), closed)
    mass = np.where(right > left, np.nan_to_num(mass, nan=0.0, posinf=0.0), 0.0)
    cumulative = np.concatenate([np.zeros_like(p[..., :1]), np.cumsum(mass, -1)], -1)
    place = np.argsort(order, -1)
    at = np.take_along_axis(cumulative, place, -1)
    # a wins under p where the ratio of times is below p_a / q_a, b under q where it is above p_b / q_b.
    between = np.maximum(at[..., :, None] - at[..., None, :], 0.0)
    joint = p[..., :, None] * q[..., None, :] * between
    stay = np.maximum(np.minimum(p - joint.sum(-1), q - joint.sum(-2)), 0.0)
    return joint + np.eye(p.shape[-1]) * stay[..., :, None]


_LAWS = {"gumbel": _gumbel, "inverse_cdf": _overlaps, "independent": _product}


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

"""Sums over the values of many sites, as planned contractions of their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import opt_einsum

from ..errors import EffectError


@dataclass(frozen=True)
class Cost:
    """What a contraction takes, as planned before it is run.

    Attributes:
        operations: floating-point operations.
        largest: numbers in the largest array in between.
    """

    operations: float
    largest: float

    def __or__(self, other: Cost) -> Cost:
        """Of both, one after the other."""
        return Cost(self.operations + other.operations, max(self.largest, other.largest))


@dataclass(frozen=True)
class Limits:
    """What a contraction may take: operations, and numbers (of 8 bytes) in the largest array in between."""

    operations: float = 2e10
    largest: float = 2**27


LIMITS = Limits()


def contract(
    operands: Sequence[tuple[np.ndarray, Sequence[int]]], keep: Sequence[int], limits: Limits
) -> tuple[np.ndarray, Cost]:
    """Multiply tables and sum over every axis that is not kept.

    Args:
        operands: tables, float64, with a number for each axis; axes of one number are one.
        keep: numbers of the result's axes, all different.
        limits: what it may take.

    Returns:
        float64 with the axes ``keep``, and the planned cost.

    Raises:
        EffectError: the plan takes more than the limits; the message says what it would take.

    >>> prior, table = np.array([0.25, 0.75]), np.array([[1.0, 0.0], [0.5, 0.5]])
    >>> contract([(prior, [0]), (table, [0, 1])], [1], LIMITS)[0].tolist()
    [0.625, 0.375]
    """
    arguments: list[Any] = []
    for array, axes in operands:
        arguments += [array, list(axes)]
    path, info = opt_einsum.contract_path(*arguments, list(keep), optimize="auto")
    cost = Cost(float(info.opt_cost), float(info.largest_intermediate))
    if cost.operations > limits.operations or cost.largest > limits.largest:
        raise EffectError(
            f"the exact effect needs {cost.operations:.2g} operations and an array of {cost.largest:.2g} numbers "
            f"({8 * cost.largest / 2**30:.1f} GiB); the limits are {limits.operations:.2g} and {limits.largest:.2g}. "
            "Use effects.sampled, or raise limits="
        )
    return np.asarray(opt_einsum.contract(*arguments, list(keep), optimize=path)), cost

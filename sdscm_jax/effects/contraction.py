"""Sums over the values of many sites, as planned contractions of their tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import opt_einsum

from ..checks import real
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
    """What a contraction may take: operations, and numbers (of 8 bytes) in the largest array in between.

    Raises:
        EffectError: one of them is no positive number.
    """

    operations: float = 2e10
    largest: float = 2**27

    def __post_init__(self) -> None:
        for name in ("operations", "largest"):
            real(getattr(self, name), f"Limits({name}=…)", EffectError, above=0)


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
    run, cost = _planned(tuple((array.shape, tuple(axes)) for array, axes in operands), tuple(keep))
    if cost.operations > limits.operations or cost.largest > limits.largest:
        raise EffectError(
            f"the exact effect needs {cost.operations:.2g} operations and an array of {cost.largest:.2g} numbers "
            f"({8 * cost.largest / 2**30:.1f} GiB); the limits are {limits.operations:.2g} and {limits.largest:.2g}. "
            "Use effects.sampled, or raise limits="
        )
    return np.asarray(run(*(array for array, _ in operands))), cost


_Axes = tuple[int, ...]


# The same sums over other numbers are common: a query is asked for every intervention and every adjustment.
@lru_cache(maxsize=1024)
def _planned(operands: tuple[tuple[tuple[int, ...], _Axes], ...], keep: _Axes) -> tuple[Callable[..., Any], Cost]:
    """What contracts tables of these shapes and axes, and what that costs."""
    shapes = [shape for shape, _ in operands]
    numbers = sorted({*keep, *(axis for _, axes in operands for axis in axes)})
    letters = {number: opt_einsum.get_symbol(i) for i, number in enumerate(numbers)}
    terms = ["".join(letters[axis] for axis in axes) for axes in (*(axes for _, axes in operands), keep)]
    equation = ",".join(terms[:-1]) + "->" + terms[-1]
    tables = [np.broadcast_to(0.0, shape) for shape in shapes]
    path, info = opt_einsum.contract_path(equation, *tables, optimize="auto")
    run = opt_einsum.contract_expression(equation, *shapes, optimize=path)
    return run, Cost(float(info.opt_cost), float(info.largest_intermediate))

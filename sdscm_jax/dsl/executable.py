"""Compiled programs, looked up by what they do.

What a call means is what the model function says now: it is traced each time, since what it reads (a global, a closure,
an attribute, an array that was changed in place) is not seen in the function itself. Compiling is what takes time, and
it is done once for each program as it was traced, constants included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax

from ..models.canonical import canonical


@dataclass(frozen=True)
class Lowered:
    """A program before compilation; compares by what it does. Other words make no other program.

    Attributes:
        text: its operations and constants.
        in_tree, out_tree: what it takes and gives.
        quick: is it compiled without optimisations? That is for programs that take longer to compile than to run.
        devices: those that it is for; None: JAX's default one.
        lowered: JAX's object.
    """

    text: str
    in_tree: Any
    out_tree: Any
    quick: bool
    devices: Any
    lowered: Any = field(compare=False)

    @classmethod
    def of(cls, lowered: Any, quick: bool, devices: Any = None) -> Lowered:
        """What ``jax.jit(f).lower(...)`` gave."""
        return cls(canonical(lowered), lowered.in_tree, lowered.out_tree, quick, devices, lowered)


@lru_cache(maxsize=64)
def executable(program: Lowered) -> Any:
    """The program, compiled."""
    quick = program.quick and jax.default_backend() == "cpu"
    return program.lowered.compile(compiler_options={"xla_backend_optimization_level": 0} if quick else None)

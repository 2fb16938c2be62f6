"""Compiled programs, looked up by what they do.

What a call means is what the model function says now: it is traced each time, since what it reads (a global, a closure,
an attribute, an array that was changed in place) is not seen in the function itself. Compiling is what takes time, and
it is done once for each program as it was traced, constants included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from .canonical import canonical


@dataclass(frozen=True)
class Lowered:
    """A program before compilation; compares by what it does. Other words make no other program.

    Attributes:
        text: its operations and constants.
        in_tree, out_tree: what it takes and gives.
        quick: is it compiled without optimisations? That is for programs that take longer to compile than to run.
        devices: those that it is for, or where its inputs lie; None: JAX's default one.
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


class LookedUp:
    """A function like ``jax.jit(function)``, of which what another such function does is not compiled again.

    Args:
        function: jitted.

    >>> first, second = (LookedUp(jax.jit(lambda x: 2 * x)) for _ in range(2))
    >>> found, before = first(3.0), executable.cache_info().misses
    >>> float(found), float(second(4.0)), executable.cache_info().misses - before
    (6.0, 8.0, 0)
    """

    def __init__(self, function: Any):
        self._function = function
        self._compiled: dict[Any, Callable] = {}

    def __call__(self, *args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        places = tuple(getattr(x, "sharding", None) for x in leaves)
        what = structure, tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves), places
        if what not in self._compiled:
            lowered = self._function.lower(*args)
            self._compiled[what] = executable(Lowered.of(lowered, quick=False, devices=places))
        return self._compiled[what](*args)

"""A compiled program as text that does not depend on what was compiled before it."""

from __future__ import annotations

from typing import Any

from jaxlib.mlir import ir
from jaxlib.mlir.passmanager import PassManager


def canonical(lowered: Any) -> str:
    """A lowered program without functions: which of them its parts share depends on what JAX traced before.

    >>> import jax
    >>> "func.call" in canonical(jax.jit(lambda x: jax.nn.relu(x) + jax.nn.relu(x)).lower(1.0))
    False
    """
    module = ir.Module.parse(lowered.as_text(), lowered.compiler_ir().context)
    with module.context:
        PassManager.parse("builtin.module(inline,symbol-dce,canonicalize,cse)").run(module.operation)
    return str(module)

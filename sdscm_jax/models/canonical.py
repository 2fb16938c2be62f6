"""A compiled program as text that does not depend on what was compiled before it."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import Any

from jaxlib.mlir import ir

_SYMBOL = re.compile(r'@("[^"]*"|[\w$.-]+)')


def _text(function: Any) -> str:
    # ``str(function)`` is the same text, but numbers and verifies the whole module for each of its functions.
    return function.operation.get_asm(use_local_scope=True, assume_verified=True)


def canonical(lowered: Any) -> str:
    """The main function of a lowered program, in which functions are named by their content.

    JAX's own names, and which functions the parts of a program share, depend on what it traced before.

    >>> import jax
    >>> def text(*order):
    ...     first, second = (jax.jit(lambda x, n=n: jax.nn.relu(x) + n) for n in order)
    ...     return canonical(jax.jit(lambda x: first(x) * second(x + 1)).lower(1.0))
    >>> text(1, 2) == text(1, 2), text(1, 2) == text(2, 1)
    (True, False)
    >>> "relu" in text(1, 2)
    False
    """
    module = ir.Module.parse(lowered.as_text(), lowered.compiler_ir().context)
    functions = {str(op.attributes["sym_name"]).strip('"'): _text(op) for op in module.body.operations}

    @cache
    def content(name: str) -> str:
        def renamed(found: re.Match[str]) -> str:
            other = found[1].strip('"')
            if other == name or other not in functions:
                return "@self" if other == name else found[0]
            return "@" + hashlib.sha256(content(other).encode()).hexdigest()

        return _SYMBOL.sub(renamed, functions[name])

    return content("main")

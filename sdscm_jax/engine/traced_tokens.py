"""How many tokens a traced program puts through a decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


def traced_tokens(jaxpr: Any) -> int:
    """Tokens that go through the decoder's layers, for every unit and world that they are computed in.

    The layers are a loop that carries hidden states ``[..., T, width]``. Padding counts: it is computed. A
    loop of unknown length (NUTS) counts as one round.

    Args:
        jaxpr: of the program (``jax.make_jaxpr(f)(...).jaxpr``).
    """
    total = 0
    for equation in jaxpr.eqns:
        inner = [x for value in equation.params.values() for x in _jaxprs(value)]
        within = sum(map(traced_tokens, inner))
        if equation.primitive.name != "scan":
            total += within
        elif within:
            # A loop around the decoder: a text that is being written.
            total += within * equation.params["length"]
        elif any(e.primitive.name == "dot_general" for x in inner for e in _equations(x)):
            total += int(np.prod(equation.outvars[0].aval.shape[:-1]))
    return total


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for x in _jaxprs(value):
                yield from _equations(x)


def _jaxprs(value: Any) -> Iterator[Any]:
    for x in value if isinstance(value, (tuple, list)) else (value,):
        x = getattr(x, "jaxpr", x)
        if hasattr(x, "eqns"):
            yield x

"""What the handlers around a model say of its sites, for runs of it that they must not see.

A world beside the factual one is no part of the model's density, and a trace that saw its sites would see their names
twice. But it is the same unit: a parameter has the value that a sampler gave it, a plate is as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpyro
from numpyro import handlers
from numpyro.primitives import _PYRO_STACK, Messenger

from .couple import couple
from .look_up import LookUp

# They say what a site is, in every world.
_SHAPING = (numpyro.plate, handlers.reparam, couple, LookUp)
# They give sites values: posterior samples, observations, what a guide drew.
_GIVING = (handlers.substitute, handlers.condition, handlers.replay)


class around(Messenger):
    """Hides a run from the handlers around it, and does to its sites what those would do.

    Args:
        fn: the model function.
        values: do they give sites their values too, as ``substitute``, ``condition`` and ``replay`` do? Else they
            only say what a site is: plates, couplings, reparametrisations and tables.
    """

    def __init__(self, fn: Callable | None = None, values: bool = True):
        self.kinds = (*_SHAPING, *_GIVING) if values else _SHAPING
        self.handlers: tuple[Messenger, ...] = ()
        super().__init__(fn)

    def __enter__(self) -> around:
        self.handlers = tuple(reversed(_PYRO_STACK))
        super().__enter__()
        return self

    def process_message(self, msg: dict[str, Any]) -> None:
        name = msg.get("name")
        for handler in self.handlers:
            if isinstance(handler, _GIVING) and isinstance(handler, self.kinds):
                # NumPyro's samplers add the density of a change of variables where they give a value.
                with handlers.block():
                    handler.process_message(msg)
            elif isinstance(handler, (*self.kinds, handlers.block, handlers.scope)):
                handler.process_message(msg)
            if msg.get("stop"):
                break
        if name is not None:
            # Scopes rename sites for what is outside of them.
            msg["name"] = name
        msg["stop"] = True


def gives_values() -> bool:
    """May a handler around give sites values?"""
    return any(isinstance(handler, _GIVING) for handler in _PYRO_STACK)

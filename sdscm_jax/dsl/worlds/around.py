"""What the handlers around a model say of its sites, for runs of it that they must not see.

A world beside the factual one is no part of the model's density, and a trace that saw its sites would see their names
twice. But it is the same unit: a parameter has the value that a sampler gave it, a plate is as long.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpyro
from numpyro import handlers
from numpyro.primitives import _PYRO_STACK, Messenger

from ...errors import EvidenceError
from ..analysis.graph import graph
from ..handlers.couple import couple
from ..language.messages import from_loop
from ..tables.look_up import LookUp

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
        within: a handler of the model, where a run of it is under way: what was entered within that handler (a plate
            in which the model is now) is a part of the model, and no handler around.
    """

    def __init__(self, fn: Callable | None = None, values: bool = True, within: Messenger | None = None):
        self.within = within
        self.kinds = (*_SHAPING, *_GIVING) if values else _SHAPING
        self.handlers: tuple[Any, ...] = ()
        super().__init__(fn)

    def __enter__(self) -> around:
        outer = _PYRO_STACK if self.within is None else _PYRO_STACK[: _PYRO_STACK.index(self.within)]
        self.handlers = tuple(reversed(outer))
        super().__enter__()
        return self

    def process_message(self, msg: dict[str, Any]) -> None:
        name = msg.get("name")
        for handler in self.handlers:
            acts = isinstance(handler, (*self.kinds, handlers.block, handlers.scope))
            if acts and isinstance(handler, _GIVING):
                # NumPyro's samplers add the density of a change of variables where they give a value.
                with handlers.block():
                    handler.process_message(msg)
            elif acts:
                handler.process_message(msg)
            if msg.get("stop"):
                break
        if name is not None:
            # Scopes rename sites for what is outside of them.
            msg["name"] = name
        msg["stop"] = True


class _Otherwise(around):
    """The same for a run in another world: there, a site that an intervention reaches has not the value it is given."""

    def __init__(
        self, fn: Callable, world: Iterable[str], args: tuple, kwargs: Mapping[str, Any],
        also: tuple[type, ...] = (), within: Messenger | None = None,
    ):  # fmt: skip
        self.world, self.call, self.also = frozenset(world), (fn, args, kwargs), also
        super().__init__(within=within)

    @cached_property
    def reached(self) -> frozenset[str]:
        """Sites downstream of those that are set."""
        fn, args, kwargs = self.call
        found = graph(fn, *args, **kwargs)
        return (
            frozenset(name for site in self.world & set(found.names) for name in found.descendants(site)) - self.world
        )

    def process_message(self, msg: dict[str, Any]) -> None:
        name, before = msg.get("name"), dict(msg)
        self.kinds = (*self.also, *_SHAPING, *(() if name in self.world else _GIVING))
        super().process_message(msg)
        given = msg["type"] == "sample" and msg["value"] is not None and not from_loop(msg)
        observed = before.get("is_observed") is True or before.get("value") is None
        if given and observed and name not in self.world and name in self.reached:
            raise EvidenceError(
                f"site {name!r} is observed or given a value, and answers to an intervention in another world of the "
                "same unit, for which its noise is not at hand; use counterfactual(model, …), or give it as evidence"
            )


def sites_apart(
    model: Callable, fn: Callable, world: Iterable[str], args: tuple, kwargs: Mapping[str, Any], *also: type,
    within: Messenger | None = None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """The messages of a unit's sites in another world, which handlers around do not see.

    Args:
        model: the model function in that world, with its noise.
        fn: the model function.
        world: the sites that are set there.
        args, kwargs: arguments of the model.
        *also: kinds of handlers around that act on them besides those that say what a site is.
        within: see ``around``.

    Raises:
        EvidenceError: a site is observed, or given a value by a handler around, that the world changes; or NumPyro
            sums sites out, whose values are not known.
    """
    if sums_out():
        raise EvidenceError("NumPyro sums sites out, so their values in another world of the same unit are not known")
    with _Otherwise(fn, world, args, kwargs, also, within):
        return dict(handlers.trace(model).get_trace(*args, **kwargs))


def values_apart(
    model: Callable, fn: Callable, world: Iterable[str], args: tuple, kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of a unit's sites in another world; see ``sites_apart``."""
    found = sites_apart(model, fn, world, args, kwargs)
    return {name: msg["value"] for name, msg in found.items() if "value" in msg}


def gives_values() -> bool:
    """May a handler around give sites values?"""
    return any(isinstance(handler, _GIVING) for handler in _PYRO_STACK)


def sums_out() -> bool:
    """Does NumPyro sum discrete sites out?"""
    funsor = sys.modules.get("numpyro.contrib.funsor.enum_messenger")
    return funsor is not None and any(isinstance(handler, funsor.enum) for handler in _PYRO_STACK)

"""One run of a model, seen from the inside: which values its sites had, and which of these came from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpyro.distributions as dist
from jax import Array
from numpyro.primitives import Messenger

from ..language.mechanism import mechanism_of
from ..language.messages import from_loop
from .recovered_noise import Known, residual_noise


@dataclass(frozen=True)
class Visited:
    """A site of a run.

    Attributes:
        kind: the type of its message: ``"sample"``, ``"deterministic"``, ``"param"``, ``"mutable"`` or ``"plate"``.
        fn: the distribution of a sample site.
        value: its value.
        given: did the value come from outside (an observation, a posterior sample), not from the site's noise?
        observed: was it an observation?
        looped: is it inside NumPyro's ``scan`` or ``cond``?
    """

    kind: str
    fn: Any
    value: Any
    given: bool
    observed: bool
    looped: bool

    def noise(self, key: Array) -> Any:
        """Noise that leads to the value, drawn with the key from its posterior given the site's parents."""
        fn = self.fn
        while isinstance(fn, dist.MaskedDistribution):
            # Masks are of the density; NumPyro's Predictive masks every site.
            fn = fn.base_dist
        mechanism = mechanism_of(fn)
        if mechanism is None:
            return residual_noise(fn, self.value, key)
        return Known(mechanism.posterior_noise(key, self.value))


class visited(Messenger):
    """Notes the sites of a run.

    Attributes:
        sites: name inside of ``fn`` -> ``Visited``.
        loops_given: what handlers give the sites of loops: mappings, or functions of a site.
    """

    def __init__(self, fn: Callable | None = None):
        self.sites: dict[str, Visited] = {}
        self.loops_given: list[Any] = []
        self._drawn: dict[str, list[Any]] = {}
        self._open: list[str | None] = []
        super().__init__(fn)

    def __enter__(self) -> visited:
        super().__enter__()
        return self

    def process_message(self, msg: dict[str, Any]) -> None:
        # Scopes rename a message on its way out, and a reparametrisation empties it; others may be sent meanwhile.
        kept = msg["type"] in ("sample", "deterministic", "param", "mutable", "plate")
        self._open.append(msg["name"] if kept else None)
        if msg["type"] == "sample":
            # A draw puts another list in its place.
            self._drawn[msg["name"]] = msg["intermediates"]

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "control_flow":
            self.loops_given += [data for _, data in msg["kwargs"]["substitute_stack"]]
        name = self._open.pop()
        if name is None:
            return
        looped = from_loop(msg)
        sample = msg["type"] == "sample"
        given = sample and not looped and msg["intermediates"] is self._drawn[name]
        value = dict(msg["value"]) if msg["type"] == "mutable" else msg["value"]
        fn = msg["fn"] if sample else None
        self.sites[name] = Visited(msg["type"], fn, value, given, sample and bool(msg["is_observed"]), looped)

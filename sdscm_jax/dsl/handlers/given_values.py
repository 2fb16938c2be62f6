"""Handlers that set sites to values which are at hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax.numpy as jnp
from numpyro.primitives import Messenger

from ..language.messages import is_variable, mechanism_at, set_value


class Followed(Messenger):
    """Sets sites to values that are followed through the program; they hold against interventions.

    Args:
        fn: the model function.
        values: site name -> value.
        looped: sites inside of loops; of these the values have an axis of steps.
    """

    def __init__(self, fn: Callable, values: Mapping[str, Any], looped: Collection[str] = ()):
        self.values = {name: x for name, x in values.items() if name not in looped}
        self.in_loops = {name: x for name, x in values.items() if name in looped}
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "control_flow" and self.in_loops:
            # NumPyro gives each step its part.
            msg["kwargs"]["substitute_stack"].append(("substitute", self.in_loops))
        if is_variable(msg) and msg["name"] in self.values:
            # What a deterministic site was computed from is gone once its value is replaced.
            computed = msg["value"] if msg["type"] == "deterministic" else None
            set_value(msg, self.values[msg["name"]], followed=True, computed=computed)


class Given(Messenger):
    """Sets sample sites that have no value yet, and keeps their distributions.

    Args:
        fn: the model function.
        values: name of each sample site -> value.

    Attributes:
        fns: site name -> the distribution of a site that was set.
    """

    def __init__(self, fn: Callable, values: Mapping[str, Any]):
        self.values, self.fns = values, dict[str, Any]()
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["value"] is None:
            self.fns[msg["name"]] = msg["fn"]
            set_value(msg, self.values[msg["name"]])


def set_stand_in(msg: dict[str, Any]) -> None:
    """Set a site of a language model that has no value to one that stands for it, so that no model is asked."""
    if mechanism_at(msg) is not None and msg["value"] is None:
        set_value(msg, jnp.zeros(msg["fn"].shape(), jnp.int32), stand_in=True)

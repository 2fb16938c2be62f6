"""The ``do`` handler: interventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from numpyro.primitives import Messenger

from ..errors import InterventionError, nearest
from .control_flow import wrap_bodies
from .intervention import intervene


class do(Messenger):
    """Intervene: replace the mechanisms of sites.

    Args:
        fn: the model function.
        data: site name -> value: an option's text, an option number, an array, ``"uniform"``, a
            distribution, or a callable of the natural value.

    An intervened site keeps its place in the trace under its own name, with the value that it was
    set to; it adds nothing to the density, and (unless the value is a callable of the natural one)
    its language model is not run. It acts inside ``scan``, ``cond`` and plates too. Applied twice
    to a site, the outer one holds.

    Raises:
        InterventionError: a site is unknown or exogenous, or cannot take the value.

    >>> import jax, numpyro, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     return sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> sd.handlers.exogenous(sd.handlers.do(model, {"pdl1": "high"}), jax.random.key(0))(lm).text
    'high'
    """

    def __init__(self, fn: Callable | None = None, data: Mapping[str, Any] | None = None):
        data = {} if data is None else data
        if not isinstance(data, Mapping):
            raise InterventionError(f"an intervention is a mapping from site names to values, got {data!r}")
        self.data = dict(data)
        # Sites of the model, sites handled inside loops, and whether a site that is missing is an error.
        self._seen: set[str] = set()
        self._scanned: set[str] = set()
        self._strict = True
        super().__init__(fn)

    def __enter__(self) -> do:
        self._seen, self._scanned = set(), set()
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        unknown = [name for name in self.data if name not in self._seen]
        if unknown and self._strict and exception[0] is None:
            raise InterventionError(f"the model has no site {unknown[0]!r}; {nearest(unknown[0], sorted(self._seen))}")

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "control_flow":
            wrap_bodies(msg, lambda body: partial(self._run_inside, body))
            return
        if msg["type"] not in ("sample", "deterministic"):
            return
        name = msg["name"]
        self._seen.add(name)
        if name not in self.data or name in self._scanned:
            return
        value = self.data[name]
        if msg["type"] == "deterministic":
            msg["value"] = value(msg["value"]) if callable(value) else jnp.asarray(value)
            return
        if msg["infer"].get("exogenous"):
            raise InterventionError(f"site {name!r} is exogenous: it is part of U and cannot be intervened on")
        msg["fn"] = intervene(msg["fn"], value, name)
        msg["is_observed"], msg["value"] = True, None

    def _run_inside(self, body: Callable, *args: Any) -> Any:
        inner = do(data=self.data)
        inner._strict = False
        with inner:
            result = body(*args)
        # The loop sends its sites on afterwards, with values that were intervened on already.
        self._seen |= inner._seen
        self._scanned |= inner._seen & set(self.data)
        return result

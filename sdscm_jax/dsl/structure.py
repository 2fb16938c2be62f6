"""The sites of a model function, found by running it on abstract values: no language model is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from numpyro.ops.provenance import eval_provenance
from numpyro.primitives import Messenger

from .exogenous import exogenous
from .intervention import Fixed, Intervened, base_choice
from .template import Template


@dataclass(frozen=True)
class Site:
    """One site of a model, in program order.

    Attributes:
        name: its name.
        kind: ``"choice"``, the name of another NumPyro distribution, ``"intervened"`` or
            ``"deterministic"``.
        parents: names of the sites that its distribution reads, in program order.
        template, options, scoring: of a choice.
        exogenous: may it not be intervened on?
        observed: was its value given by the program?
    """

    name: str
    kind: str
    parents: tuple[str, ...] = ()
    template: Template | None = None
    options: tuple[str, ...] = ()
    scoring: str | None = None
    exogenous: bool = False
    observed: bool = False


class _Placeholders(Messenger):
    """Sets every choice to its first option, so that no language model is asked."""

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["value"] is None and base_choice(msg["fn"]) is not None:
            msg["value"] = jnp.zeros(msg["fn"].batch_shape, jnp.int32)


def structure(fn: Callable, args: tuple, kwargs: Mapping[str, Any] | None = None) -> tuple[Site, ...]:
    """Sites of ``fn(*args, **kwargs)``, with their parents.

    Parents are found by following the values of earlier sites into the distribution of each site
    (not by what the program says), so they are right however the model was written.

    Raises:
        SiteError: two sites have one name.
    """
    kwargs = kwargs or {}
    found: dict[str, Site] = {}

    def traced(substituted: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
        # From the inside out: the model, noise by name, stand-ins for choices, values from outside.
        model: Any = _Placeholders(exogenous(fn, 0))
        if substituted is not None:
            model = numpyro.handlers.substitute(model, data=substituted)
        # Handlers around this call must not see these sites: it is no run of the model.
        with numpyro.handlers.block():
            trace = numpyro.handlers.trace(model).get_trace(*args, **kwargs)
        values, inputs = {}, {}
        for name, msg in trace.items():
            if msg["type"] == "sample":
                values[name] = msg["value"]
                inputs[name] = _inputs(msg["fn"])
                found[name] = _describe(name, msg)
            elif msg["type"] == "deterministic":
                inputs[name] = msg["value"]
                found[name] = Site(name, "deterministic")
        return values, inputs

    shapes = jax.eval_shape(lambda: traced(None)[0])
    reads = eval_provenance(lambda **values: traced(values)[1], **shapes) if shapes else traced({})[1]
    order = list(found)
    sites = []
    for name in order:
        parents: set[str] = set().union(*jax.tree.leaves(reads[name])) if shapes else set()
        sites.append(replace(found[name], parents=tuple(p for p in order if p in parents and p != name)))
    return tuple(sites)


def _inputs(fn: Any) -> Any:
    """What a distribution reads; of a choice not the language model's parameters."""
    choice = base_choice(fn)
    if choice is not None and not isinstance(fn, (Fixed, Intervened)):
        return choice.phrases, choice.temperature
    return fn


def _describe(name: str, msg: dict[str, Any]) -> Site:
    fn = msg["fn"]
    choice = base_choice(fn)
    common: dict[str, Any] = {"exogenous": bool(msg["infer"].get("exogenous"))}
    intervened = isinstance(fn, (Fixed, Intervened))
    if not intervened:
        common["observed"] = bool(msg["is_observed"])
    if choice is not None:
        kind = "intervened" if intervened else "choice"
        return Site(name, kind, (), choice.template, choice.options, choice.scoring, **common)
    while not intervened and hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return Site(name, "intervened" if intervened else type(fn).__name__, **common)

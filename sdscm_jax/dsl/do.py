"""The ``do`` handler: interventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array
from numpyro.primitives import _PYRO_STACK, Messenger

from ..errors import EvidenceError, InterventionError, nearest
from .around import values_apart
from .asked import NotSeparable, asked
from .control_flow import wrap_bodies
from .exogenous import exogenous, next_key, unit_noise
from .graph import graph
from .intervention import Alternatives, Earlier, Fixed, Nested, bind, intervene, intervene_deterministic
from .lineage import redraw, signature
from .mechanism import mechanism_of

# In place of True while a message goes outward: an observation by an outer handler overwrites it.
_HERE = "intervened"


class do(Messenger):
    """Intervene: replace the mechanisms of sites.

    Args:
        fn: the model function.
        data: site name -> value. A value is

            - an option's text, an option number, an array or a phrase;
            - ``"uniform"`` or a distribution (stochastic intervention);
            - a callable of the natural value (shift or soft intervention), or of the natural value
              and the earlier sites (policy): ``lambda natural, earlier: jnp.where(earlier["pdl1"]
              == "high", 0, 1)``. Values are phrases at sites of a language model;
            - ``nested(world)``: the value that the site has in another world of the same unit.

    An intervened site keeps its place in the trace under its own name, with the value that it was
    set to; it adds nothing to the density, and (unless the value is a callable of the natural one)
    its language model is not run. It acts inside ``scan``, ``cond`` and plates too. Applied twice
    to a site, the outer one holds.

    Raises:
        InterventionError: a site is unknown or exogenous, or cannot take the value.
        EvidenceError: a site is observed and intervened on.

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
        # What the last call was of, for what must look at the model as a whole.
        self._arguments: tuple[tuple, dict[str, Any]] | None = None
        self._descendants: dict[str, tuple[str, ...]] | None = None
        # Whether a site that is missing is an error.
        self._strict = True
        self._forget()
        super().__init__(fn)

    def _forget(self) -> None:
        # Sites of the model, sites handled inside loops, values so far, and what interventions did.
        self._seen: set[str] = set()
        self._scanned: set[str] = set()
        self._earlier = Earlier()
        self._signatures: dict[str, Array] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fn is None:
            return super().__call__(*args, **kwargs)
        resolved = {name: self._without_nesting(value, name, args, kwargs) for name, value in self.data.items()}
        # A new handler for each call: its state is that of one run.
        run = do(self.fn, resolved)
        run._arguments = args, kwargs
        with run:
            return self.fn(*args, **kwargs)

    def __enter__(self) -> do:
        self._forget()
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
        if name in self._scanned:
            return
        if name not in self.data:
            if msg["type"] == "sample" and mechanism_of(msg["fn"]) is not None:
                # Asked only where it matters: finding descendants takes a look at the whole model.
                upstream = partial(self._upstream, name)
                if msg["kwargs"].get("rng_key") is not None:
                    redraw(msg, upstream)
                else:
                    msg["redraw"] = [*msg.get("redraw", ()), upstream]
            return
        value = bind(self.data[name], self._earlier)
        if isinstance(value, Nested):
            raise InterventionError(f"site {name!r}: a nested intervention needs the model: do(fn, data)(…)")
        if msg["type"] == "deterministic":
            msg["value"] = intervene_deterministic(msg, value)
            return
        if msg["infer"].get("exogenous"):
            raise InterventionError(f"site {name!r} is exogenous: it is part of U and cannot be intervened on")
        if msg["is_observed"] is True:
            raise EvidenceError(f"site {name!r} is observed and intervened on; drop one of the two")
        msg["fn"] = intervene(msg["fn"], value, name)
        msg["is_observed"], msg["value"] = _HERE, None

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        name = msg.get("name")
        if msg["type"] not in ("sample", "deterministic"):
            return
        if msg["type"] == "sample" and name in self.data and name not in self._scanned:
            if msg["is_observed"] is True and not msg.get("by_do"):
                raise EvidenceError(f"site {name!r} is observed and intervened on; drop one of the two")
            msg["is_observed"] = msg["by_do"] = True
            if isinstance(msg["fn"], Fixed) and not msg.get("followed"):
                # Whatever an outer handler substituted, such as a posterior sample.
                msg["value"] = msg["fn"].v
        self._earlier.add(msg)
        if name in self.data:
            done = signature(name, msg["value"])
            value = self.data[name]
            self._signatures[name] = jnp.where(value.which > 0, done, 0) if isinstance(value, Alternatives) else done

    def _without_nesting(self, value: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        if isinstance(value, Alternatives):
            changes = tuple(self._without_nesting(change, name, args, kwargs) for change in value.changes)
            return replace(value, changes=changes)
        if not isinstance(value, Nested):
            return value
        assert self.fn is not None
        if any(isinstance(handler, asked) for handler in _PYRO_STACK):
            # The other world is run where that handler does not see what it asks.
            raise NotSeparable(f"site {name!r} has a nested intervention inside the model")
        model: Callable = do(self.fn, value.world)
        unit = unit_noise()
        if unit is not None:
            model = exogenous(model, *unit)
        elif next_key() is not None:
            # numpyro.handlers.seed would give each run other noise.
            raise InterventionError(
                f"site {name!r}: a nested intervention runs the same unit twice, which needs handlers.exogenous"
            )
        values = values_apart(model, self.fn, value.world, args, kwargs)
        if name not in values:
            raise InterventionError(f"the model has no site {name!r}; {nearest(name, list(values))}")
        return values[name]

    def _upstream(self, name: str) -> Array | None:
        """A number that is 0 where no intervention is upstream of a site, else says which are."""
        if not self.data:
            return None
        if self._descendants is None:
            if self._arguments is None or self.fn is None:
                raise InterventionError(
                    f"site {name!r} has the coupling 'independent': what is drawn anew depends on the graph; "
                    "write do(fn, data) rather than with do(data=…)"
                )
            args, kwargs = self._arguments
            found = graph(self.fn, *args, **kwargs)
            self._descendants = {site: found.descendants(site) for site in self.data if site in found.names}
        done = [s for site, s in self._signatures.items() if name in self._descendants.get(site, ())]
        return sum(done[1:], done[0]) if done else None

    def _run_inside(self, body: Callable, *args: Any) -> Any:
        inner = do(data=self.data)
        inner._strict = False
        inner.fn, inner._arguments, inner._descendants = self.fn, self._arguments, self._descendants
        with inner:
            inner._earlier.update(self._earlier)
            inner._signatures.update(self._signatures)
            result = body(*args)
        # The loop sends its sites on afterwards, with values that were intervened on already.
        self._seen |= inner._seen
        self._scanned |= inner._seen & set(self.data)
        return result


def intervened_sites(model: Any) -> set[str]:
    """Sites that handlers around a model function intervene on."""
    found: set[str] = set()
    while model is not None:
        if isinstance(model, do):
            found |= set(model.data)
        model = getattr(model, "fn", None)
    return found

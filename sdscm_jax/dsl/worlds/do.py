"""The ``do`` handler: interventions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpyro.primitives import _PYRO_STACK, Messenger

from ...checks import function, takes, told
from ...errors import EvidenceError, InterventionError, nearest
from ..analysis.graph import graph
from ..analysis.structure import looked_at
from ..handlers.alternatives import Alternatives, Beside
from ..handlers.control_flow import count_steps, has_steps
from ..handlers.exogenous import exogenous, next_key, unit_noise
from ..handlers.external_scores import NotSeparable, asked
from ..handlers.intervened import Changed, Fixed, intervened, no_density
from ..handlers.intervention import Earlier, Intervention, Nested, intervention_of, slot_of, slot_of_deterministic
from ..handlers.redraw import added, redraw, signature, where
from ..handlers.site_messenger import SiteMessenger
from ..language.mechanism import mechanism_of
from ..language.messages import HELD, Upstream, Words, from_loop, is_variable, mechanism_at, note, noted
from .around import sites_apart, values_apart


class do(SiteMessenger):
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

    A value is broadcast to the site's shape, plates included; in a ``scan`` it may have a leading axis of steps. An
    intervened site keeps its place in the trace under its own name, and (unless the value is a callable of the natural
    one) its language model is not run. A constant adds nothing to the density and holds whatever ``substitute`` says of
    the site. A stochastic intervention has noise of its own, which is that of no other site and the same in all
    worlds. For NumPyro's inference stochastic and soft interventions are latent sites with the intervened law; that of
    a callable is known where the site has finitely many values. It acts inside ``scan``, ``cond`` and plates too.
    Applied twice to a site, the outer one holds.

    Raises:
        InterventionError: a site is unknown or exogenous, or cannot take the value; or inference asks for the density
            of a callable at a site with infinitely many values.
        EvidenceError: a site is observed and intervened on.

    >>> import jax, numpyro, sdscm_jax as sd
    >>> lm = sd.load_lm()
    >>> def model(lm):
    ...     return sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    >>> sd.handlers.exogenous(sd.handlers.do(model, {"pdl1": "high"}), jax.random.key(0))(lm).text
    'high'
    """

    def __init__(self, fn: Callable | None = None, data: Mapping[str, Any] | None = None):
        fn = None if fn is None else function(fn, "the model of do")
        data = {} if data is None else data
        if not isinstance(data, Mapping):
            raise InterventionError(f"an intervention is a mapping from site names to values, got {told(data)}")
        self.data = dict(data)
        # What the last call was of, for what must look at the model as a whole.
        self._arguments: tuple[tuple, dict[str, Any]] | None = None
        self._descendants: dict[str, tuple[str, ...]] | None = None
        # Whether a site that is missing is an error, and whether it makes another world than that of the evidence.
        self._strict, self._beside = True, False
        self._forget()
        super().__init__(fn)

    def _forget(self) -> None:
        # Sites of the model, sites handled inside loops, values so far, and what interventions did.
        self._seen: set[str] = set()
        self._scanned: set[str] = set()
        self._earlier = Earlier()
        self._signatures: dict[str, Words] = {}
        # The sites of the same unit without these interventions, where a coupling asked for them.
        self._twin: dict[str, Any] | None = None
        # The loops around this handler's sites: the step, and how many there are.
        self._steps: tuple[tuple[Any, int], ...] = ()
        # By message: its name here (outer handlers may put another before it), and the handlers that it has
        # passed while it was held.
        self._names: dict[int, str] = {}
        self._held: dict[int, list[Messenger]] = {}
        # By message: what it had as intermediates before anyone drew it.
        self._undrawn: dict[int, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fn is None:
            return super().__call__(*args, **kwargs)
        takes(self.fn, args, kwargs)
        resolved = {name: self._without_nesting(value, name, args, kwargs) for name, value in self.data.items()}
        # A new handler for each call: its state is that of one run.
        run = do(self.fn, resolved)
        run._arguments, run._beside = (args, kwargs), self._beside
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

    def _wrap(self, msg: dict[str, Any]) -> None:
        if any(map(_is_array, self.data.values())) and has_steps(msg):
            count_steps(msg, lambda body, step, length: partial(self._run_inside, body, (step, length)))
        else:
            super()._wrap(msg)

    def _process(self, msg: dict[str, Any]) -> None:
        # Surgery on one mechanism (Pearl 2009, section 3.2): what the site is drawn *from* is replaced, and its noise
        # and key stay as they are, so that all else in this world is the same unit. Messages go from the innermost
        # handler outward; what a ``do`` further in has made is the natural value here, so the outermost holds.
        if not is_variable(msg):
            return
        name = self._names[id(msg)] = msg["name"]
        self._seen.add(name)
        if name in self._scanned:
            return
        own = intervention_of(self.data[name]).bound(self._earlier) if name in self.data else None
        of_natural = own is None or own.of_natural
        if of_natural and mechanism_at(msg) is not None:
            # Asked only where it matters: finding descendants takes a look at the whole model. A site that is
            # intervened on may have its natural value in some worlds, or be set to what is made of that.
            above = Upstream(partial(self._upstream, name), partial(self._factual, name), self._beside)
            if msg["kwargs"].get("rng_key") is not None:
                redraw(msg, above)
            elif msg["value"] is None:
                note(msg, redraws=(*noted(msg).redraws, above))
                self._undrawn[id(msg)] = msg["intermediates"]
        if own is None:
            return
        if msg["type"] == "deterministic":
            slot = slot_of_deterministic(msg, self._steps)
            self._hold(msg, own.at(slot.options).value(msg["value"], noted(msg).phrase, slot))
            return
        if msg["infer"].get("exogenous"):
            raise InterventionError(f"site {name!r} is exogenous: it is part of U and cannot be intervened on")
        if msg["is_observed"] is True:
            raise EvidenceError(f"site {name!r} is observed and intervened on; drop one of the two")
        self._intervene(msg, name, own)

    def _intervene(self, msg: dict[str, Any], name: str, own: Intervention) -> None:
        if sample_shape := msg["kwargs"].get("sample_shape"):
            msg["fn"] = msg["fn"].expand((*sample_shape, *msg["fn"].batch_shape))
            msg["kwargs"]["sample_shape"] = ()
        fn = msg["fn"]
        # A handler inside has given it a value: that is the natural one.
        base = fn if msg["value"] is None else Fixed(jnp.asarray(msg["value"]), fn)
        slot = slot_of(name, fn, steps=self._steps)
        msg["fn"] = own.at(slot.options).apply(fn, slot, base)
        msg["value"], msg["intermediates"] = None, []
        if not msg["fn"].has_enumerate_support:
            msg["infer"] = {key: x for key, x in msg["infer"].items() if key != "enumerate"}
        if isinstance(msg["fn"], Fixed):
            msg["is_observed"] = HELD
            self._hold(msg)
        else:
            # Latent, with the intervened law.
            msg["is_observed"] = False

    def _hold(self, msg: dict[str, Any], value: Any = None) -> None:
        """Let the handlers around this one see a site now; whatever value they give it, it has the intervened one.

        They look at what has happened to it from the outside in, so after them it would be too late.
        """
        if value is not None:
            msg["value"] = value
        passed: list[Messenger] = []
        for handler in reversed(_PYRO_STACK[: _PYRO_STACK.index(self)]):
            passed.append(handler)
            handler.process_message(msg)
            if msg.get("stop"):
                break
        self._held[id(msg)] = passed
        msg["stop"] = True
        if any(id(msg) in handler._held for handler in passed if isinstance(handler, do)):
            return
        if msg["type"] == "sample" and msg["is_observed"] is True:
            raise EvidenceError(f"site {self._names[id(msg)]!r} is observed and intervened on; drop one of the two")
        if noted(msg).followed:
            return
        if msg["type"] == "deterministic":
            msg["value"] = value
        elif isinstance(fixed := intervened(msg["fn"]), Fixed):
            # (None where an outer intervention draws it instead.)
            msg["value"], msg["is_observed"] = fixed.v, True

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        passed = self._held.pop(id(msg), None)
        if passed is not None:
            msg.pop("stop", None)
            for handler in reversed(passed):
                handler.postprocess_message(msg)
        name = self._names.pop(id(msg), None)
        if name is None:
            return
        if msg["type"] == "sample" and isinstance(found := intervened(msg["fn"]), Changed) and name in self.data:
            known = noted(msg).followed or noted(msg).stand_in or from_loop(msg)
            given = not known and not found.drawn
            if given and not found.has_enumerate_support and not isinstance(found, Beside):
                raise no_density(name)
        # (A draw puts another list in the place of this one.)
        drawn = msg.get("intermediates") is not self._undrawn.pop(id(msg), msg.get("intermediates"))
        if drawn and noted(msg).redraws and self._needs_unit(name, msg["fn"]):
            raise _needs_exogenous(name, "its coupling")
        self._earlier.add(name, msg)
        if name in self.data:
            done = signature(name, msg["value"])
            value = self.data[name]
            self._signatures[name] = where(value.which > 0, done) if isinstance(value, Alternatives) else done

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
            raise _needs_exogenous(name, "a nested intervention")
        values = values_apart(model, self.fn, value.world, args, kwargs)
        if name not in values:
            raise InterventionError(f"the model has no site {name!r}; {nearest(name, list(values))}")
        return values[name]

    def _upstream(self, name: str) -> Words | None:
        """Two words that are 0 where no intervention is upstream of a site, else say which are."""
        if not self.data:
            return None
        if self._descendants is None:
            if self._arguments is None or self.fn is None:
                raise InterventionError(
                    f"site {name!r} has a coupling that asks what is upstream, which depends on the graph; "
                    "write do(fn, data) rather than with do(data=…)"
                )
            args, kwargs = self._arguments
            found = graph(self.fn, *args, **kwargs)
            self._descendants = {site: found.descendants(site) for site in self.data if site in found.names}
        done = [s for site, s in self._signatures.items() if name in self._descendants.get(site, ())]
        return added(done) if done else None

    def _needs_unit(self, name: str, fn: Any) -> bool:
        """Is a site's noise relative to the factual world, and nobody has given it the noise of a unit?"""
        mechanism = mechanism_of(fn)
        relative = mechanism is not None and mechanism.coupling.relative and mechanism.noise is None
        return relative and self._upstream(name) is not None

    def _factual(self, name: str) -> tuple[Any, Any] | None:
        """The mechanism and the value that a site has without this handler's interventions, if they are upstream."""
        if looked_at() or self._upstream(name) is None:
            return None
        if not self._strict:
            raise InterventionError(
                f"site {name!r} is inside scan or cond, where what it is in the factual world is not at hand; give it "
                "a coupling that does not ask for that, or write the loop in Python"
            )
        if self._twin is None:
            assert self.fn is not None
            assert self._arguments is not None
            unit = unit_noise()
            if unit is None:
                raise _needs_exogenous(name, "its coupling")
            args, kwargs = self._arguments
            self._twin = sites_apart(exogenous(self.fn, *unit), self.fn, (), args, kwargs, asked, within=self)
        return mechanism_of(self._twin[name]["fn"]), self._twin[name]["value"]

    @contextmanager
    def _inside(self, step: tuple[Any, int] | None) -> Iterator[None]:
        inner = do(data=self.data)
        inner._strict, inner._beside = False, self._beside
        inner.fn, inner._arguments, inner._descendants = self.fn, self._arguments, self._descendants
        with inner:
            inner._earlier.update(self._earlier)
            inner._signatures.update(self._signatures)
            inner._steps = self._steps if step is None else (*self._steps, step)
            yield
        # The loop sends its sites on afterwards, with values that were intervened on already.
        self._seen |= inner._seen
        self._scanned |= inner._seen & set(self.data)


def in_world(fn: Callable, data: Mapping[str, Any]) -> do:
    """``do`` for a world beside that of the evidence, whose noise may be at hand."""
    found = do(fn, data)
    found._beside = True
    return found


def _needs_exogenous(name: str, what: str) -> InterventionError:
    return InterventionError(f"site {name!r}: {what} runs the same unit twice, which needs handlers.exogenous")


def _is_array(value: Any) -> bool:
    """May a value have an axis of steps?"""
    if isinstance(value, Alternatives):
        return True
    return (isinstance(value, Sequence) and not isinstance(value, str)) or np.ndim(getattr(value, "index", value)) > 0


def intervened_sites(model: Any) -> set[str]:
    """Sites that handlers around a model function intervene on."""
    found: set[str] = set()
    while model is not None:
        if isinstance(model, do):
            found |= set(model.data)
        model = getattr(model, "fn", None)
    return found

"""Values that an intervention may set a site to, and what a site becomes under them."""

from __future__ import annotations

import inspect
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.primitives import _PYRO_STACK

from ...checks import takes, told
from ...errors import InterventionError, OptionError, nearest
from ..language.fit import Slot, check_law, fit, fitted, marked
from ..language.mechanism import mechanism_of
from ..language.messages import noted, phrase_at
from ..language.phrase import Phrase
from .intervened import Changed, Drawn, Fixed, Uniform, natural, unmasked

UNIFORM = "uniform"

# A number (and whether units differ), or None of an intervention that is no constant.
Number = tuple[Array, bool] | None


class Intervention(ABC):
    """What a site is set to: one of the kinds below, which ``intervention_of`` makes of a value that was given.

    Attributes:
        of_natural: may it read the site's natural value? That is then drawn, and the language model asked.
    """

    of_natural: ClassVar[bool] = False

    def at(self, options: tuple[str, ...]) -> Intervention:
        """What it is at a site with these options."""
        return self

    def bound(self, earlier: Earlier) -> Intervention:
        """The same with the values of the sites before it at hand."""
        return self

    @abstractmethod
    def label(self) -> str:
        """How it is written in the name of a world, such as ``do(pdl1=low)``."""

    @abstractmethod
    def check(self, slot: Slot, units: int | None, deterministic: bool, looped: bool) -> Number:
        """Whether a site can take it, before anything runs; its number, where it is a constant.

        Args:
            slot: what the site takes.
            units: how many units there are, where a value may be an array over them.
            deterministic: is the site deterministic?
            looped: is it inside of a loop?

        Raises:
            InterventionError: it cannot.
        """

    @abstractmethod
    def apply(self, fn: dist.Distribution, slot: Slot, base: dist.Distribution) -> Fixed | Drawn | Changed:
        """The distribution of a sample site under it.

        Args:
            fn: the site's own distribution.
            slot: what the site takes.
            base: the distribution of the natural value, where a handler further in has given it one.

        Raises:
            InterventionError: the site cannot take it.
        """

    @abstractmethod
    def value(self, natural: Any, phrase: Phrase | None, slot: Slot) -> Array:
        """The value of a deterministic site under it.

        Args:
            natural: what the program computed.
            phrase: its phrase, where it has one.
            slot: what the site takes.

        Raises:
            InterventionError: the site cannot take it.
        """


def intervention_of(value: Any) -> Intervention:
    """The intervention that a value stands for, wherever one is given (``do=``, ``worlds=``, handlers).

    >>> [type(intervention_of(value)).__name__ for value in ("low", 2.0, dist.Normal(), lambda x: x, nested({}))]
    ['Constant', 'Constant', 'Law', 'Function', 'Nested']
    """
    if isinstance(value, Intervention):
        return value
    if isinstance(value, dist.Delta):
        return Constant(value.v)
    if isinstance(value, dist.Distribution):
        return Law(value)
    if callable(value) and not isinstance(value, (Phrase, type)):
        return Function(value)
    return Constant(value)


@dataclass(frozen=True, eq=False)
class Constant(Intervention):
    """An option's text or number, an array or a phrase."""

    given: Any

    def at(self, options: tuple[str, ...]) -> Intervention:
        """An option with the text comes before what the word stands for."""
        uniform = isinstance(self.given, str) and self.given == UNIFORM and bool(options) and UNIFORM not in options
        return OneAsLikely() if uniform else self

    def label(self) -> str:
        """Its text or number; of an array, how many there are."""
        given = self.given
        if isinstance(given, Phrase) and given.batch_shape == ():
            given = given.text
        if isinstance(given, str):
            return quoted(given)
        if isinstance(given, Phrase):
            return f"{given.batch_shape}"
        if isinstance(given, jax.core.Tracer) or np.ndim(given):
            return f"{np.shape(given)[0]} values" if np.ndim(given) else "traced"
        return str(given)

    def check(self, slot: Slot, units: int | None, deterministic: bool, looped: bool) -> Number:
        """It is fitted to the site."""
        try:
            return fit(self.given, slot, units)
        except (OptionError, TypeError, ValueError) as error:
            raise InterventionError(str(error)) from error

    def apply(self, fn: dist.Distribution, slot: Slot, base: dist.Distribution) -> Fixed:
        """The mechanism is replaced by the value."""
        return Fixed(self.value(None, None, slot), fn)

    def value(self, natural: Any, phrase: Phrase | None, slot: Slot) -> Array:
        """The value."""
        return marked(fitted(self.given, slot), slot)


class _Stochastic(Intervention):
    """An intervention that draws, with noise of its own, which is the same in all worlds."""

    def check(self, slot: Slot, units: int | None, deterministic: bool, looped: bool) -> Number:
        if deterministic:
            raise InterventionError(f"site {slot.name!r} is deterministic; set it to a value or a function")
        return None

    def value(self, natural: Any, phrase: Phrase | None, slot: Slot) -> Array:
        raise InterventionError(
            f"site {slot.name!r} is deterministic: set it to a value or a function, not {told(self.given)}"
        )

    given: Any


@dataclass(frozen=True, eq=False)
class Law(_Stochastic):
    """A distribution."""

    given: dist.Distribution

    def label(self) -> str:
        """The name of its class."""
        return type(self.given).__name__

    def check(self, slot: Slot, units: int | None, deterministic: bool, looped: bool) -> Number:
        """Its values fit the site; inside of a loop that is seen where it runs."""
        super().check(slot, units, deterministic, looped)
        if not looped:
            check_law(self.given, slot)
        return None

    def apply(self, fn: dist.Distribution, slot: Slot, base: dist.Distribution) -> Drawn:
        """The mechanism is replaced by the law."""
        check_law(self.given, slot)
        return Drawn(self.given, fn, slot.name, partial(_taken, slot))


@dataclass(frozen=True, eq=False)
class OneAsLikely(_Stochastic):
    """``"uniform"``: one option as likely as another."""

    given: str = UNIFORM

    def label(self) -> str:
        """The word."""
        return self.given

    def apply(self, fn: dist.Distribution, slot: Slot, base: dist.Distribution) -> Drawn:
        """As a law, with noise that is keyed by the options' texts."""
        return Law(Uniform(slot.options, fn.batch_shape)).apply(fn, slot, base)


@dataclass(frozen=True, eq=False)
class Function(Intervention):
    """A function of the natural value (a shift, a soft intervention), or of that and of earlier sites (a policy)."""

    of_natural = True
    given: Callable

    def bound(self, earlier: Earlier) -> Intervention:
        """A policy becomes a function of the natural value."""
        needed = _arguments(self.given)
        arguments = ("value", "earlier sites")[: max(1, min(2, needed))]
        takes(self.given, arguments, what="an intervention", error=InterventionError)
        if needed < 2:
            return self
        function, known = self.given, Earlier(earlier)
        return Function(lambda natural: function(natural, known))

    def label(self) -> str:
        """Its name."""
        return quoted(getattr(self.given, "__name__", type(self.given).__name__))

    def check(self, slot: Slot, units: int | None, deterministic: bool, looped: bool) -> Number:
        """What it returns is seen where it runs."""
        return None

    def apply(self, fn: dist.Distribution, slot: Slot, base: dist.Distribution) -> Fixed | Changed:
        """The natural value is drawn and changed."""
        mechanism, enumerating = mechanism_of(fn), _enumerating()

        def change(natural: Any, key: Any = None) -> Array:
            found = self.given(natural if mechanism is None else mechanism.phrase(natural, slot.name))
            # A plate around do has widened the natural value.
            taken = slot._replace(shape=jnp.broadcast_shapes(slot.shape, jnp.shape(natural)))
            if enumerating:
                # Values have more axes than the site.
                shape = jnp.shape(found.index if isinstance(found, Phrase) else found)
                taken = slot._replace(shape=jnp.broadcast_shapes(jnp.shape(natural), shape))
            return marked(fitted(found, taken, returned=True), taken)

        if isinstance(known := unmasked(base), Fixed):
            return Fixed(change(known.v), fn)
        changed = Changed(base, change, fn, slot.name, slot.dtype)
        return changed.widened() if enumerating and changed.has_enumerate_support else changed

    def value(self, natural: Any, phrase: Phrase | None, slot: Slot) -> Array:
        """What it makes of the natural value."""
        found = self.given(natural if phrase is None else phrase.at(natural))
        return marked(fitted(found, slot, returned=True), slot)


@dataclass(frozen=True)
class Nested(Intervention):
    """The value that a site has in another world of the same unit; see ``nested``."""

    world: dict[str, Any]

    def label(self) -> str:
        """Its world."""
        return f"nested({assignments(self.world)})"

    def check(self, slot: Slot, units: int | None, deterministic: bool, looped: bool) -> Number:
        """Its world is checked by itself."""
        return None

    def apply(self, fn: dist.Distribution, slot: Slot, base: dist.Distribution) -> Fixed:
        """``do`` puts the value in its place, which only a run of the whole model gives."""
        raise InterventionError(f"site {slot.name!r}: a nested intervention needs the model: do(fn, data)(…)")

    def value(self, natural: Any, phrase: Phrase | None, slot: Slot) -> Array:
        """See ``apply``."""
        raise InterventionError(f"site {slot.name!r}: a nested intervention needs the model: do(fn, data)(…)")


def nested(world: Mapping[str, Any]) -> Nested:
    """A nested intervention: set a site to the value that it has in another world of the same unit.

    ``{"t": "high", "m": nested({"t": "low"})}`` is the world of the natural direct effect, Y(high,
    M(low)) (Pearl 2001, "Direct and indirect effects"). ``nested({})`` is the factual value.

    Args:
        world: site name -> value, as for ``do``; it may be nested again.

    Raises:
        InterventionError: the world is no mapping.
    """
    if not isinstance(world, Mapping):
        raise InterventionError(f"a world is a mapping from site names to values, got {told(world)}")
    return Nested(dict(world))


class Earlier(dict):
    """Values of the sites before an intervened one, for policies; phrases where they are language."""

    def add(self, name: str, msg: dict[str, Any]) -> None:
        phrase = phrase_at(msg, msg["value"], name)
        self[name] = msg["value"] if phrase is None else phrase

    def __missing__(self, name: str) -> Any:
        raise InterventionError(f"a policy asks for {name!r}, which is no earlier site; {nearest(name, list(self))}")


def _arguments(function: Callable) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in parameters)


def slot_of(
    name: str, fn: dist.Distribution, sample_shape: tuple[int, ...] = (), steps: tuple[tuple[Any, int], ...] = ()
) -> Slot:
    """What a sample site takes.

    Args:
        name: of the site.
        fn: its distribution, intervened on or not.
        sample_shape: of independent draws from it.
        steps: see ``Slot``.
    """
    mechanism, shape = mechanism_of(fn), (*sample_shape, *fn.shape())
    if mechanism is not None:
        return Slot(name, shape, jnp.int32, mechanism, None, fn.event_dim, steps)
    own = natural(fn)
    return Slot(name, shape, dtype_of(own), None, own.support, fn.event_dim, steps)


def slot_of_deterministic(msg: dict[str, Any], steps: tuple[tuple[Any, int], ...] = ()) -> Slot:
    """What a deterministic site takes (a ``verbalize`` one has options)."""
    natural = msg["value"]
    return Slot(msg["name"], jnp.shape(natural), jnp.result_type(natural), noted(msg).phrase, steps=steps)


def dtype_of(fn: dist.Distribution) -> Any:
    """The dtype of what a distribution draws."""
    try:
        return jax.eval_shape(fn.sample, jax.eval_shape(lambda: jax.random.key(0))).dtype
    except NotImplementedError:  # an improper distribution
        return jnp.result_type(float)


def _taken(slot: Slot, drawn: Array) -> Array:
    """What a law has drawn, of the shape that it has been expanded to, as what the site takes."""
    taken = slot._replace(shape=jnp.shape(drawn))
    return marked(fitted(drawn, taken), taken)


def _enumerating() -> bool:
    """Is the program run by NumPyro's enumeration?"""
    # By name: importing that handler needs funsor.
    return any(type(handler).__name__ == "enum" for handler in _PYRO_STACK)


_BARE = re.compile(r"""[^\s=,|()"](?:[^=,|()"\n]*[^\s=,|()"])?""")


def quoted(text: str) -> str:
    """A name or text as it stands in a label: bare, or in quotes where a label could be read in two ways.

    >>> quoted("PD-L1 level"), quoted("low, b=go")
    ('PD-L1 level', '"low, b=go"')
    """
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def assignments(world: Mapping[str, Any]) -> str:
    """What a world sets, as it stands in its name.

    >>> assignments({"a": "low", "b": 2.0, "c": lambda x: x + 1, "d": nested({"t": "low"})})
    'a=low, b=2.0, c=<lambda>, d=nested(t=low)'
    """
    return ", ".join(f"{quoted(name)}={intervention_of(value).label()}" for name, value in world.items())

"""Values that an intervention may set a site to, and what a site becomes under them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.primitives import _PYRO_STACK

from ..checks import takes, told
from ..errors import InterventionError, nearest
from .fit import Slot, check_law, fitted, marked
from .intervened import Changed, Drawn, Fixed, Uniform, natural, unmasked
from .mechanism import mechanism_of
from .phrase import Phrase

UNIFORM = "uniform"


@dataclass(frozen=True)
class Nested:
    """The value that a site has in another world of the same unit; see ``nested``."""

    world: dict[str, Any]


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
        mechanism = mechanism_of(msg["fn"]) if msg["type"] == "sample" else None
        phrase = msg.get("phrase")
        if mechanism is not None:
            self[name] = mechanism.phrase(msg["value"], name)
        elif phrase is not None:
            self[name] = phrase.at(msg["value"])
        else:
            self[name] = msg["value"]

    def __missing__(self, name: str) -> Any:
        raise InterventionError(f"a policy asks for {name!r}, which is no earlier site; {nearest(name, list(self))}")


def bind(value: Any, earlier: Earlier) -> Any:
    """Give policies (callables of two arguments) the earlier sites."""
    if isinstance(value, Alternatives):
        return replace(value, changes=tuple(bind(change, earlier) for change in value.changes))
    if is_callable(value):
        needed = _arguments(value)
        takes(
            value, ("value", "earlier sites")[: max(1, min(2, needed))], what="an intervention", error=InterventionError
        )
    if is_callable(value) and needed >= 2:
        known = Earlier(earlier)
        return lambda natural: value(natural, known)
    return value


def is_callable(value: Any) -> bool:
    """Is an intervention's value a function of the natural value?"""
    return callable(value) and not isinstance(value, (dist.Distribution, Phrase, type))


def _arguments(function: Callable) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in parameters)


@dataclass(frozen=True)
class Alternatives:
    """What a site is set to in several worlds: which of them is traced, so that worlds vectorise.

    Attributes:
        which: int scalar; 0: the natural value, 1: ``constant``, ``2 + j``: ``changes[j]``.
        constant: the number of this world, where ``which`` is 1.
        changes: interventions that are no constants.
    """

    which: Array
    constant: Array
    changes: tuple[Any, ...]

    def apply(self, fn: dist.Distribution, slot: Slot, base: dist.Distribution) -> Changed:
        """The site's distribution."""

        def change(value: Array, key: Any) -> Array:
            values = [value, marked(fitted(self.constant, slot), slot)]
            for other in self.changes:
                found = intervene(fn, other, slot, base)
                if isinstance(found, Changed):
                    values.append(found.change(value, key))
                else:
                    values.append(jnp.broadcast_to(found.sample(key), slot.shape))
            # (A plate around do widens what is drawn, not what was fitted here.)
            return jnp.stack(jnp.broadcast_arrays(*values))[self.which]

        return Beside(base, change, fn, slot.name, slot.dtype)


class Beside(Changed):
    """A site in several worlds, which of them is traced; its law is no single one."""

    has_enumerate_support = False


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


def dtype_of(fn: dist.Distribution) -> Any:
    """The dtype of what a distribution draws."""
    try:
        return jax.eval_shape(fn.sample, jax.eval_shape(lambda: jax.random.key(0))).dtype
    except NotImplementedError:  # an improper distribution
        return jnp.result_type(float)


def intervene(
    fn: dist.Distribution, value: Any, slot: Slot, base: dist.Distribution | None = None
) -> Fixed | Drawn | Changed:
    """The distribution of a site under an intervention.

    Args:
        fn: the site's own distribution.
        value: an option's text, an option number, an array, a phrase, ``"uniform"`` (one option
            as likely as another; an option with that text comes first), a distribution
            (stochastic intervention), or a callable of the natural value, which is a ``Phrase``
            at a site of a language model and an array elsewhere (shift or soft intervention).
        slot: what the site takes.
        base: the distribution of the natural value, where that is not ``fn``.

    Raises:
        InterventionError: the site cannot take the value.
    """
    base = fn if base is None else base
    if isinstance(value, Alternatives):
        return value.apply(fn, slot, base)
    if is_uniform(value, slot.options):
        value = Uniform(slot.options, fn.batch_shape)
    if isinstance(value, dist.Distribution) and not isinstance(value, dist.Delta):
        check_law(value, slot)
        return Drawn(value, fn, slot.name, partial(_taken, slot))
    if is_callable(value):
        mechanism, enumerating = mechanism_of(fn), _enumerating()

        def change(natural: Any, key: Any = None) -> Array:
            found = value(natural if mechanism is None else mechanism.phrase(natural, slot.name))
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
    return Fixed(marked(fitted(constant(value), slot), slot), fn)


def _taken(slot: Slot, drawn: Array) -> Array:
    """What a law has drawn, of the shape that it has been expanded to, as what the site takes."""
    taken = slot._replace(shape=jnp.shape(drawn))
    return marked(fitted(drawn, taken), taken)


def _enumerating() -> bool:
    """Is the program run by NumPyro's enumeration?"""
    # By name: importing that handler needs funsor.
    return any(type(handler).__name__ == "enum" for handler in _PYRO_STACK)


def is_uniform(value: Any, options: tuple[str, ...]) -> bool:
    """Does an intervention's value stand for one option as likely as another?"""
    return isinstance(value, str) and value == UNIFORM and bool(options) and UNIFORM not in options


def constant(value: Any) -> Any:
    """A value, or the one that a distribution with a single one has."""
    return value.v if isinstance(value, dist.Delta) else value


def intervene_deterministic(msg: dict[str, Any], value: Any, steps: tuple[tuple[Any, int], ...] = ()) -> Any:
    """The value of a deterministic site (a ``verbalize`` one has options) under an intervention."""
    natural, phrase, name = msg["value"], msg.get("phrase"), msg["name"]
    slot = Slot(name, jnp.shape(natural), jnp.result_type(natural), phrase, steps=steps)

    def changed(value: Any) -> Array:
        value = constant(value)
        if isinstance(value, dist.Distribution) or is_uniform(value, slot.options):
            raise InterventionError(
                f"site {name!r} is deterministic: set it to a value or a function, not {told(value)}"
            )
        if function := is_callable(value):
            value = value(natural if phrase is None else phrase.at(natural))
        return marked(fitted(value, slot, returned=function), slot)

    if not isinstance(value, Alternatives):
        return changed(value)
    choices = [jnp.asarray(natural), changed(value.constant), *map(changed, value.changes)]
    return jnp.stack(choices)[value.which]


_BARE = re.compile(r"""[^\s=,|()"](?:[^=,|()"\n]*[^\s=,|()"])?""")


def quoted(text: str) -> str:
    """A name or text as it stands in a label: bare, or in quotes where a label could be read in two ways.

    >>> quoted("PD-L1 level"), quoted("low, b=go")
    ('PD-L1 level', '"low, b=go"')
    """
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def describe(value: Any) -> str:
    """How an intervention's value is written in a label such as ``do(pdl1=low)``.

    >>> describe("low"), describe(2.0), describe(lambda x: x + 1), describe(nested({"t": "low"}))
    ('low', '2.0', '<lambda>', 'nested(t=low)')
    """
    value = constant(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Nested):
        return "nested(" + ", ".join(f"{quoted(name)}={describe(v)}" for name, v in value.world.items()) + ")"
    if isinstance(value, Phrase):
        return describe(value.text) if value.batch_shape == () else f"{value.batch_shape}"
    if isinstance(value, dist.Distribution):
        return type(value).__name__
    if callable(value):
        return quoted(getattr(value, "__name__", type(value).__name__))
    if isinstance(value, jax.core.Tracer) or np.ndim(value):
        return f"{np.shape(value)[0]} values" if np.ndim(value) else "traced"
    return str(value)

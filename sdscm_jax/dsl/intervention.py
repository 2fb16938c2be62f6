"""Values that an intervention may set a site to, and the distributions that carry them out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from ..errors import InterventionError, OptionError, nearest
from .mechanism import Mechanism, mechanism_of
from .noise import option_gumbels
from .phrase import Phrase

UNIFORM = "uniform"


class Intervened(dist.Distribution):
    """A site whose value is a function of its natural value: a stochastic or soft intervention.

    It adds nothing to the density of the model (the site's mechanism is replaced).
    """

    pytree_data_fields = ("base_dist",)
    pytree_aux_fields = ("change",)

    def __init__(self, base_dist: dist.Distribution, change: Callable[[Any, Array], Any], replaced: dist.Distribution):
        self.base_dist, self.change, self.replaced = base_dist, change, replaced
        super().__init__(base_dist.batch_shape, base_dist.event_shape)

    @property
    def support(self) -> Any:
        return self.base_dist.support

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.change(self.base_dist.sample(key, sample_shape), key)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        return jnp.zeros(jnp.shape(value)[: jnp.ndim(value) - self.event_dim])


def natural(fn: dist.Distribution) -> dist.Distribution:
    """The distribution of a site's natural value, which a soft intervention changes."""
    while isinstance(fn, Intervened):
        fn = fn.base_dist
    return fn


class Fixed(dist.Delta):
    """A site that is set to a constant; it remembers what it replaced, so that another intervention
    on the same site knows its options."""

    def __init__(self, value: Array, replaced: dist.Distribution):
        super().__init__(value, event_dim=replaced.event_dim)
        self.replaced = replaced


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
        raise InterventionError(f"a world is a mapping from site names to values, got {world!r}")
    return Nested(dict(world))


class Earlier(dict):
    """Values of the sites before an intervened one, for policies; phrases where they are language."""

    def add(self, msg: dict[str, Any]) -> None:
        mechanism = mechanism_of(msg["fn"]) if msg["type"] == "sample" else None
        phrase = msg.get("phrase")
        if mechanism is not None:
            self[msg["name"]] = mechanism.phrase(msg["value"], msg["name"])
        elif phrase is not None:
            self[msg["name"]] = phrase.at(msg["value"])
        else:
            self[msg["name"]] = msg["value"]

    def __missing__(self, name: str) -> Any:
        raise InterventionError(f"a policy asks for {name!r}, which is no earlier site; {nearest(name, list(self))}")


def bind(value: Any, earlier: Earlier) -> Any:
    """Give policies (callables of two arguments) the earlier sites."""
    if isinstance(value, Alternatives):
        return replace(value, changes=tuple(bind(change, earlier) for change in value.changes))
    if is_callable(value) and _arguments(value) >= 2:
        known = Earlier(earlier)
        return lambda natural: value(natural, known)
    return value


def is_callable(value: Any) -> bool:
    """Is an intervention's value a function of the natural value?"""
    return callable(value) and not isinstance(value, (dist.Distribution, Phrase))


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

    def apply(self, fn: dist.Distribution, name: str) -> Intervened:
        """The site's distribution."""
        mechanism = mechanism_of(fn)

        def change(natural: Array, key: Array) -> Array:
            values = [natural, as_value(fn, self.constant, name, natural)]
            for value in self.changes:
                if is_callable(value):
                    drawn: Any = call(value, mechanism, natural, name)
                else:
                    drawn = intervene(fn, value, name).sample(key, natural.shape[: natural.ndim - fn.event_dim])
                values.append(as_value(fn, drawn, name, natural))
            return jnp.stack(values)[self.which]

        return Intervened(fn, change, fn)


def intervene(fn: dist.Distribution, value: Any, name: str) -> dist.Distribution:
    """The distribution of a site under an intervention.

    Args:
        fn: the site's own distribution.
        value: an option's text, an option number, an array, a phrase, ``"uniform"`` (one option
            as likely as another; an option with that text comes first), a distribution
            (stochastic intervention), or a callable of the natural value, which is a ``Phrase``
            at a site of a language model and an array elsewhere (shift or soft intervention).
        name: the site, for messages.

    Raises:
        InterventionError: the site cannot take the value.
    """
    if isinstance(value, Alternatives):
        return value.apply(fn, name)
    mechanism = mechanism_of(fn)
    where = f"site {name!r}"
    if isinstance(value, Phrase) and mechanism is None:
        raise InterventionError(f"{where} takes numbers, so it cannot be set to {value!r}")
    options = getattr(mechanism, "options", ())
    if isinstance(value, str) and value == UNIFORM and options and value not in options:
        shape = fn.batch_shape
        return Intervened(
            dist.Delta(jnp.zeros(shape, jnp.int32)),
            lambda natural, key: jnp.argmax(option_gumbels(key, options, jnp.shape(natural)), -1).astype(jnp.int32),
            fn,
        )
    if isinstance(value, dist.Distribution):
        if value.event_shape != fn.event_shape:
            raise InterventionError(f"{where} has event shape {fn.event_shape}, the intervention {value.event_shape}")
        return Intervened(value, lambda drawn, key: as_value(fn, drawn, name), fn)
    if is_callable(value):
        return Intervened(
            fn, lambda natural, key: as_value(fn, call(value, mechanism, natural, name), name, natural), fn
        )
    return Fixed(as_value(fn, value, name), fn)


def intervene_deterministic(msg: dict[str, Any], value: Any) -> Any:
    """The value of a deterministic site (a ``verbalize`` one has options) under an intervention."""
    natural, phrase, name = msg["value"], msg.get("phrase"), msg["name"]
    where = f"site {name!r}"

    def number(value: Any) -> Array:
        try:
            return jnp.asarray(value if phrase is None else phrase.as_value(value, where))
        except (OptionError, TypeError, ValueError) as error:
            raise InterventionError(str(error) if phrase is not None else f"{where} takes numbers: {error}") from error

    def changed(value: Any) -> Array:
        return number(value(natural if phrase is None else phrase.at(natural)) if is_callable(value) else value)

    if isinstance(value, dist.Distribution) or (isinstance(value, str) and phrase is None):
        raise InterventionError(f"{where} is deterministic; set it to a value or a function, not to {value!r}")
    if not isinstance(value, Alternatives):
        return changed(value)
    choices = [jnp.asarray(natural), number(value.constant), *map(changed, value.changes)]
    return jnp.stack(jnp.broadcast_arrays(*choices))[value.which].astype(jnp.result_type(natural))


def call(change: Callable[[Any], Any], mechanism: Mechanism | None, natural: Any, name: str) -> Any:
    """Apply a callable intervention to the natural value."""
    return change(natural if mechanism is None else mechanism.phrase(natural, name))


def as_value(fn: dist.Distribution, value: Any, name: str, like: Any = None) -> Array:
    """A constant as the array that the site takes (of the shape of ``like``, if that is given).

    Raises:
        InterventionError: the value is no option of the site, no number, or has another shape.
    """
    mechanism = mechanism_of(fn)
    where = f"site {name!r}"
    if mechanism is not None:
        try:
            array = jnp.asarray(mechanism.as_value(value, where), jnp.int32)
        except OptionError as error:
            raise InterventionError(str(error)) from error
    else:
        try:
            array = jnp.asarray(value)
        except (TypeError, ValueError) as error:
            raise InterventionError(f"{where} takes numbers, got {value!r}") from error
    if like is not None:
        try:
            fits = jnp.broadcast_shapes(array.shape, jnp.shape(like)) == jnp.shape(like)
        except ValueError:
            fits = False
        if not fits:
            raise InterventionError(f"{where}: the intervention has shape {array.shape}, expected {jnp.shape(like)}")
        array = jnp.broadcast_to(array, jnp.shape(like)).astype(jnp.result_type(like))
    return array


def describe(value: Any) -> str:
    """How an intervention's value is written in a label such as ``do(pdl1=low)``.

    >>> describe("low"), describe(2.0), describe(lambda x: x + 1), describe(nested({"t": "low"}))
    ('low', '2.0', '<lambda>', 'nested(t=low)')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Nested):
        return "nested(" + ", ".join(f"{name}={describe(v)}" for name, v in value.world.items()) + ")"
    if isinstance(value, Phrase):
        return describe(value.text) if value.batch_shape == () else f"{value.batch_shape}"
    if isinstance(value, dist.Distribution):
        return type(value).__name__
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, jax.core.Tracer) or np.ndim(value):
        return f"{np.shape(value)[0]} values" if np.ndim(value) else "traced"
    return str(value)

"""Values that an intervention may set a site to, and the distributions that carry them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from ..errors import InterventionError, OptionError
from .choice import Choice
from .noise import option_gumbels
from .phrase import Phrase

UNIFORM = "uniform"


def base_choice(fn: Any) -> Choice | None:
    """The ``Choice`` inside a distribution that NumPyro has wrapped, if there is one."""
    while fn is not None and not isinstance(fn, Choice):
        fn = getattr(fn, "replaced", None) or getattr(fn, "base_dist", None)
    return fn


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


class Fixed(dist.Delta):
    """A site that is set to a constant; it remembers what it replaced, so that another intervention
    on the same site knows its options."""

    def __init__(self, value: Array, replaced: dist.Distribution):
        super().__init__(value, event_dim=replaced.event_dim)
        self.replaced = replaced


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
        choice = base_choice(fn)

        def change(natural: Array, key: Array) -> Array:
            values = [natural, as_value(fn, self.constant, name, natural)]
            for value in self.changes:
                if callable(value) and not isinstance(value, dist.Distribution):
                    drawn: Any = call(value, choice, natural, name)
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
            at a ``Choice`` and an array elsewhere (shift or soft intervention).
        name: the site, for messages.

    Raises:
        InterventionError: the site cannot take the value.
    """
    if isinstance(value, Alternatives):
        return value.apply(fn, name)
    choice = base_choice(fn)
    where = f"site {name!r}"
    if isinstance(value, Phrase) and choice is None:
        raise InterventionError(f"{where} is no choice among phrases, so it cannot be set to {value!r}")
    if isinstance(value, str) and value == UNIFORM and choice is not None and value not in choice.options:
        options, shape = choice.options, fn.batch_shape
        return Intervened(
            dist.Delta(jnp.zeros(shape, jnp.int32)),
            lambda natural, key: jnp.argmax(option_gumbels(key, options, jnp.shape(natural)), -1).astype(jnp.int32),
            fn,
        )
    if isinstance(value, dist.Distribution):
        if value.event_shape != fn.event_shape:
            raise InterventionError(f"{where} has event shape {fn.event_shape}, the intervention {value.event_shape}")
        return Intervened(value, lambda drawn, key: drawn, fn)
    if callable(value) and not isinstance(value, Phrase):
        return Intervened(fn, lambda natural, key: as_value(fn, call(value, choice, natural, name), name, natural), fn)
    return Fixed(as_value(fn, value, name), fn)


def call(change: Callable[[Any], Any], choice: Choice | None, natural: Any, name: str) -> Any:
    """Apply a callable intervention to the natural value."""
    return change(natural if choice is None else choice.phrase(natural, name))


def as_value(fn: dist.Distribution, value: Any, name: str, like: Any = None) -> Array:
    """A constant as the array that the site takes (of the shape of ``like``, if that is given).

    Raises:
        InterventionError: the value is no option of the site, no number, or has another shape.
    """
    choice = base_choice(fn)
    where = f"site {name!r}"
    if choice is not None:
        try:
            array = jnp.asarray(choice.index_of(value, where), jnp.int32)
        except OptionError as error:
            raise InterventionError(str(error)) from error
    else:
        try:
            array = jnp.asarray(value)
        except (TypeError, ValueError) as error:
            raise InterventionError(f"{where} takes numbers, got {value!r}") from error
    if like is not None:
        if jnp.broadcast_shapes(array.shape, jnp.shape(like)) != jnp.shape(like):
            raise InterventionError(f"{where}: the intervention has shape {array.shape}, expected {jnp.shape(like)}")
        array = jnp.broadcast_to(array, jnp.shape(like)).astype(jnp.result_type(like))
    return array


def describe(value: Any) -> str:
    """How an intervention's value is written in a label such as ``do(pdl1=low)``.

    >>> describe("low"), describe(2.0), describe(lambda x: x + 1)
    ('low', '2.0', '<lambda>')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Phrase):
        return describe(value.text) if jnp.ndim(value.index) == 0 else f"{value.index.shape}"
    if isinstance(value, dist.Distribution):
        return type(value).__name__
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, jax.core.Tracer) or np.ndim(value):
        return f"array{np.shape(value)}"
    return str(value)

"""The value of a site: one of its options, as an index that may be traced."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...checks import told
from ...errors import GivenError, OptionError, nearest
from ..scoring.encoded_texts import value_key
from ..scoring.template import Template, option_index


@jax.tree_util.register_pytree_node_class
class Phrase:
    """A realised phrase: an option filled into a template.

    A pytree whose only leaf is ``index``; template and options are static.

    Attributes:
        index: int array ``[...]`` of option numbers.
        template: the template.
        options: the K option texts.
        name: the site it came from; lost where JAX takes the phrase apart (it is no part of the
            pytree, so that branches and loop carries may mix sites).
        drawn: is it the value of a site of the program that is running? Then the site's own probability counts, too.
            Lost like the name.

    A phrase is a plain value: these attributes and nothing else, which pickle. (``==`` compares values, as arrays do,
    so the hash is that of the object.)

    >>> level = Phrase(jnp.array([0, 1]), Template.parse("It is {}."), ("low", "high"))
    >>> (level == "high").tolist(), level.map({"low": 0.0, "high": 2.5}).tolist()
    ([False, True], [0.0, 2.5])
    >>> level.text
    array(['low', 'high'], dtype=object)
    """

    __slots__ = ("drawn", "index", "name", "options", "template")

    def __init__(
        self,
        index: Any,
        template: Template,
        options: tuple[str, ...],
        name: str | None = None,
        drawn: bool = False,
    ):
        self.index = index
        self.template = template
        self.options = options
        self.name = name
        self.drawn = drawn

    def tree_flatten(self) -> tuple[tuple[Any], tuple[Template, tuple[str, ...]]]:
        return (self.index,), (self.template, self.options)

    @classmethod
    def tree_unflatten(cls, static: tuple[Template, tuple[str, ...]], leaves: tuple[Any]) -> Phrase:
        return cls(leaves[0], *static)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of phrases."""
        return jnp.shape(self.index)

    def at(self, value: Any) -> Phrase:
        """A phrase of the same site with another value."""
        return Phrase(value, self.template, self.options, self.name, self.drawn)

    @property
    def form_key(self) -> Any:
        """Hashable: what it may say."""
        return self.template, self.options

    @property
    def value_key(self) -> Any:
        """Hashable: which of that it says."""
        return value_key(self._value)

    @property
    def reading_key(self) -> Any:
        """Hashable: which texts of its site begin alike with it; those of other options do, up to the option."""
        return self.form_key

    @property
    def _where(self) -> str:
        return f"site {self.name!r}" if self.name else repr(str(self.template))

    @property
    def sentences(self) -> tuple[str, ...]:
        """The template with each option filled in."""
        return tuple(self.template.fill(option) for option in self.options)

    @property
    def text(self) -> Any:
        """Option text on the host: a string, or an object array of the index's shape.

        Raises:
            GivenError: the phrase is being traced by JAX, and has no text yet.
        """
        return self._lookup(self.options)

    @property
    def sentence(self) -> Any:
        """Filled-in template on the host; like ``text``."""
        return self._lookup(self.sentences)

    def inside(self) -> Array:
        """Is the number one of an option, bool ``[...]``? (-1 is what has no value.)"""
        return (jnp.asarray(self.index) >= 0) & (jnp.asarray(self.index) < len(self.options))

    def check_inside(self) -> None:
        """Refuse a number of no option, where the number is known.

        Raises:
            OptionError: with the number.
        """
        if not isinstance(self.index, jax.core.Tracer):
            numbers = np.asarray(self.index)
            outside = numbers[(numbers < 0) | (numbers >= len(self.options))]
            if outside.size:
                raise OptionError(
                    f"{self._where} has {len(self.options)} options, numbered from 0; it has the value {outside[0]}"
                )

    def _lookup(self, texts: tuple[str, ...]) -> Any:
        self._refuse_text()
        self.check_inside()
        found = np.array(texts, dtype=object)[np.asarray(self.index)]
        return found if np.ndim(self.index) else str(found)

    def __eq__(self, other: object) -> Any:
        """Bool array ``[...]``: is the option this text (or the same option as another phrase)?

        Raises:
            OptionError: no option has that text.
        """
        if isinstance(other, Phrase):
            if other.options != self.options:
                raise OptionError(f"{self._where} and {other._where} have different options")
            return jnp.equal(self.index, other.index) & self.inside()
        if not isinstance(other, str):
            return NotImplemented
        return jnp.equal(self.index, option_index(other, self.options, self._where))

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else ~equal

    __hash__ = object.__hash__

    def map(self, values: Mapping[str, Any]) -> Array:
        """Numeric array ``[...]``: the number that ``values`` gives for the option.

        Where the phrase is none of its options: NaN, False, or the least integer.

        Raises:
            OptionError: an option has no number, or a number has no option.
        """
        if not isinstance(values, Mapping):
            raise OptionError(f"{self._where}: map takes a mapping from options to numbers, got {told(values)}")
        unknown = [text for text in values if text not in self.options]
        missing = [text for text in self.options if text not in values]
        if unknown:
            raise OptionError(f"{self._where} has no option {unknown[0]!r}; {nearest(unknown[0], self.options)}")
        if missing:
            raise OptionError(f"{self._where}: map gives no number for {missing[0]!r}")
        arrays = [_mapped(values[option], f"{self._where}: map of {option!r}") for option in self.options]
        if len({array.shape for array in arrays}) > 1:
            raise OptionError(f"{self._where}: map gives values of shapes {', '.join(str(x.shape) for x in arrays)}")
        numbers = jnp.stack(arrays)
        return _picked(numbers, jnp.asarray(self.index), self.inside())

    def one_hot(self, dtype: Any = jnp.float32) -> Array:
        """Indicators of the options, ``[..., K]``.

        >>> Phrase(jnp.array([0, 1]), Template.parse("It is {}."), ("low", "high")).one_hot().tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        return jax.nn.one_hot(self.index, len(self.options), dtype=dtype)

    def as_value(self, value: Any, where: str) -> Any:
        """A text, phrase or number that the site of this phrase may take, as an option number."""
        return option_numbers(value, self.options, where)

    def __str__(self) -> str:
        """Its representation, outside of a trace.

        Raises:
            GivenError: the phrase is being traced. A text made from it would be the same for all units, and the
                graph would lack an edge.
        """
        self._refuse_text()
        return repr(self)

    def __format__(self, how: str) -> str:
        self._refuse_text()
        return format(repr(self), how)

    @property
    def _value(self) -> Any:
        return self.index

    def _refuse_text(self) -> None:
        if isinstance(self._value, jax.core.Tracer):
            raise GivenError(
                f"{self._where} has another text in each unit, so no string can be made of it inside a model: list the "
                "phrase itself in given=[...]; compare it (phrase == 'low') or map it to numbers (phrase.map({...}))"
            )

    def __repr__(self) -> str:
        try:
            shown = "traced" if isinstance(self.index, jax.core.Tracer) else repr(self.text)
        except OptionError:
            shown = f"no option: {np.asarray(self.index).tolist()}"
        return f"Phrase({self.name or str(self.template)!r}: {shown})"


def _mapped(value: Any, where: str) -> Array:
    """What ``map`` gives for an option, as an array of numbers."""
    try:
        array = jnp.asarray(value)
    except Exception as error:
        raise OptionError(f"{where} is no number: {told(value)}") from error
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        raise OptionError(f"{where} is no number: {told(value)}")
    return array


def _picked(numbers: Array, index: Array, inside: Array) -> Array:
    """``numbers[index]`` where the index is inside; elsewhere what is no number of its type."""
    found = numbers[jnp.where(inside, index, 0)]
    nothing: Any = False
    if jnp.issubdtype(numbers.dtype, jnp.inexact):
        nothing = jnp.nan
    elif jnp.issubdtype(numbers.dtype, jnp.integer):
        nothing = jnp.iinfo(numbers.dtype).min
    return jnp.where(inside.reshape(*inside.shape, *(1,) * (numbers.ndim - 1)), found, nothing).astype(numbers.dtype)


def as_array(value: Any) -> np.ndarray | None:
    """What NumPy makes of a value; None of a ragged list, a key, a masked array, or one thing that is no number."""
    if isinstance(value, np.ma.MaskedArray | Mapping | Set):
        return None
    try:
        array = np.asarray(value)
    except Exception:  # lists of several lengths or too deep, PRNG keys, objects that refuse
        return None
    return None if array.dtype.kind == "O" and array.ndim == 0 else array


def _option_number(value: Any, options: tuple[str, ...], where: str) -> int:
    """The number of one item of an array of objects."""
    found = option_numbers(value, options, where)
    if np.ndim(found):
        raise OptionError(f"{where} takes texts or numbers of its options, got {told(value)} among others")
    return int(found)


def option_numbers(value: Any, options: tuple[str, ...], where: str) -> Any:
    """Option numbers, int32, of texts or of a phrase; numbers are checked.

    Args:
        value: an option's text, a phrase, a number, or an array or list of texts or numbers.
        options: the K options.
        where: what the message calls the place, such as ``"site 'pdl1'"``.

    Raises:
        OptionError: no option has that text, or a number is not in ``0..K-1``.

    >>> option_numbers(["high", "low"], ("low", "high"), "site 'pdl1'").tolist()
    [1, 0]
    """
    if isinstance(value, Phrase):
        if value.options != options:
            raise OptionError(f"{where} has the options {options}, the phrase {value.options}")
        return value.index
    if isinstance(value, str):
        return np.int32(option_index(value, options, where))
    if isinstance(value, jax.core.Tracer):
        if not jnp.issubdtype(value.dtype, jnp.integer) and value.dtype != bool:
            raise OptionError(f"{where} takes option numbers, got an array of {value.dtype}")
        # (A number of 64 bits that is no option stays none. Booleans would be a mask where numbers are looked up.)
        return (jnp.clip(value, -1, len(options)) if value.dtype.itemsize > 4 else value).astype(jnp.int32)
    array = as_array(value)
    if array is not None and array.dtype.kind in "OU":
        numbers = [_option_number(v, options, where) for v in array.ravel()]
        return np.array(numbers, np.int32).reshape(array.shape)
    if array is None or array.dtype.kind not in "iub" or not ((array >= 0) & (array < len(options))).all():
        raise OptionError(f"{where} has {len(options)} options, numbered from 0; got {told(value)}")
    return value.astype(jnp.int32) if isinstance(value, jax.Array) else array.astype(np.int32)

"""Fitting a value to a site: the one rule for ``do=``, ``worlds=``, ``evidence=`` and handlers.

A value is broadcast to the site's shape (plates included) and has its dtype; what the site cannot take is refused.
Of a value that is traced only shape and dtype are known, so ``marked`` marks what is out of range, and
``check_marks`` finds the marks on the host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from ...checks import shallow, told
from ...errors import InterventionError, OptionError
from .phrase import Phrase


class Slot(NamedTuple):
    """What a site takes.

    Attributes:
        name: of the site.
        shape: of its value, plates included.
        dtype: of its value.
        language: its phrase or mechanism, which knows its texts; None: numbers.
        support: NumPyro's constraint on its values; None: it is not known.
        event_dim: how many axes one value has.
        steps: of the loops around it, from the outermost, the number of the step and how many there are.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Any
    language: Any = None
    support: Any = None
    event_dim: int = 0
    steps: tuple[tuple[Any, int], ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """The options of a choice; none of other sites."""
        return getattr(self.language, "options", ())


def fit(value: Any, slot: Slot, units: int | None = None) -> tuple[Array, bool]:
    """A value as the array that a site takes, and whether it has a leading axis of units.

    Args:
        value: an option's text or number, a phrase, a number, or an array or list of them.
        slot: what the site takes. An array may also have leading axes of the loops around it.
        units: how many units there are, where a value may be an array over them.

    Raises:
        OptionError: it is no option.
        ValueError: it is no number, has another shape or dtype, or is out of the site's support.

    >>> fit(2, Slot("dose", (3,), jnp.float32))[0].tolist()
    [2.0, 2.0, 2.0]
    """
    array = _cast(_numbers(value, slot), slot, value)
    array, per_unit = _shaped(array, slot, units)
    _check_support(array, slot)
    return jnp.asarray(array), per_unit


def fitted(value: Any, slot: Slot, returned: bool = False) -> Array:
    """``fit``, for interventions.

    Args:
        value: the value.
        slot: what the site takes.
        returned: has a function given it? Then its dtype decides, whether it is traced or not.

    Raises:
        InterventionError: the site cannot take the value.
    """
    if returned and _kind(slot.dtype) != "f" and _kind(getattr(value, "dtype", bool)) == "f":
        raise InterventionError(
            f"site {slot.name!r} takes whole numbers ({jnp.dtype(slot.dtype).name}); the function gives {value.dtype}"
        )
    try:
        return fit(value, slot)[0]
    except (OptionError, TypeError, ValueError) as error:
        raise InterventionError(str(error)) from error


def _numbers(value: Any, slot: Slot) -> Any:
    where = f"site {slot.name!r}"
    if slot.language is not None:
        return slot.language.as_value(value, where)
    if isinstance(value, (str, Phrase)):
        raise ValueError(f"{where} takes numbers, got {told(value)}")
    if isinstance(value, (jax.Array, np.ndarray)):
        return value
    shallow(value, f"a value of {where}", OptionError)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        return jnp.asarray(value)
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where} takes numbers, got {told(value)}") from error


def _kind(dtype: Any) -> str:
    for kind, what in (("b", jnp.bool_), ("i", jnp.integer), ("f", jnp.floating)):
        if jnp.issubdtype(dtype, what):
            return kind
    return "?"


def _cast(array: Any, slot: Slot, value: Any) -> Any:
    """The array with the site's dtype, where it can hold what is there."""
    where, shown = f"site {slot.name!r}", _shown(value)
    array = array if hasattr(array, "dtype") else np.asarray(array)
    want, have = _kind(slot.dtype), _kind(array.dtype)
    traced = isinstance(array, jax.core.Tracer)
    if have == "?":
        raise ValueError(f"{where} takes numbers, got {shown}")
    if want == "f" and not traced and np.isnan(np.asarray(array, np.float64)).any():
        raise ValueError(f"{where} takes numbers, got {shown}, which has NaN")
    if want in "bi" and have == "f":
        # A float that is known to be whole is exact; 2.7 for a count is not.
        whole = not traced and bool((np.asarray(array, np.float64) % 1 == 0).all())
        if not whole or slot.options:
            raise ValueError(f"{where} takes whole numbers ({jnp.dtype(slot.dtype).name}), got {shown}")
    if want in "bi" and not traced:
        low, high = (0, 1) if want == "b" else (jnp.iinfo(slot.dtype).min, jnp.iinfo(slot.dtype).max)
        numbers = np.asarray(array)
        if numbers.size and (numbers.min() < low or numbers.max() > high):
            raise ValueError(f"{where} takes numbers from {low} to {high}, got {shown}")
    return array.astype(slot.dtype)


def _shaped(array: Any, slot: Slot, units: int | None) -> tuple[Any, bool]:
    ways: list[tuple[bool, int, tuple[int, ...]]] = [(False, 0, slot.shape)]
    lengths = tuple(length for _, length in slot.steps)
    ways += [(False, n, (*lengths[-n:], *slot.shape)) for n in range(1, len(lengths) + 1)]
    if units is not None:
        ways.append((True, 0, (units, *slot.shape)))
    for per_unit, looped, shape in ways:
        try:
            fits = jnp.broadcast_shapes(array.shape, shape) == shape
        except ValueError:
            continue
        if fits and (not (per_unit or looped) or array.ndim == len(shape)):
            array = (jnp if isinstance(array, jax.Array) else np).broadcast_to(array, shape)
            if looped:
                array = jnp.asarray(array)[tuple(step for step, _ in slot.steps[-looped:])]
            return array, per_unit
    expected = f"{slot.shape}"
    if units is not None:
        expected += f", or {(units, *slot.shape)} for each of the units"
    if lengths:
        expected += f", or {(*lengths, *slot.shape)} for each step of the loop"
    raise ValueError(f"site {slot.name!r} takes a value of shape {expected}; got shape {tuple(array.shape)}")


def _check_support(array: Any, slot: Slot) -> None:
    if slot.language is not None or isinstance(array, jax.core.Tracer) or not is_static(slot.support):
        return
    with jax.ensure_compile_time_eval():
        try:
            inside = np.asarray(slot.support(jnp.asarray(array)))
        except NotImplementedError:
            return
    if not inside.all():
        bad = np.asarray(array)
        if inside.shape == bad.shape:
            bad = bad[~inside].ravel()[0]
        raise ValueError(f"site {slot.name!r} takes values that are {_said(slot.support)}; got {_shown(bad)}")


def is_static(support: Any) -> bool:
    """Is a constraint known, whatever the values of other sites?"""
    return support is not None and not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(support))


def _said(support: Any) -> str:
    """A constraint in words: ``integer_interval(0, 3)``."""
    bounds = [getattr(support, side, None) for side in ("lower_bound", "upper_bound")]
    name = type(support).__name__.strip("_")
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
    shown = ", ".join(_shown(bound) for bound in bounds if bound is not None)
    return f"{name}({shown})" if shown else name


def _shown(value: Any) -> str:
    if isinstance(value, jax.core.Tracer):
        return f"an array of {value.dtype}{list(value.shape)}"
    plain = isinstance(value, np.ndarray | np.generic) or (isinstance(value, jax.Array) and hasattr(value, "tolist"))
    return told(value.tolist() if plain else value)


def marked(value: Array, slot: Slot) -> Array:
    """A traced value with a mark wherever the site cannot take it: option -1, NaN, or the least integer."""
    if not isinstance(value, jax.core.Tracer):
        return value
    if slot.options:
        return jnp.where((value >= 0) & (value < len(slot.options)), value, -1)
    if slot.language is not None or slot.support is None or _kind(slot.dtype) == "b":
        return value
    try:
        inside = jnp.asarray(slot.support(value))
    except NotImplementedError:
        return value
    inside = jnp.expand_dims(inside, tuple(range(inside.ndim, value.ndim)))
    return jnp.where(inside, value, mark_of(value.dtype))


def mark_of(dtype: Any) -> Any:
    """What stands for a number that a site cannot take."""
    return jnp.nan if _kind(dtype) == "f" else jnp.iinfo(dtype).min


def check_marks(values: Mapping[str, np.ndarray], set_in: Mapping[str, Any], options: Mapping[str, tuple]) -> None:
    """Refuse values that interventions gave and that their sites cannot take.

    Args:
        values: site -> array ``[n, worlds, ...]``.
        set_in: site -> bool ``[worlds]``: is it intervened on there?
        options: site -> its options.

    Raises:
        InterventionError: with the site, how many rows, and what it takes.
    """
    for name, worlds in set_in.items():
        array = values.get(name)
        if array is None or not array.size or not np.any(worlds):
            continue
        if options.get(name):
            bad = array < 0
        elif _kind(array.dtype) == "f":
            bad = np.isnan(np.asarray(array, np.float32))
        elif _kind(array.dtype) == "i":
            bad = array == jnp.iinfo(array.dtype).min
        else:
            continue
        places = np.argwhere(bad & np.asarray(worlds).reshape(1, -1, *(1,) * (array.ndim - 2)))
        if len(places):
            takes = f"one of its {len(options[name])} options" if options.get(name) else "a value in its support"
            row, world = (int(i) for i in places[0][:2])
            raise InterventionError(
                f"site {name!r}: in {len(np.unique(places[:, 0]))} of {len(array)} rows the intervention gives no "
                f"value that the site takes ({takes} is expected), the first in row {row}, world {world}"
            )


def check_law(law: dist.Distribution, slot: Slot) -> None:
    """Refuse a distribution that may give a site what it cannot take, as far as that is known before it is drawn.

    Raises:
        InterventionError: its shape does not fit, or its support is not within the site's.
    """
    where, named = f"site {slot.name!r}", type(law).__name__
    batch = slot.shape[: len(slot.shape) - slot.event_dim]
    event = slot.shape[len(slot.shape) - slot.event_dim :]
    if tuple(law.event_shape) != event:
        raise InterventionError(f"{where} has event shape {event}, the intervention {tuple(law.event_shape)}")
    try:
        fits = jnp.broadcast_shapes(law.batch_shape, batch) == batch
    except ValueError:
        fits = False
    if not fits:
        raise InterventionError(f"{where} takes a distribution of shape {batch}; got {named} of {law.batch_shape}")
    if getattr(law, "options", None) is not None and slot.options and tuple(law.options) != slot.options:
        raise InterventionError(f"{where} has the options {slot.options}, the intervention {law.options}")
    if _kind(slot.dtype) in "bi" and not law.support.is_discrete:
        raise InterventionError(f"{where} takes whole numbers, and {named} is continuous")
    takes = (0, len(slot.options) - 1) if slot.options else _bounds(slot.support)
    gives = _bounds(law.support)
    if takes is None or gives is None:
        return
    if gives[0] < takes[0] or gives[1] > takes[1]:
        expected = f"options 0 to {takes[1]}" if slot.options else f"values from {takes[0]:g} to {takes[1]:g}"
        raise InterventionError(f"{where} takes {expected}; {named} gives {gives[0]:g} to {gives[1]:g}")


def _bounds(support: Any) -> tuple[float, float] | None:
    """The least and the largest value, as far as they are known."""
    support = getattr(support, "base_constraint", support)
    if not is_static(support):
        return None
    if support is dist.constraints.boolean:
        return 0.0, 1.0
    ends = [getattr(support, side, None) for side in ("lower_bound", "upper_bound")]
    if ends == [None, None]:
        real = support is dist.constraints.real or support is dist.constraints.real_vector
        return (-math.inf, math.inf) if real else None
    with jax.ensure_compile_time_eval():
        low = -math.inf if ends[0] is None else float(np.min(ends[0]))
        high = math.inf if ends[1] is None else float(np.max(ends[1]))
    return low, high

"""Parsers of what many functions take: names of closed sets, counts, seeds, shares and other numbers.

Every public function hands such an argument to one of these (a name of a closed set to the parser that stands beside
the set, such as ``dsl.coupling.parse_coupling``) before it does anything else, and goes on with what it gets back: a
plain ``str``, ``int`` or ``float`` inside its range, or an error of the caller's kind that says which argument,
what was expected and what came instead. Booleans are no numbers, nan is in no range; numbers of NumPy and JAX are
taken, arrays without axes too.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any

import jax
import numpy as np

from .errors import SDSCMError, nearest

# A seed beyond 32 bits would be cut by JAX without a word: 2**32 and 0 would be one seed.
MOST_SEED = 2**32 - 1


def one_of(
    value: Any, known: Collection[str], what: str, error: type[SDSCMError] = SDSCMError, where: str | None = None
) -> str:
    """A name of a closed set.

    Args:
        value: what was given.
        known: the set, in the order in which it is listed.
        what: is given, for messages.
        error: the caller's.
        where: what the message begins with, such as a site.

    Raises:
        SDSCMError: it is none of them; the message has the nearest that is.

    >>> one_of("hihg", ("low", "high"), "dose")
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.SDSCMError: unknown dose 'hihg'; did you mean 'high'? (known: 'low', 'high')
    """
    if isinstance(value, str) and value in known:
        return str(value)
    place = "" if where is None else f"{where}: "
    raise error(f"{place}unknown {what} {told(value)}; {nearest(str(value), known)}")


def count(
    value: Any, what: str, error: type[SDSCMError] = SDSCMError, *, least: int = 1, most: int | None = None
) -> int:
    """How many of something.

    Args:
        value: what was given.
        what: is counted, for messages.
        error: the caller's.
        least, most: ends of the range, which are in it.

    Raises:
        SDSCMError: it is no integer of that range.

    >>> count(np.int64(3), "units")
    3
    >>> count(True, "units")
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.SDSCMError: units is an integer of at least 1, got True
    """
    number = _number(value)
    if not isinstance(number, int) or number < least or (most is not None and number > most):
        expected = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise error(f"{what} is an integer {expected}, got {told(value)}")
    return number


def seed(value: Any, what: str = "seed", error: type[SDSCMError] = SDSCMError) -> int:
    """A seed of 32 bits.

    Raises:
        SDSCMError: it is no integer from 0 to 2**32 - 1.
    """
    return count(value, what, error, least=0, most=MOST_SEED)


def real(
    value: Any,
    what: str,
    error: type[SDSCMError] = SDSCMError,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """A finite number of a range.

    Args:
        value: what was given.
        what: it is, for messages.
        error: the caller's.
        least, most: ends that are in the range.
        above, below: ends that are not.

    Raises:
        SDSCMError: it is no number of that range.

    >>> real(np.float32(0.5), "margin", least=0)
    0.5
    >>> real(float("nan"), "margin", least=0, below=1)
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.SDSCMError: margin is a finite number, at least 0 and below 1, got nan
    """
    number = _number(value)
    inside = (
        number is not None
        and math.isfinite(number)
        and (least is None or number >= least)
        and (above is None or number > above)
        and (most is None or number <= most)
        and (below is None or number < below)
    )
    if number is None or not inside:
        ends = (("at least", least), ("above", above), ("at most", most), ("below", below))
        expected = " and ".join(f"{word} {end:g}" for word, end in ends if end is not None)
        raise error(f"{what} is a finite number{expected and ', '}{expected}, got {told(value)}")
    return float(number)


def positive(value: Any, what: str, error: type[SDSCMError] = SDSCMError) -> Any:
    """A number above 0, or an array of such, as it is; what is traced is not looked at.

    Raises:
        SDSCMError: some of it is no number above 0.

    >>> positive(np.array([1.0, 0.0]), "temperature")
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.SDSCMError: temperature is positive, got array([1., 0.])
    """
    if isinstance(value, jax.core.Tracer):
        return value
    try:
        array = np.asarray(value)
        right = bool(jax.numpy.issubdtype(array.dtype, np.number) and (array > 0).all())
    except (TypeError, ValueError):
        right = False
    if not right:
        raise error(f"{what} is positive, got {told(value)}")
    return value


def share(value: Any, what: str, error: type[SDSCMError] = SDSCMError) -> float:
    """A share of a whole, more than none of it and less than all: a level of confidence, a false discovery rate.

    Raises:
        SDSCMError: it is no number between 0 and 1; of 95 the message asks whether 0.95 is meant.

    >>> share(95, "level")
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.SDSCMError: level is a number between 0 and 1, got 95; did you mean 0.95?
    """
    number = _number(value)
    if number is not None and 0 < number < 1:
        return float(number)
    hint = f"; did you mean {number / 100:g}?" if number is not None and 1 <= number < 100 else ""
    raise error(f"{what} is a number between 0 and 1, got {told(value)}{hint}")


def told(value: Any) -> str:
    """A value as messages show it: its ``repr``, not longer than a line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _number(value: Any) -> int | float | None:
    """A plain number; None of what is no real number, of arrays with axes and of what is traced."""
    if isinstance(value, np.ndarray | np.generic | jax.Array) and not isinstance(value, jax.core.Tracer):
        # bfloat16 is a number to JAX alone; keys are arrays, too.
        value = (
            np.asarray(value).item() if np.ndim(value) == 0 and jax.numpy.issubdtype(value.dtype, np.number) else None
        )
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return int(value) if isinstance(value, numbers.Integral) else float(value)

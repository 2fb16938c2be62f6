"""Parsers of what many functions take: names of closed sets, counts, seeds, shares and other numbers.

Every public function hands such an argument to one of these (a name of a closed set to the parser that stands beside
the set, such as ``parse_coupling``) before it does anything else, and goes on with what it gets back: a
plain ``str``, ``int`` or ``float`` inside its range, or an error of the caller's kind that says which argument,
what was expected and what came instead. Booleans are no numbers, nan is in no range; numbers of NumPy and JAX are
taken, arrays without axes too.
"""

from __future__ import annotations

import inspect
import math
import numbers
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .errors import ProgramError, SDSCMError, nearest

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
    raise error(f"{place}unknown {what} {told(value)}; {nearest(value, known)}")


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
        and _finite(number)
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
        right = bool(jax.numpy.issubdtype(array.dtype, np.number) and array.size and (array > 0).all())
    except (TypeError, ValueError, OverflowError):
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


def flag(value: Any, what: str, error: type[SDSCMError] = SDSCMError) -> bool:
    """True or False, and nothing that is merely true.

    >>> flag("no", "exogenous")
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.SDSCMError: exogenous is True or False, got 'no'
    """
    if not isinstance(value, bool | np.bool_):
        raise error(f"{what} is True or False, got {told(value)}")
    return bool(value)


def text(value: Any, what: str, error: type[SDSCMError] = SDSCMError, *, empty: bool = False) -> str:
    """A text that can be encoded: no half of a surrogate pair, as broken decoding leaves behind.

    Raises:
        SDSCMError: it is no string, or an empty one where that is nothing, or cannot be written as UTF-8.

    >>> text("\\ud800", "the name of a site")
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.SDSCMError: the name of a site has a lone surrogate, which no file can hold: '\\ud800'
    """
    if not isinstance(value, str) or not (value or empty):
        raise error(f"{what} is a {'' if empty else 'non-empty '}string, got {told(value)}")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise error(f"{what} has a lone surrogate, which no file can hold: {told(value)}")
    return str(value)


def as_path(value: Any, what: str = "a path", error: type[SDSCMError] = SDSCMError) -> Path:
    """A path with ``~`` expanded.

    Raises:
        SDSCMError: it is neither a non-empty string nor a path, or no file can have that name.
    """
    if not isinstance(value, str | Path) or str(value) == "":
        raise error(f"{what} is a string or a Path, got {told(value)}")
    try:
        # The names of files are bytes: those that were not UTF-8 come with surrogates that stand for them.
        os.fsencode(value)
        found = Path(value).expanduser()
    except (UnicodeEncodeError, RuntimeError) as wrong:
        raise error(f"{what} cannot be the name of a file: {told(value)} ({wrong})") from wrong
    if "\0" in str(value):
        raise error(f"{what} has a NUL character, which no file's name has: {told(str(value))}")
    if any(len(os.fsencode(part)) > 255 for part in found.parts):
        raise error(f"{what} has a name of more than 255 bytes, which no file has: {told(str(value))}")
    return found


def instance(
    value: Any, kinds: type | tuple[type, ...], what: str, error: type[SDSCMError] = SDSCMError, hint: str = ""
) -> Any:
    """The value, where it is of one of these types."""
    if not isinstance(value, kinds):
        names = " or a ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise error(f"{what} is a {names}{hint}, got {told(value)}")
    return value


def mapping(value: Any, what: str, error: type[SDSCMError] = SDSCMError) -> Mapping[str, Any]:
    """A mapping whose keys are strings."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise error(f"{what} is a mapping from names, got {told(value)}")
    return value


def items(
    value: Any, what: str, error: type[SDSCMError] = SDSCMError, *, single: type | tuple[type, ...] = ()
) -> tuple[Any, ...]:
    """The items of a list, in their order.

    Args:
        value: a list, a tuple or another sequence, not a string.
        what: it is, for messages.
        error: the caller's.
        single: one item of these types may stand for a list of it.

    Raises:
        SDSCMError: it is no list, or has no order.

    >>> items("rain", "sites", single=str), items(["rain", "coat"], "sites")
    (('rain',), ('rain', 'coat'))
    """
    if single and isinstance(value, single):
        return (value,)
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence):
        raise error(f"{what} is a list, got {told(value)}")
    return tuple(value)


def finite(value: Any, what: str, error: type[SDSCMError] = SDSCMError, *, infinite: bool = False) -> np.ndarray:
    """Numbers, float64 of any shape.

    Args:
        value: an array of numbers, or what becomes one.
        what: it is, for messages.
        error: the caller's.
        infinite: may some be infinite?

    Raises:
        SDSCMError: they are no numbers, or some are not finite.

    >>> finite([1, float("nan")], "effect")
    Traceback (most recent call last):
    ...
    sdscm_jax.errors.SDSCMError: effect is of finite numbers, got nan at (1,)
    """
    try:
        array = np.asarray(value)
        if not (jax.numpy.issubdtype(array.dtype, np.number) or array.dtype == bool) or array.dtype.kind == "c":
            raise TypeError
        array = array.astype(np.float64)
    except Exception as wrong:
        raise error(f"{what} is an array of numbers, got {told(value)}") from wrong
    bad = np.argwhere(np.isnan(array) if infinite else ~np.isfinite(array))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise error(f"{what} is of {'' if infinite else 'finite '}numbers, got {array[place]} at {place}")
    return array


def function(value: Any, what: str = "a model", error: type[SDSCMError] = ProgramError) -> Callable[..., Any]:
    """A function, or another object that can be called."""
    # (A distribution of NumPyro can be called, and is no model.)
    if not callable(value) or isinstance(value, type) or hasattr(value, "log_prob"):
        raise error(f"{what} is a function, got {told(value)}")
    return value


def takes(
    fn: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    what: str = "a model",
    error: type[SDSCMError] = ProgramError,
    *,
    some: bool = False,
) -> None:
    """Refuse a model that is no function or does not take these arguments, before it runs.

    Args:
        fn, args, kwargs: the model and its arguments.
        what, error: for messages.
        some: may more arguments come later?

    Raises:
        ProgramError: says what it takes and what it is given.
    """
    function(fn, what, error)
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return
    try:
        (signature.bind_partial if some else signature.bind)(*args, **(kwargs or {}))
    except TypeError as wrong:
        name = getattr(fn, "__name__", None) or type(fn).__name__
        raise error(
            f"{what}, {name}{signature}, is called with {len(args)} argument{'' if len(args) == 1 else 's'}"
            f"{''.join(f', {key}=' for key in kwargs or ())} ({', '.join(type(x).__name__ for x in args)}): {wrong}"
        ) from wrong


def shallow(value: Any, what: str, error: type[SDSCMError] = SDSCMError) -> Any:
    """The value, unless lists and mappings are nested in it beyond every use, or within themselves.

    Python and JAX walk such a value by recursion, which neither survives.
    """
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _DEEPEST or len(level) > _WIDEST:
            raise error(f"{what} is nested too deeply: {told(value)}")
        inside = [x.values() if isinstance(x, Mapping) else x for x in level if isinstance(x, Mapping | list | tuple)]
        level = [y for x in inside for y in x if isinstance(y, Mapping | list | tuple)]
    return value


_DEEPEST, _WIDEST = 64, 1 << 20


def reason_of(error: BaseException) -> str:
    """Why a file could not be parsed."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error)
    return "an integer of more digits than can be read" if "integer string conversion" in text else text


def told(value: Any) -> str:
    """A value as messages show it: its ``repr``, not longer than a line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        # Nested too deeply, an integer of more digits than Python writes, an object that cannot say what it is.
        text = f"<{type(value).__name__}>"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def _finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond every float
        return False


def _number(value: Any) -> int | float | None:
    """A plain number; None of what is no real number, of arrays with axes and of what is traced."""
    if isinstance(value, np.ndarray | np.generic | jax.Array) and not isinstance(value, jax.core.Tracer):
        # bfloat16 is a number to JAX alone; keys are arrays, too.
        # A masked number is none.
        plain = np.ndim(value) == 0 and not isinstance(value, np.ma.MaskedArray)
        value = np.asarray(value).item() if plain and jax.numpy.issubdtype(value.dtype, np.number) else None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    except OverflowError:
        return None

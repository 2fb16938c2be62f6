"""What an argument means: which values it may have, as far as that can be said of a value alone.

A meaning answers True (a call with it works), False (it is nonsense: one of our errors) or None (that depends on the
rest of the call: the call works, or says one of our errors).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sdscm_jax import checks

Meaning = Callable[[Any], bool | None]


def _number(value: Any) -> Any:
    """A real number, as the package takes them: arrays without axes too, booleans not."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        if np.ndim(value) or not jax.numpy.issubdtype(value.dtype, np.number) or isinstance(value, np.ma.MaskedArray):
            return None
        value = np.asarray(value).item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return value


def count(least: int = 1, most: float = math.inf) -> Meaning:
    def check(value: Any) -> bool:
        number = _number(value)
        return isinstance(number, int) and least <= number <= most

    return check


def real(least: float = -math.inf, most: float = math.inf, *, ends: bool = True) -> Meaning:
    def check(value: Any) -> bool:
        number = _number(value)
        if number is None or (isinstance(number, int) and abs(number) > 1e300) or not math.isfinite(number):
            return False
        return least <= number <= most if ends else least < number < most

    return check


SHARE = real(0, 1, ends=False)
NOT_NEGATIVE = real(0)


def name(*known: str) -> Meaning:
    return lambda value: isinstance(value, str) and value in known


def or_none(meaning: Meaning) -> Meaning:
    return lambda value: True if value is None else meaning(value)


def either(meaning: Meaning) -> Meaning:
    """What the meaning refuses is nonsense; of the rest the call decides."""
    return lambda value: False if meaning(value) is False else None


def kind(*types: type) -> Meaning:
    """Something of a type; the call decides about the rest."""
    return either(lambda value: isinstance(value, types))


def listed(item: Meaning, *, single: bool = False, empty: bool | None = None, least: int = 0) -> Meaning:
    """A list or tuple (of what is no text); with ``single`` also one item by itself."""

    def check(value: Any) -> bool | None:
        if single and item(value) is not False:
            return item(value)
        if isinstance(value, np.ndarray | range):  # Taken as a list, or not: both are right.
            return None if np.ndim(value) == 1 and all(item(v) is not False for v in value) else False
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            # Of sets, mappings, generators and frames the order, or the end, is not known.
            return None if not single and _harmless(value, item) else False
        if not len(value):
            return empty
        found = [item(v) for v in value]
        return False if False in found else None if None in found or len(value) < least else True

    return check


def _harmless(value: Any, item: Meaning) -> bool:
    """An iterable whose every item would do."""
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        return False
    try:
        return all(item(v) is not False for v in list(value))
    except Exception:
        return False


def mapping(key: Meaning, value: Meaning, empty: bool | None = None) -> Meaning:
    def check(given: Any) -> bool | None:
        if not isinstance(given, Mapping):
            return False
        found = [key(k) is not False and value(v) for k, v in given.items()]
        return empty if not found else False if False in found else None

    return check


def text(value: Any) -> bool | None:
    """Some text that can be written to a file."""
    if not isinstance(value, str) or not _writable(value):
        return False
    return None


def _writable(value: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in value)


def template(value: Any) -> bool | None:
    return None if isinstance(value, str) and value.count("{}") == 1 and _writable(value) else False


def path(value: Any) -> bool | None:
    """A path that can be opened for reading or writing, or not."""
    return None if isinstance(value, str | Path) and "\0" not in str(value) and str(value) != "" else False


def array(least: float = -math.inf, most: float = math.inf, *, nan: bool = False, kinds: str = "iufb") -> Meaning:
    """Numbers of a range in any shape; which shape fits, the call decides."""

    def check(value: Any) -> bool | None:
        try:
            found = np.asarray(value)
            if found.dtype.kind not in kinds and "float" not in str(found.dtype):
                return False
            found = found.astype(np.float64)
        except Exception:
            return False
        return (
            None
            if (nan or not np.isnan(found).any()) and ((found >= least) & (found <= most) | np.isnan(found)).all()
            else False
        )

    return check


def anything(value: Any) -> None:
    """What is free, or known to the call alone."""
    return


def leaves(value: Any) -> bool | None:
    """Arrays and numbers in lists and mappings, as JAX takes them for arguments."""
    plain = bool | int | float | np.generic | np.ndarray | jax.Array
    try:
        found = jax.tree.leaves(checks.shallow(value, "it"))
    except Exception:
        return False
    return None if all(isinstance(leaf, plain) for leaf in found) else False


def flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def key(value: Any) -> bool:
    if isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value.shape == ()
    return count(0, 2**32 - 1)(value)


def option(*options: str) -> Meaning:
    """An option's text or number, or an array of them."""

    def check(value: Any) -> bool | None:
        if isinstance(value, str):
            return value in options
        number = _number(value)
        if number is not None:
            return number in range(len(options)) if isinstance(number, int) else False
        if isinstance(value, Mapping | set | frozenset | bytes) or value is None:
            return False
        try:
            found = np.asarray(value)
        except Exception:
            return False
        if found.dtype.kind in "iub":
            return None if ((found >= 0) & (found < len(options))).all() else False
        if found.dtype.kind in "OU":
            return None if found.size and found.ndim and all(check(v) is not False for v in found.ravel()) else False
        return False

    return check


def intervention(*options: str) -> Meaning:
    """An option, ``"uniform"``, a distribution, a function or another world's value."""
    known = option(*options)

    def check(value: Any) -> bool | None:
        if (isinstance(value, str) and value == "uniform") or (callable(value) and not isinstance(value, type)):
            return None
        return either(known)(value)

    return check

"""Digest of what a new estimator holds: its parameters, whoever wrote them into it."""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class Unknown(Exception):
    """A parameter whose content cannot be had."""


def digest_of_parameters(value: Any) -> tuple[str, set[str]]:
    """SHA-256 of the attributes of an object, and the modules of the classes and functions among them.

    Raises:
        Unknown: one has no content that could be compared, or a function that no file holds.

    >>> class Mean:
    ...     def __init__(self, trees):
    ...         self.trees = trees
    >>> digest_of_parameters(Mean(10)) == digest_of_parameters(Mean(10))
    True
    >>> digest_of_parameters(Mean(10))[0] == digest_of_parameters(Mean(10.0))[0]
    False
    """
    modules, digest = set[str](), hashlib.sha256()
    for piece in _pieces(value, "", modules, {}):
        digest.update(f"{len(piece)} ".encode() + piece)
    return digest.hexdigest(), modules


def _pieces(value: Any, place: str, modules: set[str], above: dict[int, int]) -> Iterator[bytes]:
    """Everything that tells a value from another one, in an order that does not depend on the process."""
    if type(value) in _PLAIN:
        yield repr((type(value).__name__, value)).encode("utf-8", "backslashreplace")
        return
    if id(value) in above:
        yield f"again {above[id(value)]}".encode()
        return
    above = {**above, id(value): len(above)}

    def inside(child: Any, name: str) -> Iterator[bytes]:
        yield from _pieces(child, f"{place}.{name}", modules, above)

    yield f"{type(value).__module__}.{type(value).__qualname__}".encode()
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        yield from _array(value, place)
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from inside(key, "key")
            yield from inside(child, str(key))
    elif isinstance(value, (list, tuple)):
        yield str(len(value)).encode()
        for i, child in enumerate(value):
            yield from inside(child, str(i))
    elif isinstance(value, (set, frozenset)):
        yield from sorted(b" ".join(_pieces(child, place, modules, above)) for child in value)
    elif isinstance(value, type):
        yield _named(value, modules)
    elif isinstance(value, types.ModuleType):
        modules.add(value.__name__)
        yield value.__name__.encode()
    elif isinstance(value, functools.partial):
        yield from inside((value.func, value.args, value.keywords), "partial")
    elif isinstance(value, types.MethodType):
        yield from inside((value.__func__, value.__self__), "method")
    elif isinstance(value, types.FunctionType):
        if not os.path.isfile(value.__code__.co_filename):
            raise Unknown(f"no file holds the source of {place.strip('.') or value.__name__}")
        yield _named(value, modules)
        # Where in the file: two lambdas of one line have one name.
        yield repr(list(value.__code__.co_positions())).encode()
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        yield from inside((cells, value.__defaults__, value.__kwdefaults__), value.__name__)
    elif isinstance(value, (types.BuiltinFunctionType, np.ufunc)):
        yield repr((getattr(value, "__module__", None), value.__name__)).encode()
    elif callable(value) and hasattr(value, "__wrapped__"):
        yield from inside(value.__wrapped__, "wrapped")
    else:
        modules.add(type(value).__module__)
        yield from _state(value, place, inside)


def _array(value: Any, place: str) -> Iterator[bytes]:
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        yield str(value.dtype).encode()
        value = jax.random.key_data(value)
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise Unknown(f"{place.strip('.')} is an array of objects")
    yield f"{array.dtype} {array.shape}".encode()
    yield array.tobytes()


def _named(value: Any, modules: set[str]) -> bytes:
    modules.add(value.__module__)
    return f"{value.__module__}.{value.__qualname__}".encode()


def _state(value: Any, place: str, inside: Any) -> Iterator[bytes]:
    listed = [vars(base).get("__slots__", ()) for base in type(value).__mro__]
    slots = {name for names in listed for name in ([names] if isinstance(names, str) else names)}
    slots -= {"__dict__", "__weakref__"}
    if hasattr(value, "__dict__") or slots:
        held = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
        for name, child in sorted(held.items()):
            yield name.encode()
            yield from inside(child, name)
        return
    try:
        yield pickle.dumps(value, protocol=5)
    except Exception as error:
        raise Unknown(
            f"{place.strip('.') or 'it'} is a {type(value).__qualname__}, whose content cannot be had"
        ) from error

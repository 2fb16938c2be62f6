"""Estimators by name: those of the package and of any other that declares an entry point, and a user's own."""

from __future__ import annotations

import copy
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ...checks import one_of, text, told
from ...errors import EstimatorError
from .identity import Unkept, identity_of, look_at
from .modules import find_module
from .protocol import Estimator

# A package adds its own under this group: ``my_name = "my_package.module:MyEstimator"``.
GROUP = "sdscm_jax.estimators"
# What is registered here is shown the true effects (``reveal(ite, cate)``), is marked as an oracle wherever it stands,
# and never named best. Nothing else is shown them, whatever its methods are called.
ORACLES = "sdscm_jax.oracles"
# What a user may ask for; see ``chosen``.
Chosen = str | type | Estimator | Sequence[str | type | Estimator] | Mapping[str, str | type | Estimator]
# Always there, beside those of the paper, which follow in the order of its tables.
BASELINES = ("zero", "constant", "oracle_ite", "oracle_cate")
SUITE = (
    "difference_in_means",
    "linear_regression",
    "linear_s",
    "linear_t",
    "random_forest",
    "forest_s",
    "forest_t",
    "causal_forest",
    "causal_forest_dml",
    "linear_dml",
    "linear_dr",
    "forest_dr",
    "bart",
    "bart_ite",
    "bcf",
    "tnet",
    "tarnet",
    "cqr",
)


def estimator_names() -> tuple[str, ...]:
    """Names of all that are installed, oracles too.

    >>> "linear_regression" in estimator_names()
    True
    """
    return tuple(sorted(_entry_points()))


def oracle_names() -> tuple[str, ...]:
    """Names of those that are shown the true effects.

    >>> oracle_names()
    ('constant', 'oracle_cate', 'oracle_ite')
    """
    return tuple(sorted(name for name, point in _entry_points().items() if point.group == ORACLES))


def make_estimator(name: str) -> Estimator:
    """A new, unfitted estimator.

    Args:
        name: registered, or ``"module:Class"`` or ``"path.py:Class"`` of one that is not (or of an unfitted estimator,
            which is copied); the module is also looked for in the working directory.

    Raises:
        EstimatorError: there is none of that name, or it cannot be made.

    >>> import numpy as np
    >>> make_estimator("zero").fit(None, np.zeros((2, 0)), np.array([0, 1]), np.array([1.0, 2.0])).ate()
    0.0
    """
    if isinstance(name, Named):
        return copy.deepcopy(name.estimator)
    found = _point(name)
    if found.module not in sys.modules:
        look_at(found.module)
    try:
        made_by = found.load()
        # (A function or a class makes one; anything else that estimates is one.)
        return made_by() if isinstance(made_by, type) or not hasattr(made_by, "effect") else copy.deepcopy(made_by)
    except (ImportError, AttributeError, TypeError) as error:
        raise EstimatorError(f"estimator {name!r} ({found.value}) cannot be made: {error}") from error


class Named(str):
    """The name of an estimator that has no other place than here; whoever has the name has the estimator.

    Attributes:
        estimator: unfitted.
    """

    estimator: Estimator

    def __new__(cls, name: str, estimator: Estimator) -> Named:
        """A name, by which a directory can be called too."""
        if not re.fullmatch(r"\w[\w .+=()-]{0,99}", name):
            raise EstimatorError(f"the name of an estimator is of letters, digits and . _ + - = ( ), got {told(name)}")
        if name in _entry_points():
            raise EstimatorError(f"{name!r} is the name of a registered estimator; give yours another one")
        made = super().__new__(cls, name)
        made.estimator = estimator
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Named, (str(self), self.estimator)


def chosen(names: Chosen) -> tuple[str, ...]:
    """Names that are asked for, checked, with the baselines and the oracles.

    Args:
        names: a list, or text with commas; ``"suite"`` stands for the methods of the paper, ``"all"`` for all that
            are registered. A class stands for its own ``"module:Class"``. An unfitted estimator is called by its
            ``label``, where it has one, or else by its class; a mapping gives names to estimators, classes and names.

    Raises:
        EstimatorError: one is unknown, or no estimator, or two are called alike.

    >>> chosen("linear_s,linear_t")
    ('linear_s', 'linear_t', 'zero', 'constant', 'oracle_ite', 'oracle_cate')
    """
    if isinstance(names, Mapping):
        wanted: list[Any] = [_with_name(name, value) for name, value in names.items()]
    elif isinstance(names, str):
        wanted = [name.strip() for name in names.split(",")]
    else:
        wanted = list(names) if isinstance(names, Sequence) else [names]
    found: list[str] = []
    for name in wanted:
        if isinstance(name, type):
            name = _named(name)
        elif not isinstance(name, str):
            label = getattr(name, "label", type(name).__qualname__.rpartition(".")[2])
            name = _with_name(label, name)
        if isinstance(name, Named) and name in found:
            raise EstimatorError(f"two estimators are called {name!r}: name them, estimators={{'one': …, 'other': …}}")
        found.extend(SUITE if name == "suite" else estimator_names() if name == "all" else [name])
    for name in found:
        if not isinstance(name, Named):
            _point(name)
    return tuple(dict.fromkeys([*found, *BASELINES]))


def _with_name(name: Any, value: Any) -> Named:
    if isinstance(value, type):
        _refuse_others(value, value.__qualname__)
        value = value()
    elif isinstance(value, str):
        if value in oracle_names():
            raise EstimatorError(f"{value!r} is an oracle, which keeps its name")
        value = make_estimator(value)
    _refuse_others(value, told(value))
    return Named(text(name, "the name of an estimator", EstimatorError), value)


def _refuse_others(value: Any, name: str) -> None:
    needed = "fit", "effect", "interval", "ate"
    if not isinstance(value, type) and not any(hasattr(value, method) for method in (*needed, "predict")):
        one_of(value, estimator_names(), "estimator", EstimatorError)
    if missing := [method for method in needed if not hasattr(value, method)]:
        kind = "class of estimators" if isinstance(value, type) else "estimator"
        hint = ""
        if hasattr(value, "fit") and (adapter := next((a for m, a in _ADAPTERS.items() if hasattr(value, m)), None)):
            hint = f"; bench.{adapter}(…) makes one of it"
        raise EstimatorError(f"{name} is no {kind}: it has no {', '.join(missing)}{hint}")


# What has the method becomes an estimator by this.
_ADAPTERS = {"effect": "FromEconml", "predict": "FromSklearn"}


def _named(made_by: type) -> str:
    """The name of a class, which other processes find it by."""
    _refuse_others(made_by, made_by.__qualname__)
    if "<locals>" in made_by.__qualname__:
        raise EstimatorError(
            f"estimator {made_by.__qualname__} is a class inside a function; define it in a module, or give one "
            f"that is made: {made_by.__name__}()"
        )
    return f"{made_by.__module__}:{made_by.__qualname__}"


def _of_file(name: str) -> EntryPoint:
    """What ``path.py:Class`` says: its module by the file's own name, for which other processes look too."""
    place, _, attribute = name.rpartition(":")
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise EstimatorError(f"estimator {name!r}: there is no file {path}")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    found = find_module(path.stem) if path.stem.isidentifier() else None
    if found is None or found.path is None or found.path.resolve() != path:
        other = f"{path.stem!r} is another one, {found.path}" if found else f"{path.stem!r} is no name of a module"
        raise EstimatorError(f"estimator {name!r} cannot be imported from {path}: {other}; give the file another name")
    return EntryPoint(name, f"{path.stem}:{attribute}", GROUP)


def _point(name: str) -> EntryPoint:
    if isinstance(name, str) and name.rpartition(":")[0].endswith(".py"):
        return _of_file(name)
    if isinstance(name, str) and ":" in name and name not in _entry_points():
        # Last, so that nothing there hides what is installed; and to stay, since ``fit`` may import more.
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
        return EntryPoint(name, name, GROUP)
    return _entry_points()[one_of(name, estimator_names(), "estimator", EstimatorError)]


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, EntryPoint]:
    # An oracle's name is no estimator's: what is shown the truth cannot take the name of what is not.
    return {point.name: point for group in (GROUP, ORACLES) for point in entry_points(group=group)}


# Of what ``described`` says: why estimates are not kept.
UNKEPT = "estimates are not kept"


def described(name: str) -> dict[str, Any]:
    """What an estimator of this name is now, as JSON values; see ``identity_of``.

    Where that cannot be known, ``UNKEPT`` says why.

    >>> described("zero")["defined"]
    'sdscm_jax.bench.estimators.baselines:Zero'
    """
    made_by = type(name.estimator) if isinstance(name, Named) else None
    value = _point(name).value if made_by is None else f"{made_by.__module__}:{made_by.__qualname__}"
    named = {"name": str(name), "defined": value}
    try:
        return {**named, **identity_of(make_estimator(name), value)}
    except Unkept as error:
        return {**named, UNKEPT: str(error)}

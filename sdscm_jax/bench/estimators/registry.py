"""Estimators by name: those of the package and of any other that declares an entry point."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ...checks import one_of, told
from ...errors import EstimatorError, nearest
from .identity import Unkept, identity_of, look_at
from .protocol import Estimator

# A package adds its own under this group: ``my_name = "my_package.module:MyEstimator"``.
GROUP = "sdscm_jax.estimators"
# What is registered here is shown the true effects (``reveal(ite, cate)``), is marked as an oracle wherever it stands,
# and never named best. Nothing else is shown them, whatever its methods are called.
ORACLES = "sdscm_jax.oracles"
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
        name: registered, or ``"module:Class"`` of one that is not; the module is also looked for in the working
            directory.

    Raises:
        EstimatorError: there is none of that name, or it cannot be made.

    >>> import numpy as np
    >>> make_estimator("zero").fit(None, np.zeros((2, 0)), np.array([0, 1]), np.array([1.0, 2.0])).ate()
    0.0
    """
    found = _point(name)
    if found.module not in sys.modules:
        look_at(found.module)
    try:
        return found.load()()
    except (ImportError, AttributeError, TypeError) as error:
        raise EstimatorError(f"estimator {name!r} ({found.value}) cannot be made: {error}") from error


def chosen(names: str | type | Sequence[str | type]) -> tuple[str, ...]:
    """Names that are asked for, checked, with the baselines and the oracles.

    Args:
        names: a list, or text with commas; ``"suite"`` stands for the methods of the paper, ``"all"`` for all that
            are registered. A class stands for its own ``"module:Class"``.

    Raises:
        EstimatorError: one is unknown.

    >>> chosen("linear_s,linear_t")
    ('linear_s', 'linear_t', 'zero', 'constant', 'oracle_ite', 'oracle_cate')
    """
    listed = names if isinstance(names, Sequence) else [names]
    wanted = [name.strip() for name in names.split(",")] if isinstance(names, str) else listed
    found: list[str] = []
    for name in wanted:
        if isinstance(name, type):
            name = _named(name)
        if not isinstance(name, str):
            raise EstimatorError(f"an estimator is named, got {told(name)}; {nearest('', estimator_names())}")
        found.extend(SUITE if name == "suite" else estimator_names() if name == "all" else [name])
    for name in found:
        _point(name)
    return tuple(dict.fromkeys([*found, *BASELINES]))


def _named(made_by: type) -> str:
    """The name of a class, which other processes find it by."""
    if "<locals>" in made_by.__qualname__:
        raise EstimatorError(f"estimator {made_by.__qualname__} is a class inside a function; define it in a module")
    if missing := [method for method in ("fit", "effect", "interval", "ate") if not hasattr(made_by, method)]:
        raise EstimatorError(f"{made_by.__qualname__} is no class of estimators: it has no {', '.join(missing)}")
    return f"{made_by.__module__}:{made_by.__qualname__}"


def _point(name: str) -> EntryPoint:
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
    point = _point(name)
    named = {"name": name, "defined": point.value}
    try:
        return {**named, **identity_of(make_estimator(name), point.value)}
    except Unkept as error:
        return {**named, UNKEPT: str(error)}

"""Laws of tabulated sites, read off their tables: nothing is compiled or evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro

from ..dsl.handlers.exogenous import exogenous
from ..dsl.handlers.given_values import Given
from ..dsl.language.choice import Choice
from ..dsl.tables.look_up import TabledChoice


@dataclass(frozen=True, eq=False)
class Tabled:
    """A site whose law is its table.

    Attributes:
        given: sites whose values it is given as they are, in the order of the table's axes.
        sizes: of the table's axes.
        logits: float64 ``[C, K]``, of all contexts.
        options: texts.
        coupling: how worlds share its noise.
    """

    given: tuple[str, ...]
    sizes: tuple[int, ...]
    logits: np.ndarray
    options: tuple[str, ...]
    coupling: str

    def in_contexts(self, parents: tuple[str, ...], sizes: tuple[int, ...], contexts: np.ndarray) -> np.ndarray | None:
        """Logits ``[C', K]`` in contexts of parents, or None where these are not what the table is of."""
        if set(self.given) != set(parents) or self.sizes != tuple(sizes[parents.index(name)] for name in self.given):
            return None
        rows = np.zeros(len(contexts), int)
        for name, size in zip(self.given, self.sizes, strict=True):
            rows = rows * size + contexts[:, parents.index(name)]
        found: np.ndarray = self.logits[rows]
        return found


def read_off(fn: Callable, args: tuple, kwargs: Mapping[str, Any], names: Sequence[str]) -> dict[str, Tabled]:
    """The sites whose law is no more than a look-up in their table (or uniform), by name.

    They are given other sites' values just as they are, the table has all contexts, and nothing but a constant
    temperature stands between scores and probabilities.

    Args:
        fn: a model function; those of its sites that a ``Tabulated`` one looks up are found.
        args, kwargs: its arguments.
        names: its sites.
    """
    found: dict[str, Tabled] = {}

    def run(values: dict[str, Any]) -> None:
        messenger = Given(fn, values)
        with numpyro.handlers.block():
            exogenous(messenger, 0)(*args, **kwargs)
        # A value that was computed from a site's, or that is constant, is another object.
        sites = {id(value): name for name, value in values.items()}
        for name, own in messenger.fns.items():
            tabled = _tabled(own, sites)
            if tabled is not None:
                found[name] = tabled

    jax.eval_shape(run, {name: jax.ShapeDtypeStruct((), jnp.int32) for name in names})
    return found


def _tabled(fn: Any, sites: Mapping[int, str]) -> Tabled | None:
    if not isinstance(fn, Choice) or fn.bias is not None:
        return None
    if isinstance(fn.temperature, jax.core.Tracer) or np.ndim(fn.temperature):
        return None
    given = tuple(name for phrase in fn.phrases if (name := sites.get(id(phrase.index))) is not None)
    sizes = tuple(len(phrase.options) for phrase in fn.phrases)
    scores = _scores(fn, math.prod(sizes))
    if scores is None or len(given) < len(sizes):
        return None
    return Tabled(given, sizes, scores.astype(np.float64) / float(fn.temperature), fn.options, fn.coupling)


def _scores(fn: Choice, contexts: int) -> np.ndarray | None:
    """Scores ``[C, K]`` of a choice in all contexts, where they are known."""
    if not fn.scoring.asks_lm and fn.known_scores is None:
        return np.zeros((contexts, len(fn.options)))
    table = fn.table if isinstance(fn, TabledChoice) else None
    return table.scores if table is not None and table.is_dense else None

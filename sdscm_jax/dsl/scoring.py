"""What the score of an option is. ``docs/scoring.md`` compares the definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..checks import one_of
from ..errors import OptionError, SDSCMError
from ..models.codec import Tokens, common_prefix
from .tree import OptionTree, bag_tree, chain_tree, padded

SCORINGS = ("sequence", "option", "mean", "masked", "pmi", "reference", "uniform")
# What the log-probabilities of an option's edges make, where it is one of these.
_SUMS, _MEANS = ("sequence", "option", "pmi"), ("mean", "reference")


def parse_scoring(value: Any, where: str | None = None, error: type[SDSCMError] = OptionError) -> str:
    """A scoring, as every function takes it.

    Args:
        value: what was given.
        where: what a message begins with.
        error: the caller's.

    Raises:
        SDSCMError: it is none; the message has the nearest that is.

    >>> parse_scoring("mean")
    'mean'
    """
    return one_of(value, SCORINGS, "scoring", error, where)


def scored_tree(scoring: str, rows: tuple[Tokens, ...]) -> OptionTree:
    """The tree whose edges make the scores of options with these tokens."""
    if parse_scoring(scoring) == "reference":
        return bag_tree(rows)
    return chain_tree(_branching(rows) if scoring == "masked" else rows)


def option_scores(scoring: str, tree: OptionTree, edges: Array) -> Array:
    """Scores ``[..., K]`` from the log-probabilities of a tree's edges ``[..., E]``."""
    if scoring == "masked":
        return _masked(tree, edges)
    return edge_sums(scoring, tree, edges, jnp.where)


def edge_sums(scoring: str, tree: OptionTree, edges: Any, where: Callable[..., Any]) -> Any:
    """``option_scores`` of a scoring that adds edges up, with the ``where`` of NumPy or of JAX, of which edges are.

    Raises:
        OptionError: it is no such scoring.
    """
    one_of(scoring, (*_SUMS, *_MEANS), "sum of edges", OptionError)
    scored, real = padded(tree.scored)
    sums = where(real, edges[..., scored], 0.0).sum(-1)
    return sums / real.sum(-1) if scoring in _MEANS else sums


def _branching(rows: tuple[Tokens, ...]) -> tuple[Tokens, ...]:
    """Rows cut where no other option goes along: from there on a constrained walk has no choice."""
    cut = []
    for i, row in enumerate(rows):
        along = max((common_prefix(row, other) for j, other in enumerate(rows) if j != i), default=0)
        cut.append(row[: along + 1])
    return tuple(cut)


def _masked(tree: OptionTree, edges: Array) -> Array:
    """Log-probability of the walk that renormalises, token by token, over what options allow.

    Where an option ends inside another one, ending there has the probability that the language
    model gives to all tokens but those that go on.
    """
    siblings = {row: np.flatnonzero(tree.edge_rows == row) for row in set(tree.edge_rows.tolist())}
    at = {row: n for n, row in enumerate(siblings)}
    children, real = padded([tuple(places) for places in siblings.values()])
    onward = jax.nn.logsumexp(jnp.where(real, edges[..., children], -jnp.inf), axis=-1)
    scores = []
    last_rows = [1 + path[-1] if path and 1 + path[-1] in siblings else None for path in tree.paths]
    ends_inside = {
        row for row, path, scored in zip(last_rows, tree.paths, tree.scored, strict=True) if len(path) == len(scored)
    }
    stops = jnp.log1p(-jnp.clip(jnp.exp(onward), 0.0, 1.0 - jnp.finfo(jnp.float32).eps))
    for row, path, scored in zip(last_rows, tree.paths, tree.scored, strict=True):
        score = jnp.zeros(edges.shape[:-1])
        for edge in scored:
            place = int(tree.edge_rows[edge])
            # An end that the walk may choose is counted in: all tokens are then allowed.
            total = 0.0 if place in ends_inside else onward[..., at[place]]
            score = score + edges[..., edge] - total
        if row is not None and len(path) == len(scored):
            score = score + stops[..., at[row]]
        scores.append(score)
    return jnp.stack(scores, axis=-1)

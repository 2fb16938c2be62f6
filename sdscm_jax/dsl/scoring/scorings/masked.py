"""``"masked"``: the walk of constrained decoding."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ....models.codec import Tokens, common_prefix
from ..option_tree import OptionTree, chain_tree, padded
from .base import Scoring


class Masked(Scoring):
    """Log-probability of the walk that renormalises, token by token, over what options allow.

    Where an option ends inside another one, ending there has the probability that the language
    model gives to all tokens but those that go on.
    """

    name = "masked"
    says = "token by token among what still leads to an option"
    learnt = True
    odds_by_themselves = False

    def tree(self, rows: tuple[Tokens, ...]) -> OptionTree:
        """Rows are cut where no other option goes along: from there on a constrained walk has no choice."""
        return chain_tree(_branching(rows))

    def scores(self, tree: OptionTree, edges: Array) -> Array:
        """Log-probabilities of the options' walks."""
        siblings = {row: np.flatnonzero(tree.edge_rows == row) for row in set(tree.edge_rows.tolist())}
        at = {row: n for n, row in enumerate(siblings)}
        children, real = padded([tuple(places) for places in siblings.values()])
        onward = jax.nn.logsumexp(jnp.where(real, edges[..., children], -jnp.inf), axis=-1)
        scores = []
        last_rows = [1 + path[-1] if path and 1 + path[-1] in siblings else None for path in tree.paths]
        ends_inside = {
            row
            for row, path, scored in zip(last_rows, tree.paths, tree.scored, strict=True)
            if len(path) == len(scored)
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

    def scores_on_host(self, tree: OptionTree, edges: np.ndarray) -> np.ndarray:
        """The same, compiled once for all trees of one form and for few numbers of contexts."""
        size = 64
        while size < len(edges):
            size *= 4
        filled = np.zeros((size, edges.shape[1]), np.float32)
        filled[: len(edges)] = edges
        return np.asarray(_compiled(tuple(tree.edge_rows.tolist()), tree.paths, tree.scored)(filled))[: len(edges)]


@lru_cache(maxsize=256)
def _compiled(
    edge_rows: tuple[int, ...], paths: tuple[tuple[int, ...], ...], scored: tuple[tuple[int, ...], ...]
) -> Callable[[np.ndarray], Array]:
    """Masked scores from edges, compiled for all trees of this form, whatever their tokens."""
    none = np.zeros(0, np.int32)
    tree = OptionTree(none, none, np.zeros((0, 0), bool), np.array(edge_rows, np.int32), none, paths, scored)
    return jax.jit(lambda edges: Masked().scores(tree, edges))


def _branching(rows: tuple[Tokens, ...]) -> tuple[Tokens, ...]:
    cut = []
    for i, row in enumerate(rows):
        along = max((common_prefix(row, other) for j, other in enumerate(rows) if j != i), default=0)
        cut.append(row[: along + 1])
    return tuple(cut)

"""From what a language model said of tokens to scores of options, on the host."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import numpy as np
from jax import Array

from ..dsl.question import Question
from ..dsl.scoring import edge_sums, option_scores
from ..dsl.tree import OptionTree
from .packing import rounded


def scores_of(question: Question, edges: np.ndarray) -> np.ndarray:
    """``option_scores`` float32 ``[C, K]`` of edges ``[C, E]``; nothing is compiled for their numbers.

    Args:
        question: what was asked.
        edges: float32, log-probabilities of the edges of its tree.
    """
    tree = question.tree
    if question.scoring == "masked":
        filled = np.zeros((rounded(len(edges), 64), edges.shape[1]), np.float32)
        filled[: len(edges)] = edges
        return np.asarray(_masked(tuple(tree.edge_rows.tolist()), tree.paths, tree.scored)(filled))[: len(edges)]
    return edge_sums(question.scoring, tree, edges, np.where).astype(np.float32, copy=False)


@lru_cache(maxsize=256)
def _masked(
    edge_rows: tuple[int, ...], paths: tuple[tuple[int, ...], ...], scored: tuple[tuple[int, ...], ...]
) -> Callable[[np.ndarray], Array]:
    """Masked scores from edges, compiled for all trees of this form, whatever their tokens."""
    none = np.zeros(0, np.int32)
    tree = OptionTree(none, none, np.zeros((0, 0), bool), np.array(edge_rows, np.int32), none, paths, scored)
    return jax.jit(partial(option_scores, "masked", tree))

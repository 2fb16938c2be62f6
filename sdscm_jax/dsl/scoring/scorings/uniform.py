"""``"uniform"``: 0; the language model is not asked."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from ..option_tree import OptionTree
from .base import Scoring


class Uniform(Scoring):
    """One option as likely as another, but for a bias."""

    name = "uniform"
    says = "the language model is not asked"
    asks_lm = False

    def scores(self, tree: OptionTree, edges: Array) -> Array:
        """Zeros."""
        return jnp.zeros((*edges.shape[:-1], len(tree.scored)), jnp.float32)

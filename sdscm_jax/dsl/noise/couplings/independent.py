"""``"independent"``: noise that is drawn anew in every world whose intervention is upstream."""

from __future__ import annotations

import numpy as np

from .base import product
from .gumbel import Gumbel


class Independent(Gumbel):
    """The same draw as ``"gumbel"`` in one world; others draw anew what descends from their interventions.

    Algorithm 1 of Bynum and Cho 2024, arXiv 2411.08019: non-descendants keep their values, descendants are sampled.
    """

    name = "independent"
    says = "luck is drawn anew"
    redraws = True
    stable = False

    def joint(self, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """The product."""
        return product(p, q)

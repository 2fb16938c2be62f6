"""What a vignette says of each sentence of a text, given those shown before it: exact, by elimination."""

from __future__ import annotations

from itertools import product

import numpy as np

from .scm import Vignette


class Conditionals:
    """P(variable | the variables shown before it), what is not shown summed over.

    Forward elimination in causal order: a table over the hidden variables so far is multiplied by each mechanism, read
    off at what is shown, and summed over as soon as no later mechanism reads it.

    Args:
        vignette: the ground truth.

    >>> from sdscm_jax.vignettes import collider
    >>> told = Conditionals(collider)(np.zeros((1, 5), int), (2, 4))
    >>> [probs.round(3).tolist() for probs in told]
    [[[0.49, 0.51]], [[0.12, 0.277, 0.23, 0.187, 0.186]]]
    """

    def __init__(self, vignette: Vignette):
        self.parents = [[vignette.index(p) for p in v.parents] for v in vignette.variables]
        self.tables = [_table(vignette, j, parents) for j, parents in enumerate(self.parents)]

    def __call__(self, values: np.ndarray, shown: tuple[int, ...]) -> list[np.ndarray]:
        """The distributions of the shown variables.

        Args:
            values: int ``[n, variables]``, option indices; those of hidden variables are not looked at.
            shown: positions of the variables that a text shows, ascending.

        Returns:
            for each shown variable, float64 ``[n, K]``.
        """
        needed, last = self._plan(shown)
        n = len(values)
        hidden: list[int] = []  # the axes of `belief`, behind that of units
        belief = np.ones(n)
        found = []
        for j in needed:
            joint = belief[..., None] * self._mechanism(j, values, shown, hidden)
            belief = joint
            if j in shown:
                told = joint.sum(tuple(range(1, 1 + len(hidden))))
                found.append(told / told.sum(1, keepdims=True))
                belief = joint[np.arange(n), ..., values[:, j]]
            else:
                hidden.append(j)
            done = [i for i, h in enumerate(hidden) if last[h] <= j]
            belief = belief.sum(tuple(1 + i for i in done))
            hidden = [h for i, h in enumerate(hidden) if i not in done]
            belief = belief / belief.sum(tuple(range(1, belief.ndim)), keepdims=True)
        return found

    def _plan(self, shown: tuple[int, ...]) -> tuple[list[int], dict[int, int]]:
        """The shown variables and their ancestors in causal order, and the last of them that reads each."""
        needed = set(shown)
        for j in reversed(range(len(self.parents))):
            if j in needed:
                needed.update(self.parents[j])
        last = {j: j for j in needed}
        for j in sorted(needed):
            last.update((p, j) for p in self.parents[j])
        return sorted(needed), last

    def _mechanism(self, j: int, values: np.ndarray, shown: tuple[int, ...], hidden: list[int]) -> np.ndarray:
        """P(j | parents) at what is shown: ``[n or 1, *hidden, K]``, size 1 on axes that are no parents."""
        parents = self.parents[j]
        read, open_ = [p for p in parents if p in shown], [p for p in hidden if p in parents]
        table = self.tables[j].transpose(*map(parents.index, (*read, *open_)), len(parents))
        table = table[tuple(values[:, p] for p in read)] if read else table[None]
        return np.expand_dims(table, tuple(1 + i for i, h in enumerate(hidden) if h not in parents))


def _table(vignette: Vignette, j: int, parents: list[int]) -> np.ndarray:
    """The mechanism of variable ``j``: one axis for each parent, then its options."""
    sizes = [len(vignette.variables[p].options) for p in parents]
    grid = np.zeros((int(np.prod(sizes)), j), np.int64)
    if sizes:
        grid[:, parents] = list(product(*map(range, sizes)))
    return vignette.probabilities(vignette.variables[j].name, grid).reshape(*sizes, -1)

"""What is told of a sentence where others are left out is the conditional of the joint law."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from sdscm_jax.vignettes import SHIPPED, Variable, Vignette, oncology
from sdscm_jax.vignettes.conditionals import Conditionals


def joint(vignette: Vignette) -> tuple[np.ndarray, np.ndarray]:
    """All values [cells, variables] and their probabilities, by writing them out."""
    cells = np.array(list(product(*(range(len(v.options)) for v in vignette.variables))))
    mass = np.ones(len(cells))
    for j, v in enumerate(vignette.variables):
        mass *= vignette.probabilities(v.name, cells)[np.arange(len(cells)), cells[:, j]]
    return cells, mass


def random_vignette(rng: np.random.Generator) -> Vignette:
    sizes = rng.integers(2, 5, size=6)
    variables: list[Variable] = []
    for j, size in enumerate(sizes):
        parents = [i for i in range(j) if rng.random() < 0.6]
        effects = {
            f"v{i}": {f"o{k}": tuple(rng.normal(size=size)) for k in range(sizes[i]) if rng.random() < 0.8}
            for i in rng.permutation(parents)
        }
        options = tuple(f"o{k}" for k in range(size))
        variables.append(Variable(f"v{j}", options, ("It is {}.",), tuple(rng.normal(size=size)), effects))
    return Vignette("random", tuple(variables), "v0", "v5")


@pytest.mark.parametrize("seed", range(6))
def test_as_the_joint_law_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vignette = random_vignette(rng)
    cells, mass = joint(vignette)
    conditionals = Conditionals(vignette)
    for _ in range(8):
        shown = tuple(np.flatnonzero(rng.random(6) < rng.random()).tolist())
        values = vignette.sample(rng, 5)
        found = conditionals(values, shown)
        assert len(found) == len(shown)
        for i, j in enumerate(shown):
            for unit in range(5):
                agree = (cells[:, shown[:i]] == values[unit, shown[:i]]).all(1)
                expected = np.bincount(cells[agree, j], mass[agree], len(vignette.variables[j].options))
                np.testing.assert_allclose(found[i][unit], expected / expected.sum(), atol=1e-12)


@pytest.mark.parametrize("vignette", SHIPPED, ids=lambda v: v.name)
def test_what_shows_everything_is_told_by_the_mechanisms(vignette: Vignette) -> None:
    values = vignette.sample(np.random.default_rng(0), 20)
    found = Conditionals(vignette)(values, tuple(range(len(vignette.variables))))
    for v, probs in zip(vignette.variables, found, strict=True):
        np.testing.assert_allclose(probs, vignette.probabilities(v.name, values), atol=1e-12)


def test_as_many_draws_say() -> None:
    """Fourteen sentences, of which three are shown: the joint law is too large to write out."""
    rng = np.random.default_rng(1)
    drawn = oncology.sample(rng, 400_000)
    shown = (0, 5, 11)
    found = Conditionals(oncology)(drawn[:1], shown)
    agree = (drawn[:, shown[:2]] == drawn[0, shown[:2]]).all(1)
    assert agree.sum() > 2000
    share = np.bincount(drawn[agree, 11], minlength=len(oncology.variables[11].options)) / agree.sum()
    assert np.abs(share - found[2][0]).max() < 4.5 * (0.25 / agree.sum()) ** 0.5

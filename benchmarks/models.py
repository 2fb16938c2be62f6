"""Causal models that several benchmarks run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

WORDS = ("low", "high", "25", "55", "a run", "home", "sunny", "rainy", "with friends", "in the morning", "never")
TEMPLATES = (
    "It is {}.",
    "The doctor says that the level is {}.",
    "We saw {} today.",
    "Today {} was there again.",
    "On the next day it is {} again.",
)


def oncology(scoring: str = "sequence") -> tuple[Any, list[dict[str, str]]]:
    """The 14-site oncology model, and its two counterfactual worlds."""
    from sdscm_jax.families import Family
    from sdscm_jax.vignettes import oncology as vignette

    assert vignette.treatment is not None
    worlds = [{vignette.treatment: option} for option in vignette[vignette.treatment].options]
    return Family.from_vignette(vignette).member(0, scoring), worlds


def confounder() -> tuple[Any, list[dict[str, str]]]:
    """The 5-site confounder story, and its counterfactual worlds."""
    from sdscm_jax.families import Family
    from sdscm_jax.vignettes import confounder as vignette

    family = Family.from_vignette(vignette)
    assert family.treatment is not None
    return family.member(0), [{family.treatment: option} for option in family[family.treatment].options]


def random_dag(sites: int, seed: int = 0, chain: bool = False) -> Callable:
    """A model whose sites are given earlier ones: each with probability 0.3, or (a chain) all of them."""
    import sdscm_jax as sd

    rng = np.random.default_rng(seed)
    parents = [[j for j in range(i) if chain or rng.random() < 0.3] for i in range(sites)]
    options = [list(rng.choice(WORDS, size=rng.integers(2, 5), replace=False)) for _ in range(sites)]
    templates = [TEMPLATES[rng.integers(len(TEMPLATES))] for _ in range(sites)]

    def model(lm: sd.LanguageModel) -> None:
        phrases: list[sd.Phrase] = []
        for i in range(sites):
            given = [phrases[j] for j in parents[i]]
            phrases.append(sd.sample(f"x{i}", sd.Choice(lm, templates[i], options[i], given=given)))

    return model

"""Random causal programs, for laws that hold of every program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

import sdscm_jax as sd
from sdscm_jax.dsl.noise.couplings.registry import COUPLINGS
from sdscm_jax.dsl.scoring.scorings import registry

WORDS = ("sun", "rain", "low", "high", "a long run", "home", "25", "grade 1", "Bob", "날씨")
SCORINGS = tuple(scoring for scoring in registry.SCORINGS if scoring.asks_lm)
TEMPLATES = ("It is {}.", "She is {} years old", "We saw {} today.", "Today {} was there!", "Her score: {}%")


@dataclass(frozen=True)
class Program:
    """A model function of a language model, with what it was made from."""

    parents: tuple[tuple[int, ...], ...]
    options: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    scoring: str = "sequence"
    couplings: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"x{i}" for i in range(len(self.parents)))

    def __call__(self, lm: sd.LanguageModel) -> sd.Phrase:
        phrases: list[sd.Phrase] = []
        couplings = self.couplings or ("gumbel",) * len(self.names)
        for name, parents, options, template, coupling in zip(
            self.names, self.parents, self.options, self.templates, couplings, strict=True
        ):
            given = [phrases[p] for p in parents]
            choice = sd.Choice(lm, template, options, given=given, scoring=self.scoring, coupling=coupling)
            phrases.append(sd.sample(name, choice))
        return phrases[-1]


@st.composite
def programs(
    draw: Callable[..., Any],
    max_sites: int = 6,
    couplings: tuple[str, ...] = tuple(COUPLINGS),
    scorings: tuple[str, ...] = SCORINGS,
) -> Program:
    count = draw(st.integers(2, max_sites))
    parents, options, templates = [], [], []
    for i in range(count):
        parents.append(tuple(j for j in range(i) if draw(st.booleans())))
        options.append(tuple(draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=3, unique=True))))
        templates.append(draw(st.sampled_from(TEMPLATES)))
    scoring = draw(st.sampled_from(scorings))
    drawn = tuple(draw(st.sampled_from(couplings)) for _ in range(count))
    return Program(tuple(parents), tuple(options), tuple(templates), scoring, drawn)

"""Random causal programs, for laws that hold of every program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

import sdscm_jax as sd

WORDS = ("sun", "rain", "low", "high", "a long run", "home", "25", "grade 1", "Bob", "날씨")
TEMPLATES = ("It is {}.", "She is {} years old", "We saw {} today.", "Today {} was there!", "Her score: {}%")


@dataclass(frozen=True)
class Program:
    """A model function of a language model, with what it was made from."""

    parents: tuple[tuple[int, ...], ...]
    options: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    scoring: str = "sequence"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"x{i}" for i in range(len(self.parents)))

    def __call__(self, lm: sd.LanguageModel) -> sd.Phrase:
        phrases: list[sd.Phrase] = []
        for name, parents, options, template in zip(
            self.names, self.parents, self.options, self.templates, strict=True
        ):
            choice = sd.Choice(lm, template, options, given=[phrases[p] for p in parents], scoring=self.scoring)
            phrases.append(sd.sample(name, choice))
        return phrases[-1]


@st.composite
def programs(draw: Callable[..., Any], max_sites: int = 4) -> Program:
    count = draw(st.integers(2, max_sites))
    parents, options, templates = [], [], []
    for i in range(count):
        parents.append(tuple(j for j in range(i) if draw(st.booleans())))
        options.append(tuple(draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=3, unique=True))))
        templates.append(draw(st.sampled_from(TEMPLATES)))
    scoring = draw(st.sampled_from(["sequence", "option", "mean", "reference"]))
    return Program(tuple(parents), tuple(options), tuple(templates), scoring)

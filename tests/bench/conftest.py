"""A small benchmark that several tests read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdscm_jax.bench.generation import generate
from sdscm_jax.families import Family

# Between dose and result stand two mediators; season is hidden.
SMALL = {
    "name": "small",
    "variables": [
        {"name": "season", "options": ["sunny", "rainy"], "templates": ["The weather is {}.", "It is {} outside."]},
        {"name": "age", "options": ["25", "45", "65"], "templates": ["She is {} years old."], "parents": ["season"]},
        {
            "name": "dose",
            "options": ["low", "high"],
            "templates": ["The dose is {}.", "It is {}."],
            "parents": ["season", "age"],
        },
        {"name": "sleep", "options": ["low", "high"], "templates": ["The level of sleep is {}."], "parents": ["dose"]},
        {"name": "mood", "options": ["low", "high"], "templates": ["Her mood is {}."], "parents": ["dose", "sleep"]},
        {
            "name": "run",
            "options": ["low", "high"],
            "templates": ["The speed of the run is {}."],
            "parents": ["season", "dose", "sleep", "mood"],
        },
    ],
    "treatment": "dose",
    "outcome": "run",
    "hidden": ["season"],
}
UNITS = 60


@pytest.fixture(scope="session")
def small() -> Family:
    return Family.from_json(json.loads(json.dumps(SMALL)))


@pytest.fixture(scope="session")
def benchmark(small: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three data sets in two wordings, from the embedded language model. Not to be written to."""
    return generate(small, tmp_path_factory.mktemp("benchmark"), datasets=3, wordings=2, units=UNITS, progress=False)

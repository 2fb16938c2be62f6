"""A program whose language model was asked beforehand, once for all tests of effects."""

from __future__ import annotations

import pytest

import sdscm_jax as sd
from sdscm_jax.engine.tabulation import TrieScorer

from .hiring import hiring


@pytest.fixture(scope="session")
def table(embedded: sd.LanguageModel) -> sd.Tabulated:
    """``hiring`` without its language model."""
    return sd.tabulate(hiring, embedded, scorer=TrieScorer(memory=1 << 24))

"""Contexts without repetition, in order."""

from __future__ import annotations

import numpy as np
import pytest

from sdscm_jax.dsl.scoring.contexts import unique_contexts


@pytest.mark.parametrize("most", [2, 2**30])
def test_distinct_contexts_are_those_of_numpy(most: int) -> None:
    """Whether a context fits one number or not, and with numbers that are no option's."""
    rng = np.random.default_rng(0)
    contexts = rng.choice([-1, 0, 1, most], size=(200, 4)).astype(np.int32)
    expected = np.unique(contexts, axis=0, return_index=True, return_inverse=True)
    for own, other in zip(unique_contexts(contexts), expected, strict=True):
        assert np.array_equal(own, other.reshape(own.shape))

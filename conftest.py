"""Settings of every test and doctest."""

import jax
import pytest

# Tests whose time is what they compute; that of the others is nearly all compilation, by XLA.
_COMPUTE = ("tests/models", "test_enumeration")


def pytest_runtest_setup(item: pytest.Item) -> None:
    jax.config.update("jax_disable_most_optimizations", not any(part in str(item.path) for part in _COMPUTE))

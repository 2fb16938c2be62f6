"""Settings of every test and doctest."""

import gc
import os

import jax
import pytest

# Half of a test's time is XLA's compilation, which its older emitters do twice as fast; the processes that a test
# starts have them too. Slow tests, and those of parity, have the usual ones, and so does a run with flags of its own.
_EMITTERS = "--xla_cpu_use_fusion_emitters"

# Tests whose time is what they compute.
_COMPUTE = ("test_embedded", "test_training_tables")


def pytest_configure(config: pytest.Config) -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    if config.option.markexpr not in ("slow", "oracle") and _EMITTERS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_EMITTERS}=false".strip()


def pytest_collection_finish() -> None:
    # Tracing makes many small objects, and what is imported is not garbage: look for it less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_runtest_setup(item: pytest.Item) -> None:
    optimized = item.get_closest_marker("oracle") or any(part in str(item.path) for part in _COMPUTE)
    jax.config.update("jax_disable_most_optimizations", not optimized)

"""Settings of every test and doctest."""

import gc
import os

import pytest

# Most of a test's time is XLA's compilation. Its older emitters take half as long as the usual ones; the processes that
# a test starts have them too. A run of one's own flags is left alone, so that both can be tested.
_EMITTERS = "--xla_cpu_use_fusion_emitters"
if _EMITTERS not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_EMITTERS}=false".strip()

import jax  # noqa: E402

# Tests whose time is what they compute; that of the others is nearly all compilation, by XLA.
_COMPUTE = ("test_embedded", "test_training_tables")


def pytest_collection_finish() -> None:
    # Tracing makes many small objects, and what is imported is not garbage: look for it less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Parity is that of the programs that users run.
    optimized = item.get_closest_marker("oracle") or any(part in str(item.path) for part in _COMPUTE)
    jax.config.update("jax_disable_most_optimizations", not optimized)

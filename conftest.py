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


def pytest_collection_finish() -> None:
    # Tracing makes many small objects, and what is imported is not garbage: look for it less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Parity is that of programs as users run them; slow tests have much to compute.
    optimized = any(item.get_closest_marker(name) for name in ("oracle", "slow"))
    jax.config.update("jax_disable_most_optimizations", not optimized)

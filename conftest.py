"""Settings of every test and doctest."""

import gc
import os
from collections import Counter
from typing import Any

import jax
import pytest

from tests.needs import what_did_not_run

# Half of a test's time is XLA's compilation, which its older emitters do twice as fast, and a module that is not cut
# into parts for other threads a quarter faster still; the processes that a test starts have these flags too. Tests of
# parity, and what is looked for by the thousand, have the usual ones, and so does a run with flags of its own.
_QUICK = {"--xla_cpu_parallel_codegen_split_count": "1"}
# The XLA of later releases has no older emitters, and ends a process that asks for them.
if jax.__version_info__ < (0, 11):
    _QUICK["--xla_cpu_use_fusion_emitters"] = "false"

# Tests whose time is what they compute.
_COMPUTE = ("test_embedded",)


def pytest_configure(config: pytest.Config) -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    if config.option.markexpr not in ("oracle", "search"):
        quick = (f"{name}={value}" for name, value in _QUICK.items() if name not in flags)
        os.environ["XLA_FLAGS"] = " ".join(filter(None, (flags, *quick)))


def pytest_collection_finish() -> None:
    # Tracing makes many small objects, and what is imported is not garbage: look for it less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_runtest_setup(item: pytest.Item) -> None:
    optimized = item.get_closest_marker("oracle") or any(part in str(item.path) for part in _COMPUTE)
    jax.config.update("jax_disable_most_optimizations", not optimized)


# -- what did not run, said at the end ------------------------------------------------------------

# How many tests of each marker were not selected. Every process of pytest-xdist collects all tests.
_DESELECTED: Counter[str] = Counter()


def _markers(config: pytest.Config) -> list[str]:
    return [line for line in config.getini("markers") if line.startswith(("slow:", "oracle:", "search:"))]


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        _DESELECTED.update({mark.name for mark in item.iter_markers()})


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["deselected"] = dict(_DESELECTED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for name, count in getattr(node, "workeroutput", {}).get("deselected", {}).items():
        _DESELECTED[name] = max(_DESELECTED[name], count)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])]
    lines = what_did_not_run(reasons, _DESELECTED, _markers(config))
    if lines:
        terminalreporter.section("what did not run, and what turns it on")
        terminalreporter.write("\n".join(lines) + "\n")

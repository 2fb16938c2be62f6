"""Every keeper: killed and resumed is never killed, a full disk is one error, and no damage is believed.

A few trials of each are slow tests; ``-m search`` makes as many as ``docs/reliability.md`` tells of, with another seed
(``SDSCM_KEEPING_SEED``), and ``SDSCM_KEEPING`` times as many.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import pytest

from tests.keeping import trials
from tests.keeping.registry import KEEPERS, READERS, Files, Keeper
from tests.keeping.server import DONE

TIMES = int(os.environ.get("SDSCM_KEEPING", "1"))
SEED = int(os.environ.get("SDSCM_KEEPING_SEED", "1"))
ROOT = Path(__file__).parents[2]

# How many of each are tried in CI, and in a search.
few = pytest.mark.slow
many = pytest.mark.search


@dataclass(frozen=True)
class Tried:
    """A keeper, a place of its own, and what it keeps undisturbed, by how many calls of the system."""

    keeper: Keeper
    place: Path
    expected: Files
    calls: int


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """In memory, where there is such a place: nothing here is about a disk that is slow."""
    found = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    optimized = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield found
    jax.config.update("jax_disable_most_optimizations", optimized)
    shutil.rmtree(found)


@pytest.fixture(scope="module", params=list(KEEPERS))
def tried(request: pytest.FixtureRequest, place: Path) -> Iterator[Tried]:
    keeper = KEEPERS[request.param]
    with keeper.hurried():
        own = place / request.param
        own.mkdir()
        calls = trials.calls_of(keeper, own / "whole")
        yield Tried(keeper, own, keeper.same_bytes(own / "whole"), calls)


@pytest.mark.parametrize("times", [pytest.param(1, marks=few), pytest.param(30 * TIMES, marks=many)])
def test_killed_again_and_again(tried: Tried, times: int) -> None:
    """Before a call by which a file is written, or in the middle of it; each run goes on from the kill before."""
    found = trials.killed(tried.keeper, tried.place / "killed", tried.expected, tried.calls, times, SEED)
    print(found)
    assert found["killed"] == times


@pytest.mark.parametrize("times", [pytest.param(1, marks=few), pytest.param(12 * TIMES, marks=many)])
def test_a_full_disk_is_one_error(tried: Tried, times: int) -> None:
    """At a call, on a disk of so many bytes or files, or where no file may grow; then it goes on to the same bytes."""
    found = trials.full(tried.keeper, tried.place / "full", tried.expected, tried.calls, times, SEED)
    print(found)
    assert sum(found.values()) == times


@pytest.mark.parametrize("times", [pytest.param(5, marks=few), pytest.param(1500 * TIMES, marks=many)])
def test_no_damage_is_believed(tried: Tried, times: int) -> None:
    found = trials.damaged(tried.keeper, tried.place / f"damaged {times}", times, SEED)
    print(found)
    assert found["refused"] > times // 3
    assert found["refused"] + found["same"] == times


@pytest.mark.parametrize("times", [pytest.param(5, marks=few), pytest.param(1500 * TIMES, marks=many)])
@pytest.mark.parametrize("name", READERS)
def test_no_damage_is_believed_by_who_reads(place: Path, name: str, times: int) -> None:
    found = trials.damaged(READERS[name], place / f"{name} {times}", times, SEED)
    print(found)
    assert found["refused"] > times // 3
    assert found["refused"] + found["same"] == times


class Server:
    """Makes what it is asked to in a child, which may be killed meanwhile."""

    def __init__(self, keeper: str, place: Path):
        self.keeper, self.place = KEEPERS[keeper], place
        self._name, self._said = keeper, place / "said.json"
        command = [sys.executable, "-m", "tests.keeping.server", str(place / "cache")]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "SDSCM_KEEPING_PLACE": str(place)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )

    def make(self, directory: str, kill_at: int | None = None, kill_after: float | None = None) -> tuple[int, Any]:
        """How the child ended (minus a signal), and what it said."""
        self._said.unlink(missing_ok=True)
        where = str(self.place / directory)
        asked = {"keeper": self._name, "said": str(self._said), "directory": where, "kill_at": kill_at}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            threading.Timer(kill_after, _kill, [child]).start()
        status = os.waitstatus_to_exitcode(int(self.process.stdout.readline()))
        return status, json.loads(self._said.read_text()) if self._said.exists() else None

    def files(self, directory: str) -> Files:
        return self.keeper.same_bytes(self.place / directory)


def _kill(child: int) -> None:
    with suppress(ProcessLookupError):  # it was done already
        os.kill(child, signal.SIGKILL)


@pytest.mark.search
@pytest.mark.parametrize("name", KEEPERS)
def test_processes_that_are_killed(name: str, place: Path) -> None:
    """By the system, at a call by which a file is written or at any moment."""
    own = place / f"processes {name}"
    own.mkdir()
    server, rng, killed = Server(name, own), random.Random(SEED), 0
    with server.process as process:
        assert process.stdin is not None
        try:
            # The first one compiles.
            for directory in ("first", "whole"):
                started = time.perf_counter()
                status, said = server.make(directory)
                assert status == DONE, said
            seconds, calls = time.perf_counter() - started, said["calls"]
            assert server.files("first") == server.files("whole")
            for number in range(TIMES):
                directory = f"killed {number}"
                for attempt in range(4):
                    if attempt == 3:
                        status, said = server.make(directory, kill_after=rng.uniform(0, seconds))
                    else:
                        status, said = server.make(directory, kill_at=rng.randrange(calls))
                    assert status in (DONE, -signal.SIGKILL), said
                    killed += status != DONE
                status, said = server.make(directory)
                assert status == DONE, said
                assert server.files(directory) == server.files("whole")
        finally:
            process.stdin.close()
    print(killed)
    assert killed >= TIMES

"""Every keeper: killed and resumed is never killed, a full disk is one error, and no damage is believed.

How much is tried: ``SDSCM_KEEPING`` times as much as the few that are tried by default.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.keeping.registry import KEEPERS
from tests.keeping.server import DONE, OWN_ERROR

pytestmark = pytest.mark.search

TIMES = int(os.environ.get("SDSCM_KEEPING", "1"))
ROOT = Path(__file__).parents[2]


class Server:
    """Does what it is asked to in a child, which may be killed meanwhile."""

    def __init__(self, keeper: str, place: Path):
        self.keeper, self.place = KEEPERS[keeper], place
        self._name, self._said = keeper, place / "said.json"
        command = [sys.executable, "-m", "tests.keeping.server", str(place / "cache")]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )

    def ask(self, do: str, directory: str, kill_after: float | None = None, **options: Any) -> tuple[int, Any]:
        """How the child ended (minus a signal), and what it said."""
        self._said.unlink(missing_ok=True)
        where = str(self.place / directory)
        asked = {"keeper": self._name, "said": str(self._said), "do": do, "directory": where, **options}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            threading.Timer(kill_after, _kill, [child]).start()
        status = os.waitstatus_to_exitcode(int(self.process.stdout.readline()))
        return status, json.loads(self._said.read_text()) if self._said.exists() else None

    def files(self, directory: str) -> dict[str, bytes]:
        return self.keeper.same_bytes(self.place / directory)


def _kill(child: int) -> None:
    with suppress(ProcessLookupError):  # it was done already
        os.kill(child, signal.SIGKILL)


@pytest.fixture(scope="module", params=list(KEEPERS))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Any]]:
    """A keeper, what it keeps undisturbed, with its calls of the system and its seconds."""
    server = Server(request.param, tmp_path_factory.mktemp(request.param))
    try:
        # The first one compiles.
        for directory in ("first", "whole"):
            started = time.perf_counter()
            status, said = server.ask("make", directory)
            assert status == DONE, said
        assert server.files("first") == server.files("whole")
        yield server, {"seconds": time.perf_counter() - started, **said}
    finally:
        with server.process as process:
            assert process.stdin is not None
            process.stdin.close()


def test_killed_again_and_again(served: tuple[Server, Any]) -> None:
    """At a call by which a file is written, or at any moment; each killed run goes on from the one before."""
    server, usual = served
    rng, killed = random.Random(0), 0
    for number in range(3 * TIMES):
        directory = f"killed {number}"
        for attempt in range(4):
            if attempt % 2:
                status, _ = server.ask("make", directory, kill_after=rng.uniform(0, usual["seconds"]))
            else:
                status, _ = server.ask("make", directory, kill_at=rng.randrange(usual["calls"]))
            assert status in (DONE, -signal.SIGKILL)
            killed += status != DONE
        status, said = server.ask("make", directory)
        assert status == DONE, said
        assert server.files(directory) == server.files("whole")
    assert killed > 3 * TIMES


def test_a_full_disk_is_one_error(served: tuple[Server, Any]) -> None:
    server, _ = served
    rng, size = random.Random(0), sum(map(len, server.files("whole").values()))
    for number in range(4 * TIMES):
        directory = f"full {number}"
        status, said = server.ask("make", directory, room=rng.randrange(int(0.9 * size)) if number else 0)
        assert status == OWN_ERROR, said
        assert "No space left" in said["error"]
        status, said = server.ask("make", directory)
        assert status == DONE, said
        assert server.files(directory) == server.files("whole")


def test_no_damage_is_believed(served: tuple[Server, Any]) -> None:
    server, _ = served
    status, said = server.ask("damage", "whole", times=25 * TIMES, seed=0)
    assert status == DONE, said
    assert not said["wrong"], said["wrong"]
    assert said["refused"] > 0
    assert said["refused"] + said["same"] == 25 * TIMES

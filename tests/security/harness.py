"""Runs cases in children, and says of each what became of it: accepted, an error, or that the child hung or died."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..needs import ROOT

CHILD = Path(__file__).with_name("child.py")
# Seconds by the clock until a case is said to hang; the first of a child imports the library, on a machine with work.
WAIT = 60


class Outcome(NamedTuple):
    """``accepted``, ``Kind: message`` of our own error, ``RAW …`` of another, ``HUNG`` or ``DIED …``; MiB at most."""

    said: str
    megabytes: int


def outcomes(work: str, paths: Sequence[Path], place: Path) -> dict[Path, Outcome]:
    """What became of each path, handed to the function ``work`` of ``child.py``; ``place`` is its working directory.

    Whoever asks anything gets a yes.
    """
    found: dict[Path, Outcome] = {}
    listing, results, yes = place / "cases.txt", place / "results.txt", place / "yes.txt"
    yes.write_text("y\n" * 10_000)
    results.touch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
    while left := [path for path in paths if path not in found]:
        listing.write_text("".join(f"{path}\n" for path in left), encoding="utf-8")
        with yes.open() as asked, (place / "said.txt").open("ab") as said:
            child = subprocess.Popen(
                [sys.executable, "-P", str(CHILD), work, str(listing), str(results)], cwd=place, env=environment,
                stdin=asked, stdout=said, stderr=said,
            )  # fmt: skip
            try:
                _follow(child, results, found)
            finally:
                child.kill()
                child.wait()
        here = next((path for path in left if path not in found), None)
        if here is not None:
            dead = child.returncode
            found[here] = Outcome("HUNG" if dead == -9 else f"DIED with {dead}", 0)
    return found


def _follow(child: subprocess.Popen[bytes], results: Path, found: dict[Path, Outcome]) -> None:
    """Read results until the child ends, or says nothing for too long."""
    heard, count = time.monotonic(), len(found)
    while True:
        ended = child.poll() is not None
        for line in results.read_text(encoding="utf-8").splitlines():
            path, said, megabytes = json.loads(line)
            found[Path(path)] = Outcome(said, megabytes)
        if len(found) != count:
            heard, count = time.monotonic(), len(found)
        if ended or time.monotonic() - heard > WAIT:
            return
        time.sleep(0.2)

"""Runs a keeper in children of a process that has imported everything: ``python -m tests.keeping.server CACHE``.

A line of standard input is a request, a line of standard output its answer, both JSON.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401

import sdscm_jax  # noqa: F401
from sdscm_jax import audit, bench  # noqa: F401
from sdscm_jax.errors import SDSCMError
from tests.keeping.registry import KEEPERS, Keeper

# How a child ended.
DONE, OWN_ERROR, RAW_ERROR = 0, 3, 4
# What a file is made there and safe by.
CALLS = ("open", "write", "fsync", "rename", "unlink")


class Kernel:
    """Counts the calls by which files are written; kills or fails at one of them."""

    def __init__(self, kill_at: int | None, room: int | None):
        self.count, self.kill_at, self.room = 0, kill_at, room
        for name in CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR):
                return plain(*args, **options)
            if self.count == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1
            if name == "write" and self.room is not None:
                data = memoryview(args[1])[: max(0, self.room)]
                if not data and len(args[1]):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.room -= len(data)
                args = (args[0], data)
            return plain(*args, **options)

        return call


def make(keeper: Keeper, directory: str, kill_at: int | None = None, room: int | None = None) -> dict[str, Any]:
    kernel = Kernel(kill_at, room)
    keeper.make(Path(directory))
    return {"calls": kernel.count}


def damage(keeper: Keeper, directory: str, times: int, seed: int) -> dict[str, Any]:
    """Damage a finished directory again and again; how often that was an error, the same bytes, or neither."""
    whole, expected = Path(directory), keeper.same_bytes(Path(directory))
    rng = random.Random(seed)
    files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    found: dict[str, Any] = {"refused": 0, "same": 0, "wrong": []}
    place = whole.with_name(whole.name + "-damaged")
    for _ in range(times):
        shutil.copytree(whole, place)
        file, other = rng.choice(files), rng.choice(files)
        how = _damaged(rng, place / file, place / other)
        try:
            keeper.make(place)
        except SDSCMError:
            found["refused"] += 1
        except Exception as error:
            found["wrong"].append(f"{how} {file}: {type(error).__name__}: {error}")
        else:
            if keeper.same_bytes(place) == expected:
                found["same"] += 1
            else:
                found["wrong"].append(f"{how} {file} (with {other}): other bytes")
        shutil.rmtree(place)
    return found


def _damaged(rng: random.Random, file: Path, other: Path) -> str:
    data = file.read_bytes()
    how = rng.choice(["flip", "flip", "flip", "cut", "zeros", "longer", "empty", "missing", "swap", "JSON"])
    if how == "flip" and data:
        at = rng.randrange(len(data))
        file.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    elif how == "cut":
        file.write_bytes(data[: rng.randrange(len(data) or 1)])
    elif how == "zeros":
        file.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    elif how == "longer":
        file.write_bytes(data + b"0")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "missing":
        file.unlink()
    elif how == "swap":
        file.write_bytes(other.read_bytes())
        other.write_bytes(data)
    elif how == "JSON":
        file.write_bytes(rng.choice([b"[]", b"{}", b"null", b"[" * 100_000]))
    return how


def main(cache: str) -> None:
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_disable_most_optimizations", True)
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        what = json.loads(line)
        keeper, said = KEEPERS[what.pop("keeper")], Path(what.pop("said"))
        child = os.fork()
        if child == 0:
            status = DONE
            try:
                function = {"make": make, "damage": damage}[what.pop("do")]
                said.write_text(json.dumps(function(keeper, **what)))
            except SDSCMError as error:
                status = OWN_ERROR
                said.write_text(json.dumps({"error": str(error)}))
            except BaseException:
                status = RAW_ERROR
                said.write_text(json.dumps({"error": traceback.format_exc()}))
            os._exit(status)
        print(child, file=answers, flush=True)
        print(os.waitpid(child, 0)[1], file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

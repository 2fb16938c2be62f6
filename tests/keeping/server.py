"""Runs a keeper in children of a process that has imported everything: ``python -m tests.keeping.server CACHE``.

A line of standard input is a request, a line of standard output its answer, both JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import jax
import pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401

import sdscm_jax  # noqa: F401
from sdscm_jax import audit, bench  # noqa: F401
from tests.keeping.kernel import Kernel
from tests.keeping.registry import KEEPERS

# How a child ended.
DONE, FAILED = 0, 4


def make(keeper: str, directory: str, kill_at: int | None) -> dict[str, Any]:
    def killed(number: int, name: str, args: tuple[Any, ...]) -> None:
        if number == kill_at:
            if name == "write":
                kernel.write_half(args)
            os.kill(os.getpid(), signal.SIGKILL)

    kernel = Kernel(killed)
    with kernel.watching():
        KEEPERS[keeper].make(Path(directory))
    return {"calls": kernel.count}


def main(cache: str) -> None:
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_disable_most_optimizations", True)
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        what = json.loads(line)
        said = Path(what.pop("said"))
        child = os.fork()
        if child == 0:
            status = DONE
            try:
                said.write_text(json.dumps(make(**what)))
            except BaseException:
                status = FAILED
                said.write_text(json.dumps({"error": traceback.format_exc()}))
            os._exit(status)
        print(child, file=answers, flush=True)
        print(os.waitpid(child, 0)[1], file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

"""The process in which chat templates are rendered: a program that came with data, and may never end.

It is run as a script (see ``template_process``) and reads requests, one JSON object a line; it answers each with
``text``, or ``error`` and its ``kind``, and with the ``seconds`` of the processor. The system ends it where a request
takes more of the processor than ``seconds`` of the command line, and refuses memory beyond ``megabytes``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def main(path: list[str], seconds: float, megabytes: int) -> None:
    """Answer until there are no more requests."""
    sys.path[:] = path
    # What a library prints is no answer.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    from transformers.utils.chat_template_utils import render_jinja_template

    _limit_memory(megabytes * 2**20)
    for line in sys.stdin:
        started = time.process_time()
        _stop_after(seconds)
        try:
            answer = {"text": _rendered(render_jinja_template, json.loads(line))}
        except Exception as error:  # a template raises what it likes
            answer = {"error": str(error)[:2000], "kind": type(error).__name__}
        _stop_after(0)
        answers.write(json.dumps({**answer, "seconds": time.process_time() - started}) + "\n")
        answers.flush()


def _rendered(render: Any, request: dict[str, Any]) -> str:
    messages, rest = request["messages"], request["given"]
    text = render(
        conversations=[messages], chat_template=request["template"], add_generation_prompt=request["ask"], **rest
    )[0][0]
    if len(text) > request["longest"]:
        raise MemoryError(f"it writes {len(text):,} characters")
    return str(text)


def _limit_memory(more: int) -> None:
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):  # not on Linux
        return
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)


def _stop_after(seconds: float) -> None:
    # The signal ends the process by itself, within a call of C too.
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))

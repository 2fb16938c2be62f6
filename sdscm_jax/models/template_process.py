"""Chat templates are rendered in a process of their own, which bounds their time and memory.

Jinja's sandbox keeps a template away from files and from Python, but neither from a loop of 10^10 steps nor from a text
of 10 GB; the operating system does.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import TemplateError

# Of one conversation: seconds of the processor, MiB beside what Python and transformers take, characters. Templates
# that are published take milliseconds.
SECONDS, MEGABYTES, LONGEST = 2.0, 1024, 2**24
# Seconds by the clock: where the system cannot count those of the processor, or the machine is busy.
_CLOCK = 60.0
_WORKER = Path(__file__).with_name("template_worker.py")


class Rendered(NamedTuple):
    """A conversation, with the seconds of the processor that it took."""

    text: str
    seconds: float


class RefusedError(Exception):
    """The template raised an error of its own."""


def render(template: str, messages: Sequence[Mapping[str, str]], ask: bool, given: Mapping[str, Any]) -> Rendered:
    """What ``transformers`` renders of a chat template.

    Args:
        template: the template.
        messages: of the conversation.
        ask: for an answer.
        given: the variables of the template.

    Raises:
        TemplateError: it takes more than a conversation may.
        RefusedError: an error of the template's own.
        ImportError: Jinja is missing.

    >>> render("{% for m in messages %}{{ m.role }}{% endfor %}", [{"role": "user"}], False, {}).text
    'user'
    """
    request = {"template": template, "messages": list(messages), "ask": ask, "given": given, "longest": LONGEST}
    answer = _ask(json.dumps(request, default=str))
    if answer is None or answer.get("kind") == "MemoryError":
        raise TemplateError(
            f"the chat template takes more than {SECONDS:g} s of the processor or {MEGABYTES} MiB of memory for one "
            "conversation, or writes more than one can be: it is not rendered"
        )
    if "error" in answer:
        raise (ImportError if answer["kind"] == "ImportError" else RefusedError)(answer["error"])
    return Rendered(answer["text"], answer["seconds"])


_LOCK = threading.Lock()
# The process, and of which process it is the child.
_running: tuple[subprocess.Popen[str], int] | None = None


def _ask(request: str) -> dict[str, Any] | None:
    """The answer; None where there is none."""
    with _LOCK:
        process = _process()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(_CLOCK, process.kill)
        timer.daemon = True
        timer.start()
        answer = ""
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            pass
        finally:
            timer.cancel()
            # Also where the user interrupts: an answer that comes later is not the next one's.
            if not answer.endswith("\n"):
                _close()
        found: dict[str, Any] | None = json.loads(answer) if answer.endswith("\n") else None
        return found


def _process() -> subprocess.Popen[str]:
    global _running
    if _running is not None and _running[1] != os.getpid():
        # This process is a fork: the child is its parent's.
        _running[0].returncode = 0
        _running = None
    if _running is not None and _running[0].poll() is not None:
        _close()
    if _running is None:
        # Not the working directory, where any file could stand.
        path = [place for place in sys.path if os.path.isabs(place)]
        command = [sys.executable, "-I", str(_WORKER), json.dumps(path), str(SECONDS), str(MEGABYTES)]
        made = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            encoding="ascii", start_new_session=True,
        )  # fmt: skip
        _running = made, os.getpid()
    return _running[0]


@atexit.register
def _close() -> None:
    global _running
    if _running is None or _running[1] != os.getpid():
        return
    process, _running = _running[0], None
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()

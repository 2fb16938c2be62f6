"""A chat template is a program of the checkpoint: what it may take is bounded, and what it writes is what it wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import sdscm_jax as sd
from sdscm_jax.models import template_process
from sdscm_jax.models.chat import Chat, ChatCodec
from sdscm_jax.models.template_process import render

from ..chats import tokenizer
from .hostile_templates import HOSTILE

SAID = [{"role": "user", "content": "It is low."}]
PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
# The rest takes its seconds.
QUICK = ("the object's classes",)


def refused(template: str) -> None:
    started = time.monotonic()
    with pytest.raises((sd.TemplateError, template_process.RefusedError)):
        render(template, SAID, False, {})
    assert time.monotonic() - started < 40


@pytest.mark.parametrize("name", QUICK)
def test_templates_that_take_too_much(name: str) -> None:
    refused(HOSTILE[name])
    assert render("{{ messages[0].content }}", SAID, False, {}).text == "It is low."


@pytest.mark.search
@pytest.mark.parametrize("name", sorted({*HOSTILE} - {*QUICK}))
def test_more_templates_that_take_too_much(name: str) -> None:
    refused(HOSTILE[name])


@pytest.mark.slow
def test_a_checkpoint_with_such_a_template() -> None:
    """It is refused at the load, with the template's own fault; the process that asked keeps its memory."""
    made = tokenizer("", "gpt2")
    made.chat_template = HOSTILE["many letters"] + PLAIN
    try:
        with pytest.raises(sd.TemplateError, match=r"chat template takes more than 2 s .* 1024 MiB"):
            ChatCodec(made, Chat())
        made.chat_template = HOSTILE["loops that write nothing"] + PLAIN
        with pytest.raises(sd.TemplateError, match="chat template takes more than 2 s"):
            ChatCodec(made, Chat())
    finally:
        made.chat_template = None


@pytest.mark.search
def test_a_template_that_is_slow_every_time() -> None:
    """Each conversation stays below the bound, but there are hundreds."""
    made = tokenizer("", "gpt2")
    made.chat_template = "{% for a in range(99999) %}{% for b in range(40) %}{% endfor %}{% endfor %}" + PLAIN
    try:
        with pytest.raises(sd.TemplateError, match=r"takes .* for each of .* conversations"):
            ChatCodec(made, Chat()).check((tuple(map(str, range(200))),), ("Yes", "No"))
    finally:
        made.chat_template = None


def test_what_it_is_told_arrives() -> None:
    """Texts and variables as they are: lone surrogates, every control character, names that transformers uses."""
    text = "".join(map(chr, range(32))) + "\x7f\u2028é\U0001f600\ud800"
    given = {"bos_token": "<s>", "tools": [{"a": [1, 2.5, None, True]}], "x": {"y": "\n"}}
    template = "{{ bos_token }}{{ messages[0].content }}|{{ tools | tojson }}|{{ x.y }}|"
    found = render(template, [{"role": "user", "content": text}], False, given).text
    assert found == f"<s>{text}|{json.dumps(given['tools'])}|\n|"


def test_threads_take_turns() -> None:
    found: dict[int, str] = {}

    def ask(i: int) -> None:
        found[i] = render("{{ messages[0].content }}", [{"role": "user", "content": str(i)}], False, {}).text

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: str(i) for i in range(8)}


def test_a_worker_that_died_is_replaced() -> None:
    render("x", SAID, False, {})
    assert template_process._running is not None
    worker = template_process._running[0]
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert render("y", SAID, False, {}).text == "y"


@pytest.mark.search
def test_no_worker_outlives_its_caller(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Nor does a file of the working directory take the place of a library in it."""
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')\n")
    program = (
        "import sys, os; sys.path = [p for p in sys.path if p]\n"
        "from sdscm_jax.models import template_process as t\n"
        "print(t.render('a', [{'role': 'user', 'content': 'x'}], False, {}).text, t._running[0].pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    text, pid = done.stdout.split()
    assert text == "a"
    for _ in range(100):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the worker is still there")

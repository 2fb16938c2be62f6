"""Calls with one or two arguments replaced, and a verdict on what each of them did."""

from __future__ import annotations

import random
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import sdscm_jax as sd

from .calls import PUBLIC
from .values import VALUES

SECONDS = 60
# A message is read by a person.
MOST_CHARACTERS = 4_000


class Slow(BaseException):
    """A call took too long."""


class Case(NamedTuple):
    """A call by name, and the values (by name) that replace some of its arguments."""

    call: str
    replaced: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.call}({', '.join(f'{name}={value}' for name, value in self.replaced)})"


def cases(seed: int) -> Iterator[Case]:
    """Cases without end: every callable as often as another; two arguments in every fourth."""
    rng = random.Random(seed)
    names = sorted(PUBLIC)
    while True:
        rng.shuffle(names)
        for call in names:
            known = list(PUBLIC[call].arguments)
            several = min(len(known), 2 if rng.random() < 0.25 else 1)
            yield Case(call, tuple((name, rng.choice(list(VALUES))) for name in rng.sample(known, several)))


def fault(case: Case) -> str | None:
    """What is wrong with what a call did; None: nothing."""
    call = PUBLIC[case.call]
    given = {name: argument.good() for name, argument in call.arguments.items()}
    verdicts = []
    for name, value in case.replaced:
        # Twice: a generator can be looked at once.
        verdicts.append(call.arguments[name].meaning(VALUES[value]()))
        given[name] = VALUES[value]()
    nonsense, right = False in verdicts, all(verdict is True for verdict in verdicts)
    error = _outcome(call, given)
    if error is None:
        return "taken" if nonsense else None
    if isinstance(error, sd.SDSCMError):
        if right:
            return f"refused: {str(error)[:200]}"
        try:
            str(error).encode()
        except UnicodeEncodeError:
            return "a message that no terminal can print"
        return None if len(str(error)) <= MOST_CHARACTERS else f"a message of {len(str(error))} characters"
    place = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in place if "sdscm_jax" in frame.filename]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {where}: {str(error)[:150]}"


def _outcome(call: Any, given: dict[str, Any]) -> BaseException | None:
    def late(*_: Any) -> None:
        raise Slow("no answer in time")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with tempfile.TemporaryDirectory() as out, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call.call(Path(out), **given)
    except (Exception, Slow) as error:
        return error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return None

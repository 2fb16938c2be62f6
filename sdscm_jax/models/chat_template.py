"""The text of a conversation, as the chat template of a tokenizer writes it: on one day as on any other."""

from __future__ import annotations

import difflib
import itertools
import math
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from ..checks import told
from ..errors import LoadError, TemplateError
from . import template_process

# Days that no form of a date says in the same way.
_DAYS = datetime(2001, 2, 3, 4, 5, 6), datetime(2018, 11, 25, 17, 48, 59), datetime(2099, 8, 16, 11, 30, 31)
# Functions cannot be handed to a template, so this one stands before it, in the place of that which asks the clock. The
# line end goes, as behind any block.
_CLOCK = (
    "{% macro strftime_now(format) %}{% set ns = namespace(said=format) %}{% for form, said in sdscm_day %}"
    "{% set ns.said = ns.said | replace(form, said) %}{% endfor %}{{ ns.said }}{% endmacro %}\n"
)
# Conversations that are written for one site: all where they are so few, else not many more.
_ALL, _PAIRS = 512, 40_000
# Seconds of the processor that a conversation may take on average, as there are many.
_EACH = 0.05


class ConversationWriter:
    """Writes conversations of a system, a user and an assistant.

    Args:
        tokenizer: the ``transformers`` tokenizer, with its chat template.
        system: the system's words, or None.
        variables: that the template reads besides.
        today: the day that the template is told, as ``2024-07-26``; None: it may not depend on it.

    Attributes:
        template: the template.
        clock: does it ask what day it is?
        day: what it is told.

    Raises:
        LoadError: there is no template, or it does not read a variable.
    """

    def __init__(self, tokenizer: Any, system: str | None, variables: Mapping[str, Any], today: str | None):
        self.tokenizer, self.system, self.variables, self.today = tokenizer, system, variables, today
        self.day = _DAYS[0] if today is None else datetime.fromisoformat(today)
        self.template = _template_of(tokenizer, variables)
        self._written, self._seconds = 0, 0.0
        self.clock = "strftime_now" in self.template
        for name in variables:
            words = set(re.findall(r"\w+", self.template))
            if name not in words:
                close = difflib.get_close_matches(name, words, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise LoadError(f"the chat template reads no variable {name!r}{hint}")

    def write(
        self, said: str, answer: str | None = None, *, ask: bool | None = None, day: datetime | None = None
    ) -> str:
        """The whole conversation.

        Args:
            said: by the user.
            answer: the assistant's; None: none is there.
            ask: for an answer; None: where there is none.
            day: that the template is told; None: ``day`` of this.

        Raises:
            LoadError: the template refuses it, or leaves the system's words out.
            TemplateError: it takes more time or memory than a conversation may.
        """
        turns = [("system", self.system), ("user", said), ("assistant", answer)]
        messages = [{"role": role, "content": text} for role, text in turns if text is not None]
        elsewhere = "; put the system text into Chat(user=..., alone=...)" if self.system is not None else ""
        given = dict(self.variables)
        if self.clock:
            given["sdscm_day"] = _forms(day or self.day)
        special = self.tokenizer.special_tokens_map
        try:
            text, seconds = template_process.render(
                (_CLOCK if self.clock else "") + self.template,
                messages,
                answer is None if ask is None else ask,
                {**special, **given},
            )
        except template_process.RefusedError as error:
            raise LoadError(f"the chat template refuses {[m['role'] for m in messages]}: {error}{elsewhere}") from error
        self._written, self._seconds = self._written + 1, self._seconds + seconds
        if self._seconds > template_process.SECONDS + _EACH * self._written:
            raise TemplateError(
                f"the chat template takes {self._seconds / self._written:.2g} s of the processor for each of "
                f"{self._written} conversations, where a few milliseconds are usual: it is not rendered any more"
            )
        if self.system is not None and self.system.strip() not in text:
            raise LoadError(f"the chat template leaves out the system text{elsewhere}")
        return text

    def refuse_clock(self, said: str, answer: str) -> None:
        """Refuse a template that writes something else on another day, up to where the answer begins.

        Args:
            said: by the user.
            answer: a word that stands nowhere else.

        Raises:
            LoadError: says how it is told the day.
        """
        days = (*_DAYS, datetime.now()) if self.clock and self.today is None else ()
        if len({(self.write(said, day=d), self.write(said, answer, day=d).partition(answer)[0]) for d in days}) > 1:
            raise LoadError(
                "the chat template writes today's date, or looks at it: the same program would be another one "
                "tomorrow. Say which day it is: Chat(today='2024-07-26')"
            )


def combinations(texts: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Choices of one text for each place: all of them where they are few.

    Else every two texts of two places meet in one; where even these are many, every text is in one.

    >>> list(combinations([("a", "b"), ("c",)]))
    [('a', 'c'), ('b', 'c')]
    """
    if math.prod(map(len, texts)) <= _ALL:
        return itertools.product(*texts)
    # Lines in the plane over the integers modulo a prime: for two places, one goes through each pair of heights.
    prime = max(len(texts), *map(len, texts))
    while any(prime % d == 0 for d in range(2, math.isqrt(prime) + 1)):
        prime += 1
    slopes = range(prime) if prime**2 <= _PAIRS else range(2)
    lines = itertools.product(range(prime), slopes)
    rows = (tuple(own[(a + i * b) % prime % len(own)] for i, own in enumerate(texts)) for a, b in lines)
    return iter(dict.fromkeys(rows))


@lru_cache(maxsize=16)
def _forms(day: datetime) -> tuple[tuple[str, str], ...]:
    """Every directive of a date's format, with what it says on a day; a per cent sign waits until the end."""
    found = [("%%", "\0")]
    for flag, letter in itertools.product(("", "-", "_", "^", "0"), string.ascii_letters):
        try:
            found.append((f"%{flag}{letter}", day.strftime(f"%{flag}{letter}")))
        except ValueError:  # not on every system
            continue
    return (*((form, text) for form, text in found if form != text), ("\0", "%"))


def _template_of(tokenizer: Any, variables: Mapping[str, Any]) -> str:
    template: Any
    try:
        template = tokenizer.get_chat_template(tools=variables.get("tools"))
    except ValueError as error:
        raise LoadError(
            "this tokenizer has no chat template, so it does not say how to talk to the model; load the model "
            f"without chat, or give the tokenizer one ({error})"
        ) from error
    if not isinstance(template, str):
        raise LoadError(f"this tokenizer's chat template is no text, but {told(template)}")
    return template

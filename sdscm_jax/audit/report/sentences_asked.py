"""The sentences that the language models were asked, each once."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from ..result import AuditResult
from .rows import as_rows


class Asked(NamedTuple):
    """One question; ``wordings`` names those that ask it (wording.option wording)."""

    site: str
    before: str
    prefix: str
    suffix: str
    options: tuple[str, ...]
    wordings: tuple[str, ...]

    @property
    def verbatim(self) -> str:
        """The text, with the options in brackets.

        Sentences are joined by a space, as in a context.

        >>> Asked("x", "Before.", "It is ", ".", ("low", "high"), ("0.0",)).verbatim
        'Before. It is [low | high].'
        """
        return f"{self.told}[{' | '.join(self.options)}]{self.suffix}"

    @property
    def told(self) -> str:
        """What stands before the options."""
        return f"{self.before} {self.prefix}" if self.before else self.prefix


def asked_by_proxy(result: AuditResult) -> dict[str, list[Asked]]:
    """Distinct questions of each proxy, as first met."""
    found: dict[str, dict[tuple[str, str, str, str, tuple[str, ...]], list[str]]] = {}
    for row in as_rows(result.asked):
        options = tuple(map(str, row["options"]))
        key = (str(row["site"]), str(row["before"]), str(row["prefix"]), str(row["suffix"]), options)
        wordings = found.setdefault(str(row["proxy"]), {}).setdefault(key, [])
        wordings.append(f"{row['wording']}.{row['option_wording']}")
    return {
        proxy: [Asked(*key, tuple(dict.fromkeys(wordings))) for key, wordings in questions.items()]
        for proxy, questions in found.items()
    }


def conversations(result: AuditResult) -> dict[str, dict[str, str]]:
    """What stands around the sentences of each language model that chats."""
    found: dict[str, dict[str, str]] = {}
    for row in as_rows(pd.DataFrame() if result.chats is None else result.chats):
        found.setdefault(str(row["lm"]), {})[str(row["what"])] = str(row["words"])
    return found


def some(names: tuple[str, ...], most: int = 8) -> str:
    """The first few names, and how many more there are.

    >>> some(("0.0", "0.1", "1.0"), most=2)
    '0.0, 0.1 and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

"""What programs on pages print. Processors round otherwise, and a draw at a tie may fall on its other side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

_DECIMAL = re.compile(r"[+-]?\d+\.\d+(?:e[+-]?\d+)?")


def differing(printed: Sequence[str], shown: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """The lines that differ, but for two units in the last place of numbers with a decimal point."""
    pairs = zip_longest(printed, shown)
    return [(a, b) for a, b in pairs if a is None or b is None or not _same(a, b)]


def _same(printed: str, shown: str) -> bool:
    if _DECIMAL.sub("#", printed) != _DECIMAL.sub("#", shown):
        return False
    numbers = zip(_DECIMAL.findall(printed), _DECIMAL.findall(shown), strict=True)
    return all(abs(float(a) - float(b)) < 2.5 * _unit(b) for a, b in numbers)


def _unit(number: str) -> float:
    digits, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))

"""Numbers of an audit as its sentences and tables print them: three decimals everywhere, so that they agree."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...page.spoken_numbers import fixed, signed


def probability(value: float) -> str:
    """A probability or a share.

    >>> probability(0.41), probability(float("nan"))
    ('0.410', '–')
    """
    return fixed(value) if np.isfinite(value) else "–"


def change(value: float) -> str:
    """A change of a probability, with its sign; what rounds to 0 has none.

    >>> change(0.0123), change(-0.08), change(-1e-9)
    ('+0.012', '−0.080', '0.000')
    """
    if not np.isfinite(value):
        return "–"
    text = signed(value)
    return text.lstrip("+") if float(text) == 0 else text.replace("-", "−")


def span(lower: float, upper: float, told: Any = change) -> str:
    """Two limits.

    >>> span(-0.1, 0.06), span(float("nan"), 0.06)
    ('−0.100 to +0.060', 'unknown')
    """
    return f"{told(lower)} to {told(upper)}" if np.isfinite([lower, upper]).all() else "unknown"


def chance(value: float) -> str:
    """A p or q value.

    >>> chance(0.0312), chance(0.0000001)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if value < 0.001 else probability(value)


def findable(value: float) -> str:
    """An effect that could be found; none where it would have to be larger than is possible.

    >>> findable(0.02), findable(float("inf")), findable(float("nan"))
    ('0.020', 'none', '–')
    """
    return "none" if value == np.inf else probability(value)


def percent(share: float) -> str:
    """A share in per cent.

    >>> percent(0.95), percent(0.125)
    ('95%', '12.5%')
    """
    return f"{100 * share:.3g}%" if np.isfinite(share) else "–"


# Of probabilities so near to 0 or 1 an effect can hardly be large.
NEAR = 0.02


def near_limit(before: float, after: float) -> str:
    """What to keep in mind where both probabilities are near 0 or 1; empty where they are not.

    >>> near_limit(0.996, 0.992)
    'Both probabilities are within 0.02 of 1: there is little room for an effect, whatever the attribute does to the \
odds (here times 0.50).'
    >>> near_limit(0.5, 0.99)
    ''
    >>> "odds." in near_limit(1.0, 0.995)
    True
    """
    if not np.isfinite([before, after]).all():
        return ""
    for limit in (0, 1):
        if max(abs(before - limit), abs(after - limit)) < NEAR:
            with np.errstate(divide="ignore", invalid="ignore"):
                odds = np.float64(after) / (1 - np.float64(after)) / (np.float64(before) / (1 - np.float64(before)))
            factor = f" (here times {odds:.2f})" if np.isfinite(odds) and odds > 0 else ""
            return (
                f"Both probabilities are within {NEAR:g} of {limit}: there is little room for an effect, whatever the "
                f"attribute does to the odds{factor}."
            )
    return ""


def counted(count: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "wording"), counted(1200, "wording")
    ('1 wording', '1,200 wordings')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a"]), listed([])
    ('a, b and c', 'a', 'none')
    """
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "none"


def some_of(names: list[str] | tuple[str, ...]) -> str:
    """The first of several names, and how many others there are.

    >>> some_of(["a"]), some_of(["a", "b"]), some_of(["a", "b", "c", "d"])
    ('a', 'a and b', 'a and 3 others')
    """
    names = list(names)
    return listed(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} others"

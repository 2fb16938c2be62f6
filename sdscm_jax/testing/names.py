"""Sites that a check is asked about."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..checks import items, told
from ..errors import SDSCMError, SiteError, nearest


def known_names(value: Any, what: str, known: Collection[str], error: type[SDSCMError] = SiteError) -> tuple[str, ...]:
    """Names of a list, or one name, each among those that are known.

    Raises:
        SDSCMError: it is no list of names, or has one that is not known.

    >>> known_names("rain", "sites", ["rain", "coat"])
    ('rain',)
    """
    found = items(value, what, error, single=str)
    for name in found:
        if not isinstance(name, str) or name not in known:
            raise error(f"{what} are sites of the model, got {told(name)}; {nearest(name, known)}")
    return found

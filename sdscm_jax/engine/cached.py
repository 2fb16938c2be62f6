"""Caches by model function, some of which cannot be hashed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def hashable(cached: Any) -> Callable:
    """A cached function that also takes model functions that cannot be hashed; these are not cached."""

    def call(*args: Any) -> Any:
        try:
            return cached(*args)
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            return cached.__wrapped__(*args)

    return call

"""A bar on stderr for long work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import Progress

from ..checks import flag


@contextmanager
def progress_bar(what: str, total: int, show: bool | None = None) -> Iterator[Callable[[float], None]]:
    """Show how far work is, with an estimate of the time that is left.

    Args:
        what: what is counted.
        total: how many there are.
        show: whether to; None: where stderr is a terminal, or in a notebook that can show one.

    Yields:
        A function that is told how many are done.

    >>> with progress_bar("units", 3, show=False) as done:
    ...     done(3)
    """
    show = None if show is None else flag(show, "progress")
    if not (_is_seen() if show is None else show):
        yield lambda completed: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda completed: bar.update(task, completed=completed)


def _is_seen() -> bool:
    """Would a bar be seen? Rich tells a notebook; there it needs ipywidgets, and warns at every step without."""
    return sys.stderr.isatty() or (Console(stderr=True).is_jupyter and find_spec("ipywidgets") is not None)

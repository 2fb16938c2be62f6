"""The package's own errors as one line on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from ..errors import SDSCMError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print the package's errors, and missing extras, as one line and end with status 1."""
    try:
        yield
    except (SDSCMError, ImportError) as error:
        Console(stderr=True).print(f"[red]{type(error).__name__}:[/] {error}", highlight=False)
        raise typer.Exit(1) from error

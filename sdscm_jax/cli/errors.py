"""The package's own errors as one line on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ..errors import SDSCMError
from ..terminal import PlainConsole


@contextmanager
def one_line_errors(status: int = 1) -> Iterator[None]:
    """Print the package's errors, and missing extras, as one line and end with a status: 2 is for wrong options."""
    try:
        yield
    except (SDSCMError, ImportError) as error:
        console = PlainConsole(stderr=True)
        console.print(f"{type(error).__name__}:", style="red", end=" ")
        console.print(str(error), soft_wrap=True)
        raise typer.Exit(status) from error

"""What a command says on stdout: text for people or one JSON document for programs. The rest is on stderr."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import typer
from rich.cells import cell_len
from rich.measure import Measurement
from rich.table import Table

from ..terminal import PlainConsole, shown

LEVELS = ("debug", "info", "warning", "error", "critical")
log = logging.getLogger("sdscm_jax")


@dataclass
class Asked:
    """What was asked for, of every command.

    Attributes:
        debug: tracebacks.
        json: a document for programs instead of text.
        quiet: no text, and no progress.
        level: least severe messages of the log on stderr; None: nothing is logged.
    """

    debug: bool = False
    json: bool = False
    quiet: bool = False
    level: str | None = None


asked = Asked()
_ENDLESS = 10_000
console = PlainConsole()


def take(args: list[str]) -> list[str]:
    """Take what every command takes, wherever it stands, and set it; the other arguments are handed back."""
    asked.debug, asked.json, asked.quiet = ("--" + name in args for name in ("debug", "json", "quiet"))
    asked.level = None
    left: list[str] = []
    rest = iter(args)
    for arg in rest:
        name, given, value = arg.partition("=")
        if name == "--log-level":
            asked.level = (value if given else next(rest, "")).lower()
        elif arg not in ("--debug", "--json", "--quiet"):
            left.append(arg)
    if asked.level is not None and asked.level not in LEVELS:
        raise typer.BadParameter(f"--log-level is one of {', '.join(LEVELS)}, got {asked.level!r}")
    _set_up_log()
    return left


def _set_up_log() -> None:
    """Messages of the log and warnings on stderr, with the time; or warnings as Python shows them."""
    root = logging.getLogger()
    logging.captureWarnings(asked.level is not None)
    root.removeHandler(_handler)
    if asked.level is not None:
        _handler.setStream(sys.stderr)
        root.addHandler(_handler)
        root.setLevel(asked.level.upper())


_handler = logging.StreamHandler()
_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
_document: IO[str] | None = None


@contextmanager
def document_alone() -> Iterator[None]:
    """Where a document is asked for, stdout has nothing else: what modules print is on stderr."""
    global _document
    if not asked.json:
        yield
        return
    _document = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _document = None


def say(what: Any = "", style: str | None = None) -> None:
    """Print text or a table for people; a table is never cut: where it is wider than the terminal, its lines go on."""
    if asked.json or asked.quiet:
        return
    wide = console
    if isinstance(what, Table):
        for column in what.columns:
            if column.no_wrap:
                # (Rich would end the text with three dots.)
                texts = [str(cell) for cell in (column.header, *column.cells)]
                column.min_width = max(cell_len(shown(line)) for text in texts for line in text.split("\n"))
        needed = Measurement.get(console, console.options.update(width=_ENDLESS), what).minimum
        wide = console if needed <= console.width else PlainConsole(width=needed, file=console.file)
    wide.print(what, style=style)


def answer(**facts: Any) -> None:
    """The document for programs, where it is asked for: one JSON object; what is not finite is null."""
    if asked.json:
        # (What a user's module prints goes to stderr meanwhile: see ``document_alone``.)
        (_document or sys.stdout).write(json.dumps(_plain(facts), ensure_ascii=False, allow_nan=False) + "\n")


def progress() -> bool | None:
    """Is progress shown? None: where stderr is a terminal."""
    return False if asked.quiet else None


def _plain(value: Any) -> Any:
    import numpy as np
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        named = value if isinstance(value.index, pd.RangeIndex) else value.reset_index()
        return _plain(named.to_dict("records"))
    if isinstance(value, Mapping):
        return {str(name): _plain(x) for name, x in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(x) for x in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | bool | int) or value is None:
        return value
    return None if value is pd.NA else str(value) if isinstance(value, Path) else value

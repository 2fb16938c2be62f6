"""Errors as a user of the command line sees them: one line on stderr that says what to change, and where."""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import SDSCMError
from ..terminal import PlainConsole
from .output import asked, document_alone, log, take

# Frames of these are not the user's.
_OURS = (str(Path(__file__).parents[1]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))


class OneLine(TyperGroup):
    """Commands whose errors are one line. What all of them take (``output.Asked``) may stand before or after them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments of the command alone."""
        return super().parse_args(ctx, take(args))

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        for stream in (sys.stdout, sys.stderr):
            # A terminal that has no é gets what stands for it.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        with one_line_errors():
            started = time.monotonic()
            log.info("sdscm %s: %s", __version__, ctx.command_path)
            with document_alone():
                found = super().invoke(ctx)
            log.info("done in %.1f s", time.monotonic() - started)
            return found


@contextmanager
def one_line_errors(status: int = 1, kept: Path | None = None) -> Iterator[None]:
    """Print an error as one line and end with a status: 2 is for wrong options, 130 for Ctrl-C.

    Args:
        status: of the package's errors.
        kept: the directory in which a killed command goes on; None: there is none.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt as error:
        there = kept is not None and kept.is_dir() and any(kept.iterdir())
        said = f"what is finished is kept in {kept}: the same command goes on there" if there else "nothing is kept"
        _print("stopped", said)
        raise typer.Exit(130) from error
    except Exception as error:
        # A wrong option is the command line's own affair (by what it has: Typer brings a click of its own).
        if asked.debug or (hasattr(error, "exit_code") and hasattr(error, "show")):
            raise
        _print(type(error).__name__, _said(error))
        raise typer.Exit(status if isinstance(error, SDSCMError | ImportError) else 1) from error


def checked_out(out: Path) -> Path:
    """``--out``, a directory that can be written to, before any work is done.

    Raises:
        SDSCMError: it is a file, or a place where nothing can be written.
    """
    from ..checks import as_path

    out = as_path(out, "--out")
    if out.exists() and not out.is_dir():
        raise SDSCMError(f"--out {out} is a file; it is the directory to write")
    above = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise SDSCMError(f"--out {out} cannot be written: {above} is {'read-only' if above.is_dir() else 'a file'}")
    return out


def _said(error: Exception) -> str:
    """What went wrong, and the place in the user's file."""
    lines = str(error).strip().splitlines()
    if isinstance(error, SDSCMError | ImportError):
        # (Listings have a line for each item.)
        said = str(error)
    elif isinstance(error, OSError) and error.strerror:
        said = f"{error.strerror}: {error.filename}" if error.filename is not None else error.strerror
    elif _is_concretization(error):
        said = (
            "a value that differs between units stands where Python needs one of its own (in an if, say): compare and "
            "choose with jnp.where or jax.lax.cond, and let every unit have every site"
        )
    else:
        said = lines[0] if lines else "no message"
    place = user_place(error.__traceback__)
    if place is not None:
        return f"{said} ({place})"
    known = isinstance(error, SDSCMError | ImportError | OSError)
    return said if known else f"{said} (a fault of sdscm-jax, or of what it uses; --debug shows where)"


def _is_concretization(error: Exception) -> bool:
    """Has a program asked a traced value for its value? (Who has not loaded JAX has not.)"""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(error, jax.errors.ConcretizationTypeError)


def user_place(trace: TracebackType | None) -> str | None:
    """File, line and function of the innermost frame that is the user's; None: there is none."""
    found = None
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        # ("sdscm" is the script that pip installs.)
        theirs = "site-packages" in name or name.startswith(_OURS) or Path(name).stem == "sdscm"
        if os.path.isfile(name) and not theirs:
            found = f"{name}, line {trace.tb_lineno}, in {trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    return found


def _print(what: str, said: str) -> None:
    console = PlainConsole(stderr=True)
    console.print(f"{what}:", style="red", end=" ")
    console.print(said, soft_wrap=True)

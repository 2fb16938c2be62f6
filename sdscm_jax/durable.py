"""Files that are there as a whole or not at all, whatever happens to the process, the power or the disk.

Everything that is kept for another run (parts, scores, cells, estimates, checkpoints, pages) is written by ``put``;
what only this package reads is sealed, and a bit that changed is noticed.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import ResumeError, SDSCMError

# Its name in a directory that one process at a time writes to.
LOCK = ".sdscm.lock"
# What a directory of each kind has in it; no kind may be written where another one is.
_KINDS = {
    "a benchmark": ("data/_manifest.json",),
    "an evaluation": ("estimates",),
    "an audit": ("spec.yaml", "cells"),
    "a demo": ("data.parquet", "effects.png"),
    "a simulation": ("_manifest.json",),
}


def refuse_others(directory: Path, kind: str) -> None:
    """Refuse a directory that holds something of another kind, whose files would be mixed with these.

    Args:
        directory: need not be there.
        kind: what is to be written, one of those above.

    Raises:
        ResumeError: says what is there.
    """
    for other, marks in _KINDS.items():
        if other != kind and any((directory / mark).exists() for mark in marks):
            raise ResumeError(f"{directory} holds {other}; write {kind} to another directory")


@contextmanager
def writing(directory: Path, wait: bool = False) -> Iterator[None]:
    """A directory that nobody else writes to meanwhile, made where there is none.

    Args:
        directory: it is the caller's until the end.
        wait: for who writes there now; else that is an error.

    Raises:
        ResumeError: another process is writing there, or it is a file.
        SDSCMError: it cannot be written to.
    """
    try:
        make_directory(directory)
        lock = locked(directory / LOCK, wait)
    except OSError as error:
        raise SDSCMError(f"cannot write to {directory}: {error.strerror or error}") from error
    with lock:
        yield


def locked(path: Path, wait: bool = False) -> IO[bytes]:
    """The file, locked until it is closed; the system unlocks it when the process is killed.

    Args:
        path: made where there is none.
        wait: until nobody else has it; else that is an error.
    """
    try:
        import fcntl
    except ImportError as error:
        raise SDSCMError("runs are written to a directory on Linux and macOS only") from error
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        file.close()
        raise ResumeError(
            f"another process, or another call in this one, is writing to {path.parent} (`fuser {path}` names it): "
            "wait for it, stop it, or write to another directory"
        ) from error
    except BaseException:
        file.close()
        raise
    return file


def make_directory(directory: Path) -> None:
    try:
        missing = [x for x in (directory, *directory.parents) if not x.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_directory(made.parent)
    except (FileExistsError, NotADirectoryError) as error:
        file = next((x for x in (directory, *directory.parents) if x.exists()), directory)
        raise ResumeError(f"{file} is a file, not a directory: write to another place") from error
    except OSError as error:
        raise SDSCMError(f"cannot make {directory}: {error.strerror or error}") from error


# What is kept where a part of a run cannot be written.
PARTS_ARE_SAFE = "The parts finished before are safe: once that is put right, the same run goes on from them"


def put(path: Path, data: Any, after: str = PARTS_ARE_SAFE) -> None:
    """A file that is there as a whole and will be after a power cut, or not at all.

    Args:
        path: what is there is replaced.
        data: bytes.
        after: what is kept where this fails, and how to go on.

    Raises:
        SDSCMError: the disk is full, or the file cannot be written for another reason; what was there is as it was.
    """
    put_pieces(path, (data,), after)


def put_pieces(path: Path, pieces: Iterable[Any], after: str = PARTS_ARE_SAFE) -> None:
    """The same of bytes that are never together in memory."""
    temporary = path.with_name(f".{path.name.removeprefix('.')}.tmp")
    try:
        descriptor = _unfinished(temporary)
        try:
            try:
                for piece in pieces:
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
                os.rename(temporary, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
        finally:
            # What is synced is there, whatever closing says.
            with suppress(OSError):
                os.close(descriptor)
        sync_directory(path.parent)
    except OSError as error:
        raise SDSCMError(f"cannot write {path}: {error.strerror or error}. {after}") from error


def put_text(path: Path, text: str, after: str = PARTS_ARE_SAFE) -> None:
    """The same of text, in UTF-8 whatever the locale.

    Raises:
        SDSCMError: as ``put``; or a character has no encoding.
    """
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SDSCMError(
            f"{path}: {text[error.start]!r} in {text[max(0, error.start - 20) : error.end]!r} is half a character, "
            "which no file can hold"
        ) from error
    put(path, data, after)


def _unfinished(temporary: Path) -> int:
    """An empty file that nobody else is writing; one that a killed process left is taken over."""
    while True:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            _wait_for(descriptor)
            with suppress(FileNotFoundError):
                # Whoever was before us may have renamed it meanwhile.
                if os.path.samestat(os.fstat(descriptor), os.stat(temporary)):
                    os.ftruncate(descriptor, 0)
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _wait_for(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:
        return
    with suppress(OSError):  # Some file systems have no locks.
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def put_sealed(path: Path, data: bytes) -> None:
    """The same with a checksum before the data, which ``read_sealed`` compares."""
    put(path, _seal(data) + data)


def read_sealed(path: Path) -> bytes:
    """The data of a sealed file.

    Raises:
        ResumeError: it cannot be read, or is not what was written.
    """
    try:
        found = path.read_bytes()
    except OSError as error:
        raise ResumeError(f"{path} cannot be read ({error.strerror}): delete it to have it computed again") from error
    data = found[_SEAL:]
    if found[:_SEAL] != _seal(data):
        raise ResumeError(f"{path} is damaged (its checksum differs): delete it to have it computed again")
    return data


# "sha256 ", 64 digits and a line's end.
_SEAL = 72


def _seal(data: bytes) -> bytes:
    return f"sha256 {hashlib.sha256(data).hexdigest()}\n".encode()


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems cannot sync a directory; they say so like this.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        # As above.
        with suppress(OSError):
            os.close(descriptor)

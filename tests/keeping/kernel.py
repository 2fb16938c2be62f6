"""What the system does to a process that writes: the calls are counted, and something happens at one of them."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

# What a file is made, there and safe by.
CALLS = ("open", "write", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir")
# Of which these need room.
NEED_ROOM = ("open", "write", "fsync", "rename", "replace", "mkdir")

# What happens before a call: its number, its name, its arguments.
Happens = Callable[[int, str, tuple[Any, ...]], None]


class Kernel:
    """Counts the calls by which files are written."""

    def __init__(self, happens: Happens):
        self.count, self._happens, self._plain = 0, happens, {name: getattr(os, name) for name in CALLS}

    @contextmanager
    def watching(self) -> Iterator[Kernel]:
        with mock.patch.multiple(os, **{name: self._counted(name, plain) for name, plain in self._plain.items()}):
            yield self

    def write_half(self, args: tuple[Any, ...]) -> None:
        """Write the first half of what is to be written."""
        data = memoryview(args[1]).cast("B")
        self._plain["write"](args[0], data[: len(data) // 2])

    def _counted(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            # The harness, Python and JAX read files too.
            if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR):
                return plain(*args, **options)
            number, self.count = self.count, self.count + 1
            self._happens(number, name, args)
            return plain(*args, **options)

        return call


State = dict[str, bytes | None]


def state_of(directory: Path) -> State:
    """What lies in a directory: path -> bytes, of a directory None. A lock that nobody holds is an empty file."""
    return {
        str(path.relative_to(directory)): None if path.is_dir() else path.read_bytes()
        for path in sorted(directory.rglob("*"))
    }


def restore(directory: Path, state: State | None) -> None:
    """Make a directory what it was; None: there was none."""
    if state is None:
        shutil.rmtree(directory, ignore_errors=True)
        return
    directory.mkdir(exist_ok=True)
    there = state_of(directory)
    for name in sorted({*there} - {*state}, reverse=True):
        (directory / name).rmdir() if there[name] is None else (directory / name).unlink()
    for name, data in sorted(state.items()):
        if data is None:
            (directory / name).mkdir(exist_ok=True)
        elif there.get(name) != data:
            (directory / name).write_bytes(data)


class Killed:
    """The directory as a kill leaves it: what is there before a call, or in the middle of a write."""

    def __init__(self, directory: Path, at: int):
        self.directory, self.at = directory, at
        self.left: State | None = None
        self.was = False
        self.kernel = Kernel(self._happens)

    def _happens(self, number: int, name: str, args: tuple[Any, ...]) -> None:
        if number != self.at:
            return
        self.was, half = True, name == "write"
        if half:
            self.kernel.write_half(args)
        self.left = state_of(self.directory) if self.directory.exists() else None
        if half:
            # Cut off again: this run goes on.
            rest = os.fstat(args[0]).st_size - len(memoryview(args[1]).cast("B")) // 2
            os.ftruncate(args[0], rest)
            os.lseek(args[0], rest, os.SEEK_SET)


def no_room_at(at: int) -> Kernel:
    """The disk is full at a call that needs room, and at all that follow; a write is half done by then."""
    left = [at]

    def happens(number: int, name: str, args: tuple[Any, ...]) -> None:
        if name not in NEED_ROOM:
            return
        left[0] -= 1
        if left[0] < 0:
            if name == "write" and left[0] == -1:
                kernel.write_half(args)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    kernel = Kernel(happens)
    return kernel


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file grows further, whoever writes it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def mount(where: Path, options: str) -> bool:
    """A file system in memory; False where none can be had."""
    if shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)]
    return subprocess.run(command, capture_output=True).returncode == 0


def unmount(where: Path) -> None:
    subprocess.run(["umount", str(where)], check=True)

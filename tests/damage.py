"""What happens to files: bits that change, ends that are lost, disks that are full."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .needs import skip_without_disks


def contents(directory: Path) -> dict[str, str]:
    """Digest of every file by its place; locks apart, which are empty."""
    found = {str(p.relative_to(directory)): p for p in sorted(directory.rglob("*")) if p.is_file()}
    return {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in found.items() if p.name != ".sdscm.lock"}


def damage(directory: Path, number: int) -> str:
    """Damage one file of a directory, in a way that the number says; returns what was done."""
    rng = np.random.default_rng(number)
    files = sorted(p for p in directory.rglob("*") if p.is_file() and p.name != ".sdscm.lock")
    path = files[rng.integers(len(files))]
    data = bytearray(path.read_bytes())
    name = str(path.relative_to(directory))
    kind = ("flip", "flip", "cut", "swap", "delete")[rng.integers(5)]
    if kind == "delete" or not data:
        path.unlink()
        return f"{name} deleted"
    if kind == "flip":
        at = int(rng.integers(len(data)))
        data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        return f"{name}: a bit of byte {at} flipped"
    if kind == "cut":
        at = int(rng.integers(len(data)))
        path.write_bytes(data[:at])
        return f"{name} cut to {at} bytes"
    # With one of the same ending, if there is one: what is whole, but not what it should be.
    others = [p for p in files if p != path and p.suffix == path.suffix] or [p for p in files if p != path]
    other = others[rng.integers(len(others))]
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return f"{name} and {other.relative_to(directory)} swapped"


@contextmanager
def small_disk(where: Path, size: int) -> Iterator[Path]:
    """A disk of so many bytes; skips the test where none can be had."""
    where.mkdir(parents=True, exist_ok=True)
    if shutil.which("mount") is None or mounted(where, size, "") != 0:
        skip_without_disks()
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def mounted(where: Path, size: int, options: str) -> int:
    command = ["mount", "-t", "tmpfs", "-o", f"{options}size={size}", "tmpfs", str(where)]
    return subprocess.run(command, capture_output=True).returncode


def enlarge(where: Path, size: int) -> None:
    """Put that right."""
    assert mounted(where, size, "remount,") == 0

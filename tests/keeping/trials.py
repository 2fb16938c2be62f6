"""Trials of a keeper in this process: killed, on a full disk, damaged; what comes out is the same, or one error.

A kill is what it leaves on the disk: the directory before a call of the system, or in the middle of a write. That is
copied, and the next run finds the copy. (``server`` kills processes.)
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from sdscm_jax.errors import SDSCMError

from . import kernel
from .registry import Files, Keeper


def calls_of(keeper: Keeper, directory: Path) -> int:
    """Make it undisturbed; how many calls write."""
    counted = kernel.Kernel(lambda *_: None)
    with counted.watching():
        keeper.make(directory)
    return counted.count


def killed(keeper: Keeper, directory: Path, expected: Files, calls: int, times: int, seed: int) -> Counter[str]:
    """Kill so often, each run being the one that goes on from a kill before; all must come to the same bytes."""
    rng, found = random.Random(seed), Counter[str]()
    state: kernel.State | None = None
    while found["killed"] < times:
        kernel.restore(directory, state)
        run = kernel.Killed(directory, rng.randrange(calls))
        with run.kernel.watching():
            keeper.make(directory)
        assert keeper.same_bytes(directory) == expected, f"seed {seed}, after {found}"
        found["killed"] += run.was
        # One that had little left was not killed again; sometimes another begins.
        state = run.left if run.was and rng.random() < 0.8 else None
        found["begun"] += state is None
    kernel.restore(directory, state)
    keeper.make(directory)
    assert keeper.same_bytes(directory) == expected
    return found


# How a disk is full -> what the system says.
FULL = {"call": "No space left", "limit": "File too large", "disk": "No space left", "names": "No space left"}
# Of a file system in memory.
_PAGE = 4096


def full(keeper: Keeper, place: Path, expected: Files, calls: int, times: int, seed: int) -> Counter[str]:
    """Let there be no room so often, in each of the ways that can be had; then there is, and all is as if there always
    had been."""
    rng, found = random.Random(seed), Counter[str]()
    sizes = [len(data) for data in expected.values()]
    need = sum(1 + size // _PAGE for size in sizes)
    while (done := sum(found.values())) < times:
        how, mounted = list(FULL)[done % len(FULL)], False
        place.mkdir()
        if how in ("disk", "names"):
            few = f"size={rng.randrange(1, need + 1) * _PAGE}" if how == "disk" else f"nr_inodes={rng.randrange(2, 9)}"
            mounted = kernel.mount(place, few)
            # Where no file system can be had.
            how = how if mounted else "call"
        try:
            around: Any = nullcontext()
            if how == "call":
                around = kernel.no_room_at(rng.randrange(calls)).watching()
            elif how == "limit":
                around = kernel.files_of_at_most(rng.randrange(max(sizes)))
            error = refusal(keeper.make, place / "it", around)
            if error is not None:
                assert FULL[how] in error, f"{how}: {error}"
                found[how] += 1
                if mounted:
                    assert kernel.mount(place, f"remount,size={8 * need * _PAGE},nr_inodes=4096")
                keeper.make(place / "it")
            assert keeper.same_bytes(place / "it") == expected, f"seed {seed}, {how}: {error}"
        finally:
            if mounted:
                kernel.unmount(place)
            kernel.restore(place, None)
    return found


def refusal(make: Callable[[Path], object], directory: Path, around: AbstractContextManager[Any]) -> str | None:
    """What our error says, if there is one."""
    try:
        with around:
            make(directory)
    except SDSCMError as error:
        return str(error)
    return None


# They are written anew each time, and nobody reads them.
WRITTEN = (".html", ".md", ".csv", ".svg", ".numbers")


def damaged(keeper: Keeper, directory: Path, times: int, seed: int) -> Counter[str]:
    """Damage what is kept so often; what comes out of it is the same, or one error that names the place."""
    found, wrong = Counter[str](), []
    with keeper.hurried():
        keeper.make(directory)
        whole = kernel.state_of(directory)
        expected = keeper.found(directory)
        names = [name for name, data in whole.items() if data is not None and not name.endswith((*WRITTEN, ".lock"))]
        for number in range(times):
            kernel.restore(directory, whole)
            rng = random.Random(f"{seed} {number}")
            told = damage(rng, directory, names)
            try:
                came = keeper.found(directory)
            except SDSCMError as error:
                found["refused"] += 1
                if str(directory) not in str(error):
                    wrong.append(f"{number}, {told}: {error}")
            except Exception as error:
                wrong.append(f"{number}, {told}: {type(error).__name__}: {error}")
            else:
                found["same"] += came == expected
                if came != expected:
                    differ = sorted(name for name in {*came, *expected} if came.get(name) != expected.get(name))
                    wrong.append(f"{number}, {told}: {differ} differ")
    assert not wrong, "\n".join([f"{len(wrong)} wrong, {dict(found)}", *wrong[:20]])
    return found


def damage(rng: random.Random, directory: Path, names: list[str]) -> str:
    """Damage a file, or exchange two; says how."""
    name = rng.choice(names)
    file = directory / name
    data = file.read_bytes()
    how = rng.choice(["flip", "flip", "flip", "cut", "zeros", "longer", "empty", "missing", "swap", "swap", "JSON"])
    if how == "flip":
        at = rng.randrange(len(data) or 1)
        file.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if data else b"\1")
    elif how == "cut":
        file.write_bytes(data[: rng.randrange(len(data) or 1)])
    elif how == "zeros":
        file.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    elif how == "longer":
        file.write_bytes(data + b"0")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "missing":
        file.unlink()
    elif how == "swap":
        # With one of the same ending: what is whole, but not what it should be.
        others = [x for x in names if x != name] or names
        other = rng.choice([x for x in others if Path(x).suffix == file.suffix] or others)
        file.write_bytes((directory / other).read_bytes())
        (directory / other).write_bytes(data)
        how = f"swap with {other}"
    elif how == "JSON":
        file.write_bytes(rng.choice([b"[]", b"{}", b"null", b"[" * 100_000]))
    return f"{how} {name}"

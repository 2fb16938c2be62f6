"""Parts of a run on disk: killed and resumed is never killed, and what is damaged is never read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdscm_jax import durable
from sdscm_jax.engine import parts as module
from sdscm_jax.engine.parts import Parts, _contrasted
from sdscm_jax.errors import ResumeError, SDSCMError

MANIFEST: dict[str, Any] = {
    "program": {"source": "def model(lm): ...", "sites": ["x", "y"]},
    "lm": "3f65cec",
    "key": [0, 7],
    "n": 100,
    "logp": True,
    "evidence": {},
    "versions": {"jax": "0.10.2", "numpy": "2.1.0"},
}


def part(i: int, rows: int = 7) -> pa.Table:
    """As a simulation's: options (not all of which occur in a part), numbers and text."""
    rng = random.Random(i)
    options = pd.Index(["low", "middle", "high", "never"])
    return pa.Table.from_pandas(
        pd.DataFrame(
            {
                "x": pd.Categorical.from_codes([(i + j) % 3 for j in range(rows)], options, ordered=True),
                "z": [rng.gauss(0, 1) for _ in range(rows)],
                "note": [rng.choice(["", "rain", "Gruß, 雨"]) for _ in range(rows)],
                "logp(x=low)": pd.Series([-rng.random() for _ in range(rows)], dtype="float32"),
                "row": pd.Series(range(i * rows, (i + 1) * rows), dtype="int32"),
            }
        ),
        preserve_index=False,
    )


def finish(directory: str | Path, count: int, order: list[int] | None = None, pause: float = 0.0) -> None:
    """Go on with the run: what is there must be right, what is not is written."""
    with Parts.open(directory, MANIFEST, count) as parts:
        for i in sorted(parts.done):
            assert parts.read(i).equals(part(i), check_metadata=True)
        for i in order or range(count):
            if i not in parts.done:
                parts.write(i, part(i))
                time.sleep(pause)


def contents(directory: str | Path) -> dict[str, bytes]:
    """All files, hidden ones too."""
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


class System:
    """``os``, in which something happens before its n-th call of those that ``parts`` makes."""

    CALLS = ("open", "write", "fsync", "close", "rename", "unlink", "listdir")

    def __init__(self, happens: Callable[[int, str, tuple[Any, ...]], None]) -> None:
        self.n, self.happens = 0, happens

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)
        if name not in self.CALLS:
            return call

        def wrapped(*args: Any) -> Any:
            self.n += 1
            self.happens(self.n, name, args)
            return call(*args)

        return wrapped


def half(name: str, args: tuple[Any, ...]) -> None:
    """A call to write that does not get through."""
    if name == "write":
        os.write(args[0], args[1][: len(args[1]) // 2])


# What follows runs in processes of its own, which load pyarrow but not JAX, and which fork.

LAUNCH = """
import importlib.util, sys, types
package = types.ModuleType("sdscm_jax")
package.__path__ = [sys.argv[1]]
sys.modules["sdscm_jax"] = package
spec = importlib.util.spec_from_file_location("test_parts", sys.argv[2])
tests = importlib.util.module_from_spec(spec)
sys.modules["test_parts"] = tests
spec.loader.exec_module(tests)
getattr(tests, sys.argv[3])(*sys.argv[4:])
"""


def command(function: Callable, *args: object) -> list[str]:
    package = Path(module.__file__).parent.parent
    return [sys.executable, "-c", LAUNCH, str(package), __file__, function.__name__, *map(str, args)]


def output(function: Callable, *args: object) -> Any:
    done = subprocess.run(command(function, *args), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def forked(work: Callable[[], None]) -> int:
    """Start the work in a copy of this process, and nothing else of this process."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def status(pid: int) -> int:
    """Exit status; minus the signal of a process that was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def hold(directory: str) -> None:
    with Parts.open(directory, MANIFEST, 3) as parts:
        parts.write(0, part(0))
        print("open", flush=True)
        time.sleep(60)


def kill_at_random(directory: str, kills: str, count: str, seed: str) -> None:
    """Kill a run again and again, then let it end; prints what became of each attempt."""
    rng = random.Random(int(seed))
    part(0)  # Loads what pandas loads at its first use.
    found = []

    def there() -> int:
        return len(list(Path(directory).glob("part-*")))

    for _ in range(int(kills)):
        # Moments that do not depend on how fast the machine is: some time after the next part, or at once.
        enough = there() + rng.randrange(2)
        pid = forked(lambda: finish(directory, int(count), pause=0.005))
        while there() < min(enough, int(count)):
            time.sleep(0.0005)
        time.sleep(rng.uniform(0.0, 0.01))
        os.kill(pid, signal.SIGKILL)
        found.append((status(pid), there()))
    assert status(forked(lambda: finish(directory, int(count)))) == 0
    print(json.dumps(found))


def kill_everywhere(root: str, count: str) -> None:
    """For every k: kill a run before its k-th system call, kill what goes on from it, let it end; prints how many k."""
    rng = random.Random(0)

    def killed(k: int, call: int) -> None:
        def happens(n: int, name: str, args: tuple[Any, ...]) -> None:
            if n == call:
                half(name, args)
                os.kill(os.getpid(), signal.SIGKILL)

        module.os = durable.os = System(happens)  # type: ignore[attr-defined]
        finish(f"{root}/{k}", int(count))

    part(0)  # Loads what pandas loads at its first use.
    k = 0
    while True:
        k += 1
        first = status(forked(lambda k=k: killed(k, k)))
        if first == 0:
            break
        assert first == -signal.SIGKILL
        call = rng.randrange(1, 20)
        assert status(forked(lambda k=k, call=call: killed(k, call))) in (0, -signal.SIGKILL)
        assert status(forked(lambda k=k: finish(f"{root}/{k}", int(count)))) == 0
    print(k - 1)


def file_too_large(directory: str) -> None:
    """The kernel refuses the end of a large file; with room it goes on. Prints the error."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Parts.open(directory, MANIFEST, 3) as parts:
        parts.write(0, part(0))
        before = contents(directory)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            parts.write(1, part(1, rows=10_000))
        except SDSCMError as error:
            message = str(error)
        after = contents(directory)
        # Only the checksum that was to be the part's is new.
        assert set(after) - set(before) == {".part-00001.sha256"}
        assert all(after[name] == before[name] for name in before)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        parts.write(1, part(1, rows=10_000))
        parts.write(2, part(2))
    print(json.dumps(message))


# The tests.


def test_round_trip(tmp_path: Path) -> None:
    with Parts.open(tmp_path / "some" / "run", MANIFEST, 3) as parts:
        assert parts.done == frozenset()
        parts.write(2, part(2))
        parts.write(0, part(0))
        assert parts.done == {0, 2}
    with Parts.open(str(tmp_path / "some" / "run"), MANIFEST, 3) as parts:
        assert parts.done == {0, 2}
        for i in (0, 2):
            assert parts.read(i).equals(part(i), check_metadata=True)
        with pytest.raises(ResumeError, match=r"part-00001\.parquet is not there"):
            parts.read(1)
        for i in (-1, 3, True, "0"):
            with pytest.raises(SDSCMError, match="numbered 0 to 2"):
                parts.read(i)  # type: ignore[arg-type]
    with pytest.raises(SDSCMError, match="closed"):
        parts.write(1, part(1))


@pytest.mark.parametrize("count", [3, 12])
def test_pandas_reads_the_directory_in_order(tmp_path: Path, count: int) -> None:
    finish(tmp_path, count, order=list(range(count))[::-1])
    whole = pd.concat([part(i).to_pandas() for i in range(count)], ignore_index=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path), whole)
    assert whole["x"].cat.categories.tolist() == ["low", "middle", "high", "never"]


def test_numbers_of_many_parts_are_padded(tmp_path: Path) -> None:
    with Parts.open(tmp_path, MANIFEST, 100_001) as parts:
        parts.write(7, part(7))
        assert parts.done == {7}
    assert (tmp_path / "part-000007.parquet").exists()


def test_checksums_are_those_of_sha256sum(tmp_path: Path) -> None:
    finish(tmp_path, 2)
    data = (tmp_path / "part-00001.parquet").read_bytes()
    assert (tmp_path / ".part-00001.sha256").read_text() == f"{hashlib.sha256(data).hexdigest()}  part-00001.parquet\n"


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    table = part(0)
    cut = pa.concat_tables([table.slice(0, 3), table.slice(3)])
    metadata = {"b": "2", "a": "1", **table.schema.metadata}
    turned = dict(reversed(list(metadata.items())))
    # So much text that Parquet cuts it into pages: not where the chunks are cut.
    text = pa.table({"text": [f"{i:060d}" for i in range(50_000)]})
    pairs = [
        (table, cut),
        (table.replace_schema_metadata(metadata), cut.replace_schema_metadata(turned)),
        (text, pa.concat_tables([text.slice(0, 1000), text.slice(1000)])),
    ]
    for k, (one, other) in enumerate(pairs):
        assert one.equals(other, check_metadata=True)
        for name, written in (("one", one), ("other", other)):
            with Parts.open(tmp_path / f"{name}{k}", MANIFEST, 1) as parts:
                parts.write(0, written)
                assert parts.read(0).equals(one, check_metadata=True)
        assert contents(tmp_path / f"one{k}") == contents(tmp_path / f"other{k}")


def test_order_of_writing_and_of_the_manifest_leave_no_trace(tmp_path: Path) -> None:
    finish(tmp_path / "one", 4)
    finish(tmp_path / "other", 4, order=[2, 0, 3, 1])
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    with Parts.open(tmp_path / "third", dict(reversed(list(MANIFEST.items()))), 4) as parts:
        for i in range(4):
            parts.write(i, part(i))
    assert contents(tmp_path / "third") == contents(tmp_path / "one")


def changed(path: str, value: Any) -> dict[str, Any]:
    """The manifest with one field changed; ``...`` takes it out."""
    manifest = json.loads(json.dumps(MANIFEST))
    *groups, name = path.split(".")
    inner = manifest
    for group in groups:
        inner = inner[group]
    inner[name] = value
    if value is ...:
        del inner[name]
    return manifest


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("lm", "9d01175", "lm: '3f65cec' there, '9d01175' here"),
        ("program.source", "def model(): ...", "program.source: 'def model(lm): ...' there, 'def model(): ...' here"),
        ("program.sites", ["y", "x"], "program.sites: ['x', 'y'] there, ['y', 'x'] here"),
        ("n", 100.0, "n: 100 there, 100.0 here"),
        ("logp", 1, "logp: True there, 1 here"),
        ("logp", None, "logp: True there, None here"),
        ("key", ..., "key: [0, 7] there, absent here"),
        ("draws", 2, "draws: absent there, 2 here"),
        ("versions.jax", ..., "versions.jax: '0.10.2' there, absent here"),
        ("evidence", {"y": "a"}, "evidence.y: absent there, 'a' here"),
    ],
)
def test_what_differs_is_named(tmp_path: Path, path: str, value: Any, line: str) -> None:
    finish(tmp_path, 2)
    before = contents(tmp_path)
    with pytest.raises(ResumeError) as caught:
        Parts.open(tmp_path, changed(path, value), 2)
    first, *lines, last = str(caught.value).splitlines()
    assert str(tmp_path) in first
    # An empty mapping is a field itself.
    assert lines == [f"  {line}"] + (["  evidence: {} there, absent here"] if path == "evidence" else [])
    assert "another directory" in last
    assert contents(tmp_path) == before


def test_all_that_differ_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(tmp_path, 2)
    monkeypatch.setattr(module, "FORMAT", 2)
    with pytest.raises(ResumeError) as caught:
        Parts.open(tmp_path, {**changed("versions.numpy", "3"), "a.b": 1}, 3)
    names = {line.strip().split(": ")[0] for line in str(caught.value).splitlines()[1:-1]}
    assert names == {"format", "parts", "versions.numpy", "a.b"}


@given(st.text("ab", max_size=30), st.text("ab ", min_size=1), st.text("ab ", min_size=1), st.integers(0, 200))
def test_a_difference_of_long_texts_is_shown(start: str, one: str, other: str, more: int) -> None:
    a, b = start + "a" * more + one + "b" * more, start + "a" * more + other + "b" * more
    shown = _contrasted(a, b).removesuffix(" here").split(" there, ")
    assert (shown[0] == shown[1]) == (a == b)
    assert max(map(len, shown)) <= 62


@pytest.mark.parametrize(
    ("manifest", "match"),
    [
        ({"a": {"b": object()}}, r"field a\.b: expected a JSON value; got <object"),
        ({"a": {"b": float("nan")}}, r"field a\.b: expected a JSON value; got nan"),
        ({"a": {1: 2}}, "text; got 1 in a"),
        ({"format": 1}, "another name than format"),
    ],
)
def test_a_manifest_is_json(tmp_path: Path, manifest: dict[str, Any], match: str) -> None:
    with pytest.raises(SDSCMError, match=match):
        Parts.open(tmp_path / "run", manifest, 1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", [0, -1, True, 2.0])
def test_count_is_a_positive_integer(tmp_path: Path, count: Any) -> None:
    with pytest.raises(SDSCMError, match="at least 1"):
        Parts.open(tmp_path, MANIFEST, count)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "part-00000.parquet", "_metadata"])
def test_nothing_is_written_into_a_foreign_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ResumeError, match=rf"not empty \({name}\)"):
        Parts.open(tmp_path, MANIFEST, 2)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ResumeError, match="is a file"):
        Parts.open(tmp_path / "file", MANIFEST, 2)
    with pytest.raises(SDSCMError, match="file is a file, not a directory"):
        Parts.open(tmp_path / "file" / "run", MANIFEST, 2)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00", "[" * 100_000])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    finish(tmp_path, 2)
    (tmp_path / "_manifest.json").write_text(text)
    with pytest.raises(ResumeError, match=r"_manifest\.json"):
        Parts.open(tmp_path, MANIFEST, 2)
    assert (tmp_path / "_manifest.json").read_text() == text


@pytest.mark.parametrize("change", [lambda x: x[:-1], lambda x: x.replace(b'": ', b'":'), lambda x: x + b"\n"])
def test_a_manifest_that_says_the_same_is_written_as_it_was(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    finish(tmp_path, 2)
    before = contents(tmp_path)
    manifest = tmp_path / "_manifest.json"
    manifest.write_bytes(change(manifest.read_bytes()))
    assert contents(tmp_path) != before
    finish(tmp_path, 2)
    assert contents(tmp_path) == before


def test_parquet_files_of_others_are_not_read_with_the_run(tmp_path: Path) -> None:
    finish(tmp_path, 2)
    (tmp_path / "notes.txt").write_text("mine")
    finish(tmp_path, 2)
    (tmp_path / "part-2.parquet").write_text("mine")
    with pytest.raises(ResumeError, match=r"part-2\.parquet, not of its run of 2 parts"):
        Parts.open(tmp_path, MANIFEST, 2)


def refused(parts: Parts, path: Path, why: str = "") -> None:
    """Part 1 is neither read nor overwritten, and the file to delete is named."""
    before = contents(parts.directory)
    with pytest.raises(ResumeError, match=rf"part-00001\.parquet .*{why}.*delete it to have it computed again"):
        parts.read(1)
    if path.exists():
        with pytest.raises(ResumeError, match=r"part-00001\.parquet exists and is not overwritten"):
            parts.write(1, part(1))
    assert contents(parts.directory) == before


def test_any_damage_is_found(tmp_path: Path) -> None:
    finish(tmp_path, 3)
    rng = random.Random(0)
    with Parts.open(tmp_path, MANIFEST, 3) as parts:
        for name in ("part-00001.parquet", ".part-00001.sha256"):
            path = tmp_path / name
            good = path.read_bytes()
            for i in rng.sample(range(len(good)), min(400, len(good))):
                flipped = bytearray(good)
                flipped[i] ^= 1 << rng.randrange(8)
                for bad in (bytes(flipped), good[:i]):
                    path.write_bytes(bad)
                    with pytest.raises(ResumeError, match=r"part-00001\.parquet is damaged"):
                        parts.read(1)
            for bad in (good + b"\0", good[:99] + good, b"", b"\0" * len(good)):
                path.write_bytes(bad)
                refused(parts, path, "is damaged")
            path.write_bytes(good)
            assert parts.read(1).equals(part(1))


def test_parts_of_others_are_found(tmp_path: Path) -> None:
    finish(tmp_path / "run", 3)
    with Parts.open(tmp_path / "other", changed("key", [0, 8]), 3) as other:
        other.write(1, part(1))
    with Parts.open(tmp_path / "run", MANIFEST, 3) as parts:
        path, checksum = tmp_path / "run" / "part-00001.parquet", tmp_path / "run" / ".part-00001.sha256"
        files = {
            "part 2": (path.with_name("part-00002.parquet").read_bytes(), path),
            "another run": ((tmp_path / "other" / "part-00001.parquet").read_bytes(), path),
        }
        for data, where in files.values():
            where.write_bytes(data)
            refused(parts, path, "is damaged")
            # With a checksum that fits.
            checksum.write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
            refused(parts, path, "another run, or another part")
        for data in (b"text", b"PAR1" * 4):
            path.write_bytes(data)
            checksum.write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
            refused(parts, path, "not a Parquet file of ours")
        path.write_bytes(b"")
        checksum.unlink()
        refused(parts, path, "has no checksum")
        path.unlink()
        path.mkdir()
        with pytest.raises(ResumeError, match=r"part-00001\.parquet cannot be read"):
            parts.read(1)
        path.rmdir()
    # Deleted, it is computed again.
    finish(tmp_path / "run", 3)
    finish(tmp_path / "undisturbed", 3)
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


def test_tables_that_parquet_does_not_keep(tmp_path: Path) -> None:
    with Parts.open(tmp_path, MANIFEST, 2) as parts:
        before = contents(tmp_path)
        numbers = pa.table({"a": ["x"], "k": pa.array([3]).dictionary_encode()})
        with pytest.raises(SDSCMError, match="column 'k' of part 0: Parquet does not keep a dictionary"):
            parts.write(0, numbers)
        with pytest.raises(SDSCMError, match="part 1 has no rows"):
            parts.write(1, part(1).slice(0, 0))
        union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
        with pytest.raises(SDSCMError, match="part 0 cannot be kept"):
            parts.write(0, pa.table({"u": union}))
        assert contents(tmp_path) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
@pytest.mark.parametrize("file", ["checksum", "part"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, call: str, number: int) -> None:
    finish(tmp_path / "undisturbed", 2)
    name = {"checksum": ".part-00001.sha256", "part": "part-00001.parquet"}[file]
    directory = tmp_path / "run"
    opened = [""]

    def happens(n: int, called: str, args: tuple[Any, ...]) -> None:
        if called == "open":
            opened.append(Path(args[0]).name)
        if called == call and opened[-1] == f".{name.removeprefix('.')}.tmp":
            half(called, args)
            raise OSError(number, os.strerror(number))

    with Parts.open(directory, MANIFEST, 2) as parts:
        parts.write(0, part(0))
        before = contents(directory)
        with monkeypatch.context() as patch:
            system = System(happens)
            patch.setattr(module, "os", system)
            patch.setattr(durable, "os", system)
            with pytest.raises(
                SDSCMError, match=rf"{name}: {os.strerror(number)}\. The parts finished before are safe"
            ):
                parts.write(1, part(1))
        after = contents(directory)
        # At most the checksum of the part that is not there.
        assert {k: v for k, v in after.items() if k != ".part-00001.sha256"} == before
        parts.write(1, part(1))
    assert contents(directory) == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_what_closing_says_after_all_is_synced_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Data and names are on the disk by then: the part is there, and is read."""
    finish(tmp_path / "undisturbed", 2)
    synced: set[int] = set()
    closed: list[int] = []

    class Closing(System):
        def fsync(self, descriptor: int) -> None:
            os.fsync(descriptor)
            synced.add(descriptor)

        def close(self, descriptor: int) -> None:
            os.close(descriptor)
            assert descriptor in synced
            synced.discard(descriptor)
            closed.append(descriptor)
            raise OSError(number, os.strerror(number))

    with Parts.open(tmp_path / "run", MANIFEST, 2) as parts, monkeypatch.context() as patch:
        patch.setattr(durable, "os", Closing(lambda *_: None))
        for i in range(2):
            parts.write(i, part(i))
    # A part, its checksum, and the directory after each of them.
    assert len(closed) == 2 * 4
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")
    finish(tmp_path / "run", 2)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_syncing_says_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, number: int) -> None:
    """Of the data, and of the names in the directory; the same run goes on."""
    finish(tmp_path / "undisturbed", 2)

    class Syncing(System):
        def fsync(self, descriptor: int) -> None:
            os.fsync(descriptor)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode) == (what == "directory"):
                raise OSError(number, os.strerror(number))

    with Parts.open(tmp_path / "run", MANIFEST, 2) as parts:
        with monkeypatch.context() as patch:
            patch.setattr(durable, "os", Syncing(lambda *_: None))
            with pytest.raises(SDSCMError, match=os.strerror(number)):
                parts.write(1, part(1))
        # Not said to be there before it is safe.
        assert parts.done == frozenset()
    finish(tmp_path / "run", 2)
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


def test_a_full_disk_while_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def happens(n: int, called: str, args: tuple[Any, ...]) -> None:
        if called == "write":
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        system = System(happens)
        patch.setattr(module, "os", system)
        patch.setattr(durable, "os", system)
        with pytest.raises(SDSCMError, match=r"_manifest\.json: No space left"):
            Parts.open(tmp_path / "run", MANIFEST, 2)
    finish(tmp_path / "run", 2)
    finish(tmp_path / "undisturbed", 2)
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


def test_a_file_that_the_kernel_does_not_let_grow(tmp_path: Path) -> None:
    message = output(file_too_large, tmp_path / "run")
    assert "part-00001.parquet: File too large" in message
    assert "are safe" in message
    with Parts.open(tmp_path / "undisturbed", MANIFEST, 3) as parts:
        for i, rows in enumerate([7, 10_000, 7]):
            parts.write(i, part(i, rows))
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


def test_synced_before_and_after_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut may undo is what was not synced: nothing that is named is among it."""
    unsynced: set[Path] = set()
    names: dict[int, Path] = {}
    renamed: list[str] = []
    synced: set[Path] = set()

    class Recorded(System):
        def open(self, path: Path, *args: Any) -> int:
            descriptor = os.open(path, *args)
            names[descriptor] = Path(path)
            return descriptor

    def happens(n: int, called: str, args: tuple[Any, ...]) -> None:
        if called == "write":
            unsynced.add(names[args[0]])
        if called == "fsync":
            unsynced.discard(names[args[0]])
            synced.add(names[args[0]])
        if called == "rename":
            # Neither its data nor an earlier file's name is still on its way.
            assert not unsynced
            unsynced.add(Path(args[1]).parent)
            renamed.append(Path(args[1]).name)

    system = Recorded(happens)
    monkeypatch.setattr(module, "os", system)
    monkeypatch.setattr(durable, "os", system)
    finish(tmp_path / "new" / "run", 2)
    assert not unsynced
    # The directories that were made have names too.
    assert {tmp_path, tmp_path / "new"} <= synced
    files = [".part-00000.sha256", "part-00000.parquet", ".part-00001.sha256", "part-00001.parquet"]
    assert renamed == ["_manifest.json", *files]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with subprocess.Popen(command(hold, tmp_path / "run"), stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "open\n"
            before = contents(tmp_path / "run")
            for manifest in (MANIFEST, changed("n", 3)):
                with pytest.raises(ResumeError, match="another process"):
                    Parts.open(tmp_path / "run", manifest, 3)
            assert contents(tmp_path / "run") == before
        finally:
            other.kill()
    assert other.returncode == -signal.SIGKILL
    with Parts.open(tmp_path / "run", MANIFEST, 3) as parts:
        assert parts.done == {0}
        with pytest.raises(ResumeError, match="another call"):
            Parts.open(tmp_path / "run", MANIFEST, 3)
    finish(tmp_path / "run", 3)


@pytest.mark.slow
def test_killed_before_any_system_call(tmp_path: Path) -> None:
    finish(tmp_path / "undisturbed", 1)
    calls = output(kill_everywhere, tmp_path, 1)
    assert calls > 25
    for k in range(1, calls + 1):
        assert contents(tmp_path / str(k)) == contents(tmp_path / "undisturbed"), k


@pytest.mark.slow
def test_killed_at_random(tmp_path: Path) -> None:
    finish(tmp_path / "undisturbed", 30)
    attempts = output(kill_at_random, tmp_path / "run", 20, 30, 0)
    killed = [parts for status, parts in attempts if status == -signal.SIGKILL]
    # On the way, not all before they began or after they ended.
    assert len({parts for parts in killed if 0 < parts < 30}) >= 3
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")

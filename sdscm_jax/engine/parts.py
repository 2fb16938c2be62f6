"""The parts of a long run on disk: a killed run goes on from those that are there, to the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..checks import as_path
from ..durable import LOCK, locked, make_directory, put
from ..errors import ResumeError, SDSCMError

# Number of the layout of the directory and of its files.
FORMAT = 1

MANIFEST = "_manifest.json"
_PART_NAME = re.compile(r"part-([0-9]{1,18})\.parquet")
_TEMPORARY = re.compile(r"\.(_manifest\.json|part-\d+\.(parquet|sha256))\.tmp")
_RUN, _PART = "sdscm_jax.run", "sdscm_jax.part"


@dataclass(frozen=True)
class PartFiles:
    """The parts of one run, to be read: whoever writes there, a part does not change once it is there.

    Attributes:
        directory: where the parts are.
        count: number of parts of the whole run.
        run: SHA-256 of the manifest; each part carries it, with its own number.
    """

    directory: Path
    count: int
    run: str

    def read(self, i: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read part ``i``: the table that was written, one chunk a column or more; or some columns of it.

        Raises:
            ResumeError: the part is absent, damaged, or of another run; the message says which file
                to delete to have it computed again.
        """
        path = self._path(i)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ResumeError(f"{path} is not there: it has not been computed yet") from error
        except OSError as error:
            raise _unusable(path, f"cannot be read ({error.strerror})") from error
        try:
            checksum = self._checksum_path(i).read_bytes()
        except OSError as error:
            raise _unusable(path, f"has no checksum ({error.filename}: {error.strerror})") from error
        if checksum != self._checksum(i, data):
            raise _unusable(path, "is damaged (its checksum differs)")
        # Only bytes that we wrote reach the reader of Parquet: it is not made for damaged files.
        try:
            file = pq.ParquetFile(pa.BufferReader(data))
            origin = file.metadata.metadata or {}
            if (origin.get(_RUN.encode()), origin.get(_PART.encode())) != (self.run.encode(), str(i).encode()):
                raise _unusable(path, "is a part of another run, or another part of this one")
            schema = _schema(file)
            if columns is None:
                return file.read().cast(schema)
            # A name with a dot is read as well where what is before the dot is asked for.
            found = file.read(columns=list(columns)).select(list(columns))
            return found.cast(pa.schema([schema.field(name) for name in columns]))
        except (pa.ArrowException, OSError) as error:
            raise _unusable(path, f"is not a Parquet file of ours ({error})") from error

    def _path(self, i: int) -> Path:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < self.count:
            raise SDSCMError(f"parts are numbered 0 to {self.count - 1}; got {i!r}")
        return self.directory / f"part-{i:0{max(5, len(str(self.count - 1)))}d}.parquet"

    def _number(self, name: str) -> int | None:
        """The number of the part that has this file name, None if none has."""
        found = _PART_NAME.fullmatch(name)
        if found is None or int(found[1]) >= self.count or self._path(int(found[1])).name != name:
            return None
        return int(found[1])

    def _checksum_path(self, i: int) -> Path:
        return self.directory / f".{self._path(i).stem}.sha256"

    def _checksum(self, i: int, data: Any) -> bytes:
        return f"{hashlib.sha256(data).hexdigest()}  {self._path(i).name}\n".encode()


@dataclass(frozen=True)
class Parts(PartFiles):
    """A directory with the parts of one run, and the right to write there until it is closed.

    It holds ``_manifest.json`` (what the run is), ``part-00000.parquet``, ... (its rows, in order:
    ``pandas.read_parquet(directory)`` reads them all) and hidden files: for each part a checksum, in
    the format of ``sha256sum``, and a lock. Every file is written under a temporary name, synced and
    renamed, the checksum before its part: whenever the process is killed, a part is there, whole and
    with its checksum, or not at all.

    >>> import tempfile
    >>> import pyarrow as pa
    >>> where = tempfile.mkdtemp()
    >>> with Parts.open(where, {"program": "coin", "key": 0}, count=3) as parts:
    ...     parts.write(1, pa.table({"coin": ["heads", "tails"]}))
    >>> with Parts.open(where, {"program": "coin", "key": 0}, count=3) as parts:
    ...     parts.done, parts.read(1)["coin"].to_pylist()
    (frozenset({1}), ['heads', 'tails'])
    """

    _lock: IO[bytes] = field(repr=False)

    @classmethod
    def open(cls, out: str | Path, manifest: Mapping[str, Any], count: int) -> Parts:
        """Start a run in a new or empty directory, or go on with the same run in its directory.

        Args:
            out: the directory; it and its parents are made where they are absent.
            manifest: what determines the bytes of the parts, as JSON values; mappings may be nested.
                ``format``, ``parts`` and ``pyarrow`` are added to it.
            count: number of parts, at least 1.

        Raises:
            ResumeError: the directory is of another run (every field of the manifest that differs is
                listed), belongs to somebody else, has an unreadable manifest or a Parquet file that
                is not of the run, or another process is writing there.
            SDSCMError: the manifest is not JSON, or the directory cannot be written to.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise SDSCMError(f"a run has an integer number of parts, at least 1; got {count!r}")
        ours = _described(manifest, count)
        # Absolute: the program may change the working directory.
        directory = as_path(out, "out").absolute()
        try:
            make_directory(directory)
            _refuse_foreign(directory)
            lock = locked(directory / LOCK)
            try:
                for name in filter(_TEMPORARY.fullmatch, os.listdir(directory)):
                    os.unlink(directory / name)
                told = json.dumps(ours, indent=1, sort_keys=True).encode() + b"\n"
                # One that says the same in other bytes was damaged or edited, and becomes what it was.
                if not (directory / MANIFEST).exists() or _of_this_run(directory / MANIFEST, ours) != told:
                    put(directory / MANIFEST, told)
                parts = cls(directory, count, hashlib.sha256(_text(ours).encode()).hexdigest(), lock)
                parts._refuse_strays()
            except BaseException:
                lock.close()
                raise
        except OSError as error:
            raise SDSCMError(f"cannot write a run to {directory}: {error.strerror or error}") from error
        return parts

    @property
    def files(self) -> PartFiles:
        """The same without the right to write."""
        return PartFiles(self.directory, self.count, self.run)

    @property
    def done(self) -> frozenset[int]:
        """Numbers of the parts that are there now, by their names; only ``read`` looks into them.

        Raises:
            SDSCMError: the directory cannot be listed any more.
        """
        try:
            names = os.listdir(self.directory)
        except OSError as error:
            raise SDSCMError(f"cannot list {self.directory}: {error.strerror or error}") from error
        return frozenset(i for i in map(self._number, names) if i is not None)

    def write(self, i: int, table: pa.Table) -> None:
        """Write part ``i``. Equal tables (with their metadata) give equal bytes.

        Args:
            i: number of the part.
            table: its rows, at least one. Columns of dictionaries (options) have text values.

        Raises:
            ResumeError: the part exists; it is left as it is.
            SDSCMError: the disk is full, or writing fails otherwise; nothing of the part is left and
                the other parts are untouched. Or the table cannot be kept as Parquet.
        """
        path = self._path(i)
        if self._lock.closed:
            raise SDSCMError(f"{self.directory} was closed: open it again to write {path.name}")
        if os.path.lexists(path):
            raise ResumeError(f"{path} exists and is not overwritten: delete it to have it computed again")
        data = self._serialised(i, table)
        # A part without a checksum would be of no use; a checksum without a part is replaced.
        put(self._checksum_path(i), self._checksum(i, data))
        # Nobody else writes here while we have the lock, so that the part is still absent.
        put(path, data)

    def close(self) -> None:
        """Let another process write there."""
        # Not unlocked but closed: after a fork the parent keeps the lock when the child closes.
        self._lock.close()

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serialised(self, i: int, table: pa.Table) -> pa.Buffer:
        if table.num_rows == 0:
            raise SDSCMError(f"part {i} has no rows: Parquet would lose the options of its columns")
        # How a column is cut into chunks would be seen in the bytes, as would the order of metadata.
        table = table.combine_chunks()
        table = table.replace_schema_metadata(dict(sorted((table.schema.metadata or {}).items())) or None)
        sink = pa.BufferOutputStream()
        try:
            with pq.ParquetWriter(sink, table.schema, version="2.6", compression="snappy") as writer:
                writer.add_key_value_metadata({_RUN: self.run, _PART: str(i)})
                writer.write_table(table)
            data = sink.getvalue()
            file = pq.ParquetFile(pa.BufferReader(data))
            # Parquet has fewer types than Arrow: better to know now than when it is read.
            for name, kept, wanted in zip(table.column_names, file.schema_arrow, _schema(file), strict=True):
                try:
                    pa.array([], kept.type).cast(wanted.type)
                except pa.ArrowException as error:
                    raise SDSCMError(f"column {name!r} of part {i}: Parquet does not keep a {wanted.type}") from error
        except pa.ArrowException as error:
            raise SDSCMError(f"part {i} cannot be kept as Parquet: {error}") from error
        return data

    def _refuse_strays(self) -> None:
        """A Parquet file that is not of the run would be read with it by ``pandas.read_parquet(directory)``."""
        visible = (name for name in os.listdir(self.directory) if not name.startswith((".", "_")))
        strays = sorted(name for name in visible if name.endswith(".parquet") and self._number(name) is None)
        if strays:
            raise ResumeError(
                f"{self.directory} has {_listed(strays)}, not of its run of {self.count} parts: move it elsewhere"
            )


def _unusable(path: Path, why: str) -> ResumeError:
    return ResumeError(f"{path} {why}: delete it to have it computed again")


def _schema(file: pq.ParquetFile) -> pa.Schema:
    """The schema of the table that was written, of which Parquet itself keeps only a part."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(file.metadata.metadata[b"ARROW:schema"])))


def _described(manifest: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The whole manifest: the caller's fields and ours, as JSON gives them back."""
    ours = {"format": FORMAT, "parts": count, "pyarrow": pa.__version__}
    if taken := sorted(set(ours) & set(manifest)):
        raise SDSCMError(f"a manifest's field has another name than {_listed(taken)}: the directory has its own")
    return {**ours, **_as_json(manifest, ())}


def _as_json(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise SDSCMError(f"the names in a manifest are text; got {key!r} in {'.'.join(path) or 'it'}")
        return {key: _as_json(item, (*path, key)) for key, item in value.items()}
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise SDSCMError(f"manifest field {'.'.join(path)}: expected a JSON value; got {value!r}") from error


def _of_this_run(path: Path, ours: dict[str, Any]) -> bytes:
    """The manifest that is there; one that says something else is refused."""
    try:
        data = path.read_bytes()
        theirs = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise ResumeError(f"{path} cannot be read ({error}): restore it, or write to another directory") from error
    if not isinstance(theirs, dict):
        raise ResumeError(f"{path} is not a manifest of a run: restore it, or write to another directory")
    there, here = dict(_leaves(theirs)), dict(_leaves(ours))
    differ = [
        f"  {'.'.join(name)}: {_contrasted(there.get(name, _ABSENT), here.get(name, _ABSENT))}"
        for name in {**here, **there}
        if _text(there.get(name, _ABSENT)) != _text(here.get(name, _ABSENT))
    ]
    if differ:
        lines = "\n".join(differ)
        raise ResumeError(
            f"{path.parent} holds another run; these differ:\n{lines}\n"
            "Write to another directory, or go on with the same program, language model, key and versions."
        )
    return data


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and (value or not path):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    else:
        yield path, value


def _text(value: Any) -> str:
    # Not compared as Python values: 1, 1.0 and True are three things in JSON.
    return repr(value) if value is _ABSENT else json.dumps(value, sort_keys=True)


def _contrasted(there: Any, here: Any, width: int = 60) -> str:
    """Both values; where they are long, what is around their first difference."""
    texts = [repr(there), repr(here)]
    if max(map(len, texts)) > width:
        first = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
        start = max(0, first - width // 3)
        stop = start + width
        texts = [("…" if start else "") + x[start:stop] + ("…" if stop < len(x) else "") for x in texts]
    return "{} there, {} here".format(*texts)


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _refuse_foreign(directory: Path) -> None:
    """Write nothing, not even a lock, into a directory that somebody uses for something else."""
    names = os.listdir(directory)
    if MANIFEST not in names:
        foreign = sorted(name for name in names if name != LOCK and not _TEMPORARY.fullmatch(name))
        if foreign:
            raise ResumeError(
                f"{directory} is not empty ({_listed(foreign)}) and has no {MANIFEST}: it is no directory of a run; "
                "write to a new one"
            )

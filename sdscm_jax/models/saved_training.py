"""A training run on disk: a killed run goes on from its last save, to the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import as_path
from ..durable import LOCK, locked, make_directory, put_pieces, put_text
from ..errors import ResumeError, SDSCMError
from .canonical import canonical
from .sharding import gather
from .state_file import read_state, state_pieces

# Number of the layout of the directory.
FORMAT = 2
PACKAGES = ("sdscm-jax", "jax", "jaxlib", "flax", "optax")

_RUN, _LOSSES, _STEPS = "run.json", "losses.csv", "steps"
_AFTER = "The save before is kept: once that is put right, the same call goes on from it"


class Save(NamedTuple):
    """What a save holds.

    Attributes:
        state: a pytree of arrays, all that further steps depend on.
        losses: float32 ``[steps]``.
        data: digest of the batches that were read.
    """

    state: Any
    losses: np.ndarray
    data: str


class SavedTraining:
    """The directory of a training run, and the right to write there until it is closed.

    It holds ``run.json`` (what the run is), ``losses.csv`` (step, loss), ``steps/N``, the last save, which is that of
    step N, and a lock. Every file is there as a whole or not at all; a save has a checksum. With several processes the
    first one writes, to where all of them can read.

    Args:
        directory: a new or empty directory, or that of the same run.
        manifest: what the run is, as JSON values; versions of packages are added to it.

    Raises:
        ResumeError: the directory is of another run (the fields that differ are listed), or of something else; or
            another call is writing there.
        SDSCMError: it cannot be written to.

    >>> import tempfile
    >>> where = tempfile.mkdtemp()
    >>> with SavedTraining(where, {"model": "coin"}) as run:
    ...     run.save(2, Save({"weight": jnp.ones(3)}, np.array([0.7, 0.6], np.float32), "abc"))
    >>> with SavedTraining(where, {"model": "coin"}) as again:
    ...     step, save = again.latest({"weight": jnp.zeros(3)})
    >>> step, save.state["weight"].tolist(), save.data
    (2, [1.0, 1.0, 1.0], 'abc')
    >>> SavedTraining(where, {"model": "die"})
    Traceback (most recent call last):
    sdscm_jax.errors.ResumeError: ... is of another run: model is 'coin' there and 'die' here; use another directory
    """

    def __init__(self, directory: str | Path, manifest: Mapping[str, Any]):
        self.directory = as_path(directory, "checkpoint").absolute()
        self._writes = jax.process_index() == 0
        self._lock: IO[bytes] | None = None
        versions = {package: version(package) for package in PACKAGES}
        ours = json.loads(json.dumps({"format": FORMAT, **manifest, "versions": versions}))
        self._run = hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()
        try:
            self._refuse_foreign()
            if self._writes:
                make_directory(self.directory)
                self._lock = locked(self.directory / LOCK)
            self._begin(ours)
            if self._writes:
                make_directory(self.directory / _STEPS)
        except OSError as error:
            self.close()
            raise SDSCMError(f"cannot keep a run in {self.directory}: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another call write there."""
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> SavedTraining:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_foreign(self) -> None:
        """Write nothing, not even a lock, into a directory that is of something else."""
        if not self.directory.is_dir():
            return
        if (self.directory / _RUN).is_file():
            self._there()
            return
        # A run that was killed before it had its name leaves these, if anything.
        there = sorted(p.name for p in self.directory.glob("*") if p.name not in (LOCK, f".{_RUN}.tmp"))
        if there:
            raise ResumeError(f"{self.directory} is of no training run: it has {there[0]!r} and no {_RUN}")

    def _there(self) -> tuple[dict[str, Any], bytes]:
        """What the run in the directory is, and the file that says so."""
        file = self.directory / _RUN
        try:
            data = file.read_bytes()
            return dict(json.loads(data)), data
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise ResumeError(f"{file} cannot be read: {error}; restore it, or use another directory") from error

    def _begin(self, ours: dict[str, Any]) -> None:
        told = json.dumps(ours, indent=1) + "\n"
        if not (self.directory / _RUN).is_file():
            self._write(_RUN, told)
            return
        theirs, data = self._there()
        different = [
            f"{key} is {theirs.get(key)!r} there and {ours.get(key)!r} here"
            for key in {**ours, **theirs}
            if theirs.get(key) != ours.get(key)
        ]
        if different:
            raise ResumeError(f"{self.directory} is of another run: {'; '.join(different)}; use another directory")
        # What says the same in other bytes was damaged or edited, and becomes what it was.
        if data != told.encode():
            self._write(_RUN, told)

    def _steps(self) -> list[int]:
        """Steps that are saved, in order."""
        return sorted(int(p.name) for p in (self.directory / _STEPS).glob("*") if re.fullmatch(r"[1-9][0-9]*", p.name))

    def latest(self, like: Any) -> tuple[int, Save] | None:
        """The last save and its step, or None.

        Args:
            like: a state of the same structure, shapes, dtypes and places.

        Raises:
            ResumeError: it is damaged, or of another run.
        """
        steps = self._steps()
        if not steps:
            return None
        path = self.directory / _STEPS / str(steps[-1])
        advice = f"delete it to have the training begin {'before it' if len(steps) > 1 else 'anew'}"
        try:
            head, losses, state = read_state(path, like)
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise ResumeError(f"{path} is damaged ({error}): {advice}") from error
        if (head["run"], head["step"]) != (self._run, steps[-1]):
            raise ResumeError(f"{path} is of another run, or of another step of this one: {advice}")
        return steps[-1], Save(state, losses, head["data"])

    def save(self, step: int, save: Save) -> None:
        """Save the state after a step; it is there, whole, or not at all.

        Raises:
            SDSCMError: the disk is full, or it cannot be written otherwise; the save before is kept.
        """
        head = {"run": self._run, "step": step, "data": save.data}
        pieces = state_pieces(head, save.losses, save.state)
        if self._writes:
            before = self._steps()
            put_pieces(self.directory / _STEPS / str(step), pieces, _AFTER)
            for old in before:
                if old != step:
                    (self.directory / _STEPS / str(old)).unlink(missing_ok=True)
        else:
            # Parameters that are spread over processes are gathered by all of them.
            for _ in pieces:
                pass
        self.write_losses(save.losses)

    def write_losses(self, losses: np.ndarray) -> None:
        """Write ``losses.csv``."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["step", "loss"])
        # Nine digits tell all float32 numbers apart.
        table.writerows([step, f"{loss:.9g}"] for step, loss in enumerate(losses, start=1))
        self._write(_LOSSES, text.getvalue())

    def _write(self, name: str, text: str) -> None:
        if self._writes:
            put_text(self.directory / name, text, _AFTER)


def hash_programs(lowered: Sequence[Any]) -> str:
    """Digest of what ``jax.jit(f).lower(...)`` gave: the constants of an optimizer or an adapter are in it."""
    return hashlib.sha256("".join(map(canonical, lowered)).encode()).hexdigest()


def hash_arrays(tree: Any, before: str = "") -> str:
    """Digest of the leaves of a pytree, behind an earlier digest."""
    digest = hashlib.sha256(before.encode())
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = gather(leaf) if isinstance(leaf, jax.Array) else np.asarray(leaf)
        digest.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()

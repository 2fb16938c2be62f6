"""A training run on disk: a killed run goes on from its last save, to the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from ..checks import as_path
from ..errors import ResumeError
from .canonical import canonical
from .sharding import gather

# Number of the layout of the directory.
FORMAT = 1
PACKAGES = ("sdscm-jax", "jax", "jaxlib", "flax", "optax")

_RUN, _LOSSES, _STEPS = "run.json", "losses.csv", "steps"


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
    """The directory of a training run.

    It holds ``run.json`` (what the run is), ``losses.csv`` (step, loss) and ``steps/``, where Orbax keeps the
    last save. Files are written under a temporary name and renamed.

    Args:
        directory: a new or empty directory, or that of the same run.
        manifest: what the run is, as JSON values; versions of packages are added to it.

    Raises:
        ResumeError: the directory is of another run (the fields that differ are listed), or of something else.

    >>> import tempfile
    >>> where = tempfile.mkdtemp()
    >>> run = SavedTraining(where, {"model": "coin"})
    >>> run.save(2, Save({"weight": jnp.ones(3)}, np.array([0.7, 0.6], np.float32), "abc"))
    >>> again = SavedTraining(where, {"model": "coin"})
    >>> step, save = again.latest({"weight": jnp.zeros(3)})
    >>> step, save.state["weight"].tolist(), save.data
    (2, [1.0, 1.0, 1.0], 'abc')
    >>> SavedTraining(where, {"model": "die"})
    Traceback (most recent call last):
    sdscm_jax.errors.ResumeError: ... is of another run: model is 'coin' there and 'die' here; use another directory
    """

    def __init__(self, directory: str | Path, manifest: Mapping[str, Any]):
        self.directory = as_path(directory, "checkpoint").absolute()
        versions = {package: version(package) for package in PACKAGES}
        ours = {"format": FORMAT, **manifest, "versions": versions}
        self._begin(json.loads(json.dumps(ours)))
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self.manager = ocp.CheckpointManager(self.directory / _STEPS, options=options)

    def _begin(self, ours: dict[str, Any]) -> None:
        file = self.directory / _RUN
        if not file.is_file():
            # A run that was killed before it had its name leaves a temporary file, if anything.
            there = sorted(p.name for p in self.directory.glob("*") if p.name != f".{_RUN}.tmp")
            if there:
                raise ResumeError(f"{self.directory} is of no training run: it has {there[0]!r} and no {_RUN}")
            self._write(_RUN, json.dumps(ours, indent=1) + "\n")
            return
        try:
            theirs = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ResumeError(f"{file} cannot be read: {error}") from error
        different = [
            f"{key} is {theirs.get(key)!r} there and {ours.get(key)!r} here"
            for key in {**ours, **theirs}
            if theirs.get(key) != ours.get(key)
        ]
        if different:
            raise ResumeError(f"{self.directory} is of another run: {'; '.join(different)}; use another directory")

    def latest(self, like: Any) -> tuple[int, Save] | None:
        """The last save and its step, or None.

        Args:
            like: a state of the same structure, shapes, dtypes and places.
        """
        step = self.manager.latest_step()
        if step is None:
            return None
        wanted = {"state": like, "losses": np.zeros(step, np.float32)}
        found = self.manager.restore(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)),
                data=ocp.args.JsonRestore(),
            ),
        )
        return step, Save(found.arrays["state"], found.arrays["losses"], found.data["digest"])

    def save(self, step: int, save: Save) -> None:
        """Save the state after a step; it is there, whole, or not at all."""
        self.manager.save(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave({"state": save.state, "losses": save.losses}),
                data=ocp.args.JsonSave({"digest": save.data}),
            ),
        )
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
        if jax.process_index() != 0:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = self.directory / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self.directory / name)


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

"""What a run in a directory is: everything that its bytes depend on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..dsl.handlers.external_scores import is_language_model, language_models
from ..errors import SDSCMError
from ..models.language_model import LanguageModel
from ..models.on_mesh import mesh_of
from .parts import MANIFEST, Parts
from .run import Executor, Run

PACKAGES = ("sdscm-jax", "jax", "jaxlib", "flax", "numpyro", "numpy")


def open_parts(out: str | Path, run: Run, executor: Executor, labels: Sequence[str], count: int) -> Parts:
    """The directory of a run, new or to be gone on with.

    Raises:
        ResumeError: it holds another run; the message lists what differs.
        SDSCMError: several processes are one run (``jax.distributed``).
    """
    if jax.process_count() > 1:
        raise SDSCMError("out is for runs of one process; with jax.distributed keep what simulate returns instead")
    return Parts.open(out, manifest_of(run, executor, labels), count)


def left_to_us(out: str | Path | None) -> dict[str, Any]:
    """What the run in a directory has for that which a caller may leave to us; nothing where there is no run yet.

    Some of it depends on the moment, such as the memory that an accelerator has left.
    """
    try:
        found = {} if out is None else json.loads((Path(out) / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        # Who opens the directory says what is wrong with it.
        return {}
    wanted = {"memory": int, "chunk": int, "execution": str}
    return {
        name: found[name]
        for name, kind in wanted.items()
        if isinstance(found, dict) and type(found.get(name)) is kind and (kind is str or found[name] > 0)
    }


def manifest_of(run: Run, executor: Executor, labels: Sequence[str]) -> dict[str, Any]:
    """The manifest, as JSON values."""
    leaves = jax.tree.leaves(run.args, is_leaf=is_language_model)
    rest = [x for x in leaves if not is_language_model(x)]
    return {
        "program": executor.digest(),
        "language_models": [lm.fingerprint() for lm in language_models(run.args)],
        "arguments": _digest(rest),
        "key": np.asarray(jax.random.key_data(run.key)).tolist(),
        "units": run.units,
        "draws": run.draws,
        "worlds": list(labels),
        "interventions": _digest((run.shared.regime, run.shared.worlds, run.per_unit.regime, run.per_unit.worlds)),
        "evidence": {"sites": list(run.observed), "values": _digest((run.shared.evidence, run.per_unit.evidence))},
        "log_probabilities": list(run.kept),
        "execution": executor.execution,
        "chunk": executor.size,
        "memory": executor.memory,
        **environment(language_models(run.args)),
    }


def environment(lms: Sequence[LanguageModel]) -> dict[str, Any]:
    """What the bytes of every result depend on beside what is asked, as JSON values.

    Args:
        lms: the language models that are asked; none: what JAX runs on.
    """
    meshes = [mesh_of(lm) for lm in lms]
    arrays = [x for lm in lms for x in jax.tree.leaves(lm.params) if isinstance(x, jax.Array)]
    devices = {device for x in arrays for device in x.devices()} or {jnp.zeros(()).device}
    return {
        "versions": {package: version(package) for package in PACKAGES},
        "devices": dict(sorted(Counter(device.device_kind for device in devices).items())),
        "meshes": [None if mesh is None else dict(mesh.shape) for mesh in meshes],
        "precision": {name: getattr(jax.config, f"jax_{name}") for name in ("enable_x64", "default_matmul_precision")},
    }


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()

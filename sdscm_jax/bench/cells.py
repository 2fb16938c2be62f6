"""Estimates on disk: those of one estimator in one setting are the parts of a run of their own."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..engine.parts import Parts
from ..errors import ResumeError, SDSCMError
from .benchmark import Benchmark
from .dataset import Dataset
from .estimating import DATA, Settings
from .estimators.registry import UNKEPT

Cell = tuple[str, str]

_MANIFEST = "_manifest.json"
_PART = re.compile(r"part-\d+\.parquet|\.part-\d+\.sha256")


def open_cell(
    directory: Path, benchmark: Benchmark, cell: Cell, settings: Settings, identity: Mapping[str, Any]
) -> Parts:
    """The estimates of an estimator in a setting, those that are there and those to come.

    Where the estimator's source is another one now, or cannot be known, those that are there are given up.

    Args:
        directory: of the evaluation.
        benchmark: what is estimated.
        cell: (estimator, covariates).
        settings: how estimators are shown it.
        identity: what the estimator is; see ``described``.

    Raises:
        ResumeError: those that are there are of another evaluation; says in what it differs.
    """
    name, setting = cell
    manifest: dict[str, Any] = {
        "benchmark": json.loads(json.dumps(dict(benchmark.what))),
        "estimator": dict(identity),
        "covariates": setting,
        "encoding": settings.encoding,
        "level": settings.level,
        "seed": settings.seed,
        "test_share": settings.held_out.test_share,
        "cross_fit": settings.held_out.cross_fit,
        "budget": settings.budget,
    }
    place = directory / "estimates" / (re.sub(r"[:/\\]", "-", name) + f".{setting}")
    if UNKEPT in identity:
        warnings.warn(f"estimates of {name!r} are not kept for another run: {identity[UNKEPT]}", stacklevel=3)
    there = _manifest(place)
    if there is not None and all(there.get(key) == manifest[key] for key in manifest if key != "estimator"):
        before = there.get("estimator")
        same = isinstance(before, dict) and before.get("source") == identity.get("source")
        if UNKEPT in identity or not same:
            if before != identity:
                warnings.warn(
                    f"estimator {name!r} has changed since {place} was written: its estimates are computed again",
                    stacklevel=3,
                )
            _give_up(place)
    return Parts.open(place, manifest, benchmark.total)


def read_cell(parts: Parts, number: int, data: Dataset) -> pd.DataFrame:
    """Estimates of a data set.

    Raises:
        ResumeError: they are damaged, or of another data set.
    """
    table = parts.read(number)
    if (table.schema.metadata or {}).get(DATA) != data.digest.encode():
        raise ResumeError(
            f"{parts.directory}: part {number} holds estimates of data set {data.name!r} as it was before: delete the "
            "part to have it computed again, or write to another directory"
        )
    return table.to_pandas()


def _manifest(place: Path) -> dict[str, Any] | None:
    """The manifest that is there, if it can be read; ``Parts`` says what is wrong with one that cannot."""
    try:
        found = json.loads((place / _MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _give_up(place: Path) -> None:
    """Delete the parts; the manifest last, so that a call that is killed here is gone on with."""
    try:
        for name in filter(_PART.fullmatch, os.listdir(place)):
            os.unlink(place / name)
        os.unlink(place / _MANIFEST)
    except OSError as error:
        raise SDSCMError(f"{place} cannot be emptied: {error.strerror or error}") from error

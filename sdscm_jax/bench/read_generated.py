"""Benchmarks that ``generate`` wrote."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError, FamilyError, ResumeError, nearest
from ..families import Family
from . import column_names
from .benchmark import Benchmark, checked_hidden, read_parquet, require_columns
from .card import CARD
from .dataset import Dataset

_PART = re.compile(r"part-(\d+)\.parquet")
# What ``Parts`` adds to a manifest.
_OWN_FIELDS = ("format", "parts", "pyarrow")


def open_generated(path: Path, outcome: str, option: str | None, hidden: tuple[str, ...] | None) -> Benchmark:
    """A directory that ``generate`` wrote, or is still writing; see ``open_benchmark``.

    Raises:
        DataError: its card is damaged, it holds no data set, or a name is not of it.
    """
    try:
        what = json.loads((path / CARD).read_text(encoding="utf-8"))
        # A text would be the path of another file.
        family, count = Family.from_json(dict(what["family"])), int(what["datasets"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, FamilyError) as error:
        raise DataError(f"{path / CARD} is damaged: {type(error).__name__}: {error}") from error
    run = _run(path, what)
    assert family.treatment
    assert family.outcome
    assert family.arms
    option = option or family.outcome_option or ""
    options = family[family.outcome].options
    if option not in options:
        raise DataError(f"option: the outcome {family.outcome!r} has no option {option!r}; {nearest(option, options)}")
    hidden = checked_hidden(family.hidden if hidden is None else hidden, family.covariates)
    found = {int(m[1]): file for file in (path / "data").glob("part-*.parquet") if (m := _PART.fullmatch(file.name))}
    numbers = sorted(found)
    if not numbers:
        raise DataError(f"{path / 'data'} holds no data set: sdscm generate has not written any yet")

    def read(i: int) -> Dataset:
        file = found[numbers[i]]
        return _dataset(_checked(file, numbers[i], run), file, family, outcome, option, hidden)

    what |= {"outcome": outcome, "option": option, "hidden": list(hidden)}
    return Benchmark(path, tuple(f"{i:05d}" for i in numbers), tuple(numbers), count, what, read)


def _run(path: Path, what: dict[str, Any]) -> str | None:
    """The digest that data sets carry of the run that made them; None: what is there does not say.

    Raises:
        DataError: the card is not what the run's own manifest says.
    """
    file = path / "data" / "_manifest.json"
    if not file.exists():
        # A copy without what ``generate`` needs to go on.
        return None
    try:
        manifest = dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{file} is damaged: {type(error).__name__}: {error}") from error
    differ = [name for name, value in what.items() if name not in manifest or manifest[name] != value]
    differ += [name for name in manifest if name not in {*what, *_OWN_FIELDS}]
    if differ:
        raise DataError(
            f"{path / CARD} and {file} do not say the same of {', '.join(map(repr, differ))}: one of them is damaged, "
            "or was edited; the same call of generate writes the former again"
        )
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _checked(file: Path, number: int, run: str | None) -> pd.DataFrame:
    """The table of a data set, compared with its checksum where there is one.

    Raises:
        ResumeError: it is not what ``generate`` wrote.
        DataError: it cannot be read.
    """
    checksum = file.with_name(f".{file.stem}.sha256")
    if not checksum.exists():
        return read_parquet(file)
    why = (
        f"damaged, or was edited. Delete it and run the same generate again; or delete {checksum.name} beside it to "
        "have it taken as it is"
    )
    try:
        data, expected = file.read_bytes(), checksum.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if expected != f"{hashlib.sha256(data).hexdigest()}  {file.name}\n".encode():
        raise ResumeError(f"{file} is not what its checksum says: it is {why}")
    origin = pq.read_metadata(pa.BufferReader(data)).metadata or {}
    told = origin.get(b"sdscm_jax.run"), origin.get(b"sdscm_jax.part")
    if run is not None and told != (run.encode(), str(number).encode()):
        raise ResumeError(f"{file} is a data set of another benchmark, or another one of this: it is {why}")
    return read_parquet(pa.BufferReader(data), file)


def _dataset(
    frame: pd.DataFrame, file: Path, family: Family, outcome: str, option: str, hidden: tuple[str, ...]
) -> Dataset:
    treatment, target, arms = family.treatment, family.outcome, family.arms
    assert treatment
    assert target
    assert arms
    worlds = [column_names.world(treatment, arm) for arm in arms]
    raw = [column_names.log_probability(target, option, label) for label in worlds]
    drawn = [column_names.value(target, label) for label in worlds]
    exact = [column_names.exact(target, option, label) for label in worlds]
    needed = [
        column_names.WORDING,
        column_names.UNIT,
        column_names.PROPENSITY,
        treatment,
        *family.covariates,
        *raw,
        *drawn,
    ]
    require_columns(frame, needed, file)
    # Individuals with another treatment say nothing of these two.
    frame = frame[frame[treatment].isin(arms)].reset_index(drop=True)
    t = (frame[treatment] == arms[1]).to_numpy().astype(np.int8)
    if outcome == "drawn":
        outcomes = np.stack([(frame[c] == option).to_numpy().astype(np.float64) for c in drawn], axis=1)
    else:
        outcomes = frame[raw].to_numpy(np.float64)
        outcomes = np.exp(outcomes) if outcome == "probability" else outcomes
    if outcome != "logp" and exact[0] in frame:
        cate = frame[exact[1]].to_numpy(np.float64) - frame[exact[0]].to_numpy(np.float64)
    elif family.mediators:
        # The mean of a log-probability over mediators is not among what was computed.
        cate = np.full(len(frame), np.nan)
    else:
        cate = outcomes[:, 1] - outcomes[:, 0]
    return Dataset(
        file.stem.removeprefix("part-"),
        str(frame[column_names.WORDING].iloc[0]) if len(frame) else "",
        frame[list(family.covariates)],
        hidden,
        t,
        outcomes[np.arange(len(t)), t],
        outcomes,
        cate,
        frame[column_names.PROPENSITY].to_numpy(np.float64),
        frame[column_names.UNIT].to_numpy(np.int64),
    )

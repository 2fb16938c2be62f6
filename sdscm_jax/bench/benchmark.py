"""Benchmarks on disk: generated ones, and the files of the paper's authors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ..errors import DataError, FamilyError, nearest
from ..families import Family
from . import columns
from .card import CARD
from .dataset import Dataset, check_dataset

OUTCOMES = ("probability", "logp", "drawn")
_PART = re.compile(r"part-(\d+)\.parquet")


@dataclass(frozen=True)
class Benchmark:
    """Data sets that are read one at a time.

    Attributes:
        source: the file or directory.
        names: of the data sets that are there.
        numbers: of the same in the whole benchmark.
        total: how many data sets the whole benchmark has; there are fewer while it is being written.
        what: JSON values that say what it is; all that estimates depend on.
    """

    source: Path
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    total: int
    what: Mapping[str, Any]
    _read: Callable[[int], Dataset]

    def __len__(self) -> int:
        return len(self.names)

    def dataset(self, i: int) -> Dataset:
        """Read and check data set i.

        Raises:
            DataError: it cannot be used; names the file and the column.
        """
        data = self._read(i)
        check_dataset(data, f"{self.source}, data set {data.name}")
        return data


def open_benchmark(
    source: str | Path, outcome: str | None = None, option: str | None = None, hidden: tuple[str, ...] | None = None
) -> Benchmark:
    """Open a generated directory, a CSV file or Parquet extract of the paper's authors, or a directory of such CSVs.

    Args:
        source: the file or directory.
        outcome: ``"probability"`` of an option, its ``"logp"`` (log-probability; the paper's raw score), or whether
            it is the one ``"drawn"`` (0 or 1). Default: ``"logp"`` for the authors' files, else ``"probability"``.
        option: option of the outcome; default: the family's, and the first one in the authors' files.
        hidden: covariates that the setting ``"observed"`` withholds; default: the family's, X0 to X3 in the
            authors' files (age, medical conditions, medication, menopausal status).

    Raises:
        DataError: there is no benchmark, or a name is not of it.
    """
    path = Path(source)
    if outcome is not None and outcome not in OUTCOMES:
        raise DataError(f"outcome is one of {OUTCOMES}, got {outcome!r}; {nearest(outcome, OUTCOMES)}")
    if path.is_dir() and (path / CARD).exists():
        return _generated(path, outcome or "probability", option, hidden)
    if path.is_dir() and (files := sorted(path.glob("*.csv"), key=_natural)):
        return _published(path, files, outcome or "logp", option, hidden)
    if path.is_file() and path.suffix == ".csv":
        return _published(path, [path], outcome or "logp", option, hidden)
    if path.is_file() and path.suffix == ".parquet":
        return _extract(path, outcome or "logp", option, hidden)
    raise DataError(
        f"{path} is no benchmark: expected a directory with {CARD} (of sdscm generate), a directory of CSV files, "
        "or a .csv or .parquet file of the paper's authors"
    )


def _natural(path: Path) -> tuple[Any, ...]:
    return tuple(int(x) if x.isdigit() else x for x in re.split(r"(\d+)", path.name))


# Generated ones.


def _generated(path: Path, outcome: str, option: str | None, hidden: tuple[str, ...] | None) -> Benchmark:
    try:
        what = json.loads((path / CARD).read_text())
        family, count = Family.from_json(what["family"]), int(what["datasets"])
    except (ValueError, KeyError, TypeError, FamilyError) as error:
        raise DataError(f"{path / CARD} is damaged: {type(error).__name__}: {error}") from error
    assert family.treatment
    assert family.outcome
    assert family.arms
    option = option or family.outcome_option or ""
    options = family[family.outcome].options
    if option not in options:
        raise DataError(f"option: the outcome {family.outcome!r} has no option {option!r}; {nearest(option, options)}")
    hidden = _known(family.hidden if hidden is None else hidden, family.covariates)
    found = {int(m[1]): file for file in (path / "data").glob("part-*.parquet") if (m := _PART.fullmatch(file.name))}
    numbers = sorted(found)
    if not numbers:
        raise DataError(f"{path / 'data'} holds no data set: sdscm generate has not written any yet")

    def read(i: int) -> Dataset:
        return _generated_dataset(found[numbers[i]], family, outcome, option, hidden)

    what |= {"outcome": outcome, "option": option, "hidden": list(hidden)}
    return Benchmark(path, tuple(f"{i:05d}" for i in numbers), tuple(numbers), count, what, read)


def _generated_dataset(file: Path, family: Family, outcome: str, option: str, hidden: tuple[str, ...]) -> Dataset:
    treatment, target, arms = family.treatment, family.outcome, family.arms
    assert treatment
    assert target
    assert arms
    worlds = [columns.world(treatment, arm) for arm in arms]
    raw = [columns.log_probability(target, option, label) for label in worlds]
    drawn = [columns.value(target, label) for label in worlds]
    exact = [columns.exact(target, option, label) for label in worlds]
    frame = _parquet(file)
    needed = [columns.WORDING, columns.UNIT, columns.PROPENSITY, treatment, *family.covariates, *raw, *drawn]
    _require(frame, needed, file)
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
        str(frame[columns.WORDING].iloc[0]) if len(frame) else "",
        frame[list(family.covariates)],
        hidden,
        t,
        outcomes[np.arange(len(t)), t],
        outcomes,
        cate,
        frame[columns.PROPENSITY].to_numpy(np.float64),
        frame[columns.UNIT].to_numpy(np.int64),
    )


# The authors' files.

_TREATMENT, _COVARIATES, _HIDDEN = "X12", tuple(f"X{i}" for i in range(12)), ("X0", "X1", "X2", "X3")


def _published(
    source: Path, files: list[Path], outcome: str, option: str | None, hidden: tuple[str, ...] | None
) -> Benchmark:
    hidden = _known(_HIDDEN if hidden is None else hidden, _COVARIATES)

    def read(i: int) -> Dataset:
        file = files[i]
        try:
            frame = pd.read_csv(file)
        except (ValueError, OSError) as error:
            raise DataError(f"{file} cannot be read as CSV: {error}") from error
        return _published_dataset(frame, file, file.stem, file.stem, outcome, option or "0", hidden)

    what = _what(source, files, outcome, option, hidden)
    return Benchmark(source, tuple(f.stem for f in files), tuple(range(len(files))), len(files), what, read)


def _extract(path: Path, outcome: str, option: str | None, hidden: tuple[str, ...] | None) -> Benchmark:
    hidden = _known(_HIDDEN if hidden is None else hidden, _COVARIATES)
    frame = _parquet(path)
    _require(frame, ["config", "file", "unit"], path)
    groups = {int(str(number)): rows for number, rows in frame.groupby("file", sort=True)}
    numbers = list(groups)

    def read(i: int) -> Dataset:
        rows = groups[numbers[i]].reset_index(drop=True)
        name, wording = str(numbers[i]), str(rows["config"].iloc[0])
        return _published_dataset(rows, path, name, wording, outcome, option or "0", hidden)

    what = _what(path, [path], outcome, option, hidden) | {"datasets": len(numbers)}
    return Benchmark(path, tuple(map(str, numbers)), tuple(range(len(numbers))), len(numbers), what, read)


def _what(source: Path, files: list[Path], outcome: str, option: str | None, hidden: tuple[str, ...]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return {
        "published": source.name,
        "sha256": digest.hexdigest(),
        "datasets": len(files),
        "outcome": outcome,
        "option": option or "0",
        "hidden": list(hidden),
    }


def _published_dataset(
    frame: pd.DataFrame, file: Path, name: str, wording: str, outcome: str, option: str, hidden: tuple[str, ...]
) -> Dataset:
    if option not in ("0", "1", "2", "3"):
        raise DataError(f"option: the outcome X13 has the options '0' to '3', got {option!r}")
    worlds = [f"|do({_TREATMENT}={arm})" for arm in (0, 1)]
    scores = [[f"logP(X13={k}){label}" for k in range(4)] for label in worlds]
    drawn = [f"X13{label}" for label in worlds]
    treated = [f"logP({_TREATMENT}={arm})" for arm in (0, 1)]
    _require(frame, [*_COVARIATES, _TREATMENT, *scores[0], *scores[1], *drawn, *treated], file)
    t = frame[_TREATMENT].to_numpy()
    if not np.isin(t, (0, 1)).all():
        raise DataError(f"{file}: {_TREATMENT}: the treatment is 0 or 1")
    t, k = t.astype(np.int8), int(option)
    # Raw scores: what the authors call a log-probability is not normalised.
    raw = np.stack([frame[c].to_numpy(np.float64) for c in scores], axis=1)
    expected = raw[..., k] if outcome == "logp" else _softmax(raw)[..., k]
    y, outcomes = expected[np.arange(len(t)), t], expected
    if outcome == "drawn":
        outcomes = np.stack([(frame[c] == k).to_numpy().astype(np.float64) for c in drawn], axis=1)
        # Their worlds are redrawn: the observed outcome is neither of them.
        y = (frame["X13"] == k).to_numpy().astype(np.float64)
    return Dataset(
        name,
        wording,
        pd.DataFrame({c: _numbered(frame[c].to_numpy()) for c in _COVARIATES}),
        hidden,
        t,
        y,
        outcomes,
        expected[:, 1] - expected[:, 0],
        _softmax(frame[treated].to_numpy(np.float64))[:, 1],
        frame["unit"].to_numpy(np.int64) if "unit" in frame else np.arange(len(frame)),
    )


def _numbered(codes: np.ndarray) -> Any:
    """Option numbers, with those that do not occur among the categories."""
    return pd.Categorical.from_codes(codes, categories=pd.RangeIndex(int(codes.max(initial=0)) + 1), ordered=True)


def _softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _parquet(file: Path) -> pd.DataFrame:
    try:
        return pq.read_table(file).to_pandas()
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from error


def _require(frame: pd.DataFrame, needed: list[str], file: Path) -> None:
    missing = [name for name in needed if name not in frame]
    if missing:
        raise DataError(f"{file}: column {missing[0]!r} is missing; {nearest(missing[0], map(str, frame.columns))}")


def _known(hidden: tuple[str, ...], covariates: tuple[str, ...]) -> tuple[str, ...]:
    for name in hidden:
        if name not in covariates:
            raise DataError(f"hidden: {name!r} is no covariate; {nearest(name, covariates)}")
    return tuple(hidden)

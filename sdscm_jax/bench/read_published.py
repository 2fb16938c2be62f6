"""Benchmarks in the files of the paper's authors: a CSV file for each data set, or a Parquet extract of all."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ..errors import DataError
from .benchmark import Benchmark, checked_hidden, require_columns
from .dataset import Dataset
from .foreign_tables import arms_of, digest_of, option_numbers, read_table, refuse, wordings_of
from .foreign_tables import numbers as as_numbers

CONFIG = "config"
_TREATMENT, _COVARIATES, _HIDDEN = "X12", tuple(f"X{i}" for i in range(12)), ("X0", "X1", "X2", "X3")


def open_published(
    source: Path,
    files: list[Path],
    outcome: str,
    option: str | None,
    hidden: tuple[str, ...] | None,
    wordings: dict[str, str] | None = None,
) -> Benchmark:
    """CSV files of the authors, a data set each; see ``open_benchmark``.

    Which wording a file has is in its column ``config`` where it has one, or in ``wordings``; the name of the file
    does not say, and several files are of one wording.

    Raises:
        DataError: a name in ``hidden`` is no covariate; a file that cannot be used is refused when it is read.
    """
    hidden = checked_hidden(_HIDDEN if hidden is None else hidden, _COVARIATES)

    def read(i: int) -> Dataset:
        frame = read_table(files[i])
        wording = _config(frame, files[i]) if given is None else given[i]
        return _dataset(frame, files[i], names[i], wording, outcome, option or "0", hidden)

    names = tuple(file.stem for file in files)
    what = _what(source, files, outcome, option, hidden)
    given = wordings_of(names, wordings)
    if given is not None:
        what["wordings"] = given
    return Benchmark(source, names, tuple(range(len(files))), len(files), what, read)


def open_extract(path: Path, outcome: str, option: str | None, hidden: tuple[str, ...] | None) -> Benchmark:
    """Many of their data sets in one Parquet file; see ``open_benchmark``.

    Raises:
        DataError: it cannot be read, or a name in ``hidden`` is no covariate.
    """
    hidden = checked_hidden(_HIDDEN if hidden is None else hidden, _COVARIATES)
    places = _places(path)
    numbers = sorted(places)

    @lru_cache(maxsize=1)
    def row_group(k: int) -> dict[int, pd.DataFrame]:
        try:
            frame = pq.ParquetFile(path).read_row_group(k).to_pandas()
            return {int(str(number)): rows for number, rows in frame.groupby("file", sort=True)}
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read as Parquet: {error}") from error

    def read(i: int) -> Dataset:
        # Only the row groups that hold the data set, and one of them at a time.
        rows = pd.concat([row_group(k)[numbers[i]] for k in places[numbers[i]]], ignore_index=True)
        name, wording = str(numbers[i]), _config(rows, path)
        return _dataset(rows, path, name, wording, outcome, option or "0", hidden)

    what = _what(path, [path], outcome, option, hidden) | {"datasets": len(numbers)}
    return Benchmark(path, tuple(map(str, numbers)), tuple(range(len(numbers))), len(numbers), what, read)


def _places(path: Path) -> dict[int, list[int]]:
    """Numbers of the row groups in which each data set stands."""
    found: dict[int, list[int]] = {}
    try:
        file = pq.ParquetFile(path)
        require_columns(pd.DataFrame(columns=file.schema_arrow.names), [CONFIG, "file", "unit"], path)
        for k in range(file.num_row_groups):
            for number in file.read_row_group(k, columns=["file"])["file"].unique().to_pylist():
                found.setdefault(int(str(number)), []).append(k)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    return found


def _what(source: Path, files: list[Path], outcome: str, option: str | None, hidden: tuple[str, ...]) -> dict[str, Any]:
    return {
        "published": source.name,
        "sha256": digest_of(files),
        "datasets": len(files),
        "outcome": outcome,
        "option": option or "0",
        "hidden": list(hidden),
    }


def _config(frame: pd.DataFrame, file: Path) -> str | None:
    """The wording that a file's own column names, if it has one."""
    if CONFIG not in frame or not len(frame):
        return None
    refuse(file, frame[CONFIG].isna(), CONFIG, "is missing")
    refuse(file, frame[CONFIG] != frame[CONFIG].iloc[0], CONFIG, "is another than in row 1", frame[CONFIG])
    return str(frame[CONFIG].iloc[0])


def _dataset(
    frame: pd.DataFrame, file: Path, name: str, wording: str | None, outcome: str, option: str, hidden: tuple[str, ...]
) -> Dataset:
    if option not in ("0", "1", "2", "3"):
        raise DataError(f"option: the outcome X13 has the options '0' to '3', got {option!r}")
    worlds = [f"|do({_TREATMENT}={arm})" for arm in (0, 1)]
    scores = [[f"logP(X13={k}){label}" for k in range(4)] for label in worlds]
    drawn = [f"X13{label}" for label in worlds]
    treated = [f"logP({_TREATMENT}={arm})" for arm in (0, 1)]
    if _TREATMENT not in frame and "X0" not in frame:
        raise DataError(
            f"{file}: there are no columns X0 to X13, as the paper's authors name them; of another table, say which "
            f"columns are what (columns=, --treatment and --outcome); known: {', '.join(map(repr, frame.columns))}"
        )
    require_columns(frame, [*_COVARIATES, _TREATMENT, *scores[0], *scores[1], *drawn, *treated], file)
    t, k = arms_of(file, frame, _TREATMENT), int(option)
    # Raw scores: what the authors call a log-probability is not normalised.
    raw = np.stack([np.stack([as_numbers(file, frame, c) for c in world], 1) for world in scores], 1)
    factual = f"logP(X13={k})"
    if factual in frame:
        own, seen = raw[np.arange(len(t)), t, k], as_numbers(file, frame, factual)
        differ = pd.Series(~np.isclose(own, seen, rtol=1e-5, atol=1e-5), frame.index)
        refuse(file, differ, factual, "is not what it is in the world of the unit's own treatment", frame[factual])
    expected = raw[..., k] if outcome == "logp" else _softmax(raw)[..., k]
    y, outcomes = expected[np.arange(len(t)), t], expected
    if outcome == "drawn":
        outcomes = np.stack([(option_numbers(file, frame, c) == k).astype(np.float64) for c in drawn], axis=1)
        # Their worlds are redrawn: the observed outcome is neither of them.
        require_columns(frame, ["X13"], file)
        y = (option_numbers(file, frame, "X13") == k).astype(np.float64)
    return Dataset(
        name,
        wording,
        pd.DataFrame({c: _numbered(option_numbers(file, frame, c)) for c in _COVARIATES}),
        hidden,
        t,
        y,
        outcomes,
        expected[:, 1] - expected[:, 0],
        _softmax(np.stack([as_numbers(file, frame, c) for c in treated], 1))[:, 1],
        as_numbers(file, frame, "unit").astype(np.int64) if "unit" in frame else np.arange(len(frame)),
    )


def _numbered(codes: np.ndarray) -> Any:
    """Option numbers, with those that do not occur among the categories."""
    return pd.Categorical.from_codes(codes, categories=pd.RangeIndex(int(codes.max(initial=0)) + 1), ordered=True)


def _softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)

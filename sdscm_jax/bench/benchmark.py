"""Benchmarks on disk, and what the readers of their formats share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..checks import count, told
from ..errors import DataError, nearest
from .dataset import Dataset, check_dataset


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
        data = self._read(count(i, "the number of a data set", DataError, least=0, most=len(self) - 1))
        check_dataset(data, f"{self.source}, data set {data.name}")
        return data


def read_parquet(source: Path | pa.BufferReader, file: Path | None = None) -> pd.DataFrame:
    """A Parquet file as a table.

    Args:
        source: the file, or its content.
        file: the name for messages, where ``source`` is the content.

    Raises:
        DataError: it cannot be read.
    """
    file = source if isinstance(source, Path) else file
    try:
        return pq.read_table(source).to_pandas()
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from error


def require_columns(frame: pd.DataFrame, needed: Sequence[str], file: Path) -> None:
    """Refuse a table that lacks a column.

    Raises:
        DataError: names the first that is missing, and the nearest that is there.
    """
    missing = [name for name in needed if name not in frame]
    if missing:
        raise DataError(f"{file}: column {missing[0]!r} is missing; {nearest(missing[0], map(str, frame.columns))}")


def checked_hidden(hidden: tuple[str, ...], covariates: tuple[str, ...]) -> tuple[str, ...]:
    """The covariates to withhold.

    Raises:
        DataError: one of them is no covariate.
    """
    for name in hidden:
        if name not in covariates:
            raise DataError(f"hidden: {told(name)} is no covariate; {nearest(name, covariates)}")
    return tuple(hidden)

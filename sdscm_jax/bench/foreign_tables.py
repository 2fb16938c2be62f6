"""Tables of other people: read, and every wrong value named by its file, row and column."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..checks import as_path, told
from ..errors import DataError, nearest
from .benchmark import require_columns

ENDINGS = (".csv", ".csv.gz", ".parquet")
# Squares of larger numbers, summed up, are infinite.
_MOST = 1e100
_MOST_OPTIONS = 10_000
# Before 3.1, pandas read some numbers as a neighbour of theirs, unless told not to; since then it warns of being told.
_EXACT: dict[str, Any] = (
    {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
)


def stem(path: Path) -> str:
    """The name of a table's file without its ending.

    >>> stem(Path("data/a.b.csv.gz"))
    'a.b'
    """
    ending = next((e for e in sorted(ENDINGS, key=len, reverse=True) if path.name.lower().endswith(e)), "")
    return path.name[: len(path.name) - len(ending)]


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or Parquet file as a table.

    Raises:
        DataError: it cannot be read; two columns share a name; or its values are separated by something else than
            commas.
    """
    if path.name.lower().endswith(".parquet"):
        try:
            return pd.read_parquet(path).reset_index(drop=True)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    try:
        # Where names are repeated, pandas gives the later ones others.
        heading = pd.read_csv(path, header=None, nrows=1, dtype=str, encoding="utf-8-sig").iloc[0].dropna()
        frame = pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True, **_EXACT)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    if len(heading) == 1:
        for separator in (";", "\t", "|"):
            if separator in heading.iloc[0]:
                raise DataError(f"{path}: values are separated by {separator!r}; a comma was expected, the separator")
    repeated = heading[heading.str.strip().duplicated()]
    if len(repeated):
        raise DataError(f"{path}: there are two columns {repeated.iloc[0].strip()!r}")
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path}: rows have more fields than the heading has columns, {list(frame)}")
    return frame.rename(columns=lambda name: str(name).strip())


def refuse(path: Path, wrong: pd.Series, column: str, why: str, shown: pd.Series | None = None) -> None:
    """Refuse a table in which anything is wrong.

    Args:
        path: the file.
        wrong: of each row, bool.
        column, why, shown: for the message: the column, what is wrong, and the values.

    Raises:
        DataError: names the file, the first row (counted from 1, after the heading), the column and the value.
    """
    flags = wrong.to_numpy(dtype=bool)
    if flags.any():
        at = int(flags.argmax())
        value = "" if shown is None else f"{told(str(shown.iloc[at]))} "
        more = f" (and {flags.sum() - 1} rows more)" if flags.sum() > 1 else ""
        raise DataError(f"{path}: row {int(wrong.index[at]) + 1}, column {column!r}: {value}{why}{more}")


def parsed(given: pd.Series) -> pd.Series:
    """The numbers of a column, of texts too: those nearest to what stands there; NaN where there is none.

    >>> parsed(pd.Series(["0.1", "1e-3", "x"])).tolist()
    [0.1, 0.001, nan]
    """
    found = pd.to_numeric(given, errors="coerce")
    if not _EXACT or found.dtype != np.float64 or pd.api.types.is_numeric_dtype(given):
        return found
    return pd.Series([_float(text, number) for text, number in zip(given, found, strict=True)], found.index)


def _float(text: Any, number: float) -> float:
    try:
        return float(text) if np.isfinite(number) else number
    except (TypeError, ValueError):
        return number


def numbers(path: Path, frame: pd.DataFrame, column: str) -> np.ndarray:
    """A column of finite numbers, float64 ``[n]``.

    Raises:
        DataError: names the first value that is none.
    """
    given = frame[column]
    refuse(path, given.isna(), column, "is missing")
    found = parsed(given)
    refuse(path, found.isna() | ~found.map(np.isreal), column, "is not a number", given)
    found = found.astype(np.float64)
    refuse(path, ~(found.abs() <= _MOST), column, f"is not a number between -{_MOST:g} and {_MOST:g}", given)
    return found.to_numpy()


def option_numbers(path: Path, frame: pd.DataFrame, column: str) -> np.ndarray:
    """A column of options' numbers, counted from 0, int64 ``[n]``.

    Raises:
        DataError: names the first value that is none.
    """
    found = numbers(path, frame, column)
    wrong = pd.Series((found % 1 != 0) | (found < 0) | (found >= _MOST_OPTIONS), frame.index)
    refuse(path, wrong, column, "is no number of an option: 0, 1, …", frame[column])
    return found.astype(np.int64)


def arms_of(
    path: Path, frame: pd.DataFrame, column: str, arms: Sequence[Any] | None = None, hint: str = ""
) -> np.ndarray:
    """A column of treatments, int8 ``[n]``, 0 or 1.

    Args:
        path, frame, column: of the file.
        arms: its values for control and treatment; None: 0 and 1, or False and True.
        hint: what to do about others, for the message.

    Raises:
        DataError: names the first value that is none of them.
    """
    given = frame[column]
    refuse(path, given.isna(), column, "is missing")
    if arms is None:
        known, text = pd.to_numeric(given, errors="coerce"), f"is no treatment: 0 or 1{hint}"
        control, treated = known == 0, known == 1
    else:
        told_as = given.map(_as_text)
        control, treated = told_as == _as_text(arms[0]), told_as == _as_text(arms[1])
        text = f"is no treatment: {told(arms[0])} (control) or {told(arms[1])}"
    refuse(path, ~(control | treated), column, text, given)
    return treated.to_numpy(dtype=bool).astype(np.int8)


def digest_of(files: Sequence[Path]) -> str:
    """SHA-256 of what files contain, in their order.

    Raises:
        DataError: one cannot be read.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def parse_wordings(given: Any) -> dict[str, str] | None:
    """Which wording each data set has.

    Args:
        given: data set (or name of its file) -> wording; or a table of that, with the columns ``dataset`` and
            ``wording``; None: it is not known.

    Raises:
        DataError: it is neither; or a data set is there twice.

    >>> parse_wordings({"a.csv": 3, "b": "x"})
    {'a': '3', 'b': 'x'}
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        path = as_path(given, "wordings", DataError)
        frame = read_table(path)
        require_columns(frame, ["dataset", "wording"], path)
        for column in ("dataset", "wording"):
            refuse(path, frame[column].isna(), column, "is missing")
        pairs = list(zip(frame["dataset"], frame["wording"], strict=True))
    found: dict[str, str] = {}
    for name, wording in pairs:
        name, wording = stem(Path(_as_text(name))), _as_text(wording)
        if not wording:
            raise DataError(f"wordings: the wording of data set {name!r} is empty")
        if found.setdefault(name, wording) != wording:
            raise DataError(f"wordings: data set {name!r} has two wordings, {found[name]!r} and {wording!r}")
    return found


def wordings_of(names: Sequence[str], wordings: Mapping[str, str] | None) -> list[str] | None:
    """The wordings of some data sets; None: they are not known.

    Raises:
        DataError: one has none, and others have.
    """
    if wordings is None:
        return None
    for name in names:
        if name not in wordings:
            raise DataError(f"wordings: data set {name!r} has none; {nearest(name, wordings)}")
    return [wordings[name] for name in names]


def _as_text(value: Any) -> str:
    """A number is the same whether it is whole by its type or by its value."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)

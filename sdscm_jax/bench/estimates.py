"""Estimates that were made elsewhere, in another language or by hand: read, checked and scored like any other."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ..checks import as_path, instance, told
from ..errors import DataError, SDSCMError, nearest
from .dataset import SETTINGS, Dataset
from .estimators.protocol import parse_level
from .foreign_tables import parsed, refuse
from .metrics import parse_interval_of, score, unscored

_NUMBERS = ("effect", "lower", "upper", "ate")
_NAMES = ("dataset", "covariates", "estimator")
_KNOWN = ("unit", *_NUMBERS, *_NAMES)
ESTIMATES = (*_NAMES, "unit", "effect", "lower", "upper", "ite", "cate", "ate")
_ENDINGS = (".csv", ".csv.gz", ".parquet")


def _load(path: Path) -> pd.DataFrame:
    if not path.name.lower().endswith(_ENDINGS):
        raise DataError(f"{path}: estimates are read from files named *{', *'.join(_ENDINGS)}")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    parquet = path.name.lower().endswith(".parquet")
    try:
        if parquet:
            return pd.read_parquet(path).reset_index(drop=True)
        # As text, so that a wrong number can be quoted; with blank lines, so that rows can be counted.
        frame = pd.read_csv(path, dtype=str, skip_blank_lines=False, skipinitialspace=True, encoding="utf-8")
    except (ValueError, OSError) as error:  # Parsers' errors are ValueErrors.
        raise DataError(f"{path}: cannot be read as {'Parquet' if parquet else 'CSV'}: {error}") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path}: rows have more fields than the heading has columns, {list(frame)}")
    # R writes the names of rows under an empty heading.
    return frame.drop(columns="Unnamed: 0", errors="ignore").dropna(how="all")


def _check_columns(path: Path, frame: pd.DataFrame) -> None:
    for name in frame:
        if name not in _KNOWN:
            raise DataError(f"{path}: column {name!r} is not known; {nearest(str(name), _KNOWN)}")
    for name in ("unit", "effect"):
        if name not in frame:
            raise DataError(f"{path}: column {name!r} is missing; there are {list(frame)}")
    if ("lower" in frame) != ("upper" in frame):
        here, gone = ("lower", "upper") if "lower" in frame else ("upper", "lower")
        raise DataError(f"{path}: there is a column {here!r} but none of name {gone!r}")
    if not len(frame):
        raise DataError(f"{path}: there are no rows")


def _numeric(path: Path, frame: pd.DataFrame, name: str) -> pd.Series:
    numbers = parsed(frame[name])
    refuse(path, numbers.isna() & frame[name].notna(), name, "is not a number", frame[name])
    return numbers


def _units(path: Path, frame: pd.DataFrame) -> pd.Series:
    numbers = _numeric(path, frame, "unit")
    refuse(path, numbers.isna(), "unit", "is missing")
    refuse(path, (numbers.abs() >= 2.0**63) | (numbers % 1 != 0), "unit", "is not a whole number", frame["unit"])
    return numbers.astype(np.int64)


def _names(path: Path, frame: pd.DataFrame, name: str, default: str) -> pd.Series:
    if name not in frame:
        return pd.Series(default, index=frame.index, dtype=object)
    refuse(path, frame[name].isna(), name, "is missing")
    return frame[name].astype(str).astype(object)


def _tidy(path: Path, frame: pd.DataFrame, datasets: list[str]) -> pd.DataFrame:
    """Columns of the right types, optional ones filled in; the index numbers the file's rows."""
    if "dataset" not in frame and len(datasets) != 1:
        raise DataError(f"{path}: column 'dataset' is missing, and there are {len(datasets)} data sets")
    stem = next(path.name[: -len(end)] for end in _ENDINGS if path.name.lower().endswith(end))
    tidy = pd.DataFrame(
        {
            "dataset": _names(path, frame, "dataset", datasets[0] if datasets else ""),
            "covariates": _names(path, frame, "covariates", "all"),
            "estimator": _names(path, frame, "estimator", stem),
            "unit": _units(path, frame),
        }
    )
    for name, known in (("dataset", datasets), ("covariates", list(SETTINGS))):
        wrong = ~tidy[name].isin(known)
        for value in tidy[name][wrong].unique()[:1]:
            hint = nearest(value, _few(value, known))
            refuse(path, wrong, name, f"is none of the {len(known)} there are; {hint}", tidy[name])
    for name in _NUMBERS:
        tidy[name] = _numeric(path, frame, name).astype(np.float64) if name in frame else np.nan
    return tidy


def _few(word: str, known: list[str]) -> list[str]:
    # A benchmark has thousands of data sets: too many for a message.
    return known if len(known) <= 5 else difflib.get_close_matches(word, known, n=3, cutoff=0.4) or [*known[:3], "..."]


def _check_values(path: Path, tidy: pd.DataFrame) -> None:
    """What can be wrong within a row, and between rows of one estimator and data set."""
    refuse(path, ~np.isfinite(tidy["effect"]), "effect", "is missing or not finite")
    cell = tidy.groupby(list(_NAMES))
    limited = sum(cell[name].transform("count") for name in ("lower", "upper")) > 0
    for name in ("lower", "upper"):
        refuse(path, tidy[name].isna() & limited, name, "is missing, though other limits of this data set are there")
    crossed = tidy["lower"] > tidy["upper"]
    limits = tidy["lower"].astype(str) + " > " + tidy["upper"].astype(str)
    refuse(path, crossed, "lower", "is above the upper limit", limits)
    refuse(path, np.isinf(tidy["ate"]), "ate", "is not finite")
    differs = tidy["ate"].ne(cell["ate"].transform("first")) & cell["ate"].transform("count").gt(0)
    refuse(path, differs, "ate", "is not the same in all rows of this estimator and data set", tidy["ate"])
    repeated = tidy.duplicated([*_NAMES, "unit"])
    refuse(path, repeated, "unit", "is there more than once for this estimator and data set", tidy["unit"])


def _join(path: Path, mine: pd.DataFrame, data: Dataset) -> list[pd.DataFrame]:
    """The estimates of one data set, in the order of its units, beside the truth."""
    unknown = ~mine["unit"].isin(data.unit)
    refuse(path, unknown, "unit", f"is no unit of data set {data.name!r}", mine["unit"])
    parts = []
    for (covariates, estimator), rows in mine.groupby(["covariates", "estimator"]):
        place = pd.Index(rows["unit"]).get_indexer(data.unit)
        gone = data.unit[place < 0]
        if len(gone):
            raise DataError(
                f"{path}: rows from {rows.index[0] + 1}, column 'unit': {len(gone)} of {len(data)} units of data set "
                f"{data.name!r} have no estimate by {estimator!r} ({covariates}), the first is {gone[0]}"
            )
        parts.append(rows.iloc[place].assign(ite=data.ite, cate=data.cate)[list(ESTIMATES)])
    return parts


def read_estimates(path: str | Path, datasets: Iterable[Dataset], left_out: Collection[str] = ()) -> pd.DataFrame:
    """Read effects that were estimated elsewhere.

    Args:
        path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file with the columns ``unit`` and ``effect``, and if wanted
            ``lower`` and ``upper`` (limits of an interval; may be infinite), ``ate`` (the same in all rows of an
            estimator and data set), ``dataset`` (may be left out where there is one only), ``covariates``
            (``"all"``, which is the default, or ``"observed"``) and ``estimator`` (the default is the file's name).
        datasets: what they are estimates of. Each estimator has one row for each unit of every data set that it
            has estimates of; the order is free.
        left_out: names of other data sets, whose rows are passed over.

    Returns:
        ``dataset, covariates, estimator, unit, effect, lower, upper, ite, cate, ate``: one row for each estimate,
        in the order of the data sets and their units; limits and ``ate`` are NaN where there are none.

    Raises:
        DataError: the file cannot be read; a column is missing or unknown; a value is missing, no number, or not
            finite; limits have crossed; a unit is missing, unknown or repeated. Names the file, the row (counted
            from 1, after the heading) and the column.

    >>> import tempfile
    >>> data = Dataset("a", "0", pd.DataFrame(index=range(2)), (), np.array([0, 1]), np.array([1.0, 3.0]),
    ...     np.array([[1.0, 2.0], [0.0, 3.0]]), np.array([1.0, 3.0]), np.array([0.5, 0.5]), np.array([0, 1]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.csv")
    ...     _ = path.write_text("unit,effect\\n1,2.5\\n0,1.5\\n")
    ...     read_estimates(path, [data])[["dataset", "estimator", "unit", "effect", "ite"]]
      dataset estimator  unit  effect  ite
    0       a      mine     0     1.5  1.0
    1       a      mine     1     2.5  3.0
    """
    datasets = list(datasets)
    by_name = [(data.name, data) for data in datasets]
    return read_estimates_of(path, [name for name, _ in by_name], lambda i: by_name[i][1], left_out)


def read_estimates_of(
    path: str | Path, names: list[str], dataset: Callable[[int], Dataset], left_out: Collection[str] = ()
) -> pd.DataFrame:
    """The same for data sets that are read one at a time.

    Args:
        path, left_out: see ``read_estimates``.
        names: of the data sets.
        dataset: gives data set i.
    """
    path = as_path(path, "a file of estimates", DataError)
    if not names:
        raise DataError(f"{path}: there are no data sets that these could be estimates of")
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two of the data sets share a name: {sorted(n for n in names if names.count(n) > 1)}")
    frame = _load(path)
    _check_columns(path, frame)
    if "dataset" in frame:
        frame = frame[~frame["dataset"].astype(str).isin(set(left_out) - set(names))]
    tidy = _tidy(path, frame, names)
    _check_values(path, tidy)
    where = tidy.groupby("dataset").indices
    present = [(i, name) for i, name in enumerate(names) if name in where]
    parts = [part for i, name in present for part in _join(path, tidy.iloc[where[name]], dataset(i))]
    return pd.concat(parts, ignore_index=True)


def score_estimates(
    estimates: pd.DataFrame, datasets: Iterable[Dataset], *, interval_of: str = "cate", level: float = 0.95
) -> pd.DataFrame:
    """Judge estimates that were made elsewhere, by the same metrics as any other.

    Args:
        estimates: as ``read_estimates`` returns them.
        datasets: all data sets that were to be estimated. One of which an estimator has no estimates counts as
            its failure: to leave out the hard ones is no way to the top of a leaderboard.
        interval_of: what the intervals are to hold, ``"cate"`` or ``"ite"``.
        level: share that they are to hold.

    Returns:
        One row for each data set, setting and estimator: ``dataset, wording, covariates, estimator, failure,
        seconds`` (NaN) and the columns of ``metrics.score``, ready for ``leaderboard``.

    Raises:
        SDSCMError: ``interval_of`` is none of the two, the level is not between 0 and 1, or the table is not of these
            data sets.
    """
    interval_of, level = parse_interval_of(interval_of), parse_level(level)
    missing = [
        name
        for name in (*_NAMES, "unit", "effect", "lower", "upper", "ate")
        if name not in instance(estimates, pd.DataFrame, "estimates")
    ]
    if missing:
        raise DataError(f"estimates has no column {missing[0]!r}; see read_estimates")
    if isinstance(datasets, str | bytes | Mapping) or not isinstance(datasets, Iterable):
        raise DataError(f"datasets is a list or another iterable of data sets, got {told(datasets)}")
    cells = dict(iter(estimates.groupby(list(_NAMES), sort=False)))
    makers = list(dict.fromkeys((covariates, estimator) for _, covariates, estimator in cells))
    rows = []
    for data in datasets:
        instance(data, Dataset, "a data set")
        for covariates, estimator in makers:
            mine = cells.get((data.name, covariates, estimator))
            if mine is None:
                failure, found = "no estimates of this data set", unscored(data)
            else:
                failure, found = None, _score(data, mine, interval_of, level)
            about = {"dataset": data.name, "wording": data.wording, "covariates": covariates, "estimator": estimator}
            rows.append({**about, "failure": failure, "seconds": np.nan, **found})
    return pd.DataFrame(rows)


def _score(data: Dataset, mine: pd.DataFrame, interval_of: str, level: float) -> dict[str, float]:
    if not np.array_equal(mine["unit"], data.unit):
        raise SDSCMError(f"the estimates' units are not those of data set {data.name!r}, in its order")
    lower, upper = mine["lower"].to_numpy(np.float64), mine["upper"].to_numpy(np.float64)
    interval = None if np.isnan(lower).all() else (lower, upper)
    ate = float(mine["ate"].iloc[0])
    effect = mine["effect"].to_numpy(np.float64)
    return score(data, effect, interval, None if np.isnan(ate) else ate, interval_of=interval_of, level=level)

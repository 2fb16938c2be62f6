"""``open_benchmark``: whichever of the formats a file or directory has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..checks import as_path, instance, items, one_of, text
from ..errors import DataError
from .benchmark import Benchmark
from .card import CARD
from .foreign_tables import ENDINGS, parse_wordings
from .read_generated import open_generated
from .read_own import Columns, files_of, open_own
from .read_published import open_extract, open_published

OUTCOMES = ("probability", "logp", "drawn")


def parse_outcome(value: Any) -> str:
    """What of an option is the outcome.

    Raises:
        DataError: nothing that can be one.
    """
    return one_of(value, OUTCOMES, "outcome", DataError)


def open_benchmark(
    source: str | Path,
    outcome: str | None = None,
    option: str | None = None,
    hidden: tuple[str, ...] | None = None,
    *,
    columns: Columns | None = None,
    wordings: Any = None,
) -> Benchmark:
    """Open a generated directory, a CSV file or Parquet extract of the paper's authors, a directory of such CSVs, or
    tables of one's own.

    Args:
        source: the file or directory.
        outcome: ``"probability"`` of an option, its ``"logp"`` (log-probability; the paper's raw score), or whether
            it is the one ``"drawn"`` (0 or 1). Default: ``"logp"`` for the authors' files, else ``"probability"``.
        option: option of the outcome; default: the family's, and the first one in the authors' files.
        hidden: covariates that the setting ``"observed"`` withholds; default: the family's, X0 to X3 in the
            authors' files (age, medical conditions, medication, menopausal status), none in tables of one's own.
        columns: which columns are what in a table of one's own (``.csv``, ``.csv.gz``, ``.parquet``) or in a directory
            of such tables, a data set each; ``outcome`` and ``option`` are not of those.
        wordings: of CSV files and tables: data set -> wording, or a table with the columns ``dataset`` and ``wording``;
            data sets of one wording share their mechanisms. Default: the column ``config`` of the authors' files;
            without it the sampling unit is not known, and there are no intervals over data sets.

    Raises:
        DataError: there is no benchmark, or a name is not of it.
    """
    path = as_path(source, "a benchmark", DataError)
    outcome = None if outcome is None else parse_outcome(outcome)
    option = None if option is None else text(option, "option", DataError)
    hidden = None if hidden is None else items(hidden, "hidden", DataError, single=str)
    if columns is not None:
        instance(columns, Columns, "columns", DataError, " (bench.Columns)")
        if outcome is not None or option is not None:
            raise DataError("outcome and option are of benchmarks; of a table of one's own, columns name the outcome")
        if not (files := sorted(files_of(path), key=_natural)):
            raise DataError(f"{path}: there is no table; expected files named *{', *'.join(ENDINGS)}")
        return open_own(path, files, columns, hidden, parse_wordings(wordings))
    generated = path.is_dir() and (path / CARD).exists()
    if wordings is not None and (generated or path.suffix == ".parquet"):
        raise DataError(f"wordings are of CSV files; {path} says itself which wording its data sets have")
    if generated:
        return open_generated(path, outcome or "probability", option, hidden)
    if path.is_dir() and (files := sorted(path.glob("*.csv"), key=_natural)):
        return open_published(path, files, outcome or "logp", option, hidden, parse_wordings(wordings))
    if path.is_file() and path.suffix == ".csv":
        return open_published(path, [path], outcome or "logp", option, hidden, parse_wordings(wordings))
    if path.is_file() and path.suffix == ".parquet":
        return open_extract(path, outcome or "logp", option, hidden)
    raise DataError(
        f"{path} is no benchmark: expected a directory with {CARD} (of sdscm generate), a directory of CSV files, "
        "or a .csv or .parquet file of the paper's authors; of another table, say which columns are what (columns=, "
        "--treatment)"
    )


def _natural(path: Path) -> tuple[Any, ...]:
    return tuple(int(x) if x.isdigit() else x for x in re.split(r"(\d+)", path.name))

"""Tables of one's own: a file for each data set, whose columns have whatever names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..checks import items, text, told
from ..errors import DataError
from .benchmark import Benchmark, checked_hidden, require_columns
from .dataset import Dataset
from .foreign_tables import ENDINGS, arms_of, digest_of, numbers, read_table, refuse, stem, wordings_of

# A text that is another one in so many units is a name or a number of the unit, not one of a few options.
_MOST_OPTIONS, _MOST_SHARE = 20, 0.5


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what.

    Attributes:
        treatment: 0 or 1 (or False and True) in each unit, or see ``arms``.
        outcome: a number.
        covariates: numbers, which are taken as they are, or texts, which are options. None: all columns that are named
            nowhere else.
        effect: the true effect of the treatment on each unit, where it is known: it is taken as its individual effect
            and as the expected one, and the other potential outcome is the outcome and the effect.
        propensity: the true probability of treatment of each unit, where it is known.
        unit: whole numbers, one for each unit; None: they are numbered from 0.
        arms: what the treatment's column has for control and for treatment, where that is not 0 and 1.

    Raises:
        DataError: a name is no text, or is there twice; arms are not two.

    >>> Columns("treated", "wage", covariates=["age"], arms=["no", "yes"]).covariates
    ('age',)
    """

    treatment: str
    outcome: str
    covariates: Sequence[str] | None = None
    effect: str | None = None
    propensity: str | None = None
    unit: str | None = None
    arms: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        for name in ("treatment", "outcome"):
            text(getattr(self, name), f"the column of the {name}", DataError)
        for name in ("effect", "propensity", "unit"):
            if getattr(self, name) is not None:
                text(getattr(self, name), f"the column of the {name}", DataError)
        if self.covariates is not None:
            object.__setattr__(self, "covariates", items(self.covariates, "covariates", DataError, single=str))
        if self.arms is not None:
            arms = tuple(x.item() if isinstance(x, np.generic) else x for x in items(self.arms, "arms", DataError))
            plain = all(isinstance(x, str | int | float) for x in arms)
            if not plain or len(arms) != 2 or str(arms[0]) == str(arms[1]):
                raise DataError(f"arms are two values of the treatment, control and treatment, got {told(self.arms)}")
            object.__setattr__(self, "arms", arms)
        names = [*self.named, *(self.covariates or ())]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise DataError(f"column {twice[0]!r} is named for two things")

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that are something else than covariates."""
        known = (self.treatment, self.outcome, self.effect, self.propensity, self.unit)
        return tuple(name for name in known if name is not None)


def files_of(path: Path) -> list[Path]:
    """The tables that a file or directory is or has; none, where it has none."""
    if path.is_dir():
        return [file for file in path.iterdir() if file.is_file() and file.name.lower().endswith(ENDINGS)]
    return [path] if path.is_file() and path.name.lower().endswith(ENDINGS) else []


def open_own(
    source: Path, files: list[Path], columns: Columns, hidden: tuple[str, ...] | None, wordings: dict[str, str] | None
) -> Benchmark:
    """Tables of one's own, a data set each; see ``open_benchmark``.

    Raises:
        DataError: a name in ``hidden`` is no covariate, or two files share a name; a file that cannot be used is
            refused when it is read.
    """
    names = tuple(map(stem, files))
    if len(set(names)) < len(names):
        raise DataError(f"{source}: two files are called {next(n for n in names if names.count(n) > 1)!r}")
    withheld = () if hidden is None else hidden
    if columns.covariates is not None:
        withheld = checked_hidden(withheld, tuple(columns.covariates))

    given = wordings_of(names, wordings)

    def read(i: int) -> Dataset:
        wording = None if given is None else given[i]
        return _dataset(read_table(files[i]), files[i], names[i], wording, columns, withheld)

    what = {
        "table": source.name,
        "sha256": digest_of(files),
        "datasets": len(files),
        "columns": {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(columns).items()},
        "hidden": list(withheld),
        **({} if given is None else {"wordings": given}),
    }
    return Benchmark(source, names, tuple(range(len(files))), len(files), what, read, elsewhere=True)


def _dataset(
    frame: pd.DataFrame, file: Path, name: str, wording: str | None, columns: Columns, hidden: tuple[str, ...]
) -> Dataset:
    require_columns(frame, columns.named, file)
    covariates = columns.covariates
    if covariates is None:
        # What pandas or R wrote: the rows' numbers, under no heading.
        covariates = [c for c in map(str, frame) if c not in columns.named and not c.startswith("Unnamed: ")]
    require_columns(frame, covariates, file)
    t = arms_of(file, frame, columns.treatment, columns.arms, " (or say what they are: arms=, --arms CONTROL,TREATED)")
    y = numbers(file, frame, columns.outcome)
    unknown = np.full(len(frame), np.nan)
    effect = unknown if columns.effect is None else numbers(file, frame, columns.effect)
    below = y - t * effect
    return Dataset(
        name,
        wording,
        pd.DataFrame({c: _covariate(file, frame, c) for c in covariates}, index=frame.index),
        hidden,
        t,
        y,
        np.stack([below, below + effect], 1),
        effect,
        unknown if columns.propensity is None else _shares(file, frame, columns.propensity),
        np.arange(len(frame)) if columns.unit is None else _units(file, frame, columns.unit),
    )


def _covariate(file: Path, frame: pd.DataFrame, column: str) -> Any:
    given = frame[column]
    if pd.api.types.is_numeric_dtype(given) and not pd.api.types.is_bool_dtype(given):
        return numbers(file, frame, column)
    refuse(file, given.isna(), column, "is missing")
    if 0.5 <= pd.to_numeric(given, errors="coerce").notna().mean() < 1:
        # Numbers, and a text among them by mistake.
        return numbers(file, frame, column)
    options = sorted(given.map(str).unique())
    if len(options) > max(_MOST_OPTIONS, _MOST_SHARE * len(given)):
        raise DataError(
            f"{file}: column {column!r} has {len(options)} different texts in {len(given)} units, such as "
            f"{options[0]!r}: a name is no covariate; name those that are"
        )
    return pd.Categorical(given.map(str), categories=options, ordered=True)


def _shares(file: Path, frame: pd.DataFrame, column: str) -> np.ndarray:
    found = numbers(file, frame, column)
    refuse(file, pd.Series((found < 0) | (found > 1)), column, "is no probability, from 0 to 1", frame[column])
    return found


def _units(file: Path, frame: pd.DataFrame, column: str) -> np.ndarray:
    found = numbers(file, frame, column)
    wrong = pd.Series((found % 1 != 0) | (np.abs(found) >= 2.0**53))
    refuse(file, wrong, column, "is not a whole number", frame[column])
    refuse(file, frame[column].duplicated(), column, "is there more than once", frame[column])
    return found.astype(np.int64)

"""What the report shows of the tables, and in which order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...errors import DataError, nearest
from ..dataset import SETTINGS
from ..estimators import registry

# Not competitors: they use the truth, or nothing.
BASELINES = tuple(dict.fromkeys((*registry.BASELINES, *registry.oracle_names())))
SETTING_NAMES = {"all": "all covariates", "observed": "observed covariates only"}


def setting_name(setting: str) -> str:
    return SETTING_NAMES.get(setting, setting)


def check_columns(table: pd.DataFrame, needed: tuple[str, ...], what: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        DataError: names the table and the column.
    """
    for name in needed:
        if name not in table:
            raise DataError(f"{what}: there is no column {name!r}; {nearest(name, map(str, table.columns))}")


def settings_of(scores: pd.DataFrame) -> list[str]:
    """Settings that occur, in the usual order."""
    found = [str(s) for s in scores["covariates"].unique()]
    return [s for s in SETTINGS if s in found] + sorted(set(found) - set(SETTINGS))


def failed(scores: pd.DataFrame) -> pd.Series:
    """Which rows are failures, bool."""
    return scores["failure"].notna() & (scores["failure"] != "")


def errors_with_failures(scores: pd.DataFrame, column: str = "pehe_sd_y") -> pd.Series:
    """An error, where a failure is the worst there is: infinite."""
    values = scores[column].astype(float)
    return values.mask(failed(scores) | values.isna(), np.inf)


def estimators_by_error(scores: pd.DataFrame) -> list[str]:
    """Estimators from the least to the greatest median PEHE / sd(y) in the first setting."""
    settings = settings_of(scores)
    names = [str(name) for name in scores["estimator"].unique()]
    here = scores[scores["covariates"] == settings[0]] if settings else scores
    median = errors_with_failures(here).groupby(here["estimator"]).median()
    return sorted(names, key=lambda name: float(median.get(name, np.inf)))


def values_by_row(scores: pd.DataFrame, column: str, names: list[str], settings: list[str]) -> list[list[np.ndarray]]:
    """``[k][s]``: the column's values of estimator k in setting s, float64."""
    groups = {key: group.to_numpy(float) for key, group in scores.groupby(["estimator", "covariates"])[column]}
    return [[groups.get((name, setting), np.zeros(0)) for setting in settings] for name in names]


def having(scores: pd.DataFrame, column: str, names: list[str]) -> list[str]:
    """Those of the estimators that have any value in the column."""
    some = set(scores.loc[scores[column].notna(), "estimator"].astype(str)) if column in scores else set()
    return [name for name in names if name in some]


def thinned(count: int, most: int) -> np.ndarray:
    """At most ``most`` of ``count`` positions, evenly spaced, both ends among them; int64.

    >>> thinned(10, 4).tolist(), thinned(3, 4).tolist()
    ([0, 3, 6, 9], [0, 1, 2])
    """
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).round().astype(np.int64))

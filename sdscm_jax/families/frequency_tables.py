"""Tables of categorical data as conditional frequencies of a family's variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .. import checks
from ..dsl.scoring.template import Template
from ..errors import DataError, FamilyError, nearest
from .members import Family
from .variables import FamilyVariable

# A table of units, the path of a CSV file with one, or variable -> P(option | parents), ``[K_1, ..., K_m, K]``.
Data = pd.DataFrame | str | Path | Mapping[str, Any]
# The name of a column, or a number for each unit.
Weights = str | Sequence[float] | np.ndarray | pd.Series | None


class Conditional(NamedTuple):
    """How often a variable takes each option in each context.

    Attributes:
        contexts: int ``[C, m]``, options of the m parents, in lexicographic order.
        weights: float64 ``[C, K]``: counts (sums of units' weights), or probabilities where these were given.
    """

    contexts: np.ndarray
    weights: np.ndarray

    @property
    def probs(self) -> np.ndarray:
        """P(option | context), float64 ``[C, K]``."""
        return self.weights / self.weights.sum(1, keepdims=True)


def conditionals(family: Family, data: Data, weights: Weights = None) -> dict[str, Conditional]:
    """The conditional frequencies that mechanisms of a family are to have.

    Args:
        family: the family; uniform variables have nothing to fit and are left out.
        data: a table with a column for each variable (other columns are not looked at) whose values are its
            options, or the path of such a CSV file. A unit counts for a variable where the variable and its parents
            are all there. Or probabilities: variable -> array ``[K_1, ..., K_m, K]``, in the order of the parents
            and of the options; only these variables are then fitted, in all contexts alike.
        weights: what each unit of a table counts, such as the weights of a survey: a column's name, or a number for
            each row. None: 1.

    Raises:
        DataError: a column is missing, a value is no option, a variable has no unit (of weight above 0), a weight is
            negative or no number, or an array is no table of probabilities of that shape.

    >>> from sdscm_jax.families import family
    >>> court = family("court")
    >>> frame = pd.DataFrame({v.name: v.options for v in court.variables if len(v.options) == 3})
    >>> frame = frame.assign(**{v.name: v.options[0] for v in court.variables if len(v.options) != 3})
    >>> found = conditionals(court, frame)["bail"]
    >>> found.contexts.shape == (len(found.weights), len(court["bail"].parents))
    True
    """
    checks.instance(family, Family, "family", DataError)
    if isinstance(data, Mapping):
        if weights is not None:
            raise DataError("weights are those of a table's units; these data are probabilities")
        if not data:
            raise DataError("data that are probabilities have those of one variable at least, got an empty mapping")
        return {name: _given(family, name, probs) for name, probs in data.items()}
    frame = read_table(data) if isinstance(data, (str, Path)) else data
    checks.instance(
        frame, pd.DataFrame, "data", DataError, " (or the path of a CSV file, or probabilities by variable)"
    )
    missing = [v.name for v in family.variables if v.name not in frame.columns]
    if missing:
        known = nearest(missing[0], map(str, frame.columns))
        raise DataError(f"the table has no column {', '.join(map(repr, missing))}; {known}; rename its columns")
    codes = {v.name: _codes(frame[v.name], v) for v in family.variables}
    own = _weights(frame, weights)
    return {v.name: _counted(v, codes, own) for v in family.variables if not v.uniform}


def read_table(path: str | Path) -> pd.DataFrame:
    """A CSV file as texts; only an empty field is a missing value.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        path = checks.as_path(path, "the table", DataError)
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def table_family(
    frame: pd.DataFrame,
    templates: Mapping[str, str | Sequence[str]],
    parents: Mapping[str, Sequence[str]] | None = None,
    *,
    name: str = "table",
) -> Family:
    """A family for a table: its columns are the variables, their values the options.

    Args:
        frame: categorical columns.
        templates: column -> a wording, or several, with one blank ``{}`` each; columns stand in causal order.
        parents: column -> the columns that it depends on; a column that is left out depends on none. None: each
            column depends on all earlier ones.
        name: of the family.

    Returns:
        the family; options stand in the order of a categorical column, or are sorted.

    Raises:
        DataError: the table has no such column.
        FamilyError: the columns are no program.

    >>> frame = pd.DataFrame({"sky": ["clear", "grey", "grey"], "coat": ["off", "on", "off"]})
    >>> family = table_family(frame, {"sky": "The sky is {}.", "coat": "My coat is {}."})
    >>> family["coat"].options, family["coat"].parents
    (('off', 'on'), ('sky',))
    >>> conditionals(family, frame)["coat"].probs.tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    checks.instance(frame, pd.DataFrame, "frame", DataError)
    checks.mapping(templates, "templates", FamilyError)
    checks.mapping({} if parents is None else parents, "parents", FamilyError)
    variables: list[FamilyVariable] = []
    for column, wordings in templates.items():
        if column not in frame.columns:
            raise DataError(f"the table has no column {column!r}; {nearest(column, map(str, frame.columns))}")
        series = _without_gaps(frame[column]).dropna()
        if isinstance(series.dtype, pd.CategoricalDtype):
            options = [str(value) for value in series.cat.categories]
        else:
            options = sorted({str(value) for value in series})
        variables.append(
            FamilyVariable(
                column,
                tuple(options),
                tuple(
                    Template.parse(w)
                    for w in checks.items(wordings, f"templates of {column!r}", FamilyError, single=str)
                ),
                tuple(v.name for v in variables)
                if parents is None
                else checks.items(parents.get(column, ()), f"parents of {column!r}", FamilyError, single=str),
            )
        )
    return Family(name, tuple(variables))


def _without_gaps(series: pd.Series) -> pd.Series:
    """Whole numbers as whole numbers: pandas makes 25.0 of 25 where another row of the column has none."""
    if not pd.api.types.is_float_dtype(series.dtype) or not series.isna().any() or not (series.dropna() % 1 == 0).all():
        return series
    return series.astype("Int64")


def _codes(series: pd.Series, variable: FamilyVariable) -> np.ndarray:
    """Option numbers, -1 where a value is missing: int64 ``[n]``."""
    series, codes = _without_gaps(series), np.full(len(series), -1)
    there = series.notna().to_numpy()
    numbers = {option: k for k, option in enumerate(variable.options)}
    for i in np.flatnonzero(there):
        value = str(series.iloc[i])
        if value not in numbers:
            raise DataError(
                f"column {variable.name!r}, row {i}: {value!r} is no option; {nearest(value, variable.options)}"
            )
        codes[i] = numbers[value]
    return codes


def _weights(frame: pd.DataFrame, weights: Weights) -> np.ndarray:
    """What each unit counts, float64 ``[n]``."""
    if weights is None:
        return np.ones(len(frame))
    if isinstance(weights, str):
        if weights not in frame.columns:
            raise DataError(
                f"the table has no column {weights!r} of weights; {nearest(weights, map(str, frame.columns))}"
            )
        weights = frame[weights]
    try:
        found = pd.to_numeric(pd.Series(np.asarray(weights).reshape(-1)), errors="coerce").to_numpy(np.float64)
    except Exception as error:  # keys, sets, nested lists
        raise DataError(f"weights are a number for each unit, got {checks.told(weights)}") from error
    if np.ndim(weights) != 1 or len(found) != len(frame):
        raise DataError(f"weights have shape {np.shape(weights)}; the table has {len(frame)} units")
    wrong = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if len(wrong):
        raise DataError(f"the weight of row {wrong[0]} is {np.asarray(weights)[wrong[0]]!r}, no number of at least 0")
    return found


def _counted(variable: FamilyVariable, codes: Mapping[str, np.ndarray], own: np.ndarray) -> Conditional:
    rows = np.stack([codes[name] for name in (*variable.parents, variable.name)], 1)
    there = (rows >= 0).all(1) & (own > 0)
    rows, own = rows[there], own[there]
    if not len(rows):
        raise DataError(f"the table has no row in which {variable.name!r} and its parents {variable.parents} are there")
    contexts, which = np.unique(rows[:, :-1], axis=0, return_inverse=True)
    weights = np.zeros((len(contexts), len(variable.options)))
    np.add.at(weights, (which.reshape(-1), rows[:, -1]), own)
    return Conditional(contexts, weights)


def _given(family: Family, name: str, probs: Any) -> Conditional:
    variable = family[name]
    array = checks.finite(probs, f"the probabilities of {name!r}", DataError)
    shape = tuple(len(family[v].options) for v in (*variable.parents, name))
    if array.shape != shape:
        axes = ", ".join((*variable.parents, name))
        raise DataError(f"the probabilities of {name!r} have shape {array.shape}, expected {shape} ({axes})")
    if not ((array >= 0).all() and np.allclose(array.sum(-1), 1.0, atol=1e-6)):
        raise DataError(f"the probabilities of {name!r} are not all at least 0, or do not add up to 1 in each context")
    contexts = np.array(list(np.ndindex(*shape[:-1])), np.int64)
    return Conditional(contexts, array.reshape(-1, shape[-1]))

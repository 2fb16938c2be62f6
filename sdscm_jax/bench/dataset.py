"""A data set with known effects, as an estimator and its judge see it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..checks import instance, items, one_of, text, told
from ..errors import DataError

SETTINGS = ("all", "observed")
ENCODINGS = ("onehot", "integer")


def parse_settings(value: Any) -> tuple[str, ...]:
    """Settings of covariates: one, or some of them.

    Raises:
        DataError: there is no such setting, or none is named.

    >>> parse_settings("all"), parse_settings(["all", "observed"])
    (('all',), ('all', 'observed'))
    """
    named = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    found = tuple(dict.fromkeys(one_of(name, SETTINGS, "setting of covariates", DataError) for name in named))
    if not found:
        raise DataError(f"covariates names no setting; known: {', '.join(map(repr, SETTINGS))}")
    return found


def parse_encoding(value: Any) -> str:
    """An encoding of covariates.

    Raises:
        DataError: there is no such encoding.
    """
    return one_of(value, ENCODINGS, "encoding", DataError)


@dataclass(frozen=True, eq=False)
class Dataset:
    """n units with their covariates, treatment, outcome, and what is known of their effects.

    Attributes:
        name: of the data set, unique in its benchmark.
        wording: data sets of one wording share their mechanisms; intervals are clustered by it. None: it is not known
            which do, and there are no intervals over data sets.
        covariates: ``[n]`` rows of what is not caused by the treatment: ordered categoricals, numbers, or texts.
        hidden: covariates that the setting ``"observed"`` withholds.
        t: int8 ``[n]``, 0 or 1.
        y: float64 ``[n]``, the observed outcome.
        outcomes: float64 ``[n, 2]``, the potential outcomes under both treatments; ``y`` is the one of ``t``.
        cate: float64 ``[n]``, the exact expected effect given all covariates. It is the individual effect
            where the outcome is a probability; where an option is drawn, the individual effect varies around it.
        propensity: float64 ``[n]``, the probability of ``t = 1`` given the unit's covariates.
        unit: int64 ``[n]``, numbers of the units.

    Where the effects, or the propensities, are not known, ``outcomes`` and ``cate``, or ``propensity``, are NaN in all
    units.

    >>> data = Dataset("a", "0", pd.DataFrame({"w": pd.Categorical(["sun", "rain"])}), (), np.array([0, 1]),
    ...     np.array([1.0, 3.0]), np.array([[1.0, 2.0], [1.0, 3.0]]), np.array([1.0, 2.0]), np.array([0.5, 0.5]),
    ...     np.array([0, 1]))
    >>> data.ite, data.ate
    (array([1., 2.]), 1.5)
    """

    name: str
    wording: str | None
    covariates: pd.DataFrame
    hidden: tuple[str, ...]
    t: np.ndarray
    y: np.ndarray
    outcomes: np.ndarray
    cate: np.ndarray
    propensity: np.ndarray
    unit: np.ndarray

    def __post_init__(self) -> None:
        text(self.name, "the name of a data set", DataError)
        what = f"data set {self.name!r}"
        if self.wording is not None:
            text(self.wording, f"{what}: wording", DataError)
        instance(self.covariates, pd.DataFrame, f"{what}: covariates", DataError)
        for name in items(self.hidden, f"{what}: hidden", DataError):
            text(name, f"{what}: the name of a hidden covariate", DataError)
        size = len(self.covariates)
        for name in ("t", "y", "outcomes", "cate", "propensity", "unit"):
            array, shape = getattr(self, name), (size, 2) if name == "outcomes" else (size,)
            numeric = isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
            if not numeric or array.shape != shape:
                raise DataError(f"{what}: {name} is an array of numbers of shape {shape}, got {_shown(array)}")
        if not np.isin(self.t, (0, 1)).all():
            raise DataError(f"{what}: t is 0 or 1, got {self.t[~np.isin(self.t, (0, 1))][0]}")

    def __len__(self) -> int:
        return len(self.t)

    @property
    def ite(self) -> np.ndarray:
        """Individual treatment effects, float64 ``[n]``."""
        return self.outcomes[:, 1] - self.outcomes[:, 0]

    @property
    def ate(self) -> float:
        """Sample average treatment effect: the mean of the individual ones."""
        return float(self.ite.mean())

    @property
    def known(self) -> bool:
        """Are the true individual effects known?"""
        return bool(np.isfinite(self.ite).all())

    @property
    def digest(self) -> str:
        """SHA-256 of everything that estimates and scores may depend on."""
        found = hashlib.sha256(repr((self.name, self.wording, self.hidden)).encode("utf-8", "backslashreplace"))
        arrays: list[Any] = [self.t, self.y, self.outcomes, self.cate, self.propensity, self.unit]
        for name in self.covariates:
            if is_text(self.covariates[name]):
                told_texts = str(name), "text", [str(text) for text in self.covariates[name]]
                found.update(repr(told_texts).encode("utf-8", "backslashreplace"))
                continue
            if not _categorical(self.covariates[name]):
                found.update(repr((str(name), "number")).encode("utf-8", "backslashreplace"))
                arrays.append(self.covariates[name].to_numpy(np.float64))
                continue
            column = self.covariates[name].cat
            told = str(name), [str(option) for option in column.categories], column.ordered
            found.update(repr(told).encode("utf-8", "backslashreplace"))
            arrays.append(column.codes.to_numpy())
        for array in arrays:
            found.update(f" {array.dtype} {array.shape} ".encode() + array.tobytes())
        return found.hexdigest()

    def at(self, places: np.ndarray) -> Dataset:
        """The units at these places, int ``[m]``, as a data set of the same name."""
        arrays = {name: getattr(self, name)[places] for name in ("t", "y", "outcomes", "cate", "propensity", "unit")}
        return replace(self, covariates=self.covariates.iloc[places], **arrays)

    def visible(self, setting: str) -> list[str]:
        """Names of the covariates of a setting: ``"all"`` or ``"observed"``.

        Raises:
            DataError: there is no such setting.
        """
        setting = one_of(setting, SETTINGS, "setting of covariates", DataError)
        return [str(c) for c in self.covariates if setting == "all" or c not in self.hidden]

    def texts(self, setting: str = "all") -> pd.DataFrame:
        """The covariates of a setting that are texts, one column each; there may be none.

        Raises:
            DataError: there is no such setting.
        """
        return self.covariates[[name for name in self.visible(setting) if is_text(self.covariates[name])]]

    def encoded(self, setting: str = "all", encoding: str = "onehot") -> np.ndarray:
        """Covariates as numbers, float64 ``[n, p]``; those that are texts are not among them (``texts``).

        Args:
            setting: ``"all"`` or ``"observed"``.
            encoding: ``"onehot"``: one column for each option that occurs, but for the first that does;
                ``"integer"``: the options' numbers, as in the paper. Covariates that are numbers are as they are.

        Raises:
            DataError: there is no such setting or encoding.
        """
        encoding = parse_encoding(encoding)
        columns = []
        for name in self.visible(setting):
            if is_text(self.covariates[name]):
                continue
            if not _categorical(self.covariates[name]):
                columns.append(self.covariates[name].to_numpy(np.float64)[:, None])
                continue
            codes = self.covariates[name].cat.codes.to_numpy()
            if encoding == "integer":
                columns.append(codes[:, None])
            else:
                columns.append(codes[:, None] == np.unique(codes)[1:])
        return np.concatenate([np.zeros((len(self), 0)), *columns], axis=1, dtype=np.float64)


def is_text(column: pd.Series) -> bool:
    """Are the values of a column texts, each one of its own?"""
    # (Numbers that pandas holds as objects are numbers; what is neither is an error where it is encoded.)
    return not _categorical(column) and bool(pd.api.types.is_string_dtype(column))


def _categorical(column: pd.Series) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype)


def _shown(value: Any) -> str:
    return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else told(value)


def check_dataset(data: Dataset, what: str, *, elsewhere: bool = False) -> None:
    """Refuse a data set that nothing can be learned from.

    Args:
        data: the data set.
        what: its file, for messages.
        elsewhere: it was not simulated here: its effects and propensities need not be known.

    Raises:
        DataError: it has one treatment arm only, a constant outcome, or something that is no number;
            names the file (``what``) and the column.
    """
    of = {"outcome": data.y, "potential outcomes": data.outcomes, "cate": data.cate, "propensity": data.propensity}
    for name, column in of.items():
        # What is not known is known of no unit; the outcome was observed.
        wrong = ~np.isfinite(column)
        open_to_doubt = name == "cate" or (elsewhere and name != "outcome")
        if wrong.any() and not (open_to_doubt and np.isnan(column).all()):
            raise DataError(f"{what}: {name}: {wrong.sum()} values are not finite numbers")
    missing = [str(c) for c in data.covariates if data.covariates[c].isna().any()]
    if missing:
        raise DataError(f"{what}: covariates {missing} have missing values")
    if len(np.unique(data.t)) < 2:
        arm = f"all {len(data)} units have treatment {data.t[0]}" if len(data) else "there are no units"
        raise DataError(f"{what}: {arm}; both arms are needed")
    if np.ptp(data.y) == 0:
        raise DataError(f"{what}: the outcome is {data.y[0]} for every unit")
    if not np.isfinite(data.y.var()):
        raise DataError(f"{what}: the outcome has values up to {np.abs(data.y).max():g}, whose variance is infinite")
    unknown = [name for name in data.hidden if name not in data.covariates]
    if unknown:
        raise DataError(f"{what}: hidden {unknown} are no covariates; known: {list(data.covariates)}")

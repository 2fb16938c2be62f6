"""Estimates of one data set by every estimator that is asked for, and their scores; a crash is a result too."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import jax
import numpy as np
import pandas as pd
import pyarrow as pa

from .. import checks
from ..errors import EstimatorError, SDSCMError
from .benchmark import Benchmark
from .dataset import Dataset, parse_encoding
from .estimators.registry import UNKEPT, described, make_estimator, oracle_names
from .held_out import HeldOut, judged_places, splits
from .metrics import score, unscored
from .opening import open_benchmark
from .read_own import Columns
from .tuning import candidates, chosen

# Of a table of estimates: the digest of the data set that they are of.
DATA = b"sdscm_jax.data"


@dataclass(frozen=True)
class BenchmarkSource:
    """Arguments of ``open_benchmark``."""

    path: str
    outcome: str | None = None
    option: str | None = None
    hidden: tuple[str, ...] | None = None
    columns: Columns | None = None
    wordings: tuple[tuple[str, str], ...] | None = None

    def open(self) -> Benchmark:
        """The benchmark."""
        wordings = None if self.wordings is None else dict(self.wordings)
        return open_benchmark(
            self.path, self.outcome, self.option, self.hidden, columns=self.columns, wordings=wordings
        )


@dataclass(frozen=True)
class Settings:
    """How estimators are shown a data set.

    Attributes:
        encoding: of the covariates; see ``Dataset.encoded``.
        level: share that intervals are to hold.
        seed: of the estimators' randomness, and of how units are divided.
        held_out: which units they are judged on.
        budget: configurations that each may try, where it has some; 1: its default. See ``tuning``.

    Raises:
        DataError, EstimatorError: one of them is none.
    """

    encoding: str = "onehot"
    level: float = 0.95
    seed: int = 0
    held_out: HeldOut = field(default_factory=HeldOut)
    budget: int = 1

    def __post_init__(self) -> None:
        # In a manifest, a number of NumPy is the same as a plain one.
        object.__setattr__(self, "encoding", parse_encoding(self.encoding))
        object.__setattr__(self, "level", checks.share(self.level, "level", EstimatorError))
        object.__setattr__(self, "seed", checks.seed(self.seed, error=EstimatorError))
        object.__setattr__(self, "budget", checks.count(self.budget, "budget", EstimatorError))


@lru_cache(maxsize=2)
def _opened(source: BenchmarkSource, evaluation: str) -> Benchmark:
    """A benchmark for many tasks of one evaluation; another one may find another benchmark there."""
    return source.open()


def estimated(
    source: BenchmarkSource,
    evaluation: str,
    i: int,
    cells: list[tuple[str, str]],
    settings: Settings,
    identities: Mapping[str, str],
) -> dict[tuple[str, str], pa.Table]:
    """Estimates of one data set by estimators in settings.

    Args:
        source: the benchmark.
        evaluation: a name that no other evaluation has.
        i: place of the data set.
        cells: (estimator, covariates).
        settings: how estimators are shown it.
        identities: what the estimators are, as JSON text, by their names.

    Raises:
        EstimatorError: an estimator is not that here.
    """
    for name, _ in cells:
        _check_identity(name, identities[name])
    data = _opened(source, evaluation).dataset(i)
    shown = {setting for _, setting in cells}
    x = {setting: data.encoded(setting, settings.encoding) for setting in shown}
    # The same for all estimators, so that two that share a model share its draws.
    keys = {setting: _key(settings.seed, data.name, setting) for setting in shown}
    found = {}
    for name, setting in cells:
        made = _fitted(name, keys[setting], x[setting], data.texts(setting), data, settings)
        for place, (column, value) in enumerate((("dataset", data.name), ("covariates", setting), ("estimator", name))):
            made.insert(place, column, pd.Series(pd.Categorical([value] * len(made)), index=made.index))
        table = pa.Table.from_pandas(made, preserve_index=False)
        about = {**(table.schema.metadata or {}), DATA: data.digest.encode()}
        found[name, setting] = table.replace_schema_metadata(about)
    return found


@cache
def _check_identity(name: str, expected: str) -> None:
    """Refuse an estimator that was edited, or is another one on this machine; once in each process."""
    if UNKEPT not in (wanted := json.loads(expected)) and (here := described(name)) != wanted:
        differ = sorted(key for key in {**here, **wanted} if here.get(key) != wanted.get(key))
        raise EstimatorError(
            f"estimator {name!r} is another one in a process that estimates than in the one that asked: "
            + here.get(
                UNKEPT, f"{', '.join(differ)} differ (was a file edited, or has another machine other versions?)"
            )
        )


def _key(seed: int, name: str, setting: str) -> Any:
    digest = hashlib.sha256(f"{name} {setting}".encode()).digest()
    return jax.random.fold_in(jax.random.key(seed), int.from_bytes(digest[:4], "little"))


def reads_texts(name: str) -> bool:
    """Does an estimator of this name see covariates that are texts?"""
    return hasattr(make_estimator(name), "columns_of")


def _with_texts(name: str, x: np.ndarray, texts: pd.DataFrame) -> np.ndarray:
    """Covariates as an estimator sees them, which may read texts."""
    if not reads_texts(name):
        return x
    columns = np.asarray(make_estimator(name).columns_of(texts), np.float64)  # type: ignore[attr-defined]
    if columns.ndim != 2 or len(columns) != len(x) or not np.isfinite(columns).all():
        raise ValueError(f"the columns of {len(x)} units' texts are that many rows of finite numbers")
    return np.column_stack([x, columns])


def _fitted(name: str, key: Any, x: np.ndarray, texts: pd.DataFrame, data: Dataset, settings: Settings) -> pd.DataFrame:
    """Estimates of the units that are judged, and what they took; a crash is a result."""
    started, failure = time.process_time(), ""
    parts: list[dict[str, Any]] = []
    divided = splits(settings.held_out, data.t, data.name, settings.seed)
    if name in oracle_names() and len(divided) > 1:
        # They learn nothing, and the average that the constant knows is that of all units that are judged.
        divided = [(np.arange(len(data)),) * 2]
    judged = np.concatenate([places for _, places in divided])
    try:
        x = _with_texts(name, x, texts)
        for number, (learned, places) in enumerate(divided):
            own = key if number == 0 else jax.random.fold_in(key, number)
            parts.append(_part(name, own, x, data, learned, places, settings))
    except Exception as error:
        failure = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    if failure:
        columns_of_numbers = ("effect", "lower", "upper", "ate", "ate_lower", "ate_upper")
        found: dict[str, Any] = dict.fromkeys(columns_of_numbers, np.nan)
        found |= {"interval_of": getattr(make_estimator(name), "interval_of", "cate"), "tried": np.nan}
    else:
        found = {column: np.concatenate([part[column] for part in parts]) for column in ("effect", "lower", "upper")}
        # Of several parts, that of all units is the mean of theirs; their intervals are of smaller samples.
        of_all = {"ate": found["effect"].mean(), "ate_lower": np.nan, "ate_upper": np.nan}
        found = {**parts[0], **(of_all if len(parts) > 1 else {}), **found}
    columns = {"unit": data.unit[judged], "ite": data.ite[judged], "cate": data.cate[judged], **found}
    columns |= {"failure": failure, "seconds": time.process_time() - started}
    return pd.DataFrame(columns).iloc[np.argsort(judged, kind="stable")]


def _part(
    name: str, key: Any, x: np.ndarray, data: Dataset, learned: np.ndarray, judged: np.ndarray, settings: Settings
) -> dict[str, Any]:
    """Estimates for the units at places ``judged``, by what is learned from those at ``learned``."""
    shown, apart = name in oracle_names(), not np.array_equal(learned, judged)
    seen, asked, level = (x[learned], data.t[learned], data.y[learned]), x[judged], settings.level
    tried = candidates(lambda: make_estimator(name), 1 if shown else settings.budget)
    place = chosen(tried, key, *seen)
    estimator = candidates(lambda: make_estimator(name), place + 1)[place]
    if shown:
        estimator.reveal(data.ite[learned], data.cate[learned])
    estimator.fit(key, *seen)
    ate, bounds, average = float(estimator.ate()), None, getattr(estimator, "ate_interval", None)
    if average is not None:
        bounds = average(level)
    if shown and apart:
        estimator.reveal(data.ite[judged], data.cate[judged])
    n = len(judged)
    effect = np.asarray(estimator.effect(asked), np.float64)
    limits = estimator.interval(asked, level)
    lower, upper = (np.asarray(a, np.float64) for a in (limits if limits is not None else (np.full(n, np.nan),) * 2))
    if any(a.shape != (n,) for a in (effect, lower, upper)) or not np.isfinite(effect).all():
        raise ValueError(f"effects of {n} units are {n} finite numbers, and limits {n} numbers each")
    ate_lower, ate_upper = (np.nan, np.nan) if bounds is None else bounds
    found = {"effect": effect, "lower": lower, "upper": upper, "ate": ate, "ate_lower": ate_lower}
    interval_of = getattr(estimator, "interval_of", "cate")
    return found | {"ate_upper": ate_upper, "interval_of": interval_of, "tried": float(len(tried))}


def scored(data: Dataset, table: pd.DataFrame, cell: tuple[str, str], level: float) -> dict[str, Any]:
    """A row of scores: of one data set by one estimator in one setting, from the columns of ``estimated``."""
    first = table.iloc[0]
    row: dict[str, Any] = {
        "dataset": data.name,
        "wording": data.wording,
        "covariates": cell[1],
        "estimator": cell[0],
    }
    row |= {"failure": first["failure"] or np.nan, "seconds": first["seconds"], "tried": first["tried"]}
    judged, others = judged_places(data.unit, table["unit"])
    # What was not judged is what was learned from, and what the average effect is about.
    ate_true = float(data.ite[others].mean()) if len(others) and data.known else None
    data = data.at(judged) if len(others) else data
    if first["failure"]:
        return row | unscored(data)
    limits = table["lower"].to_numpy(), table["upper"].to_numpy()
    bounds = float(first["ate_lower"]), float(first["ate_upper"])
    try:
        return row | score(
            data,
            table["effect"].to_numpy(),
            None if np.isnan(limits[0]).all() else limits,
            float(first["ate"]),
            None if np.isnan(bounds[0]) else bounds,
            interval_of=first["interval_of"],
            level=level,
            ate_true=ate_true,
        )
    except SDSCMError as error:
        return row | {"failure": str(error)} | unscored(data)

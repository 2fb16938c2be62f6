"""Estimates of one data set by every estimator that is asked for, and their scores; a crash is a result too."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
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
from .estimators.registry import UNKEPT, described, make_estimator
from .metrics import score, unscored
from .opening import open_benchmark
from .read_own import Columns

# Of a table of estimates: the digest of the data set that they are of.
DATA = b"sdscm_jax.data"


@dataclass(frozen=True)
class Source:
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
        seed: of the estimators' randomness.

    Raises:
        DataError, EstimatorError: one of them is none.
    """

    encoding: str = "onehot"
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        # In a manifest, a number of NumPy is the same as a plain one.
        object.__setattr__(self, "encoding", parse_encoding(self.encoding))
        object.__setattr__(self, "level", checks.share(self.level, "level", EstimatorError))
        object.__setattr__(self, "seed", checks.seed(self.seed, error=EstimatorError))


@lru_cache(maxsize=2)
def _opened(source: Source, evaluation: str) -> Benchmark:
    """A benchmark for many tasks of one evaluation; another one may find another benchmark there."""
    return source.open()


def estimated(
    source: Source,
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
        columns = {"dataset": data.name, "covariates": setting, "estimator": name, "unit": data.unit}
        columns |= {"ite": data.ite, "cate": data.cate} | _fitted(name, keys[setting], x[setting], data, settings.level)
        frame = pd.DataFrame(columns).astype(dict.fromkeys(("dataset", "covariates", "estimator"), "category"))
        table = pa.Table.from_pandas(frame, preserve_index=False)
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


def _fitted(name: str, key: Any, x: np.ndarray, data: Dataset, level: float) -> dict[str, Any]:
    """Columns of an estimator; a crash is its result."""
    started, failure, estimator = time.process_time(), "", make_estimator(name)
    n = len(data)
    effect, lower, upper = (np.full(n, np.nan) for _ in range(3))
    ate = ate_lower = ate_upper = np.nan
    try:
        if (reveal := getattr(estimator, "reveal", None)) is not None:
            reveal(data.ite, data.cate)
        estimator.fit(key, x, data.t, data.y)
        effect = np.asarray(estimator.effect(x), np.float64)
        ate = float(estimator.ate())
        if (limits := estimator.interval(x, level)) is not None:
            lower, upper = (np.asarray(limit, np.float64) for limit in limits)
        average = getattr(estimator, "ate_interval", None)
        if average is not None and (bounds := average(level)) is not None:
            ate_lower, ate_upper = bounds
        if any(a.shape != (n,) for a in (effect, lower, upper)) or not np.isfinite(effect).all():
            raise ValueError(f"effects of {n} units are {n} finite numbers, and limits {n} numbers each")
    except Exception as error:
        failure = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        effect, lower, upper = (np.full(n, np.nan) for _ in range(3))
        ate = ate_lower = ate_upper = np.nan
    return {
        "effect": effect,
        "lower": lower,
        "upper": upper,
        "ate": ate,
        "ate_lower": ate_lower,
        "ate_upper": ate_upper,
        "interval_of": getattr(estimator, "interval_of", "cate"),
        "failure": failure,
        "seconds": time.process_time() - started,
    }


def scored(data: Dataset, table: pd.DataFrame, cell: tuple[str, str], level: float) -> dict[str, Any]:
    """A row of scores: of one data set by one estimator in one setting, from the columns of ``estimated``."""
    first = table.iloc[0]
    row: dict[str, Any] = {
        "dataset": data.name,
        "wording": data.wording,
        "covariates": cell[1],
        "estimator": cell[0],
    }
    row |= {"failure": first["failure"] or np.nan, "seconds": first["seconds"]}
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
        )
    except SDSCMError as error:
        return row | {"failure": str(error)} | unscored(data)

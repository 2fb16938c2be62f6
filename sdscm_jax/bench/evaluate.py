"""``evaluate``: every estimator on every data set of a benchmark, judged against what is true."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pyarrow as pa

from ..engine.parts import Parts
from ..engine.progress import progress_bar
from ..engine.spread import spread
from ..errors import DataError, SDSCMError
from .benchmark import Benchmark, open_benchmark
from .dataset import Dataset
from .difficulty import difficulty
from .estimates import read_estimates, score_estimates
from .estimators.registry import chosen, described, make_estimator
from .leaderboard import leaderboard
from .metrics import score, unscored
from .report.page import write_report

# Estimators and data sets of the quick track.
QUICK = ("difference_in_means", "linear_regression", "linear_t", "random_forest", "causal_forest", "bart", "tarnet")
QUICK_DATASETS = 10


@dataclass(frozen=True)
class Source:
    """Arguments of ``open_benchmark``."""

    path: str
    outcome: str | None = None
    option: str | None = None
    hidden: tuple[str, ...] | None = None

    def open(self) -> Benchmark:
        """The benchmark."""
        return open_benchmark(self.path, self.outcome, self.option, self.hidden)


@dataclass(frozen=True)
class Settings:
    """How estimators are shown a data set.

    Attributes:
        encoding: of the covariates; see ``Dataset.encoded``.
        level: share that intervals are to hold.
        seed: of the estimators' randomness.
    """

    encoding: str = "onehot"
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What came of an evaluation.

    Attributes:
        scores: a row for each data set, setting and estimator.
        leaderboard: a row for each setting and estimator; see ``bench.leaderboard``.
        difficulty: a row for each data set; see ``bench.difficulty``.
        unusable: why a data set was left out, by its name.
    """

    scores: pd.DataFrame
    leaderboard: pd.DataFrame
    difficulty: pd.DataFrame
    unusable: dict[str, str]


def evaluate(
    source: str | Path,
    out: str | Path,
    *,
    estimators: str | Sequence[str] = "suite",
    covariates: Sequence[str] = ("all", "observed"),
    outcome: str | None = None,
    option: str | None = None,
    hidden: Sequence[str] | None = None,
    encoding: str = "onehot",
    level: float = 0.95,
    seed: int = 0,
    limit: int | None = None,
    estimates: Sequence[str | Path] = (),
    intervals_of: str = "cate",
    jobs: int = 1,
    backend: str | None = None,
    progress: bool | None = None,
) -> Evaluation:
    """Score estimators on a benchmark and write a report.

    ``out`` receives ``report.html``, ``leaderboard.csv``, ``scores.csv``, ``difficulty.csv`` and, in
    ``estimates/NAME.COVARIATES/``, every estimate of every unit as Parquet. A call that was killed goes on where it
    was; one with more estimators computes only theirs.

    Args:
        source: see ``open_benchmark``, as for ``outcome``, ``option`` and ``hidden``.
        out: directory.
        estimators: see ``chosen``; the baselines and the oracle always take part.
        covariates: settings, of ``"all"`` and ``"observed"``.
        encoding, level, seed: see ``Settings``.
        limit: only the first so many data sets.
        estimates: files of estimates made elsewhere; see ``read_estimates``.
        intervals_of: what intervals in those files are of, ``"cate"`` or ``"ite"``.
        jobs: data sets at a time; ``backend``: see ``spread``.
        progress: show a bar on stderr; by default where stderr is a terminal.

    Raises:
        DataError: nothing can be evaluated.
        EstimatorError: an estimator is unknown.
        ResumeError: ``out`` holds estimates of something else.

    >>> import tempfile
    >>> from sdscm_jax import bench
    >>> data = bench.generate(bench.family("school"), tempfile.mkdtemp(), datasets=1, units=50)
    >>> board = evaluate(data, tempfile.mkdtemp(), estimators="linear_t", covariates=["all"]).leaderboard
    >>> sorted(board["estimator"])
    ['constant', 'linear_t', 'oracle', 'zero']
    """
    found = Source(str(source), outcome, option, None if hidden is None else tuple(hidden))
    settings = Settings(encoding, level, seed)
    names = chosen(estimators)
    for name in names:
        make_estimator(name)
    benchmark = found.open()
    usable, unusable = _usable(benchmark, covariates, encoding, limit)
    elsewhere = _elsewhere(estimates, benchmark, usable, names, intervals_of, level)
    directory = Path(out)
    positions = sorted(usable)
    with ExitStack() as stack:
        cells = {
            (name, setting): stack.enter_context(_parts(directory, benchmark, name, setting, settings))
            for setting in covariates
            for name in names
        }
        told = stack.enter_context(progress_bar("data sets", len(usable), progress))
        done = {cell: parts.done for cell, parts in cells.items()}
        tasks = []
        for i in positions:
            missing = [cell for cell in cells if benchmark.numbers[i] not in done[cell]]
            if missing:
                tasks.append((found, benchmark.names, i, missing, settings))
        told(before := len(positions) - len(tasks))
        for count, (number, tables) in enumerate(spread(_estimated, tasks, jobs, backend), before + 1):
            for cell, table in tables.items():
                cells[cell].write(benchmark.numbers[tasks[number][2]], table)
            told(count)
        rows = []
        for i in positions:
            for cell, parts in cells.items():
                rows.append(_scored(usable[i], parts.read(benchmark.numbers[i]).to_pandas(), cell, level))
        scores = pd.concat([pd.DataFrame(rows), *(scored for _, scored in elsewhere)], ignore_index=True)
        result = Evaluation(
            scores, leaderboard(scores), pd.DataFrame([difficulty(data) for data in usable.values()]), unusable
        )
        card = _card(benchmark, settings, unusable)
        _write(directory, result, card)

        def of_units(name: str) -> pd.DataFrame:
            i = benchmark.names.index(name)
            tables = [parts.read(benchmark.numbers[i]).to_pandas() for parts in cells.values()]
            tables += [made[made["dataset"] == name] for made, _ in elsewhere]
            return pd.concat(tables, ignore_index=True)

        graph = benchmark.source / "dag.svg"
        write_report(
            directory / "report.html",
            title=f"Estimators of treatment effects on {benchmark.what.get('published', benchmark.source.name)}",
            leaderboard=result.leaderboard,
            scores=result.scores,
            difficulty=result.difficulty,
            estimates=of_units,
            examples={data.name: data for data in list(usable.values())[:3]},
            card=card,
            dag_svg=graph.read_text() if graph.is_file() else None,
            level=level,
        )
    return result


@lru_cache(maxsize=2)
def _opened(source: Source, names: tuple[str, ...]) -> Benchmark:
    """A benchmark for many tasks of one evaluation; ``names`` are those of its data sets then."""
    return source.open()


def _usable(
    benchmark: Benchmark, covariates: Sequence[str], encoding: str, limit: int | None
) -> tuple[dict[int, Dataset], dict[str, str]]:
    """Data sets that can be used by their place, and why the others cannot by their names."""
    usable: dict[int, Dataset] = {}
    unusable: dict[str, str] = {}
    for i in range(len(benchmark) if limit is None else min(limit, len(benchmark))):
        try:
            data = benchmark.dataset(i)
        except DataError as error:
            unusable[benchmark.names[i]] = str(error)
            continue
        if not usable:
            for setting in covariates:
                data.encoded(setting, encoding)
        usable[i] = data
    if not usable:
        first = next(iter(unusable.values()), f"{benchmark.source} is empty")
        raise DataError(f"no data set can be evaluated: {first}")
    return usable, unusable


def _elsewhere(
    files: Sequence[str | Path],
    benchmark: Benchmark,
    usable: dict[int, Dataset],
    names: Sequence[str],
    intervals_of: str,
    level: float,
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Estimates of files, and their scores."""
    found = []
    for file in files:
        made = read_estimates(file, usable.values(), left_out=benchmark.names)
        taken = sorted({*made["estimator"]} & {*names})
        if taken:
            raise DataError(
                f"{file}: column 'estimator': {taken[0]!r} is evaluated itself; give the file's another name"
            )
        names = [*names, *made["estimator"].unique()]
        found.append((made, score_estimates(made, usable.values(), interval_of=intervals_of, level=level)))
    return found


def _parts(directory: Path, benchmark: Benchmark, name: str, setting: str, settings: Settings) -> Parts:
    manifest = {
        "benchmark": dict(benchmark.what),
        "estimator": described(name),
        "covariates": setting,
        "encoding": settings.encoding,
        "level": settings.level,
        "seed": settings.seed,
    }
    place = directory / "estimates" / f"{name.replace(':', '-')}.{setting}"
    return Parts.open(place, manifest, benchmark.total)


def _estimated(
    source: Source, names: tuple[str, ...], i: int, cells: list[tuple[str, str]], settings: Settings
) -> dict[tuple[str, str], pa.Table]:
    """Estimates of one data set by estimators in settings."""
    data = _opened(source, names).dataset(i)
    shown = {setting for _, setting in cells}
    x = {setting: data.encoded(setting, settings.encoding) for setting in shown}
    # The same for all estimators, so that two that share a model share its draws.
    keys = {setting: _key(settings.seed, data.name, setting) for setting in shown}
    found = {}
    for name, setting in cells:
        columns = {"dataset": data.name, "covariates": setting, "estimator": name, "unit": data.unit}
        columns |= {"ite": data.ite, "cate": data.cate} | _fitted(name, keys[setting], x[setting], data, settings.level)
        frame = pd.DataFrame(columns).astype(dict.fromkeys(("dataset", "covariates", "estimator"), "category"))
        found[name, setting] = pa.Table.from_pandas(frame, preserve_index=False)
    return found


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


def _scored(data: Dataset, table: pd.DataFrame, cell: tuple[str, str], level: float) -> dict[str, Any]:
    """A row of scores."""
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


def _card(benchmark: Benchmark, settings: Settings, unusable: dict[str, str]) -> dict[str, Any]:
    what = {name: value for name, value in benchmark.what.items() if name != "family"}
    if "family" in benchmark.what:
        what["family"] = benchmark.what["family"]["name"]
    return {
        "benchmark": str(benchmark.source),
        **what,
        "data sets there": f"{len(benchmark)} of {benchmark.total}",
        "data sets left out": unusable or "none",
        "encoding of covariates": settings.encoding,
        "level of intervals": settings.level,
        "seed of the estimators": settings.seed,
    }


def _write(directory: Path, result: Evaluation, card: dict[str, Any]) -> None:
    for name in ("leaderboard", "scores", "difficulty"):
        getattr(result, name).to_csv(directory / f"{name}.csv", index=False)
    (directory / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")

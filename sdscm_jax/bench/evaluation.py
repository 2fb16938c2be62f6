"""``evaluate``: every estimator on every data set of a benchmark, judged against what is true."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..checks import as_path, count, items
from ..engine.parts import Parts
from ..engine.progress import progress_bar
from ..engine.spread import parse_backend, spread
from ..errors import DataError
from .benchmark import Benchmark
from .dataset import Dataset, parse_settings
from .difficulty import difficulty
from .estimates import read_estimates, score_estimates
from .estimating import Settings, Source, estimated, scored
from .estimators.registry import chosen, described, make_estimator
from .leaderboard import leaderboard
from .metrics import parse_interval_of
from .report.page import write_report

# Estimators and data sets of the quick track.
QUICK = ("difference_in_means", "linear_regression", "linear_t", "random_forest", "causal_forest", "bart", "tarnet")
QUICK_DATASETS = 10


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
        DataError: nothing can be evaluated; or there is no such setting, encoding, or number.
        EstimatorError: an estimator is unknown; or the level is not between 0 and 1.
        ResumeError: ``out`` holds estimates of something else.

    >>> import tempfile
    >>> from sdscm_jax import bench
    >>> data = bench.generate(bench.family("school"), tempfile.mkdtemp(), datasets=1, units=50)
    >>> board = evaluate(data, tempfile.mkdtemp(), estimators="linear_t", covariates=["all"]).leaderboard
    >>> sorted(board["estimator"])
    ['constant', 'linear_t', 'oracle', 'zero']
    """
    settings = Settings(encoding, level, seed)
    level, covariates, intervals_of = settings.level, parse_settings(covariates), parse_interval_of(intervals_of)
    limit = None if limit is None else count(limit, "limit", DataError)
    jobs, backend = count(jobs, "jobs", DataError), None if backend is None else parse_backend(backend)
    names = chosen(estimators)
    found = Source(
        str(as_path(source, "a benchmark", DataError)),
        outcome,
        option,
        None if hidden is None else items(hidden, "hidden", DataError, single=str),
    )
    for name in names:
        make_estimator(name)
    benchmark = found.open()
    usable, unusable = _usable(benchmark, covariates, encoding, limit)
    elsewhere = _elsewhere(estimates, benchmark, usable, names, intervals_of, level)
    directory = as_path(out, "out")
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
        for made, (number, tables) in enumerate(spread(estimated, tasks, jobs, backend), before + 1):
            for cell, table in tables.items():
                cells[cell].write(benchmark.numbers[tasks[number][2]], table)
            told(made)
        rows = []
        for i in positions:
            for cell, parts in cells.items():
                rows.append(scored(usable[i], parts.read(benchmark.numbers[i]).to_pandas(), cell, level))
        scores = pd.concat([pd.DataFrame(rows), *(rated for _, rated in elsewhere)], ignore_index=True)
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

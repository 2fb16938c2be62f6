"""``evaluate``: every estimator on every data set of a benchmark, judged against what is true."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd

from ..checks import as_path, count, items
from ..durable import put_text, refuse_others, writing
from ..engine.parallel import parse_backend, spread
from ..engine.parts import Parts
from ..engine.progress import progress_bar
from ..errors import DataError
from ..families import Family
from ..page.drawing import Panel
from ..page.forms import Form, Shown, few
from ..page.spreadsheet import without_formulas
from .benchmark import Benchmark
from .cells import Cell, open_cell, read_cell
from .dataset import Dataset, parse_settings
from .difficulty import difficulty
from .estimates import read_estimates_of, score_estimates
from .estimating import BenchmarkSource, Settings, estimated, reads_texts, scored
from .estimators.registry import BASELINES, Chosen, chosen, described, oracle_names
from .foreign_tables import parse_wordings
from .held_out import HeldOut, splits
from .leaderboard import leaderboard
from .metrics import parse_interval_of
from .read_own import Columns
from .report.figures_graph import graph_panels
from .report.page import ESTIMATES_ARE_SAFE, EXAMPLES, write_report
from .tuning import told_budget

# Estimators and data sets of the quick track.
QUICK = ("difference_in_means", "linear_regression", "linear_t", "random_forest", "causal_forest", "bart", "tarnet")
QUICK_DATASETS = 10


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
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

    def _form(self) -> Form:
        board = self.leaderboard
        columns = {
            "estimator": "estimator", "covariates": "covariates", "ate_rmse": "RMSE of the ATE",
            "ate_coverage": "coverage", "pehe_sd_y": "PEHE / sd(y)", "failures": "failures",
        }  # fmt: skip
        there = [name for name in columns if name in board]
        facts = []
        if self.unusable:
            facts.append(("left out", f"{len(self.unusable)} data sets: {few(self.unusable)}"))
        return Form(
            f"Evaluation: {board['estimator'].nunique()} estimators on {self.scores['dataset'].nunique()} data sets",
            facts,
            [columns[name] for name in there],
            [list(row) for row in board[there].itertuples(index=False)],
        )

    def to_pandas(self) -> pd.DataFrame:
        """The leaderboard: one row for each estimator and setting."""
        return self.leaderboard.copy()


def evaluate(
    source: str | Path,
    out: str | Path,
    *,
    estimators: Chosen = "suite",
    covariates: Sequence[str] = ("all", "observed"),
    outcome: str | None = None,
    option: str | None = None,
    hidden: Sequence[str] | None = None,
    encoding: str = "onehot",
    level: float = 0.95,
    seed: int = 0,
    test_share: float = 0.0,
    cross_fit: int = 1,
    budget: int = 1,
    limit: int | None = None,
    estimates: Sequence[str | Path] = (),
    intervals_of: str = "cate",
    jobs: int = 1,
    backend: str | None = None,
    progress: bool | None = None,
    columns: Columns | None = None,
    wordings: Any = None,
) -> Evaluation:
    """Score estimators on a benchmark and write a report.

    ``out`` receives ``report.html``, ``leaderboard.csv``, ``scores.csv``, ``difficulty.csv``, ``unusable.csv`` (the
    data sets that were left out, and why) and, in ``estimates/NAME.COVARIATES/``, every estimate of every unit as
    Parquet. A call that was killed goes on where it was; one with more estimators computes only theirs, and where the
    source of an estimator has changed, its own again (``estimators.identity`` says what is looked at). Data sets are
    read one at a time.

    Args:
        source: see ``open_benchmark``, as for ``outcome``, ``option``, ``hidden``, ``columns`` and ``wordings``.
        out: directory.
        estimators: names, a list of names, classes and unfitted estimators, or a mapping from names to these; see
            ``chosen``. Estimators of other libraries are made by ``bench.FromSklearn`` and ``bench.FromEconml``. The
            baselines and the oracles always take part (those that know the truth, where it is known).
        covariates: settings, of ``"all"`` and ``"observed"``.
        encoding, level, seed: see ``Settings``.
        test_share: share of the units of either arm that estimators do not learn from, and are judged on; by default
            they are judged on those that they learn from, as in the paper. Average effects are then of the others.
        cross_fit: divide the units into so many parts instead, each judged by what was learned from the others.
        budget: configurations that each estimator may try where it has some; see ``tuning``.
        limit: only the first so many data sets.
        estimates: files of estimates made elsewhere; see ``read_estimates``.
        intervals_of: what intervals in those files are of, ``"cate"`` or ``"ite"``.
        jobs: data sets at a time; ``backend``: see ``spread``.
        progress: show a bar on stderr; by default where stderr is a terminal.

    Raises:
        DataError: nothing can be evaluated; or there is no such setting, encoding, or number.
        EstimatorError: an estimator is unknown; or the level is not between 0 and 1.
        ResumeError: ``out`` holds estimates of something else, or of other data, or a damaged file, which is named; or
            another call is writing there.
        SDSCMError: the disk is full, or a file cannot be written otherwise; the estimates before are kept.

    >>> import tempfile
    >>> from sdscm_jax import bench
    >>> data = bench.generate(bench.family("school"), tempfile.mkdtemp(), datasets=1, units=50)
    >>> board = evaluate(data, tempfile.mkdtemp(), estimators="linear_t", covariates=["all"]).leaderboard
    >>> sorted(board["estimator"])
    ['constant', 'linear_t', 'oracle_cate', 'oracle_ite', 'zero']
    """
    settings = Settings(encoding, level, seed, HeldOut(test_share, cross_fit), budget)
    level, covariates, intervals_of = settings.level, parse_settings(covariates), parse_interval_of(intervals_of)
    limit = None if limit is None else count(limit, "limit", DataError)
    jobs, backend = count(jobs, "jobs", DataError), None if backend is None else parse_backend(backend)
    names = chosen(estimators)
    if settings.held_out.some and len(estimates):
        raise DataError("estimates of files are of all units; none can be scored where units are held out")
    found = BenchmarkSource(
        str(as_path(source, "a benchmark", DataError)),
        outcome,
        option,
        None if hidden is None else items(hidden, "hidden", DataError, single=str),
        columns,
        None if wordings is None else tuple(sorted((parse_wordings(wordings) or {}).items())),
    )
    identities = {name: described(name) for name in names}
    benchmark = found.open()
    usable = _usable(benchmark, covariates, settings, limit, names)
    if not any(data.known for data in usable.examples.values()):
        names = tuple(name for name in names if name not in oracle_names())
    elif not any(np.isfinite(data.cate).all() for data in usable.examples.values()):
        names = tuple(name for name in names if name != "oracle_cate")
    elsewhere = _elsewhere(estimates, benchmark, usable, names, intervals_of, level)
    directory = as_path(out, "out")
    refuse_others(directory, "an evaluation")
    with ExitStack() as stack:
        stack.enter_context(writing(directory))
        cells: dict[Cell, Parts] = {}
        for cell in ((name, setting) for setting in covariates for name in names):
            opened = open_cell(directory, benchmark, cell, settings, identities[cell[0]])
            cells[cell] = stack.enter_context(opened)
        told = stack.enter_context(progress_bar("data sets", len(usable.places), progress))
        rows: dict[tuple[int, Cell], dict[str, Any]] = {}

        def score_cells(i: int, those: Sequence[Cell]) -> None:
            data = benchmark.dataset(i)
            for cell in those:
                rows[i, cell] = scored(data, read_cell(cells[cell], benchmark.numbers[i], data), cell, level)

        done = {cell: parts.done for cell, parts in cells.items()}
        told_by_name = {name: json.dumps(identity) for name, identity in identities.items()}
        tasks, evaluation = [], uuid4().hex
        for i in usable.places:
            there = [cell for cell in cells if benchmark.numbers[i] in done[cell]]
            if there:
                # Before anything is computed: what is damaged, or of other data, is said first.
                score_cells(i, there)
            if len(there) < len(cells):
                missing = [cell for cell in cells if cell not in there]
                tasks.append((found, evaluation, i, missing, settings, told_by_name))
        told(before := len(usable.places) - len(tasks))
        for made, (number, tables) in enumerate(spread(estimated, tasks, jobs, backend), before + 1):
            i = tasks[number][2]
            for cell, table in tables.items():
                cells[cell].write(benchmark.numbers[i], table)
            score_cells(i, tasks[number][3])
            told(made)
        own = pd.DataFrame([rows[i, cell] for i in usable.places for cell in cells])
        scores = pd.concat([own, *(rated for _, rated in elsewhere)], ignore_index=True)
        result = Evaluation(scores, leaderboard(scores), pd.DataFrame(usable.difficulty), usable.reasons)
        card = _card(benchmark, settings, usable.reasons)
        _write(directory, result, card)

        def of_units(name: str) -> pd.DataFrame:
            i = benchmark.names.index(name)
            data = benchmark.dataset(i)
            tables = [read_cell(parts, benchmark.numbers[i], data) for parts in cells.values()]
            tables += [made[made["dataset"] == name] for made, _ in elsewhere]
            return pd.concat(tables, ignore_index=True)

        write_report(
            directory / "report.html",
            title=f"Estimators of treatment effects on {benchmark.what.get('published', benchmark.source.name)}",
            leaderboard=result.leaderboard,
            scores=result.scores,
            difficulty=result.difficulty,
            estimates=of_units,
            examples=usable.examples,
            card=card,
            graph=_graph(benchmark),
            level=level,
        )
    return result


def _graph(benchmark: Benchmark) -> list[Panel]:
    """The graph of the family on the card, where there is one."""
    content = benchmark.what.get("family")
    return [] if content is None else graph_panels(Family.from_json(content), benchmark.what["hidden"])


@dataclass(frozen=True)
class _Usable:
    """What is known of the data sets once each was read, without them.

    Attributes:
        places: of those that can be used.
        difficulty: a row for each.
        examples: the first of them.
        reasons: why the others cannot be used, by their names.
    """

    places: list[int]
    difficulty: list[dict[str, Any]]
    examples: dict[str, Dataset]
    reasons: dict[str, str]


def _usable(
    benchmark: Benchmark, covariates: Sequence[str], settings: Settings, limit: int | None, names: Sequence[str]
) -> _Usable:
    """Which data sets can be used; each is read, and let go."""
    found = _Usable([], [], {}, {})
    for i in range(len(benchmark) if limit is None else min(limit, len(benchmark))):
        try:
            data = benchmark.dataset(i)
            splits(settings.held_out, data.t, data.name, settings.seed)
        except DataError as error:
            found.reasons[benchmark.names[i]] = str(error)
            continue
        if not found.places:
            for setting in covariates:
                data.encoded(setting, settings.encoding)
        found.places.append(i)
        found.difficulty.append(difficulty(data))
        if len(found.examples) < EXAMPLES:
            found.examples[data.name] = data
    if not found.places:
        first = next(iter(found.reasons.values()), f"{benchmark.source} is empty")
        raise DataError(f"no data set can be evaluated: {first}")
    _warn_of_texts(next(iter(found.examples.values())), covariates, names)
    return found


def _warn_of_texts(data: Dataset, covariates: Sequence[str], names: Sequence[str]) -> None:
    """Say which covariates estimators that want numbers do not see."""
    texts = sorted({str(name) for setting in covariates for name in data.texts(setting)})
    blind = [name for name in names if name not in BASELINES and not reads_texts(name)] if texts else []
    if blind:
        warnings.warn(
            f"covariates that are free text ({', '.join(texts)}) are no numbers: {few(blind)} adjust for the others "
            "only, and miss what these alone carry (text_linear_dml and others that begin with text_ read them)",
            stacklevel=4,
        )


def _elsewhere(
    files: Sequence[str | Path],
    benchmark: Benchmark,
    usable: _Usable,
    names: Sequence[str],
    intervals_of: str,
    level: float,
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Estimates of files, and their scores."""
    found = []
    there = [benchmark.names[i] for i in usable.places]
    for file in files:
        made = read_estimates_of(file, there, lambda i: benchmark.dataset(usable.places[i]), left_out=benchmark.names)
        taken = sorted({*made["estimator"]} & {*names})
        if taken:
            raise DataError(
                f"{file}: column 'estimator': {taken[0]!r} is evaluated itself; give the file's another name"
            )
        names = [*names, *made["estimator"].unique()]
        datasets = (benchmark.dataset(i) for i in usable.places)
        found.append((made, score_estimates(made, datasets, interval_of=intervals_of, level=level)))
    return found


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
        "units that estimators are judged on": settings.held_out.told(),
        "tuning budget": told_budget(settings.budget),
    }


def _write(directory: Path, result: Evaluation, card: dict[str, Any]) -> None:
    for name in ("leaderboard", "scores", "difficulty"):
        table = without_formulas(getattr(result, name)).to_csv(index=False, lineterminator="\n")
        put_text(directory / f"{name}.csv", table, ESTIMATES_ARE_SAFE)
    reasons = pd.DataFrame({"dataset": list(result.unusable), "reason": list(result.unusable.values())}, dtype=object)
    left_out = without_formulas(reasons).to_csv(index=False, lineterminator="\n")
    put_text(directory / "unusable.csv", left_out, ESTIMATES_ARE_SAFE)
    told = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    put_text(directory / "card.json", told, ESTIMATES_ARE_SAFE)

"""``sdscm generate`` and ``sdscm evaluate``."""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..catalogue import FAMILIES
from ..errors import DataError
from .load import import_from_here
from .one_line import checked_out, one_line_errors
from .output import answer, progress, say

if TYPE_CHECKING:
    import pandas as pd

    from ..bench.evaluation import Evaluation
    from ..bench.read_own import Columns

_JOBS = "Data sets at a time; default: one for each core, or one without the extra 'parallel'."
_BACKEND = "joblib backend: loky (processes) or dask (a distributed client must be there)."


def generate(
    family: Annotated[str, typer.Argument(help=f"One of {', '.join(FAMILIES)}, or a file.")],
    out: Annotated[Path, typer.Option(help="Directory to write; a killed run goes on there.")],
    lm: Annotated[str | None, typer.Option(help="Language model directory or hub id; default: embedded.")] = None,
    datasets: Annotated[int, typer.Option(help="Number of data sets.")] = 50,
    units: Annotated[int, typer.Option(help="Individuals of each.")] = 1000,
    wordings: Annotated[int | None, typer.Option(help="Different wordings; default: one for each data set.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the individuals.")] = 0,
    scoring: Annotated[str, typer.Option(help="How options are scored; see docs/scoring.md.")] = "sequence",
    coupling: Annotated[str, typer.Option(help="How worlds share noise; see docs/counterfactuals.md.")] = "gumbel",
    jobs: Annotated[int | None, typer.Option(help=_JOBS)] = None,
    backend: Annotated[str | None, typer.Option(help=_BACKEND)] = None,
) -> None:
    """Write a benchmark: data sets of a family, with the true effect on every individual."""
    from .. import checks
    from ..bench.generation import generate as write_benchmark
    from ..dsl.noise.couplings.registry import parse_coupling
    from ..dsl.scoring.scorings.registry import parse_scoring
    from ..engine.parallel import parse_backend
    from ..families import family as find_family

    with one_line_errors(2):
        out = checked_out(out)
        datasets, units = checks.count(datasets, "--datasets"), checks.count(units, "--units")
        wordings = None if wordings is None else checks.count(wordings, "--wordings")
        seed, jobs = checks.seed(seed, "--seed"), _jobs(jobs, datasets)
        backend = None if backend is None else parse_backend(backend)
        scoring, coupling = parse_scoring(scoring, "--scoring"), parse_coupling(coupling, "--coupling")
    with one_line_errors(kept=out):
        found = find_family(family)
        write_benchmark(
            found,
            out,
            lm=lm,
            datasets=datasets,
            units=units,
            seed=seed,
            wordings=wordings,
            scoring=scoring,
            coupling=coupling,
            jobs=jobs,
            backend=backend,
            progress=progress(),
        )
    answer(out=out, datasets=datasets, units=units, family=found.name)
    say(f"{datasets} data sets of {units} individuals in {out}/data; what they are: {out}/README.md")
    say(f"score estimators on them: sdscm evaluate {out} --out REPORT")


def evaluate(
    source: Annotated[Path, typer.Argument(help="A benchmark: directory, or file of the paper's authors.")],
    out: Annotated[Path, typer.Option(help="Directory of the report; a killed run goes on there.")],
    estimators: Annotated[
        str,
        typer.Option(
            help="Names with commas; 'suite': the paper's; 'all'; or your own, module:Class or path.py:Class."
        ),
    ] = "suite",
    covariates: Annotated[
        str | None,
        typer.Option(
            help="all, observed (without the hidden ones), or both, the default; of a table of your own: columns, with "
            "commas (default: all that have no other role)."
        ),
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            help="probability of an option, its logp, or whether it is the one drawn; of a table of your own: a column."
        ),
    ] = None,
    treatment: Annotated[
        str | None, typer.Option(help="Column of the treatment: SOURCE is a table of your own, or a directory of them.")
    ] = None,
    arms: Annotated[
        str | None, typer.Option(help="Its values for control and treatment, with a comma; default: 0,1.")
    ] = None,
    effects: Annotated[str | None, typer.Option(help="Column of the true effects, where they are known.")] = None,
    propensity: Annotated[
        str | None, typer.Option(help="Column of the true propensities, where they are known.")
    ] = None,
    wordings: Annotated[
        Path | None, typer.Option(help="Table (dataset, wording) that says which CSV files share their mechanisms.")
    ] = None,
    option: Annotated[str | None, typer.Option(help="Option of the outcome; default: the family's.")] = None,
    hidden: Annotated[str | None, typer.Option(help="Hidden covariates, with commas; default: the family's.")] = None,
    encoding: Annotated[str, typer.Option(help="of the covariates: onehot, or integer (the paper's).")] = "onehot",
    level: Annotated[float, typer.Option(help="Share that intervals are to hold.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Seed of the estimators.")] = 0,
    test_share: Annotated[
        float, typer.Option(help="Share of the units to judge estimators on, which they do not learn from; 0: none.")
    ] = 0.0,
    cross_fit: Annotated[
        int, typer.Option(help="Judge each of so many parts of the units by what was learned from the others.")
    ] = 1,
    budget: Annotated[int, typer.Option(help="Configurations that each estimator may try; 1: its default.")] = 1,
    limit: Annotated[int | None, typer.Option(help="Only the first so many data sets.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few data sets and estimators: two minutes.")] = False,
    estimates: Annotated[
        list[Path] | None, typer.Option(help="File of estimates made elsewhere: unit, effect, lower, upper, …")
    ] = None,
    intervals_of: Annotated[str, typer.Option(help="What intervals in such files are of: cate or ite.")] = "cate",
    jobs: Annotated[int | None, typer.Option(help=_JOBS)] = None,
    backend: Annotated[str | None, typer.Option(help=_BACKEND)] = None,
) -> None:
    """Score estimators of treatment effects on a benchmark; writes leaderboard.csv and report.html."""
    from .. import checks
    from ..bench.dataset import parse_encoding, parse_settings
    from ..bench.estimators.registry import chosen
    from ..bench.evaluation import QUICK, QUICK_DATASETS
    from ..bench.evaluation import evaluate as evaluate_benchmark
    from ..bench.held_out import HeldOut
    from ..bench.metrics import parse_interval_of
    from ..bench.opening import parse_outcome
    from ..engine.parallel import parse_backend

    with one_line_errors(2):
        out = checked_out(out)
        level, seed = checks.share(level, "--level"), checks.seed(seed, "--seed")
        limit = None if limit is None else checks.count(limit, "--limit")
        held_out, budget = HeldOut(test_share, cross_fit), checks.count(budget, "--budget")
        jobs = _jobs(jobs, limit or 1000)
        columns = _columns(treatment, outcome, covariates, arms, effects, propensity)
        withheld = None if hidden is None else _listed(hidden)
        if columns is not None:
            outcome, covariates = None, "all,observed" if withheld else "all"
        settings = parse_settings((covariates or "all,observed").split(","))
        encoding, intervals_of = parse_encoding(encoding), parse_interval_of(intervals_of)
        outcome = None if outcome is None else parse_outcome(outcome)
        backend = None if backend is None else parse_backend(backend)
        chosen(estimators)
        import_from_here()
    if quick:
        limit = min(limit or QUICK_DATASETS, QUICK_DATASETS)
        estimators = ",".join(QUICK) if estimators == "suite" else estimators
    with one_line_errors(kept=out):
        result = evaluate_benchmark(
            source,
            out,
            estimators=estimators,
            covariates=settings,
            outcome=outcome,
            option=option,
            hidden=withheld,
            encoding=encoding,
            level=level,
            seed=seed,
            test_share=held_out.test_share,
            cross_fit=held_out.cross_fit,
            budget=budget,
            limit=limit,
            estimates=estimates or (),
            intervals_of=intervals_of,
            jobs=jobs,
            backend=backend,
            columns=columns,
            wordings=wordings,
            progress=progress(),
        )
    failures = result.scores.dropna(subset=["failure"]).groupby("estimator", sort=False)
    answer(
        out=out, leaderboard=_told(result), left_out=result.unusable,
        failures={name: {"count": len(rows), "first": rows["failure"].iloc[0]} for name, rows in failures},
    )  # fmt: skip
    for name, why in result.unusable.items():
        say(f"left out {name}: {why}", style="yellow")
    say(_board(_told(result)))
    if result.scores["wording"].isna().any() and result.scores["dataset"].nunique() > 1:
        say(
            "no intervals over data sets: it is not known which of them share their mechanisms (--wordings)",
            style="yellow",
        )
    for estimator, rows in failures:
        often = "once, with" if len(rows) == 1 else f"{len(rows)} times, first with"
        say(f"{estimator} failed {often}: {rows['failure'].iloc[0]}", style="yellow")
    say(f"wrote {out}/report.html, {out}/leaderboard.csv and every unit's estimates")


def _jobs(asked: int | None, tasks: int) -> int:
    from .. import checks

    if asked is not None:
        return checks.count(asked, "--jobs")
    # (Without the extra that runs several at a time, one after another.)
    return max(1, min(os.cpu_count() or 1, tasks)) if find_spec("joblib") else 1


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _columns(
    treatment: str | None, outcome: str | None, covariates: str | None, arms: str | None, effects: str | None,
    propensity: str | None,
) -> Columns | None:  # fmt: skip
    """The columns of a table of one's own, which ``--treatment`` says it is."""
    from ..bench.read_own import Columns

    if treatment is None:
        for option, value in (("--arms", arms), ("--effects", effects), ("--propensity", propensity)):
            if value is not None:
                raise DataError(f"{option} is of a table of one's own; say its --treatment and --outcome too")
        return None
    if outcome is None:
        raise DataError("a table of one's own has an outcome: say its column, --outcome")
    named = None if covariates is None else _listed(covariates)
    return Columns(treatment, outcome, named, effects, propensity, arms=None if arms is None else _listed(arms))


def _told(result: Evaluation) -> pd.DataFrame:
    """The leaderboard; where no true effect is known, with the estimates themselves, which are then all there is."""
    board, scores = result.leaderboard, result.scores
    if scores["ate_true"].notna().any():
        return board
    estimates = scores.groupby(["estimator", "covariates"])[["ate", "ate_lower", "ate_upper"]].mean()
    if scores["dataset"].nunique() > 1:
        # A mean of limits is no limit of the mean.
        estimates[["ate_lower", "ate_upper"]] = float("nan")
    return board.join(estimates, on=["estimator", "covariates"])


def _board(leaderboard: pd.DataFrame) -> Table:
    columns = {
        "ate_rmse": "ATE\nRMSE",
        "pehe_sd_y": "PEHE\n/sd(y)",
        "pehe_floor_sd_y": "\nfloor",
        "cate_coverage": "CATE\ncov.",
        "ite_coverage": "ITE\ncov.",
        "seconds": "\nCPU s",
    }
    if "ate" in leaderboard:
        columns = {"ate": "ATE", "ate_lower": "lower", "ate_upper": "upper", "seconds": "CPU s"}
    if leaderboard["failures"].any():
        columns["failures"] = "\nfailed"
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("estimator", "covariates"):
        table.add_column(heading, no_wrap=True)
    for heading in columns.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in leaderboard.to_dict("records"):
        numbers = [row[name] for name in columns]
        table.add_row(
            row["estimator"], row["covariates"], *("" if math.isnan(x) else f"{x + 0.0:.3g}" for x in numbers)
        )
    return table

"""One self-contained HTML page about a benchmark: tables, figures, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...durable import make_directory, put_text
from ...page.document import document, figure, legend
from ...page.drawing import Panel, Pictures
from ..dataset import Dataset
from .definitions import DEFINITIONS
from .figures_average import ate_histogram, ate_panels
from .figures_effects import pehe_panels, r2_panels, rank_panels
from .figures_intervals import caterpillar_panels, coverage_panels
from .figures_units import effects_panel, overlap_panel
from .selection import check_columns, estimators_by_error, setting_name, settings_of
from .summary import summary_items
from .tables import average_table, card_table, difficulty_tables, leaderboard_tables

Estimates = Callable[[str], pd.DataFrame] | Mapping[str, pd.DataFrame]

_SCORES = (
    "dataset", "wording", "covariates", "estimator", "failure", "seconds", "ate", "ate_true", "pehe_sd_y", "cate_r2",
    "cate_coverage", "cate_width", "ite_coverage", "ite_width", "beats_constant",
)  # fmt: skip
_LEADERBOARD = ("estimator", "covariates", "datasets", "failures", "ate_rmse", "rank", "seconds", "effective_datasets")
_ESTIMATES = ("covariates", "estimator", "lower", "upper", "ite", "cate")
_BOXES = (
    "Boxes: from the 25 to the 75\u00a0% quantile over data sets, with the median; whiskers: 5 to 95\u00a0%; points: "
    "the outermost data sets."
)
EXAMPLES = 3
# What is kept where a file that sums up cannot be written.
ESTIMATES_ARE_SAFE = "The estimates are kept: once that is put right, the same call writes it from them"


def write_report(
    path: str | Path,
    *,
    title: str,
    leaderboard: pd.DataFrame,
    scores: pd.DataFrame,
    difficulty: pd.DataFrame,
    estimates: Estimates,
    examples: Mapping[str, Dataset],
    card: Mapping[str, Any],
    graph: Sequence[Panel] = (),
    level: float = 0.95,
) -> None:
    """Write the report of a benchmark: a page without references to anything else.

    The same arguments give the same bytes (with the same release of Matplotlib).

    Args:
        path: of the page; folders are made.
        title: of the page.
        leaderboard: of ``bench.leaderboard``; every column is shown.
        scores: one row for each (data set, covariates, estimator); see ``bench.evaluate``. Failures are rows with
            a ``failure`` and NaN.
        difficulty: one row for each data set.
        estimates: gives the estimates per unit of a data set by its name: ``covariates, estimator, lower, upper,
            ite, cate``. A data set that a mapping lacks has no figure of its intervals.
        examples: data sets for the figures of single units; the first three are shown.
        card: what the benchmark was made from, to be printed as it is.
        graph: a picture of the causal graph.
        level: share of effects that intervals are to hold.

    Raises:
        DataError: a table lacks a column, or there are no scores.
        SDSCMError: the file cannot be written; what was there is as it was.
    """
    check_columns(scores, _SCORES, "scores")
    check_columns(leaderboard, _LEADERBOARD, "leaderboard")
    check_columns(difficulty, ("dataset", "wording", "ate"), "difficulty")
    leaderboard, scores = _named(leaderboard), _named(scores)
    text = _page(
        title,
        leaderboard,
        scores,
        difficulty,
        estimates,
        dict(list(examples.items())[:EXAMPLES]),
        card,
        graph,
        level,
    )
    path = Path(path)
    make_directory(path.parent)
    put_text(path, text, ESTIMATES_ARE_SAFE)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """The table with names as text: categories would be grouped by those that do not occur, too."""
    return table.assign(estimator=table["estimator"].astype(str), covariates=table["covariates"].astype(str))


def _page(
    title: str, leaderboard: pd.DataFrame, scores: pd.DataFrame, difficulty: pd.DataFrame, estimates: Estimates,
    examples: Mapping[str, Dataset], card: Mapping[str, Any], graph: Sequence[Panel], level: float,
) -> str:  # fmt: skip
    pictures = Pictures()
    names = estimators_by_error(scores)
    settings = settings_of(scores)
    hues = legend([(f"--series-{i % 4}", i == 0, setting_name(s)) for i, s in enumerate(settings)])

    def shown(panels: Sequence[Panel], caption: str, *, key: str = "", kind: str = "", none: str = "") -> str:
        return figure(pictures, panels, caption, legend=key, kind=kind) if panels else f'<p class="none">{none}</p>'

    items = "".join(f"<li>{item}</li>" for item in summary_items(scores, leaderboard, difficulty))
    sections = [
        ("summary", "Summary", f"<ul>{items}</ul>"),
        ("leaderboard", "Leaderboard", _leaderboard(leaderboard, level)),
        (
            "effects", "Individual effects",
            shown(
                pehe_panels(scores, names, settings),
                f"Error of individual effects (PEHE) in standard deviations of the outcome. {_BOXES} The linear axis "
                "ends where most "
                "estimators do; what lies beyond is told at its edge. Estimators stand in the order of their medians.",
                key=hues, none="The true effects are not known, so neither is the error of individual ones.",
            )
            + "<h3>R² of individual effects</h3>"
            + shown(
                r2_panels(scores, names, settings),
                "Share of the variance of true effects that is explained within a data set; not clipped at 0. "
                f"{_BOXES}",
                key=hues, kind="one", none="R² is not defined for any data set.",
            ),
        ),
        ("intervals", "Intervals", _intervals(shown, hues, estimates, scores, names, settings, examples, level)),
        (
            "average", "Average effect",
            shown(
                ate_panels(scores, names, settings),
                "Estimated against true average effect; a point is a data set (at most 150 for each setting, evenly "
                "spaced "
                "over the true effects), the line is where they agree. Triangles: estimates beyond the axis.",
                key=hues, kind="small", none="There are no true average effects.",
            )
            + average_table(scores),
        ),
        (
            "cost", "Rank against time",
            shown(
                rank_panels(leaderboard, settings),
                "Mean rank by PEHE over data sets against median CPU time; upper left is best. A failure ranks last. "
                "Grey: baselines.",
            ),
        ),
        ("data", "The data sets", _data(shown, difficulty, examples, graph)),
        ("reading", "How to read it", _definitions()),
        ("provenance", "Provenance", card_table(card) if card else '<p class="none">Nothing was recorded.</p>'),
    ]  # fmt: skip
    return document(title, sections, pictures, sortable=True)


def _leaderboard(leaderboard: pd.DataFrame, level: float) -> str:
    return (
        "<p>One row for each estimator and setting. The best of a setting is in bold; baselines (in italics) do not "
        "compete. In brackets: 95\u00a0% intervals over data sets, clustered by wording, where wordings are known. A "
        "heading sorts its column.</p>" + leaderboard_tables(leaderboard, level)
    )


def _intervals(
    shown: Callable[..., str], hues: str, estimates: Estimates, scores: pd.DataFrame, names: list[str],
    settings: list[str], examples: Mapping[str, Dataset], level: float,
) -> str:  # fmt: skip
    parts = []
    for of, what in (("cate", "expected effects (CATE)"), ("ite", "individual effects (ITE)")):
        parts.append(f"<h3>Intervals for {what}</h3>")
        parts.append(
            shown(
                coverage_panels(scores, of, names, settings, level),
                "Coverage: share of units whose interval contains the truth; dashed: the nominal level; diamond: "
                f"mean. Width: in standard deviations of the outcome. {_BOXES}",
                key=hues,
                none=f"No estimator gave intervals for {what}, or it is not known what they should contain.",
            )
        )
    parts.append("<h3>Unit by unit</h3>")
    units = {name: _estimates_of(estimates, name) for name in list(examples)[:1]}
    panels = [p for table in units.values() for p in caterpillar_panels(table, scores, names, settings)]
    name = escape(next(iter(units), ""))
    parts.append(
        shown(
            panels,
            f"Data set {name}: intervals of units (at most 220, evenly spaced), sorted by their true effect, which "
            "the line "
            "shows. The estimators with intervals that have the least PEHE.",
            key=legend(
                [
                    ("--covered", True, "contains the truth"),
                    ("--missed", True, "misses it"),
                    ("--ink", True, "true effect"),
                ]
            ),
            none="There are no intervals of an example data set.",
        )
    )
    return "".join(parts)


def _estimates_of(estimates: Estimates, name: str) -> pd.DataFrame:
    table = estimates.get(name) if isinstance(estimates, Mapping) else estimates(name)
    if table is None:
        return pd.DataFrame(columns=_ESTIMATES)
    check_columns(table, _ESTIMATES, f"estimates of {name}")
    return _named(table)


def _data(
    shown: Callable[..., str],
    difficulty: pd.DataFrame,
    examples: Mapping[str, Dataset],
    graph: Sequence[Panel],
) -> str:
    parts = []
    if graph:
        parts.append(shown(graph, "Causal graph: causes stand above effects.", kind="one"))
    parts.append(
        shown(
            ate_histogram(difficulty),
            "True average effects over data sets.",
            kind="one",
            none="There are no true average effects.",
        )
    )
    parts.append(
        shown(
            [overlap_panel(data) for data in examples.values() if np.isfinite(data.propensity).all()],
            "True propensity of the units, by arm. Where one arm is missing, no method can compare; dotted: 0.1 and "
            "0.9.",
            none="The true propensities are not known." if examples else "No example data set was given.",
        )
    )
    known = [data for data in examples.values() if data.known]
    if known:
        parts.append(
            shown(
                [effects_panel(data) for data in known],
                "True individual effects in order. The two lines differ by confounding and by the chance of who was "
                "treated; the table below has both.",
                key=legend(
                    [
                        ("--series-0", True, "true average effect"),
                        ("--series-1", False, "naive difference of the arms (dashed)"),
                    ]
                ),
            )
        )
    parts.append(f"<h3>Difficulty</h3>{difficulty_tables(difficulty)}")
    return "".join(parts)


def _definitions() -> str:
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(told)}</dd>" for term, told in DEFINITIONS.items())
    return (
        "<p>Medians say what to expect of a typical data set; means and RMSE are ruled by the few worst. A "
        "difference between "
        "two estimators is worth as much as the effective number of data sets, not the number of rows.</p>"
        f"<dl>{terms}</dl>"
    )

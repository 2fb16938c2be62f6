"""What the tables say, in sentences."""

from __future__ import annotations

from html import escape
from textwrap import shorten

import numpy as np
import pandas as pd

from ...page.spoken_numbers import number
from .selection import BASELINES, errors_with_failures, estimators_by_error, failed, having, setting_name, settings_of


def summary_items(scores: pd.DataFrame, leaderboard: pd.DataFrame, difficulty: pd.DataFrame) -> list[str]:
    """Sentences as HTML, one list item each."""
    settings = settings_of(scores)
    names = [str(n) for n in scores["estimator"].unique()]
    items = [_what(scores, difficulty, names, settings), _effective(leaderboard, difficulty)]
    unknown = scores.loc[scores["ate_true"].isna(), "dataset"].nunique()
    if unknown:
        whose = "any data set" if unknown == scores["dataset"].nunique() else _counted(unknown, "data set")
        items.append(f"The true effects of {whose} are not known: nothing here says how good the estimates of it are.")
    judged = scores[scores["ate_true"].notna()]
    items += (
        []
        if judged.empty
        else [
            _best(judged[judged["covariates"] == s], leaderboard[leaderboard["covariates"] == s], s) for s in settings
        ]
    )
    if len(settings) > 1:
        items.append(_between_settings(judged, settings))
    items += [_intervals(scores[scores["covariates"] == s], names, s) for s in settings]
    items.append(_failures(scores))
    return [item for item in items if item]


def _what(scores: pd.DataFrame, difficulty: pd.DataFrame, names: list[str], settings: list[str]) -> str:
    count = scores["dataset"].nunique()
    competitors = sum(name not in BASELINES for name in names)
    baselines = len(names) - competitors
    beside = f" and {_counted(baselines, 'baseline')}" if baselines else ""
    units = difficulty["units"].median() if "units" in difficulty and len(difficulty) else float("nan")
    size = f" of {number(int(units))} units (median)" if np.isfinite(units) else ""
    return (
        f"{_counted(competitors, 'estimator')}{beside} on {_counted(count, 'data set')}{size}, "
        f"with {' and with '.join(escape(setting_name(s)) for s in settings)}."
    )


def _effective(leaderboard: pd.DataFrame, difficulty: pd.DataFrame) -> str:
    if len(difficulty) < 2:
        return "There is one data set only: nothing here tells how results vary between data sets."
    if difficulty["wording"].isna().any():
        return (
            f"It is not known which of the {_counted(len(difficulty), 'data set')} share a wording, and with it their "
            "mechanisms: <b>the sampling unit is unknown</b>, and there are no intervals over data sets."
        )
    wordings = difficulty["wording"].nunique()
    counts = f"The {_counted(len(difficulty), 'data set')} have {_counted(wordings, 'wording')}"
    sizes = leaderboard["effective_datasets"].to_numpy(float)
    sizes = sizes[np.isfinite(sizes)]
    if not len(sizes):
        return f"{counts}: nothing here tells how results vary between wordings."
    low, middle, high = (f"{value:,.0f}" for value in (sizes.min(), np.median(sizes), sizes.max()))
    return (
        f"{counts}. Data sets of one wording resemble each other: the effective sample size, the number of independent "
        f"data sets that would tell as much, is about <b>{middle}</b> ({low} to {high}, by estimator)."
    )


def _best(scores: pd.DataFrame, leaderboard: pd.DataFrame, setting: str) -> str:
    rivals = scores[~scores["estimator"].isin(BASELINES)]
    where = f"<b>With {escape(setting_name(setting))}</b>"
    order = [n for n in estimators_by_error(rivals) if np.isfinite(_median_error(rivals, n))] if len(rivals) else []
    if order:
        best, error = order[0], number(_median_error(rivals, order[0]))
        text = f"{where}, <b>{escape(best)}</b> has the least PEHE (median {error} sd(y))"
        if len(order) > 1:
            second, error = order[1], number(_median_error(rivals, order[1]))
            share = _percent(_ahead(rivals, best, second))
            text += f", before {escape(second)} ({error}; the former is ahead on {share} of the data sets)"
        text += f". {_against_constant(rivals, best)}"
    else:
        text = f"{where}, no estimator gave individual effects on half of the data sets."
    return f"{text} {_best_average(leaderboard[~leaderboard['estimator'].isin(BASELINES)])}"


def _median_error(scores: pd.DataFrame, name: str) -> float:
    return float(errors_with_failures(scores[scores["estimator"] == name]).median())


def _ahead(scores: pd.DataFrame, first: str, second: str) -> float:
    errors = scores.assign(error=errors_with_failures(scores)).pivot_table(
        index="dataset", columns="estimator", values="error", aggfunc="first", observed=True
    )
    return float((errors[first] < errors[second]).mean())


def _against_constant(scores: pd.DataFrame, name: str) -> str:
    beats = scores.loc[scores["estimator"] == name, "beats_constant"].astype(float)
    if beats.isna().all():
        return "Whether it beats the constant baseline is not known."
    share = float(beats.fillna(0.0).mean())
    verdict = "beats" if share > 0.5 else "does not beat"
    return (
        f"It {verdict} the constant baseline (the true average effect for every unit): it is better on "
        f"{_percent(share)} of the data sets."
    )


def _best_average(board: pd.DataFrame) -> str:
    board = board[(board["failures"] <= board["datasets"] / 2) & np.isfinite(board["ate_rmse"].astype(float))]
    if board.empty:
        return "No estimator gave average effects on half of the data sets."
    rows = board.set_index("estimator").sort_values("ate_rmse", kind="stable")
    best = str(rows.index[0])
    text = f"For the average effect, <b>{escape(best)}</b> is best (RMSE {number(float(rows['ate_rmse'].iloc[0]))}"
    if rows["failures"].iloc[0]:
        text += f", without the {int(rows['failures'].iloc[0]):,} data sets on which it failed"
    naive = rows["ate_rmse"].get("difference_in_means")
    if naive is not None and best != "difference_in_means":
        text += f"; the difference in means has {number(float(naive))}"
    return f"{text})."


def _between_settings(scores: pd.DataFrame, settings: list[str]) -> str:
    rivals = scores[~scores["estimator"].isin(BASELINES)]
    medians = []
    for setting in settings[:2]:
        here = rivals[rivals["covariates"] == setting]
        medians.append(min((_median_error(here, n) for n in here["estimator"].unique()), default=np.inf))
    if not np.isfinite(medians).all() or medians[0] <= 0:
        return ""
    return (
        f"The best median PEHE goes from {number(medians[0])} sd(y) with {escape(setting_name(settings[0]))} to "
        f"{number(medians[1])} with {escape(setting_name(settings[1]))}."
    )


def _intervals(scores: pd.DataFrame, names: list[str], setting: str) -> str:
    parts = []
    for of in ("cate", "ite"):
        some = [n for n in having(scores, f"{of}_coverage", names) if n not in BASELINES]
        if some:
            means = scores[scores["estimator"].isin(some)].groupby("estimator")[f"{of}_coverage"].mean()
            good = int((means >= 0.9).sum())
            worst = str(means.idxmin())
            parts.append(
                f"at least 90\u00a0% of the effects are covered, on average, by {good} of "
                f"{_counted(len(some), 'estimator')} with {of.upper()} intervals (nominal: 95\u00a0%); the least by "
                f"{escape(worst)}, {_percent(float(means.min()))}"
            )
    where = f"Intervals, with {escape(setting_name(setting))}"
    if parts:
        return f"{where}: {'; '.join(parts)}."
    given = having(scores, "cate_width", names) + having(scores, "ite_width", names)
    if any(name not in BASELINES for name in given):
        return f"{where}: what they should contain is not known."
    return f"{where}: no estimator gave any."


def _failures(scores: pd.DataFrame) -> str:
    rows = scores[failed(scores)]
    if rows.empty:
        return "No fit failed."
    counts = rows.groupby("estimator", sort=False).size().sort_values(ascending=False, kind="stable")
    told = []
    for name, count in counts.head(6).items():
        reason = str(rows.loc[rows["estimator"] == name, "failure"].iloc[0]).strip().splitlines()[-1:]
        # Whole words, with a sign where there are more.
        short = shorten("".join(reason), 200, placeholder=" …")
        told.append(f"{escape(str(name))} {count}× (for example: {escape(short)})")
    more = f"; and {len(counts) - 6} more estimators" if len(counts) > 6 else ""
    return f"<b>{_counted(len(rows), 'fit')} of {len(scores):,} failed</b>: {'; '.join(told)}{more}."


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", "\u00a0%")

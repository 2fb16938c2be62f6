"""Figures of how well individual effects are estimated: PEHE, R², ranks against time."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...page.drawing import GRID, INK, MUTED, SERIES, WIDE, Panel, log_axis, new_axes, panel, short
from .quantile_boxes import draw_boxes, linear_limits, log_limits
from .selection import BASELINES, having, setting_name, values_by_row


def pehe_panels(scores: pd.DataFrame, names: list[str], settings: list[str]) -> list[Panel]:
    """PEHE / sd(y) by estimator and setting: where most of it lies, and all of it on a log axis.

    None if it is never defined, such as where no true effect is known.
    """
    if not having(scores, "pehe_sd_y", names):
        return []
    rows = values_by_row(scores, "pehe_sd_y", names, settings)
    medians = _spoken_medians(names, rows)
    return [
        panel(
            lambda: draw_boxes(names, rows, linear_limits(rows), "PEHE / sd(y)"),
            f"Box plots of PEHE divided by the outcome's standard deviation, by estimator. {medians}",
            "Linear axis",
        ),
        panel(
            lambda: draw_boxes(names, rows, log_limits(rows), "PEHE / sd(y), log axis", log=True),
            "The same box plots on a logarithmic axis, with the whole tail.",
            "Logarithmic axis: the tail",
        ),
    ]


def r2_panels(scores: pd.DataFrame, names: list[str], settings: list[str]) -> list[Panel]:
    """R² of the estimated effects within each data set, by estimator and setting; none if it is never defined."""
    names = having(scores, "cate_r2", names)
    if not names:
        return []
    rows = values_by_row(scores, "cate_r2", names, settings)
    label = f"Box plots of the R squared of individual effects, by estimator. {_spoken_medians(names, rows)}"
    return [panel(lambda: draw_boxes(names, rows, (-1.0, 1.03), "R² of effects within a data set", line=0), label)]


def rank_panels(leaderboard: pd.DataFrame, settings: list[str]) -> list[Panel]:
    """Mean rank by PEHE against CPU seconds; a panel for each setting."""
    panels = []
    for i, setting in enumerate(settings):
        table = leaderboard.loc[leaderboard["covariates"] == setting, ["estimator", "rank", "seconds"]].dropna(
            subset="rank"
        )
        if len(table):
            table = table.sort_values("rank", kind="stable")
            told = ", ".join(f"{name} {rank:.1f}" for name, rank in zip(table["estimator"], table["rank"], strict=True))
            where = setting_name(setting)
            label = f"Mean rank against CPU seconds, {where}. Mean ranks: {told}."
            panels.append(panel(partial(_draw_ranks, table, SERIES[i % len(SERIES)]), label, where))
    return panels


def _spoken_medians(names: list[str], rows: list[list[np.ndarray]]) -> str:
    firsts = [(name, row[0][~np.isnan(row[0])]) for name, row in zip(names, rows, strict=True) if row]
    told = ", ".join(f"{name} {np.median(values):.2g}" for name, values in firsts if len(values))
    return f"Medians in the first setting: {told}." if told else "There are no values."


def _draw_ranks(table: pd.DataFrame, colour: str) -> Any:
    height = max(2.2, 0.7 + 0.19 * len(table))
    names = table["estimator"].astype(str).tolist()
    right = 0.25 + 0.076 * max(len(short(name)) for name in names)
    axes = new_axes(WIDE, height, left=0.66, bottom=0.5, right=right)
    seconds = np.clip(table["seconds"].fillna(1e-3).to_numpy(float), 1e-3, None)
    ranks = table["rank"].to_numpy(float)
    log_axis(axes, seconds.min() / 1.8, seconds.max() * 1.8)
    low, high = ranks.min() - 0.6, ranks.max() + 0.6
    axes.set_ylim(high, low)
    axes.set_xlabel("median CPU seconds for a data set")
    axes.set_ylabel("mean rank (1 is best)")
    edge = axes.get_xlim()[1]
    for rank, second, at, name in zip(ranks, seconds, _spread(ranks, low, high, height), names, strict=True):
        axes.plot([second, edge], [rank, at], color=GRID, linewidth=0.8, clip_on=False, zorder=1)
        plain = name not in BASELINES
        axes.plot([second], [rank], "o", markersize=5, color=colour if plain else MUTED, zorder=3)
        axes.annotate(
            short(name), (edge, at), (4, 0), textcoords="offset points", va="center", fontsize=8.5,
            color=INK if plain else MUTED, annotation_clip=False,
        )  # fmt: skip
    return axes


def _spread(places: np.ndarray, low: float, high: float, height: float) -> np.ndarray:
    """Sorted places moved apart as little as keeps lines of text from touching."""
    gap = (high - low) * 0.155 / (height - 0.6)
    spread = places.astype(float).copy()
    for i in range(1, len(spread)):
        spread[i] = max(spread[i], spread[i - 1] + gap)
    spread[-1:] = np.minimum(spread[-1:], max(high, low + gap * len(spread)))
    for i in range(len(spread) - 2, -1, -1):
        spread[i] = min(spread[i], spread[i + 1] - gap)
    return spread

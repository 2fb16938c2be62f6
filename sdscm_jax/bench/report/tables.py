"""Tables of the page: numbers for people to read, and the exact ones beside them for the script to sort by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from ...page.spoken_numbers import number
from .definitions import definition, heading
from .selection import BASELINES, setting_name

# The short leaderboard; the rest is folded away.
_KEY_COLUMNS = (
    "rank", "pehe_sd_y_median", "pehe_sd_y", "pehe_floor_sd_y", "cate_r2_median", "beats_constant", "ate_bias",
    "ate_rmse", "ate_coverage", "cate_coverage", "ite_coverage", "seconds",
)  # fmt: skip
_IDENTITY = ("estimator", "covariates", "datasets", "failures")
# Not a quality by itself: how many, how sure, or a width without its coverage.
_UNRANKED = re.compile(r"_(se|sem|std|lower|upper|low|high|count|n)$|width|floor|datasets|failures|effective|wordings")
_LESS = re.compile(r"rmse|mae|pehe|score|regret|(^|_)rank($|_mean|_median)|seconds|error")
_MORE = re.compile(r"r2|correlation|auuc|qini|beats|spearman")


def leaderboard_tables(leaderboard: pd.DataFrame, level: float) -> str:
    """The few columns that matter most, and the whole table folded away beneath it, by groups of columns.

    Args:
        leaderboard: one row for each estimator and setting; those of a setting are shown by their mean rank.
    """
    place = leaderboard["covariates"].map({"all": 0, "observed": 1}).fillna(2)
    table = leaderboard.iloc[np.lexsort([leaderboard["rank"], place])]
    identity = [c for c in _IDENTITY if c in table]
    # Limits stand beneath what they are the limits of.
    limits = {f"{c}_{end}" for c in table for end in ("lower", "upper")}
    rest = [str(c) for c in table if c not in identity and c not in limits]
    keys = [c for c in _KEY_COLUMNS if c in rest]
    text = _board(table, [*identity[:2], *(keys or rest), *identity[2:]], "Leaderboard", level)
    groups = [(title, [c for c in rest if _group(c) == title]) for title in _GROUPS]
    folded = "".join(
        f"<h3>{escape(title)}</h3>{_board(table, [*identity[:2], *columns], title, level)}"
        for title, columns in groups
        if columns
    )
    return text + (f"<details><summary>All {len(rest)} columns, by group</summary>{folded}</details>" if folded else "")


_GROUPS = ("Average effect", "Individual effects", "Intervals of effects", "Ranks, decisions, cost")


def _group(column: str) -> str:
    if column.startswith("ate_"):
        return _GROUPS[0]
    if re.match(r"(cate|ite)_(coverage|width|score)", column):
        return _GROUPS[2]
    return _GROUPS[1] if re.match(r"pehe|cate_|ite_", column) else _GROUPS[3]


def _board(table: pd.DataFrame, columns: list[str], title: str, level: float) -> str:
    best = {c: best_rows(table, c, level) for c in columns if c not in _IDENTITY}
    head = "".join(f'<th scope="col"{_tip(c)}>{escape(heading(c))}</th>' for c in columns)
    body = []
    for row, record in enumerate(table.to_dict("records")):
        cells = []
        for column in columns:
            value = record[column]
            if column == "estimator":
                mark = ' class="baseline"' if value in BASELINES else ""
                cells.append(f'<th scope="row"{mark}>{escape(str(value))}</th>')
            elif column == "covariates":
                cells.append(f'<td class="word" title="{escape(setting_name(str(value)))}">{escape(str(value))}</td>')
            else:
                limits = [record.get(f"{column}_{end}") for end in ("lower", "upper")]
                known = all(isinstance(limit, float) and not np.isnan(limit) for limit in limits)
                told = f"<small>[{number(limits[0], 2)}, {number(limits[1], 2)}]</small>" if known else ""
                cells.append(_cell(value, told, row in best.get(column, ())))
        body.append(f"<tr>{''.join(cells)}</tr>")
    return table_box(title, head, "".join(body), sortable=True)


def best_rows(table: pd.DataFrame, column: str, level: float = 0.95) -> set[int]:
    """Positions of the best estimators of each setting in a column; none if the column is not one to be best in.

    >>> errors = {"estimator": ["a", "b", "oracle_ite"], "covariates": "all", "ate_bias": [-1.0, 0.5, 0.0]}
    >>> best_rows(pd.DataFrame(errors), "ate_bias")
    {1}
    """
    if _UNRANKED.search(column) or not pd.api.types.is_numeric_dtype(table[column]):
        return set()
    values = table[column].to_numpy(float)
    if "coverage" in column:
        loss = np.abs(values - level)
    elif "bias" in column:
        loss = np.abs(values)
    elif _MORE.search(column):
        loss = -values
    elif _LESS.search(column):
        loss = values
    else:
        return set()
    loss = np.where(np.isfinite(loss) & ~table["estimator"].isin(BASELINES).to_numpy(), loss, np.inf)
    settings = table["covariates"].to_numpy()
    found: set[int] = set()
    for setting in dict.fromkeys(settings.tolist()):
        here = np.flatnonzero(settings == setting)
        least = loss[here].min()
        # Where all are equal, none is best.
        if np.isfinite(least) and len(np.unique(loss[here][np.isfinite(loss[here])])) > 1:
            found |= set(here[loss[here] == least].tolist())
    return found


def average_table(scores: pd.DataFrame, most: int = 100) -> str:
    """The estimated average effects of data sets whose true ones are not known; empty where there are none."""
    rows = scores[scores["ate_true"].isna() & scores["ate"].notna()]
    if rows.empty:
        return ""
    head = "".join(f'<th scope="col">{escape(heading(c))}</th>' for c in ("dataset", "estimator", "covariates", "ate"))
    body = []
    for record in rows.head(most).to_dict("records"):
        limits = [record[f"ate_{end}"] for end in ("lower", "upper")]
        told = f"<small>[{number(limits[0], 2)}, {number(limits[1], 2)}]</small>" if not np.isnan(limits).any() else ""
        names = "".join(f'<td class="word">{escape(str(record[c]))}</td>' for c in ("estimator", "covariates"))
        body.append(
            f'<tr><th scope="row">{escape(str(record["dataset"]))}</th>{names}{_cell(record["ate"], told)}</tr>'
        )
    shown = f" (the first {most} of {len(rows):,})" if len(rows) > most else ""
    table = table_box("Estimated average effects", head, "".join(body), sortable=True)
    return f"<h3>Estimated average effects, where the true ones are not known{shown}</h3>{table}"


def difficulty_tables(difficulty: pd.DataFrame, most: int = 100) -> str:
    """Quantiles of each measure over data sets, and the first data sets one by one."""
    measures = [str(c) for c in difficulty if pd.api.types.is_numeric_dtype(difficulty[c])]
    levels = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    names = ("least", "5 %", "25 %", "median", "75 %", "95 %", "greatest")
    head = '<th scope="col">measure</th>' + "".join(f'<th scope="col">{name}</th>' for name in names)
    body = []
    for measure in measures:
        values = difficulty[measure].to_numpy(float)
        values = values[np.isfinite(values)]
        cells = np.quantile(values, levels).tolist() if len(values) else [np.nan] * len(levels)
        row = f'<th scope="row"{_tip(measure)}>{escape(heading(measure))}</th>'
        body.append(f"<tr>{row}{''.join(_cell(c) for c in cells)}</tr>")
    text = table_box(f"Difficulty of {len(difficulty)} data sets: quantiles", head, "".join(body))
    return text + _each_dataset(difficulty, measures, most)


def _each_dataset(difficulty: pd.DataFrame, measures: list[str], most: int) -> str:
    head = "".join(f'<th scope="col"{_tip(c)}>{escape(heading(c))}</th>' for c in ["dataset", *measures])
    body = "".join(
        f'<tr><th scope="row">{escape(str(record["dataset"]))}</th>{"".join(_cell(record[c]) for c in measures)}</tr>'
        for record in difficulty.head(most).to_dict("records")
    )
    shown = f"the first {most} of {len(difficulty):,}" if len(difficulty) > most else f"all {len(difficulty)}"
    table = table_box("Data sets", head, body, sortable=True)
    return f"<details><summary>Data sets one by one ({shown})</summary>{table}</details>"


def card_table(card: Mapping[str, Any], title: str = "Provenance") -> str:
    """What the benchmark was made from; mappings within are tables within."""
    rows = "".join(
        f'<tr><th scope="row">{escape(str(key))}</th><td class="word">{_told(value)}</td></tr>'
        for key, value in card.items()
    )
    caption = f'<caption class="hidden">{escape(title)}</caption>'
    return f'<div class="box card"><table>{caption}<tbody>{rows}</tbody></table></div>'


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return "".join(f"<div><b>{escape(str(k))}</b>: {_told(v)}</div>" for k, v in value.items()) or "–"
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return ", ".join(_told(item) for item in items) or "–"
    if isinstance(value, np.generic):
        value = value.item()
    # Seeds and counts in full.
    return escape("–" if value is None else str(value))


def table_box(title: str, head: str, body: str, *, sortable: bool = False) -> str:
    """A table in a box that scrolls by itself; keyboards reach it."""
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{escape(title)}"><table{kind}>'
        f'<caption class="hidden">{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _cell(value: Any, margin: str = "", best: bool = False) -> str:
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
        return f'<td class="word">{escape(number(value))}</td>'
    exact = "" if np.isnan(float(value)) else f' data-v="{float(value):.6g}"'
    text = escape(number(value))
    return f"<td{exact}{' class=best' if best else ''}>{f'<b>{text}</b>' if best else text}{margin}</td>"


def _tip(column: str) -> str:
    told = definition(column)
    return f' title="{escape(told)}"' if told else ""

"""The paper's comparison of estimators, run again on its published data, beside what was recorded.

python benchmarks/paper.py --out /tmp/paper [--limit 50] [--jobs 2]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measured import ROOT, provenance

from sdscm_jax.bench.evaluation import evaluate

RESULTS = ROOT / "benchmarks" / "results"
# What is above the mark is written by hand.
PAGE, MARK = RESULTS / "paper.md", "<!-- tables -->"
SHARED = Path(os.environ.get("SDSCM_SHARED", str(ROOT.parent / "shared"))) / "reference"
# Their names in the recorded figures.
RECORDED = {
    "difference_in_means": "T-Only OLS",
    "linear_regression": "LinReg",
    "random_forest": "RF",
    "causal_forest": "CausalForest",
    "causal_forest_dml": "ForestDML",
    "linear_dml": "LinearDML",
    "linear_dr": "LinearDR",
    "forest_dr": "ForestDR",
    "bart": "BART",
    "bart_ite": "BART-ITE",
    "tnet": "TNet",
    "tarnet": "TARNet",
}
DOUBLY_ROBUST = ("linear_dr", "forest_dr")
LMS = {"gpt2": "gpt2", "llama-3-8b": "llama"}
SETTINGS = {"all": "all", "observed": "hidden"}
# What is recorded this close together may be in either order in another sample.
NEAR = 0.15


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    digitised = json.loads((SHARED / "digitised.json").read_text())
    found: dict[str, Any] = {"provenance": provenance(), "cells": {}}
    pages = []
    for lm in LMS:
        result = evaluate(
            SHARED / "data" / f"{lm}_200x1000.parquet",
            args.out / lm,
            estimators=[*RECORDED, "cqr", "bcf", "linear_s", "linear_t", "forest_s", "forest_t"],
            encoding="integer",
            limit=args.limit,
            jobs=args.jobs,
        )
        for setting in SETTINGS:
            cell = compared(result.scores, digitised, lm, setting)
            found["cells"][f"{lm} {setting}"] = cell
            pages.append(page(cell, result.leaderboard, lm, setting))
    (RESULTS / "paper.json").write_text(json.dumps(found, indent=1) + "\n")
    said, _, _ = PAGE.read_text().partition(MARK)
    PAGE.write_text(said + MARK + "\n\n" + "\n".join(pages))
    print("\n".join(pages))


def compared(scores: pd.DataFrame, digitised: dict[str, Any], lm: str, setting: str) -> dict[str, Any]:
    """Ranks of the estimators beside the recorded ones, with intervals over wordings."""
    names = list(RECORDED)
    here = scores[(scores["covariates"] == setting) & scores["estimator"].isin(names)]
    figures = digitised["digitised_benchmark_figures"][f"sd_PEHE {LMS[lm]}"]
    table = digitised["notebook_ate_table"]
    column = table["columns"].index(f"{LMS[lm]} RMSE {SETTINGS[setting]}")
    pehe = {n: figures[r][SETTINGS[setting]].get("mean") for n, r in RECORDED.items() if r in figures}
    rmse = {n: table["rows"][r][column] for n, r in RECORDED.items() if r in table["rows"] and n not in DOUBLY_ROBUST}
    wordings = here["wording"].to_numpy()
    error = here["ate"] - here["ate_true"]
    squared = error.set_axis([here["estimator"], here["dataset"]]).unstack("dataset") ** 2
    ours = here.pivot(index="estimator", columns="dataset", values="pehe_sd_y")
    of_dataset = dict(zip(here["dataset"], wordings, strict=True))
    return {
        "datasets": int(here["dataset"].nunique()),
        "wordings": int(here["wording"].nunique()),
        "ate_rmse": agreement(squared, of_dataset, rmse, root=True),
        "pehe_sd_y": agreement(ours, of_dataset, {n: v for n, v in pehe.items() if v is not None}, root=False),
    }


def agreement(ours: pd.DataFrame, wording: dict[str, str], recorded: dict[str, float], root: bool) -> dict[str, Any]:
    """Spearman's correlation of means over data sets with recorded values; an interval by resampling wordings."""
    names = [n for n in recorded if n in ours.index]
    values = ours.loc[names].to_numpy()
    groups = [np.flatnonzero([wording[d] == w for d in ours.columns]) for w in sorted(set(wording.values()))]
    theirs = pd.Series([recorded[n] for n in names])

    def mean(chosen: np.ndarray) -> np.ndarray:
        averages = np.nanmean(values[:, chosen], axis=1)
        return np.sqrt(averages) if root else averages

    rng = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        chosen = np.concatenate([groups[g] for g in rng.integers(len(groups), size=len(groups))])
        draws.append(theirs.corr(pd.Series(mean(chosen)), method="spearman"))
    found = mean(np.arange(values.shape[1]))
    order = np.argsort(theirs.to_numpy(), kind="stable")
    near = [
        f"{names[a]} ~ {names[b]}" for a, b in itertools.pairwise(order) if theirs[b] - theirs[a] <= NEAR * theirs[b]
    ]
    return {
        "spearman": float(theirs.corr(pd.Series(found), method="spearman")),
        "interval": [float(q) for q in np.nanquantile(draws, [0.025, 0.975])],
        "recorded": dict(zip(names, theirs.tolist(), strict=True)),
        "found": dict(zip(names, map(float, found), strict=True)),
        "recorded within 15 %": near,
    }


def page(cell: dict[str, Any], board: pd.DataFrame, lm: str, setting: str) -> str:
    """A Markdown table of both."""
    board = board[board["covariates"] == setting].set_index("estimator")
    rmse, pehe = cell["ate_rmse"], cell["pehe_sd_y"]
    lines = [
        f"## {lm}, {SETTINGS[setting]}: {cell['datasets']} data sets in {cell['wordings']} wordings",
        "",
        told("ATE RMSE (DR methods apart)", rmse),
        "",
        told("PEHE/sd(y)", pehe),
        "",
        "| method | ATE RMSE | recorded | PEHE/sd(y) | recorded | median | R² median | coverage | width | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in board.iterrows():
        which = "ite" if np.isfinite(row["ite_coverage"]) else "cate"
        cells = [
            f"{row['ate_rmse']:.4f}",
            shown(rmse["recorded"].get(str(name)), 4),
            f"{row['pehe_sd_y']:.3f}",
            shown(pehe["recorded"].get(str(name)), 3),
            f"{row['pehe_sd_y_median']:.3f}",
            f"{row['cate_r2_median']:.2f}",
            f"{row[f'{which}_coverage']:.3f} ({which})" if np.isfinite(row[f"{which}_coverage"]) else "",
            f"{row[f'{which}_width']:.3f}" if np.isfinite(row[f"{which}_width"]) else "",
            f"{row['seconds']:.2f}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def told(what: str, agreement: dict[str, Any]) -> str:
    near = ", ".join(agreement["recorded within 15 %"]) or "none"
    low, high = agreement["interval"]
    return (
        f"Spearman with the recorded {what}: **{agreement['spearman']:.2f}** [{low:.2f}, {high:.2f}] "
        f"({len(agreement['found'])} methods). Recorded within 15 %: {near}."
    )


def shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()

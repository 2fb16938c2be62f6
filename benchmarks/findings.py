"""The paper's findings on a benchmark of our own: oncology by the embedded language model, two settings, two outcomes.

python benchmarks/findings.py --out /tmp/findings [--datasets 50] [--units 1000] [--drawn 20] [--jobs 2]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measured import ROOT, provenance

from sdscm_jax import bench

RESULTS = ROOT / "benchmarks" / "results"
COLUMNS = (
    "ate_bias",
    "ate_rmse",
    "ate_coverage",
    "pehe_sd_y",
    "pehe_sd_ite_median",
    "cate_r2_median",
    "beats_constant",
    "rank_correlation",
    "cate_coverage",
    "cate_width",
    "ite_coverage",
    "ite_width",
    "failures",
    "seconds",
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--datasets", type=int, default=50)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--drawn", type=int, default=20, help="data sets whose drawn outcome is evaluated besides")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    found: dict[str, Any] = {"provenance": provenance(), "datasets": args.datasets, "units": args.units}
    seconds: dict[str, float] = {}

    def timed(what: str, function: Any, *rest: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = function(*rest, jobs=args.jobs, **options)
        seconds[what] = time.perf_counter() - started
        return result

    data = args.out / "data"
    timed("generate", bench.generate, bench.family("oncology"), data, datasets=args.datasets, units=args.units)
    boards = {}
    for setting in ("all", "observed"):
        boards[setting] = timed(
            f"evaluate {setting}", bench.evaluate, data, args.out / "probability", covariates=[setting]
        )
    drawn = timed(
        "evaluate drawn",
        bench.evaluate,
        data,
        args.out / "drawn",
        outcome="drawn",
        covariates=["all"],
        limit=args.drawn,
    )
    found["seconds"] = seconds
    for name, result in (*boards.items(), ("drawn", drawn)):
        board = result.leaderboard.set_index("estimator")
        found[name] = {e: {c: number(row[c]) for c in COLUMNS} for e, row in board.iterrows()}
        found[name] |= {"difficulty": {c: number(x) for c, x in result.difficulty.mean(numeric_only=True).items()}}
        if name != "drawn":
            found[name]["against T-Only OLS"] = against(result.scores)
    found["drawn"]["exact CATE"] = irreducible(data, args.drawn)
    (RESULTS / "findings.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(seconds))


def number(x: Any) -> float | None:
    return float(f"{float(x):.6g}") if pd.notna(x) else None


def against(scores: pd.DataFrame) -> dict[str, Any]:
    """Share of data sets in which an estimator's average effect is nearer to the truth than the difference in means."""
    error = (scores["ate"] - scores["ate_true"]).abs()
    table = error.set_axis([scores["estimator"], scores["dataset"]]).unstack("dataset")
    return {str(e): number((table.loc[e] < table.loc["difference_in_means"]).mean()) for e in table.index}


def irreducible(data: Path, limit: int) -> dict[str, Any]:
    """What somebody who knows every expected effect would score on the individual effects of drawn outcomes."""
    benchmark = bench.open_benchmark(data, "drawn")
    sets = [benchmark.dataset(i) for i in range(min(limit, len(benchmark)))]
    pehe = [np.sqrt(np.mean((d.cate - d.ite) ** 2)) for d in sets]
    return {
        "pehe_sd_y": number(np.mean([p / d.y.std() for p, d in zip(pehe, sets, strict=True)])),
        "pehe_sd_ite": number(np.mean([p / d.ite.std() for p, d in zip(pehe, sets, strict=True)])),
        "changed": number(np.mean([np.mean(d.ite != 0) for d in sets])),
    }


if __name__ == "__main__":
    main()

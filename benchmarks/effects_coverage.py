"""How often intervals of effects over simulated units contain the exact effect, and how many of them have no width.

    python benchmarks/effects_coverage.py                # results/effects_coverage.{json,md}
    python benchmarks/effects_coverage.py --seed 1 --repetitions 40 --out /tmp/r.json

The program is the family "school" under the embedded language model, tabulated: its exact effects are known. Units are
simulated once and cut into samples.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import sdscm_jax as sd
from sdscm_jax import effects
from sdscm_jax.families import family

HERE = Path(__file__).resolve().parent
SCORE = (0.0, 1.0, 2.0)
GROUPS = (
    ("experience",),
    ("experience", "marks"),
    ("experience", "marks", "health"),
    ("experience", "help at home", "interest", "marks", "health"),
)


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Simulate, compare, write; the value is the rows that were written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200, help="samples of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 3, 5, 10, 30, 200, 1000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "effects_coverage.json")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    rows = []
    for row in measured(args.sizes, args.repetitions, args.seed):
        rows.append(row)
        print(row, flush=True)
    sizes = " ".join(map(str, args.sizes))
    command = f"effects_coverage.py --repetitions {args.repetitions} --sizes {sizes} --seed {args.seed}"
    what = {"command": command, "sizes": args.sizes, "seconds": round(time.perf_counter() - started), "rows": rows}
    args.out.write_text(json.dumps(what, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(page(rows, command))
    return rows


def measured(sizes: list[int], repetitions: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each effect and number of units."""
    found = family("school")
    table = sd.tabulate(found.member(seed=0), sd.load_lm())
    exact = effects.exact(table)
    treatment, outcome, (low, high) = found.treatment, found.outcome, found.arms
    assert treatment
    assert outcome
    option = exact.options(outcome)[-1]
    pair = treatment, outcome, low, high
    single: dict[str, Callable[[Any], effects.Effect]] = {
        "ate": lambda s: effects.ate(s, *pair, score=SCORE),
        "att": lambda s: effects.att(s, *pair, score=SCORE),
        "nde": lambda s: effects.nde(s, *pair, score=SCORE),
        "nie": lambda s: effects.nie(s, *pair, score=SCORE),
        "contrasts": lambda s: effects.contrasts(s, treatment, outcome, score=SCORE),
        "total variation": lambda s: effects.total_variation(s, *pair),
        "Wasserstein-1": lambda s: effects.wasserstein(s, *pair, score=SCORE),
        "PNS": lambda s: effects.pns(s, *pair, option=option),
        "PN": lambda s: effects.pn(s, *pair, option=option),
        "PS": lambda s: effects.ps(s, *pair, option=option),
    }
    grouped = {
        f"cate, {len(by)} covariates": partial(lambda s, by: effects.cate(s, *pair, by=by, score=SCORE), by=by)
        for by in GROUPS
    }
    asked = {**single, **grouped}
    truth = {name: f(exact).value for name, f in asked.items()}
    whole = effects.sampled(table, seed, max(sizes) * repetitions)
    for f in single.values():
        f(whole)
    for n in sizes:
        for name, f in asked.items():
            if name in grouped and n < 30:
                continue
            count = min(repetitions, 2000 // n + 20) if name == "cate, 5 covariates" else repetitions
            covered, width, units = [], [], []
            for k in range(count):
                e = f(part(whole, k * n, n))
                known = np.isfinite(e.lower) & np.isfinite(e.upper)
                # Rounding of log-probabilities.
                inside = (e.lower - 1e-6 <= truth[name]) & (truth[name] <= e.upper + 1e-6)
                covered += inside[known].tolist()
                width += (e.upper - e.lower)[known].tolist()
                units += [] if e.group_units is None else e.group_units[known].tolist()
            if covered:
                yield {
                    "effect": name,
                    "units": n,
                    "samples": count,
                    "numbers": len(truth[name]),
                    "with interval": round(len(covered) / (count * len(truth[name])), 3),
                    "coverage": round(float(np.mean(covered)), 3),
                    "width 0": round(float(np.mean(np.array(width) < 1e-6)), 3),
                    "median width": round(float(np.median(width)), 4),
                    "median units": float(np.median(units)),
                }


def part(source: effects.Sampled, start: int, n: int) -> effects.Sampled:
    """Some of the units."""
    drawn = [
        type(world)(
            world.world,
            {name: x[start : start + n] for name, x in world.values.items()},
            {name: x[start : start + n] for name, x in world.log_probs.items()},
        )
        for world in source._drawn
    ]
    return effects.Sampled(source.graph, 1, None, (), drawn)


def page(rows: list[dict[str, Any]], command: str) -> str:
    """The rows as Markdown."""
    names = list(rows[0])
    lines = [
        "# Intervals of effects over simulated units",
        "",
        f"`python benchmarks/{command}`: samples of units of the family school (embedded language model), against the "
        "exact effect; nominal 95 %. Numbers without an interval (of one unit, or of none) do not count. Of a handful "
        "of units it is from .87 (groups in which few units have another effect than the rest) to 1 (intervals end "
        "where probabilities do, and where all units are alike they have room for what may have been missed). PNS, PN "
        "and PS are near 0.001 here, with a skewness of 17 between units: intervals by Student's t alone contain them "
        "in .60 to .92 of samples; those with room for rare units, which are these, are wide instead.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + "|".join([" --- "] + [" ---: "] * (len(names) - 1)) + "|",
        *("| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Fit the mechanisms of a language model to a table, and ask the fitted model about an intervention.

    python examples/fit_table.py

``data/commuters.csv`` has 1200 units of four categorical columns (they are made up): the weather and the
distance, how somebody goes to work, and when he arrives. Each column gets a sentence with a blank, so that a unit
is a text and the table is an SD-SCM that is to be found. The language model is trained until the probabilities of
its options are the frequencies of the table; then ``do(travel)`` is asked, and compared with the table's own answer
by adjustment for the weather.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import optax
import pandas as pd

import sdscm_jax as sd
from sdscm_jax.families import compare_table, fit_table, table_family

DATA = Path(__file__).parent / "data" / "commuters.csv"
TEMPLATES = {
    "weather": "The weather outside is {}.",
    "distance": "The way to work is {}.",
    "travel": "Charlie goes to work {}.",
    "arrival": "He arrives {}.",
}
PARENTS = {"travel": ["weather", "distance"], "arrival": ["weather", "travel"]}


def adjusted(table: pd.DataFrame, travel: str) -> float:
    """P(late | do(travel)) by adjustment for the weather, which travel and arrival have in common."""
    late = table.arrival == "late"
    return float(
        sum(
            (table.weather == w).mean() * late[(table.weather == w) & (table.travel == travel)].mean()
            for w in table.weather.unique()
        )
    )


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", help="directory or hub id of a language model; default: the embedded one")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=5e-3, help="peak of the learning rate; 1e-4 for a large model")
    parser.add_argument("--rank", type=int, help="train low-rank changes of this rank instead of all weights")
    parser.add_argument("--checkpoint", type=Path, help="directory to save the run in, and to go on from")
    options = parser.parse_args(argv)

    table = pd.read_csv(DATA)
    member = table_family(table, TEMPLATES, PARENTS).member(seed=0)
    lm = sd.load_lm(options.lm)
    targets = ["query", "key", "value", "out", "up", "down"]
    schedule = optax.warmup_cosine_decay_schedule(0.0, options.rate, options.steps // 10, options.steps)
    fitted = fit_table(
        lm,
        member,
        table,
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.98)),
        steps=options.steps,
        rows=4,
        adapter=None if options.rank is None else sd.LowRank(lm, options.rank, targets=targets),
        checkpoint=options.checkpoint,
        # The comparison is printed below.
        tolerance=None,
    )

    found: dict[str, dict[str, float]] = {"difference": {}, "late": {}}
    print("Mean absolute difference between the conditional probabilities of model and table")
    print(f"{'':10} {'before':>8} {'after':>8}")
    before, after = (compare_table(x, member, table).set_index("variable") for x in (lm, fitted))
    for name in TEMPLATES:
        of_models = [float((x.table - x.lm)[[name]].abs().mean()) for x in (before, after)]
        found["difference"][name] = of_models[1]
        print(f"{name:10} {of_models[0]:8.3f} {of_models[1]:8.3f}")

    travels = member.family["travel"].options
    late = member.family["arrival"].options.index("late")
    worlds = [{"travel": travel} for travel in travels]
    units = sd.simulate(member, jax.random.key(0), 2000, fitted, worlds=worlds)
    print(f"\n{'':10} {'P(late | do(travel))':>24} {'P(late | travel)':>18}")
    print(f"{'travel':10} {'model':>12} {'table':>11} {'table':>18}")
    for world, travel in enumerate(travels, start=1):
        of_model = float(np.exp(units.log_probs["arrival"][:, world, late].astype(np.float64)).mean())
        naive = float((table.arrival == "late")[table.travel == travel].mean())
        found["late"][travel] = of_model
        print(f"{travel:10} {of_model:12.3f} {adjusted(table, travel):11.3f} {naive:18.3f}")
    return found


if __name__ == "__main__":
    main()

"""Two stories of the same five sentences: weather as a confounder, and weather as a collider.

    python examples/confounder_collider.py

confounder:  name1 -> gym <- weather -> marathon <- name2
collider:    name1 -> gym -> weather <- marathon <- name2

In both, going to the gym or for a run outside has no effect on the marathon: it is no ancestor of
it. What do factual data suggest, with and without adjusting for the weather? (Bynum and Cho 2024,
arXiv 2411.08019, Example 1.)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

import sdscm_jax as sd
from sdscm_jax.families import Family

NAMES = ["John", "Jane", "Alice", "Bob", "Charlie"]
WEATHER = ["sunny", "rainy", "snowy", "cold", "hot"]


def confounder_by_hand(lm: sd.LanguageModel) -> sd.Phrase:
    """The confounder story, written out; the families below hold other wordings of it."""
    name1 = sd.sample("name1", sd.Choice(lm, "My name is {}.", NAMES), exogenous=True)
    # Drawn uniformly: the language model is not asked.
    friend = sd.Choice(lm, "I have a friend named {}.", NAMES, scoring="uniform")
    name2 = sd.sample("name2", friend, exogenous=True)
    weather = sd.sample("weather", sd.Choice(lm, "The weather outside is {}.", WEATHER))
    go = ["to the gym", "for a run outside"]
    sd.sample("gym", sd.Choice(lm, "I owe it to myself to go {}.", go, given=[name1, weather]))
    time = ["improve", "worsen"]
    given = [name2, weather]
    return sd.sample("marathon", sd.Choice(lm, "After this, my marathon time will {}.", time, given=given))


class Findings(NamedTuple):
    """Differences are in units of sd(outcome); the outcome is the column P(marathon=worsen).

    ``within`` is the range of the correlation over the five kinds of weather.
    """

    true: float
    naive: float
    adjusted: float
    correlation: float
    within: tuple[float, float]


# Recorded with GPT-2, n = 1,000, by the paper's authors (their notebook adjusts with a random forest
# on gym and weather, here it is stratification; theirs has other wordings of the same sentences).
GPT2 = {
    "confounder": Findings(0.0, 0.0593, 0.0064, 0.82, (-0.09, 0.32)),
    "collider": Findings(0.0, -0.0798, -0.1088, 0.009, (-0.094, 0.109)),
}


def study(model: Callable, key: jax.Array, n: int, lm: sd.LanguageModel) -> Findings:
    """Simulate a story, and ask for the effect of a run outside, against the gym."""
    data = sd.simulate(model, key, n, lm, worlds=[{"gym": "to the gym"}, {"gym": "for a run outside"}])
    factual, indoors, outdoors = range(3)
    outcome = np.exp(data.log_probs["marathon"][..., 1].astype(np.float64))  # [n, worlds]
    run = data.values["gym"][:, factual] == 1
    p_run = np.exp(data.log_probs["gym"][:, factual, 1])
    weather = data.values["weather"][:, factual]
    y, unit = outcome[:, factual], float(outcome[:, factual].std())

    def difference(units: np.ndarray) -> float:
        return float(y[units & run].mean() - y[units & ~run].mean()) / unit if _vary(run[units]) else np.nan

    def correlation(units: np.ndarray) -> float:
        return float(np.corrcoef(p_run[units], y[units])[0, 1]) if _vary(p_run[units], y[units]) else np.nan

    everybody = np.full(n, True)
    strata = [weather == w for w in np.unique(weather)]
    # A stratum in which everybody does the same says nothing about the difference.
    compared = [s for s in strata if _vary(run[s])]
    differences, sizes = np.array([difference(s) for s in compared]), np.array([s.sum() for s in compared])
    within = [r for r in map(correlation, strata) if not np.isnan(r)]
    return Findings(
        float((outcome[:, outdoors] - outcome[:, indoors]).mean()) / unit,
        difference(everybody),
        float(differences @ sizes / sizes.sum()) if compared else np.nan,
        correlation(everybody),
        (min(within, default=np.nan), max(within, default=np.nan)),
    )


def _vary(*columns: np.ndarray) -> bool:
    return all(len(np.unique(column)) > 1 for column in columns)


def main(argv: Sequence[str] | None = None) -> dict[str, Findings]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", help="directory or hub id of a language model; default: the embedded one")
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the wording and of the units")
    options = parser.parse_args(argv)

    lm = sd.load_lm(options.lm)
    stories: dict[str, Callable] = {
        "confounder": Family.from_vignette(sd.vignettes.confounder).member(options.seed),
        "confounder by hand": confounder_by_hand,
        "collider": Family.from_vignette(sd.vignettes.collider).member(options.seed),
    }
    key = jax.random.key(options.seed)
    found = {name: study(model, key, options.units, lm) for name, model in stories.items()}

    print("A run outside against the gym: effect on P(marathon=worsen), in its standard deviations")
    print(f"{'':20} {'true':>8} {'naive':>8} {'adjusted':>8}   corr(P(run), P(worsen))  by weather")
    rows = [*found.items(), *((f"{name}, GPT-2", recorded) for name, recorded in GPT2.items())]
    for name, f in rows:
        low, high = f.within
        numbers = f"{f.true:8.4f} {f.naive:+8.4f} {f.adjusted:+8.4f}"
        print(f"{name:20} {numbers}   {f.correlation:+23.3f}  {low:+.2f} to {high:+.2f}")
    chance = "by chance alone, a naive difference is of the order of"
    print(
        f"With {options.units} units, {chance} {2 / options.units**0.5:.3f} (more, if few go outside or few stay in)."
    )
    print("GPT-2: as recorded by the paper's authors with 1000 units, where that is 0.063.")
    return found


if __name__ == "__main__":
    main()

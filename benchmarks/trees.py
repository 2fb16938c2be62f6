"""``bart`` and ``bcf`` beside stochtree's, on laws whose effects are known: coverage, width and error.

python benchmarks/trees.py [--sets 10] [--units 300]    # needs stochtree: pip install '.[oracle]'
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from measured import ROOT, provenance

from sdscm_jax.bench.estimators.bart import Bart
from sdscm_jax.bench.estimators.bcf import Bcf
from sdscm_jax.bench.estimators.propensity import fit_propensity

RESULTS = ROOT / "benchmarks" / "results"
# Page: what is above the mark is written by hand.
PAGE, MARK = RESULTS / "trees.md", "<!-- tables -->"


class Units(NamedTuple):
    """Covariates ``[n, 4]``, treatment, outcome, and the expected effects, ``[n]``."""

    x: np.ndarray
    t: np.ndarray
    y: np.ndarray
    effect: np.ndarray


def covariates(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.column_stack([rng.integers(0, k, n) for k in (2, 3, 2, 4)]).astype(np.float64)


def noisy(rng: np.random.Generator, n: int) -> Units:
    """Confounded; effects of 0.5 and 1; noise of half a unit."""
    x = covariates(rng, n)
    t = (rng.random(n) < 1 / (1 + np.exp(-1.2 * (x[:, 0] - 0.5) - 0.5 * (x[:, 1] - 1)))).astype(int)
    effect = 0.5 + 0.5 * x[:, 2]
    return Units(x, t, x[:, 0] + 0.5 * x[:, 1] + t * effect + 0.5 * rng.normal(size=n), effect)


def noise_free(rng: np.random.Generator, n: int) -> Units:
    """Confounded; the outcome is a probability, a function of covariates and treatment."""
    x, t, _, _ = noisy(rng, n)
    base = -1 + x[:, 0] + 0.5 * x[:, 1] - 0.4 * x[:, 0] * x[:, 3]
    low, high = (1 / (1 + np.exp(-(base + up))) for up in (0.0, 0.5 + 0.6 * x[:, 2]))
    return Units(x, t, np.where(t == 1, high, low), high - low)


def no_overlap(rng: np.random.Generator, n: int) -> Units:
    """A third of the units, those of an option, are all treated."""
    x = covariates(rng, n)
    t = np.where(x[:, 1] == 2, 1, (rng.random(n) < 0.35 + 0.3 * x[:, 0]).astype(int))
    effect = 0.5 + 0.5 * x[:, 2]
    return Units(x, t, x[:, 0] + 0.5 * x[:, 1] + t * effect + 0.5 * rng.normal(size=n), effect)


def decided(rng: np.random.Generator, n: int) -> Units:
    """A covariate decides the treatment, so that nothing but the prior tells its effect from the treatment's."""
    x = covariates(rng, n)
    t = (x[:, 0] == 1).astype(int)
    return Units(x, t, 0.5 * x[:, 0] + 0.5 * x[:, 1] + t + 0.5 * rng.normal(size=n), np.ones(n))


LAWS = {"noisy": noisy, "noise-free": noise_free, "no overlap in a stratum": no_overlap, "no overlap at all": decided}


def own(estimator: Callable[[], Any]) -> Callable[[Units, int], np.ndarray]:
    def draws(units: Units, seed: int) -> np.ndarray:
        return np.asarray(estimator().fit(jax.random.key(seed), units.x, units.t, units.y)._fitted.effect)

    return draws


def stochtree_bcf(units: Units, seed: int) -> np.ndarray:
    from stochtree import BCFModel

    model, how = BCFModel(), {"num_gfr": 0, "num_burnin": 500, "num_mcmc": 500, "general_params": {"random_seed": seed}}
    model.sample(X_train=units.x, Z_train=units.t.astype(float), y_train=units.y, **how)
    return np.asarray(model.tau_hat_train).reshape(len(units.y), -1).T


def stochtree_bart(units: Units, seed: int) -> np.ndarray:
    from stochtree import BARTModel

    propensity = fit_propensity(units.x, units.t)(units.x)
    model, how = (
        BARTModel(),
        {"num_gfr": 0, "num_burnin": 500, "num_mcmc": 500, "general_params": {"random_seed": seed}},
    )
    model.sample(X_train=np.column_stack([units.x, propensity, units.t]), y_train=units.y, **how)
    arms = [np.column_stack([units.x, propensity, np.full(len(units.y), arm)]) for arm in (0.0, 1.0)]
    low, high = (np.asarray(model.predict(arm, terms="y_hat")) for arm in arms)
    return (high - low).T


MODELS = {"bcf": own(Bcf), "stochtree BCF": stochtree_bcf, "bart": own(Bart), "stochtree BART": stochtree_bart}


def judged(draws: np.ndarray, effect: np.ndarray) -> tuple[float, float, float]:
    """Coverage and width of the central 95 % intervals, and PEHE."""
    lower, upper = np.quantile(draws, [0.025, 0.975], axis=0)
    covered = ((lower <= effect) & (effect <= upper)).mean()
    return covered, (upper - lower).mean(), np.sqrt(np.square(draws.mean(0) - effect).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--units", type=int, default=300)
    args = parser.parse_args()
    found: dict[str, Any] = {"provenance": provenance(), "sets": args.sets, "units": args.units, "laws": {}}
    rows = [
        "| law | model | CATE coverage | width | PEHE | its standard error | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for law, draw in LAWS.items():
        for name, model in MODELS.items():
            scores, started = [], time.process_time()
            for seed in range(args.sets):
                units = draw(np.random.default_rng(seed), args.units)
                scores.append(judged(model(units, seed), units.effect))
            coverage, width, pehe = np.mean(scores, axis=0)
            error = np.std([score[2] for score in scores], ddof=1) / args.sets**0.5
            seconds = (time.process_time() - started) / args.sets
            found["laws"].setdefault(law, {})[name] = {"coverage": coverage, "width": width, "pehe": pehe, "se": error}
            rows.append(f"| {law} | {name} | {coverage:.3f} | {width:.4f} | {pehe:.4f} | {error:.4f} | {seconds:.1f} |")
            print(rows[-1], flush=True)
    (RESULTS / "trees.json").write_text(json.dumps(found, indent=1) + "\n")
    said = PAGE.read_text().partition(MARK)[0] if PAGE.exists() else ""
    PAGE.write_text(f"{said}{MARK}\n\n" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()

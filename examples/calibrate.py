"""Calibrate a language model to data, in three ways, and see what that does to a causal effect.

    python examples/calibrate.py

A language model believes that snow keeps runners at the gym. In this town it does not. From what 400
townspeople did we fit (a) a temperature and a bias of the sentence, (b) a soft prompt: vectors that
stand before every text, and (c) low-rank changes of the weights, each by stochastic variational
inference (here with point estimates: maximum likelihood). Held-out data say which fits; and the effect
of ``do(weather)`` under the fitted model comes closer to the town's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.contrib.module import nnx_module
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.util import log_density

import sdscm_jax as sd

NAMES = ["John", "Jane", "Alice", "Bob", "Charlie"]
WEATHER = ["sunny", "rainy", "snowy"]
GO = ["to the gym", "for a run outside"]
# P(for a run outside | weather) in the town; the embedded language model has about 0.77, 0.31, 0.23.
TOWN = {"sunny": 0.9, "rainy": 0.15, "snowy": 0.65}


def story(lm: sd.LanguageModel, temperature: jax.Array, bias: jax.Array) -> sd.Phrase:
    """One unit: a name, the weather and where the narrator goes."""
    name = sd.Choice(lm, "My name is {}.", NAMES, scoring="uniform")
    name = sd.sample("name", name, exogenous=True)
    weather = sd.sample("weather", sd.Choice(lm, "The weather outside is {}.", WEATHER, scoring="uniform"))
    go = sd.Choice(lm, "I owe it to myself to go {}.", GO, given=[name, weather], temperature=temperature, bias=bias)
    return sd.sample("go", go)


def observe(seed: int, units: int) -> dict[str, jax.Array]:
    """What units of the town did."""
    rng = np.random.default_rng(seed)
    weather = rng.integers(len(WEATHER), size=units)
    run = rng.random(units) < np.array([TOWN[w] for w in WEATHER])[weather]
    values = {"name": rng.integers(len(NAMES), size=units), "weather": weather, "go": run.astype(int)}
    return {name: jnp.asarray(x) for name, x in values.items()}


def of_units(fn: Callable, data: dict[str, jax.Array], batch: int | None, *args: object) -> None:
    """The story of many units whose values are given; of a batch of them, drawn anew at each step."""
    with numpyro.plate("units", len(data["go"]), subsample_size=batch) as unit:
        numpyro.handlers.condition(fn, {name: x[unit] for name, x in data.items()})(*args)


def fit(model: Callable, steps: int, rate: float, *args: object) -> dict:
    """Maximum likelihood: there is nothing latent, so the guide is empty."""
    svi = SVI(model, lambda *args: None, optax.adam(rate), Trace_ELBO())
    return svi.run(jax.random.key(0), steps, *args, progress_bar=False).params


# As they are: a temperature and a bias that change nothing.
NEUTRAL = jnp.float32(1.0), jnp.zeros(len(GO))


def calibrated(lm: sd.LanguageModel, data: dict[str, jax.Array], steps: int) -> dict[str, tuple]:
    """The arguments of ``story`` that each way of calibration finds."""
    # Temperature and bias come after the language model, which can be asked beforehand, once.
    table = sd.tabulate(story, lm)

    def tempered(data: dict[str, jax.Array]) -> None:
        temperature = numpyro.param("temperature", 1.0, constraint=dist.constraints.positive)
        of_units(table, data, None, temperature, numpyro.param("bias", jnp.zeros(len(GO))))

    found = fit(tempered, 4 * steps, 0.05, data)
    arguments: dict[str, tuple] = {"temperature and bias": (lm, found["temperature"], found["bias"])}

    for name, adapter, rate in (
        ("soft prompt", sd.SoftPrompt(lm, 8), 0.1),
        ("low rank", sd.LowRank(lm, 2), 0.03),
    ):

        def adapted(lm: sd.LanguageModel, data: dict[str, jax.Array], adapter: object = adapter) -> None:
            of_units(story, data, 32, nnx_module("adapter", adapter)(lm), *NEUTRAL)

        found = fit(adapted, steps, rate, lm, data)
        arguments[name] = adapter.with_params(found["adapter$params"])(lm), *NEUTRAL
    return arguments


def effect(arguments: tuple) -> float:
    """P(run | do(sunny)) - P(run | do(snowy)), over the names."""
    worlds = [{"weather": "sunny"}, {"weather": "snowy"}]
    twins = sd.simulate(story, jax.random.key(0), 100, *arguments, worlds=worlds)
    run = np.exp(twins.log_probs["go"][:, 1:, GO.index("for a run outside")].astype(np.float64))
    return float((run[:, 0] - run[:, 1]).mean())


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", help="directory or hub id of a language model; default: the embedded one")
    parser.add_argument("--units", type=int, default=400)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args(argv)

    lm = sd.load_lm(options.lm)
    fitted = {"as it is": (lm, *NEUTRAL), **calibrated(lm, observe(0, options.units), options.steps)}
    held_out = observe(1, 400)

    @jax.jit
    def likelihood(*arguments: object) -> jax.Array:
        density = log_density(lambda *args: of_units(story, held_out, None, *args), arguments, {}, {})[0]
        return density / 400 + jnp.log(len(NAMES) * len(WEATHER))

    town = np.array([TOWN[w] for w in WEATHER])[held_out["weather"]]
    best = float(np.log(np.where(held_out["go"] == 1, town, 1 - town)).mean())
    truth = TOWN["sunny"] - TOWN["snowy"]
    found = {"log-likelihood": {}, "effect": {}}
    print("Where do they go? P(run outside | do(sunny)) - P(run outside | do(snowy))\n")
    print(f"{'':22} {'held-out log-likelihood':>24} {'effect':>8}")
    for name, arguments in fitted.items():
        found["log-likelihood"][name] = float(likelihood(*arguments))
        found["effect"][name] = effect(arguments)
        print(f"{name:22} {found['log-likelihood'][name]:24.3f} {found['effect'][name]:+8.3f}")
    found["log-likelihood"]["town"], found["effect"]["town"] = best, truth
    print(f"{'the town itself':22} {best:24.3f} {truth:+8.3f}")
    return found


if __name__ == "__main__":
    main()

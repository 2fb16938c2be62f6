"""What was the weather? A diary tells where a runner went and how it went, and never the weather.

    python examples/latent_sites.py

The weather of each day is a latent site of a language model, with two sentences that it explains.
Its sum over the kinds of weather is exact (funsor), and the language model is asked once, beforehand:
its table serves (1) NUTS for how much sunnier this place is than the language model believes, and
(2) the weather of each day given the diary.

Needs the extra funsor.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.contrib.funsor import config_enumerate, infer_discrete
from numpyro.infer import MCMC, NUTS

import sdscm_jax as sd

WEATHER = ["sunny", "rainy", "snowy", "cold", "hot"]
GO = ["to the gym", "for a run outside"]
TIME = ["improve", "worsen"]


def diary(lm: sd.LanguageModel, days: int, go: Any = None, time: Any = None) -> None:
    """The weather, what the runner did and what became of the training, on each of some days."""
    # How much more often it is sunny than the language model believes, in nats.
    sunnier = numpyro.sample("sunnier", dist.Normal(0.0, 2.0))
    bias = sunnier * (jnp.arange(len(WEATHER)) == WEATHER.index("sunny"))
    with numpyro.plate("days", days):
        weather = sd.sample("weather", sd.Choice(lm, "The weather outside is {}.", WEATHER, bias=bias))
        sd.sample("go", sd.Choice(lm, "I owe it to myself to go {}.", GO, given=[weather]), obs=go)
        sd.sample("time", sd.Choice(lm, "After this, my marathon time will {}.", TIME, given=[weather]), obs=time)


def by_bayes(table: sd.Tabulated, sunnier: float) -> np.ndarray:
    """P(weather | go, time), ``[2, 2, 5]``, from the tables and Bayes' rule."""

    def log_softmax(scores: Any) -> np.ndarray:
        scores = np.asarray(scores, np.float64)
        return scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)

    prior = log_softmax(table.scores("weather") + sunnier * (np.arange(len(WEATHER)) == WEATHER.index("sunny")))
    go, time = log_softmax(table.scores("go")), log_softmax(table.scores("time"))
    joint = prior + go.T[:, None] + time.T[None, :]
    return np.exp(joint - np.logaddexp.reduce(joint, axis=-1, keepdims=True))


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", help="directory or hub id of a language model; default: the embedded one")
    parser.add_argument("--days", type=int, default=300)
    parser.add_argument("--sunnier", type=float, default=2.0, help="of the place that the diary is from")
    parser.add_argument("--draws", type=int, default=500, help="of NUTS, and of the weather given the diary")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    days, keys = options.days, jax.random.split(jax.random.key(options.seed), 3)

    # The number of days is no part of what the language model is asked.
    lm = sd.load_lm(options.lm)
    table = sd.tabulate(diary, lm)
    truth = handlers.substitute(table, {"sunnier": jnp.float32(options.sunnier)})
    lived = handlers.trace(handlers.seed(truth, keys[0])).get_trace(days)
    weather, go, time = (np.asarray(lived[name]["value"]) for name in ("weather", "go", "time"))

    mcmc = MCMC(NUTS(config_enumerate(table)), num_warmup=200, num_samples=options.draws, progress_bar=False)
    mcmc.run(keys[1], days, go=go, time=time)
    sunnier = np.asarray(mcmc.get_samples()["sunnier"])
    print(f"{days} days of a diary. How much sunnier than the language model believes, in nats:")
    print(f"  {sunnier.mean():.2f} ± {sunnier.std():.2f} (in truth {options.sunnier:.2f})\n")

    # The weather of each day, given the diary and the mean of that.
    known = handlers.substitute(table, {"sunnier": jnp.float32(sunnier.mean())})
    known = config_enumerate(known)

    @jax.jit
    @jax.vmap
    def draw(key: jax.Array) -> jax.Array:
        inferred = infer_discrete(known, first_available_dim=-2, temperature=1, rng_key=key)
        trace = handlers.trace(handlers.seed(inferred, key)).get_trace(days, go=go, time=time)
        return trace["weather"]["value"]

    drawn = np.asarray(draw(jax.random.split(keys[2], options.draws)))
    exact = by_bayes(table, float(sunnier.mean()))
    found = np.full(exact.shape, np.nan)
    print("P(weather | the day's entries): as drawn, and by Bayes' rule")
    print(f"{'':40}" + "".join(f"{w:>16}" for w in WEATHER))
    for a, b in np.ndindex(2, 2):
        alike = (go == a) & (time == b)
        if alike.any():
            found[a, b] = [(drawn[:, alike] == w).mean() for w in range(len(WEATHER))]
            numbers = "".join(f"{x:9.3f} {y:6.3f}" for x, y in zip(found[a, b], exact[a, b], strict=True))
            print(f"{alike.sum():4} days {GO[a]:>18}, {TIME[b]:8}: {numbers}")
    right = float(exact[go, time, weather].mean())
    alone = float(np.asarray(jax.nn.softmax(table.scores("weather")))[weather].mean())
    print(f"\nThe true weather of a day has probability {right:.2f} on average; before the diary {alone:.2f}.")
    return {"sunnier": sunnier, "drawn": found, "exact": exact, "right": right, "alone": alone}


if __name__ == "__main__":
    main()

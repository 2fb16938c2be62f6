"""What a user's type checker sees of the package: mypy checks this file (``mypy``, a step of CI); it is not run."""

from pathlib import Path
from typing import assert_type

import jax
import pandas as pd

import sdscm_jax as sd
from sdscm_jax import effects


def clinic(lm: sd.LanguageModel) -> sd.Phrase:
    age = sd.sample("age", sd.Choice(lm, "She is {} years old.", ["25", "55"]), exogenous=True)
    assert_type(age, sd.Phrase)
    assert_type(age.map({"25": 0.0, "55": 1.0}), jax.Array)
    return sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[age, "She is ill."]))


lm = sd.load_lm()
assert_type(lm, sd.LanguageModel)
assert_type(sd.load_lm(Path("checkpoint"), chat=True), sd.LanguageModel)
worlds = sd.simulate(clinic, jax.random.key(0), 10, lm, worlds=[{"age": "25"}], evidence={"drug": "wait"})
assert_type(worlds, sd.Simulation)
assert_type(worlds.to_pandas(), pd.DataFrame)
assert_type(sd.graph(clinic, lm), sd.Graph)
assert_type(sd.plan(clinic, 10, lm), sd.Plan)
assert_type(sd.tabulate(clinic, lm), sd.Tabulated)
assert_type(sd.compare(clinic, 0, 10, {"a": lm, "b": lm}), sd.Comparison)
exact = effects.exact(clinic, lm)
average = effects.ate(exact, "age", "drug", "25", "55")
assert_type(average, effects.Effect)

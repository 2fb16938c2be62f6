"""A world is what it sets, whatever it is called; every column of a table has one name."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import sdscm_jax as sd
from sdscm_jax import effects
from sdscm_jax.handlers import nested
from sdscm_jax.testing import mock_lm

LEVELS = ["low", "low, b=go", "0"]


def model(lm: sd.LanguageModel) -> None:
    a = sd.sample("a", sd.Choice(lm, "It is {}.", LEVELS))
    sd.sample("b", sd.Choice(lm, "So {}.", ["stop", "go"], given=[a]))
    numpyro.sample("dose", dist.Normal(0.0, 1.0))


@pytest.fixture(scope="module")
def lm() -> sd.LanguageModel:
    return mock_lm(model)


@pytest.mark.slow
def test_worlds_with_one_text_are_two(lm: sd.LanguageModel) -> None:
    worlds = [{"a": "low, b=go"}, {"a": "low", "b": "go"}, {"a": "0"}, {"a": 0}, {"a": nested({"b": "go"})}]
    data = sd.simulate(model, 0, 3, lm, worlds=worlds)
    assert len(set(data.worlds)) == len(worlds) + 1
    assert data.worlds[1:4] == ('do(a="low, b=go")', "do(a=low, b=go)", "do(a=0)")
    assert data.interventions[1:5] == ({"a": "low, b=go"}, {"a": "low", "b": "go"}, {"a": "0"}, {"a": "low"})
    assert [data.values["a"][0, w] for w in range(1, 5)] == [1, 0, 2, 0]
    table = data.to_pandas(logp=False)
    assert not table.columns.has_duplicates
    assert table['a|do(a="low, b=go")'].tolist() == ["low, b=go"] * 3


@pytest.mark.parametrize(
    "worlds",
    [
        [{"a": "low"}, {"a": 0}],
        [{"a": 1}, {"a": True}],
        [{"a": np.int64(1)}, {"a": "low, b=go"}],
        [{"a": "low", "b": "go"}, {"b": 1, "a": 0}],
        [{"a": ["low"] * 3}, {"a": jnp.array(0)}],
        [{"dose": 2}, {"dose": 2.0}],
        [{"a": "uniform"}, {"a": "uniform"}],
        [{"dose": dist.Normal(0.0, 1.0)}, {"dose": dist.Normal(0.0, 1.0)}],
        [{"a": nested({"b": "go"})}, {"a": nested({"b": 1})}],
    ],
)
def test_one_world_is_listed_once(lm: sd.LanguageModel, worlds: list) -> None:
    with pytest.raises(sd.InterventionError, match="is listed twice"):
        sd.simulate(model, 0, 3, lm, worlds=worlds)


@pytest.mark.slow
def test_effects_know_a_world_by_what_it_sets() -> None:
    def two(lm: sd.LanguageModel) -> None:
        t = sd.sample("t", sd.Choice(lm, "Treat {}.", ["no", "yes"]))
        sd.sample("y", sd.Choice(lm, "Then {}.", ["die", "live"], given=[t]))

    lm = mock_lm(two)
    plain = sd.simulate(two, 0, 50, lm, worlds=[{"t": "no"}, {"t": "yes"}])
    for low, high in ((False, True), (np.int64(0), jnp.array(1)), ([0] * 50, ["yes"] * 50)):
        same = sd.simulate(two, 0, 50, lm, worlds=[{"t": low}, {"t": high}])
        expected, found = (effects.ate(data, "t", "y", "no", "yes").value for data in (plain, same))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        ("a", "a|do(a=low)", ["stop", "go"]),
        ("a", "logp(a=low)", ["stop", "go"]),
        ("x", "x=a", ["b", "c"]),
    ],
)
def test_columns_have_one_name(first: str, second: str, options: list[str]) -> None:
    def clash(lm: sd.LanguageModel) -> None:
        known = ["low", "high"] if first == "a" else ["a=b", "q"]
        a = sd.sample(first, sd.Choice(lm, "It is {}.", known))
        sd.sample(second, sd.Choice(lm, "So {}.", options, given=[a]))

    with pytest.raises(sd.SiteError, match="both have a column"):
        sd.simulate(clash, 0, 2, mock_lm(clash), worlds=[{first: 0 if first == "x" else "low"}])

"""Running a program for many units, and the tables that come out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

import sdscm_jax as sd
from sdscm_jax.engine import forward
from sdscm_jax.models.executable import executable


def model(lm: sd.LanguageModel, shift: float = 0.0) -> None:
    u = sd.sample("u", sd.Choice(lm, "It is {}.", ["sun", "rain"], temperature=9.0), exogenous=True)
    x = sd.sample("x", sd.Choice(lm, "Now {}.", ["low", "high"], given=[u], temperature=9.0))
    z = numpyro.sample("z", dist.Normal(x.map({"low": 0.0, "high": 2.0}) + shift, 1.0).expand([2]).to_event(1))
    sd.sample("y", sd.Choice(lm, "Then {}.", ["a", "b"], given=[u, x], temperature=jnp.exp(z[0]) + 5.0))


@pytest.fixture(scope="module")
def result(lm: sd.LanguageModel) -> sd.Simulation:
    return sd.simulate(model, 0, 30, lm, worlds=[{"x": "low"}, {"x": "high"}], chunk=16)


def test_table(result: sd.Simulation) -> None:
    table = result.to_pandas()
    assert len(result) == len(table) == 30
    assert table.columns[:5].tolist() == ["u", "x", "z[0]", "z[1]", "y"]
    for name in ("y", "y|do(x=low)", "y|do(x=high)"):
        assert table[name].cat.ordered
        assert table[name].cat.categories.tolist() == ["a", "b"]
    assert (table["x|do(x=high)"] == "high").all()
    for suffix in ("", "|do(x=low)", "|do(x=high)"):
        total = np.exp(table[f"logp(y=a){suffix}"]) + np.exp(table[f"logp(y=b){suffix}"])
        assert np.asarray(total) == pytest.approx(1.0, abs=1e-4)
    # Numbers follow the world: z is shifted by the intervention, with the unit's own noise.
    chex.assert_trees_all_close(
        np.asarray(table["z[1]|do(x=high)"] - table["z[1]|do(x=low)"]), np.full(30, 2.0, np.float32), atol=1e-4
    )
    assert result.to_pandas(logp=False).shape[1] == 15
    assert next(c for c in result.to_pandas(logp=["y"]) if c.startswith("logp")) == "logp(y=a)"
    with pytest.raises(sd.SiteError, match="unknown site with kept log-probabilities 'z'"):
        result.to_pandas(logp=["z"])


def test_parquet(result: sd.Simulation, tmp_path: Path) -> None:
    result.to_parquet(tmp_path / "data.parquet")
    back = pd.read_parquet(tmp_path / "data.parquet")
    pd.testing.assert_frame_equal(back, result.to_pandas())


def test_text(result: sd.Simulation) -> None:
    table = result.to_pandas(logp=False)
    row = table.iloc[3]
    assert result.text(3) == f"It is {row['u']}. Now {row['x']}. Then {row['y']}."
    assert result.text(3, "do(x=high)") == f"It is {row['u']}. Now high. Then {row['y|do(x=high)']}."
    assert result.text(3, 2) == result.text(3, "do(x=high)")
    with pytest.raises(sd.SiteError, match=r"unknown world 'do\(x=hihg\)'; did you mean 'do\(x=high\)'"):
        result.text(3, "do(x=hihg)")
    with pytest.raises(sd.SiteError, match="an integer from -3 to 2, got 3"):
        result.text(3, 3)


def test_propensity_and_outcome_probabilities(result: sd.Simulation, lm: sd.LanguageModel) -> None:
    table = result.to_pandas()
    chosen = sd.Choice(lm, "It is {}.", ["sun", "rain"])
    for i in (0, 5):
        u = chosen.phrase(jnp.asarray(result.values["u"][i, 0]))
        logits = sd.Choice(lm, "Now {}.", ["low", "high"], given=[u], temperature=9.0).logits
        assert table["logp(x=high)"][i] == pytest.approx(float(logits[1]), abs=5e-4)


def test_interventional_data(lm: sd.LanguageModel) -> None:
    result = sd.simulate(model, 0, 30, lm, do={"x": "high"})
    assert result.worlds == ("",)
    assert (result.to_pandas()["x"] == "high").all()
    assert "logp(x=low)" not in result.to_pandas()
    assert result.graph["x"].kind == "intervened"


def test_other_worlds_change_nothing(result: sd.Simulation, lm: sd.LanguageModel) -> None:
    alone = sd.simulate(model, jax.random.key(0), 30, lm, logp=["y"], chunk=16)
    for name, values in alone.values.items():
        if name == "z":  # a number, computed by another program: equal to rounding
            chex.assert_trees_all_close(values[:, 0], result.values[name][:, 0], atol=1e-4)
        else:
            chex.assert_trees_all_equal(values[:, 0], result.values[name][:, 0])
    assert list(alone.log_probs) == ["y"]


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["staged", "in_graph"])
def test_a_second_run_is_not_compiled_again(lm: sd.LanguageModel, execution: str) -> None:
    def compiled() -> int:
        return sum(cache.cache_info().misses for cache in (forward._compiled, executable))

    sd.simulate(model, 1, 8, lm, 0.5, worlds=[{"x": "low"}], execution=execution)
    before = compiled()
    again = sd.simulate(model, 2, 8, lm, 0.25, worlds=[{"x": "high"}], execution=execution)
    assert compiled() == before
    assert again.worlds == ("", "do(x=high)")


@pytest.mark.slow
def test_the_same_in_other_words_is_not_compiled_again(lm: sd.LanguageModel) -> None:
    def told(first: str, second: str, scoring: str) -> Callable:
        def model(lm: sd.LanguageModel) -> None:
            x = sd.sample("x", sd.Choice(lm, first, ["low", "high"], scoring=scoring))
            sd.sample("y", sd.Choice(lm, second, ["a", "b", "c"], given=[x], scoring=scoring))

        return model

    worlds = [{"x": "high"}]
    sd.simulate(told("Now {}.", "Then {}.", "sequence"), 1, 24, lm, worlds=worlds, execution="staged")
    before = executable.cache_info().misses
    for words in (("It was {} at first.", "So they took {}.", "sequence"), ("{}", "Then {}, and no more.", "masked")):
        staged, in_graph = (
            sd.simulate(told(*words), 1, 24, lm, worlds=worlds, execution=how) for how in ("staged", "in_graph")
        )
        chex.assert_trees_all_equal(staged.values, in_graph.values)
        chex.assert_trees_all_close(staged.log_probs, in_graph.log_probs, atol=5e-4)
    assert executable.cache_info().misses == before + 2
    sd.simulate(told("Now {}.", "Then {}.", "sequence"), 1, 24, lm, worlds=[{"y": "a"}], execution="staged")
    assert executable.cache_info().misses == before + 3


@pytest.mark.slow
def test_arguments(lm: sd.LanguageModel) -> None:
    shifted = sd.simulate(model, 0, 8, lm, 10.0)
    plain = sd.simulate(model, 0, 8, lm)
    chex.assert_trees_all_close(shifted.values["z"], plain.values["z"] + 10, atol=1e-4)
    with pytest.raises(sd.SDSCMError, match=r"functools\.partial"):
        sd.simulate(model, 0, 8, lm, "text")


def test_contrast(result: sd.Simulation, tmp_path: Path) -> None:
    found = sd.contrast(result, "x", "y", "low", "high")
    table = result.to_pandas()
    effect = np.exp(table["logp(y=a)|do(x=high)"]) - np.exp(table["logp(y=a)|do(x=low)"])
    assert found.average[0] == pytest.approx(effect.mean(), abs=1e-5)
    naive = (table.y[table.x == "high"] == "a").mean() - (table.y[table.x == "low"] == "a").mean()
    assert found.naive[0] == pytest.approx(naive)
    assert found.changed == (table["y|do(x=low)"] != table["y|do(x=high)"]).mean()
    sd.plot_contrast(found, tmp_path / "effects.png")
    assert (tmp_path / "effects.png").stat().st_size > 10_000
    drawn = tmp_path / "effects.svg"
    sd.plot_contrast(found, drawn)
    first = drawn.read_bytes()
    sd.plot_contrast(found, drawn)
    assert drawn.read_bytes() == first
    assert b"dc:date" not in first
    with pytest.raises(sd.SiteError, match="no log-probabilities of site 'z'"):
        sd.contrast(result, "z", "y", "low", "high")

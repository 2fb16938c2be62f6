"""Units that estimators do not learn from, and a budget of tuning that is the same for all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sdscm_jax as sd
from sdscm_jax.bench.dataset import Dataset
from sdscm_jax.bench.estimating import Settings, _fitted, scored
from sdscm_jax.bench.evaluation import evaluate
from sdscm_jax.bench.held_out import HeldOut, splits
from sdscm_jax.bench.tuning import candidates, chosen

from ..needs import needs

KEY = jax.random.key(0)


@settings(max_examples=30, deadline=None)
@given(st.integers(6, 60), st.integers(6, 60), st.integers(0, 9), st.sampled_from([(0.25, 1), (0.0, 2), (0.0, 5)]))
def test_each_unit_is_on_one_side_and_both_arms_are_divided_alike(
    controls: int, treated: int, seed: int, how: tuple[float, int]
) -> None:
    t = np.random.default_rng(seed).permutation(np.repeat([0, 1], [controls, treated]))
    held = HeldOut(*how)
    found = splits(held, t, "a", seed)
    assert len(found) == held.cross_fit
    for learned, judged in found:
        assert sorted([*learned, *judged]) == list(range(len(t)))
        for arm, there in ((0, controls), (1, treated)):
            assert abs((t[judged] == arm).sum() - there * (held.test_share or 1 / held.cross_fit)) <= 1
    if held.cross_fit > 1:
        assert sorted(np.concatenate([judged for _, judged in found])) == list(range(len(t)))
    again, other = splits(held, t, "a", seed), splits(held, t, "b", seed)
    np.testing.assert_array_equal(found[0][1], again[0][1])
    assert len(t) < 30 or not np.array_equal(found[0][1], other[0][1])


def units(seed: int = 0, n: int = 300, noise: float = 1.0) -> Dataset:
    """Effects 1 + w; expected effects are individual ones."""
    rng = np.random.default_rng(seed)
    w, t = rng.integers(0, 3, n), rng.integers(0, 2, n)
    effect, base = 1.0 + w, w + noise * rng.normal(size=n)
    outcomes = np.stack([base, base + effect], axis=1)
    table = pd.DataFrame({"w": pd.Categorical.from_codes(w, ["a", "b", "c"])})
    return Dataset(
        "d", "0", table, (), t, outcomes[np.arange(n), t], outcomes, effect, np.full(n, 0.5), np.arange(n) + 7
    )


def run(name: str, data: Dataset, how: HeldOut, **more: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    asked = Settings(held_out=how, **more)
    table = _fitted(name, KEY, data.encoded("all"), data.texts(), data, asked)
    return table, scored(data, table, (name, "all"), asked.level)


@pytest.mark.parametrize("how", [HeldOut(), HeldOut(test_share=0.3), HeldOut(cross_fit=4)])
def test_what_is_judged_was_not_learned_from(how: HeldOut) -> None:
    """An estimator that remembers its units is exact on them, and at a loss about others."""
    data = units()
    table, row = run("tests.bench.mine:Rote", data, how)
    pairs = splits(how, data.t, data.name, 0)
    judged = np.sort(np.concatenate([places for _, places in pairs]))
    np.testing.assert_array_equal(table["unit"], data.unit[judged])
    np.testing.assert_array_equal(table["ite"], data.ite[judged])
    assert (table["effect"] == 99).all() == how.some
    learned = pairs[0][0] if how.test_share else judged
    assert row["ate_true"] == pytest.approx(data.ite[learned].mean())
    truth = data.ite[judged]
    expected = np.sqrt(np.mean((table["effect"].to_numpy() - truth) ** 2))
    assert pd.isna(row["failure"])
    assert row["pehe"] == pytest.approx(expected)
    assert row["sd_ite"] == pytest.approx(truth.std())


@pytest.mark.parametrize("how", [HeldOut(test_share=0.3), HeldOut(cross_fit=4)])
def test_oracles_know_held_out_units_and_regressions_predict_them(how: HeldOut) -> None:
    data = units()
    for oracle in ("oracle_ite", "oracle_cate"):
        _, row = run(oracle, data, how)
        assert (row["pehe"], row["cate_rmse"]) == pytest.approx((0, 0), abs=1e-9)
        assert row["ate"] == pytest.approx(row["ate_true"])
    _, line = run("linear_t", data, how)
    assert 0 < line["pehe"] < 0.5
    assert line["cate_coverage"] > 0.6
    assert np.isnan(line["ate_lower"]) == (how.cross_fit > 1)
    _, constant = run("constant", data, how)
    assert constant["beats_constant"] == 0
    assert constant["pehe_sd_ite"] == pytest.approx(1, abs=0.05)


def test_a_method_is_flattered_by_units_that_it_has_seen() -> None:
    """Why units are held out: a forest's effect of a unit it has seen has that unit's own noise in it."""
    needs("sklearn")
    errors = []
    for seed in range(1):
        data = units(seed, n=120, noise=2.0)
        rng = np.random.default_rng(seed)
        wide = data.covariates.assign(**{f"v{i}": pd.Categorical(rng.choice(list("abcd"), 120)) for i in range(6)})
        own = replace(data, covariates=wide, outcomes=data.outcomes + np.outer(rng.normal(size=120), [0, 3]))
        own = replace(own, y=own.outcomes[np.arange(120), own.t])
        errors.append([run("forest_t", own, how)[1]["pehe"] for how in (HeldOut(), HeldOut(cross_fit=5))])
    seen, others = np.mean(errors, axis=0)
    assert others > 1.1 * seen


@pytest.mark.slow
def test_an_evaluation_says_what_was_held_out_and_is_another_one(benchmark: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    how: dict[str, Any] = {"estimators": "difference_in_means", "covariates": "all", "progress": False}
    found = evaluate(benchmark, out, test_share=0.5, **how)
    assert found.scores["failure"].isna().all()
    held = pd.read_parquet(out / "estimates" / "difference_in_means.all")
    assert held.groupby("dataset", observed=True).size().between(29, 31).all()
    card = json.loads((out / "card.json").read_text())
    assert card["units that estimators are judged on"].startswith("50% of either arm, held out")
    assert card["tuning budget"] == "none: every estimator at its defaults"
    for other, said in (
        ({}, "test_share"),
        ({"cross_fit": 3}, "cross_fit"),
        ({"test_share": 0.5, "budget": 2}, "budget"),
    ):
        with pytest.raises(sd.errors.ResumeError, match=said):
            evaluate(benchmark, out, **other, **how)
    again = evaluate(benchmark, out, test_share=0.5, **how)
    pd.testing.assert_frame_equal(again.scores, found.scores)
    with pytest.raises(sd.errors.DataError, match="where units are held out"):
        evaluate(benchmark, out, test_share=0.5, estimates=["mine.csv"], **how)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test_share": 20}, "test_share is a number between 0 and 1, got 20; did you mean 0.2?"),
        ({"test_share": "half"}, "test_share is a number between 0 and 1, got 'half'"),
        ({"cross_fit": 0}, "cross_fit is"),
        ({"test_share": 0.5, "cross_fit": 2}, "two ways to hold units out"),
        ({"cross_fit": 1000}, "cannot be divided"),
        ({"budget": 0}, "budget is"),
    ],
)
def test_bad_arguments(benchmark: Path, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(sd.errors.SDSCMError, match=message):
        evaluate(benchmark, tmp_path / "out", estimators="zero", progress=False, **arguments)


# Tuning


def test_a_budget_is_a_number_of_configurations() -> None:
    from .mine import Shrunk

    assert [c.by for c in candidates(Shrunk, 1)] == [1.0]
    assert [c.by for c in candidates(Shrunk, 2)] == [1.0, 0.0]
    assert [c.by for c in candidates(Shrunk, 99)] == [1.0, 0.0, 0.5, 2.0]
    from sdscm_jax.bench.estimators.boosted import XLearner

    assert len(candidates(XLearner, 4)) == 4
    assert len({(c.trees, c.depth, c.rate) for c in candidates(XLearner, 99)}) == 8


def test_the_least_r_loss_is_that_of_the_true_effects() -> None:
    """Among effects that are 0, half, once and twice the estimate, where none, and where all of it, is true."""
    from .mine import Shrunk

    needs("sklearn")
    data = units(n=600)
    x = data.encoded("all")
    assert candidates(Shrunk, 4)[chosen(candidates(Shrunk, 4), KEY, x, data.t, data.y)].by == 1.0
    # The same outcomes with the arms' labels drawn anew: no effect is left.
    drawn = np.random.default_rng(0).permutation(data.t)
    assert candidates(Shrunk, 4)[chosen(candidates(Shrunk, 4), KEY, x, drawn, data.y)].by == 0.0


def test_a_budget_is_spent_on_the_units_that_are_learned_from() -> None:
    needs("sklearn")
    data = units(n=300)
    for budget, tried in ((1, 1), (3, 3), (9, 4)):
        _, row = run("tests.bench.mine:Shrunk", data, HeldOut(test_share=0.3), budget=budget)
        assert row["tried"] == tried
        assert row["pehe"] < 0.5
    _, row = run("linear_t", data, HeldOut(), budget=9)
    assert row["tried"] == 1, "it has nothing to tune"

"""Law: in every column, for every shipped family and outcome, nothing is better than the better of two oracles."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sdscm_jax.bench.estimating import BenchmarkSource, Settings, estimated, scored
from sdscm_jax.bench.estimators.registry import chosen, described
from sdscm_jax.bench.generation import generate
from sdscm_jax.bench.leaderboard import COLUMNS, leaderboard
from sdscm_jax.families import FAMILIES, family

ORACLES = ("oracle_ite", "oracle_cate")
RIVALS = "difference_in_means,linear_regression,tests.bench.mine:Noise,tests.bench.mine:Learner"
# What tells how much was computed, or how sure a figure is: nothing to be best in.
NO_QUALITY = re.compile("estimator|covariates|datasets|failures|seconds|floor|effective|_(lower|upper)$")
MORE = re.compile("r2|correlation|auuc|qini|beats|coverage")


def loss(column: str, values: pd.Series) -> np.ndarray:
    """The less the better; what is not known is worst. Of coverages the law says that no interval covers more."""
    numbers = values.to_numpy(float)
    found = np.abs(numbers) if "bias" in column else -numbers if MORE.search(column) else numbers
    return np.where(np.isnan(found), np.inf, found)


def check(benchmark: Path, outcome: str) -> None:
    source, settings = BenchmarkSource(str(benchmark), outcome), Settings()
    opened = source.open()
    cells = [(name, "all") for name in chosen(RIVALS)]
    identities = {name: json.dumps(described(name)) for name, _ in cells}
    rows = []
    for i in range(len(opened)):
        tables = estimated(source, opened.names, i, cells, settings, identities)
        data = opened.dataset(i)
        rows += [scored(data, tables[cell].to_pandas(), cell, settings.level) for cell in cells]
    board = leaderboard(pd.DataFrame(rows))
    failed = board.set_index("estimator")["failures"]
    known = np.isfinite(opened.dataset(0).cate).all()
    assert (failed[failed > 0].index == ([] if known else ["oracle_cate"])).all(), "an unknown truth is no oracle"
    is_oracle = board["estimator"].isin(ORACLES).to_numpy()
    judged = [column for column in COLUMNS if not NO_QUALITY.search(column)]
    assert len(judged) > 25
    if not known:  # a width needs no truth, and has no oracle
        judged = [column for column in judged if not column.startswith("cate_")]
    for column in judged:
        losses = loss(column, board[column])
        if np.isfinite(losses).any():
            best = losses[is_oracle].min()
            assert best <= losses.min() + 1e-6 * max(1, abs(losses.min())), (column, board[["estimator", column]])
    if known:
        found = board.set_index("estimator")
        np.testing.assert_allclose(found.loc["oracle_cate", "pehe_sd_y"], found["pehe_floor_sd_y"], rtol=1e-9)
        assert found.loc["oracle_cate", ["cate_rmse", "regret"]].eq(0).all()
    assert (board.set_index("estimator").loc["oracle_ite", ["pehe", "ate_rmse"]] == 0).all()


@pytest.mark.parametrize("outcome", ["probability", "logp", "drawn"])
def test_an_oracle_is_best_with_mediators(benchmark: Path, outcome: str) -> None:
    check(benchmark, outcome)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_an_oracle_is_best_in_every_shipped_family(tmp_path: Path, name: str) -> None:
    made = generate(family(name), tmp_path / "data", datasets=2, units=80, progress=False)
    for outcome in ("probability", "logp", "drawn"):
        check(made, outcome)

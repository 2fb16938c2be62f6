"""Evaluation: truth scores as truth, noise does not, and one crash is one row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import sdscm_jax as sd
from sdscm_jax.bench import estimating
from sdscm_jax.bench.evaluation import Evaluation, evaluate
from sdscm_jax.bench.opening import open_benchmark
from sdscm_jax.cli import app
from sdscm_jax.errors import ResumeError

from .conftest import UNITS
from .mine import Shrunk

NAMES = "linear_regression,tests.bench.mine:Noise,tests.bench.mine:Crash"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def result(benchmark: Path, out: Path) -> Evaluation:
    return evaluate(benchmark, out, estimators=NAMES, progress=False)


def row(result: Evaluation, name: str, setting: str = "all") -> pd.Series:
    board = result.leaderboard
    return board[(board["estimator"] == name) & (board["covariates"] == setting)].iloc[0]


@pytest.mark.slow
def test_truth_and_noise(result: Evaluation) -> None:
    assert len(result.scores) == 3 * 2 * 7
    for setting in ("all", "observed"):
        oracle, noise = row(result, "oracle_ite", setting), row(result, "tests.bench.mine:Noise", setting)
        assert (oracle["pehe"], oracle["ite_coverage"], oracle["ate_rmse"]) == (0, 1, 0)
        assert noise["pehe_sd_y"] > 0.5
        assert noise["cate_coverage"] < 0.1
        constant = row(result, "constant", setting)
        np.testing.assert_allclose(constant["pehe_sd_ite"], 1)
        assert row(result, "zero", setting)["pehe"] >= constant["pehe"]


@pytest.mark.slow
def test_the_truth_is_shown_to_oracles_alone(benchmark: Path, tmp_path: Path) -> None:
    """Whatever the methods of another class are called."""
    found = evaluate(
        benchmark, tmp_path, estimators="tests.bench.mine:Noise,tests.bench.mine:Peek", covariates="all", progress=False
    )
    peeking, noise = (row(found, f"tests.bench.mine:{name}") for name in ("Peek", "Noise"))
    assert peeking["pehe"] == noise["pehe"] > 0


def test_a_crash_is_one_row(result: Evaluation) -> None:
    crashed = result.scores[result.scores["estimator"] == "tests.bench.mine:Crash"]
    hidden = crashed["covariates"] == "observed"
    # Without the season two columns are left: age, one-hot but for its first option.
    assert crashed.loc[hidden, "failure"].tolist() == ["ZeroDivisionError: of all things"] * 3
    assert crashed.loc[hidden, "pehe"].isna().all()
    assert crashed.loc[~hidden, "failure"].isna().all()
    assert row(result, "tests.bench.mine:Crash", "observed")["failures"] == 3


def test_what_is_written(result: Evaluation, out: Path) -> None:
    board = pd.read_csv(out / "leaderboard.csv")
    assert {"estimator", "covariates", "ate_r2", "ate_rmse", "pehe_sd_y"} <= set(board.columns)
    assert len(board) == 14
    units = pd.read_parquet(out / "estimates" / "linear_regression.all")
    assert len(units) == 3 * UNITS
    # What is scored is what is written.
    one = units[units["dataset"] == "00001"]
    found = result.scores.query("dataset == '00001' and estimator == 'linear_regression' and covariates == 'all'")
    np.testing.assert_allclose(found["pehe"], np.sqrt(((one["effect"] - one["ite"]) ** 2).mean()))
    page = (out / "report.html").read_text()
    assert "linear_regression" in page
    assert "00001" in page


@pytest.mark.slow
def test_more_estimators_and_a_killed_run_compute_what_is_missing(
    result: Evaluation, benchmark: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / "estimates" / "linear_regression.all" / "part-00002.parquet").unlink()
    fitted: list[str] = []
    made = estimating._fitted

    def noted(name: str, *rest: Any) -> dict[str, Any]:
        fitted.append(name)
        return made(name, *rest)

    monkeypatch.setattr(estimating, "_fitted", noted)
    again = evaluate(benchmark, copy, estimators=f"{NAMES},linear_t", covariates=["all"], progress=False)
    assert sorted(fitted) == ["linear_regression", "linear_t", "linear_t", "linear_t"]
    before = result.scores.query("covariates == 'all'").drop(columns=["seconds", "failure"])
    after = again.scores.query("estimator != 'linear_t'").drop(columns=["seconds", "failure"])
    order = ["estimator", "dataset"]
    pd.testing.assert_frame_equal(
        before.sort_values(order).reset_index(drop=True), after.sort_values(order).reset_index(drop=True)
    )
    with pytest.raises(sd.errors.ResumeError, match="encoding: 'onehot' there, 'integer' here"):
        evaluate(benchmark, copy, estimators="linear_t", covariates=["all"], encoding="integer", progress=False)


def test_estimates_made_elsewhere(benchmark: Path, tmp_path: Path) -> None:
    tables = [open_benchmark(benchmark).dataset(i) for i in range(3)]
    rows = [
        pd.DataFrame(
            {"dataset": data.name, "unit": data.unit, "effect": data.ite, "lower": data.ite, "upper": data.ite}
        )
        for data in tables
    ]
    pd.concat(rows).to_csv(tmp_path / "perfect.csv", index=False)
    found = evaluate(
        benchmark,
        tmp_path / "out",
        estimators="zero",
        covariates=["all"],
        limit=2,  # the rows of the third are passed over
        estimates=[tmp_path / "perfect.csv"],
        intervals_of="ite",
        progress=False,
    )
    assert row(found, "perfect")["pehe"] < 1e-12
    assert row(found, "perfect")["ite_coverage"] == 1
    assert row(found, "perfect")["datasets"] == 2
    pd.concat(rows).assign(estimator="zero").to_csv(tmp_path / "taken.csv", index=False)
    with pytest.raises(sd.errors.DataError, match="'zero' is evaluated itself"):
        evaluate(benchmark, tmp_path / "out", estimators="zero", estimates=[tmp_path / "taken.csv"], progress=False)


def test_outcomes(benchmark: Path) -> None:
    drawn, chance = open_benchmark(benchmark, "drawn").dataset(0), open_benchmark(benchmark).dataset(0)
    raw = open_benchmark(benchmark, "logp", option="high").dataset(0)
    assert set(np.unique(drawn.ite)) <= {-1.0, 0.0, 1.0}
    assert (drawn.y == drawn.outcomes[np.arange(UNITS), drawn.t]).all()
    # Both are of the same law; what is expected of them is the same.
    np.testing.assert_array_equal(drawn.cate, chance.cate)
    np.testing.assert_allclose(1 - np.exp(raw.outcomes), chance.outcomes, atol=1e-5)
    # With mediators an expected log-probability is not among what is known.
    assert np.isnan(raw.cate).all()


def test_a_bad_data_set_loses_no_other(benchmark: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(benchmark, copy)
    path = copy / "data" / "part-00000.parquet"
    table = pd.read_parquet(path)
    table[table["dose"] == "low"].to_parquet(path)
    (copy / "data" / ".part-00000.sha256").unlink()
    (copy / "data" / "part-00002.parquet").unlink()
    found = evaluate(copy, tmp_path / "out", estimators="zero", covariates=["all"], progress=False)
    assert list(found.unusable) == ["00000"]
    assert "have treatment 0; both arms are needed" in found.unusable["00000"]
    assert set(found.scores["dataset"]) == {"00001"}
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["data sets there"] == "2 of 3"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.drop(columns="propensity"), "column 'propensity' is missing"),
        (lambda t: t.assign(propensity=np.nan), "propensity: 60 values are not finite"),
        (lambda t: t.assign(**{c: 0.5 for c in t if c.startswith("logp(run=low)")}), "the outcome is .* every unit"),
        (lambda t: t.assign(age=None), "covariates .'age'. have missing values"),
    ],
)
def test_damaged_tables(benchmark: Path, tmp_path: Path, damage: Any, message: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(benchmark, copy)
    path = copy / "data" / "part-00001.parquet"
    damage(pd.read_parquet(path)).to_parquet(path)
    (copy / "data" / ".part-00001.sha256").unlink()
    with pytest.raises(sd.errors.DataError, match=f"part-00001|data set 00001.*{message}|{message}") as raised:
        open_benchmark(copy).dataset(1)
    assert "00001" in str(raised.value)


def test_bad_arguments(benchmark: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ({"estimators": "barrt"}, "did you mean 'bart'"),
        ({"covariates": ["some"]}, "unknown setting of covariates"),
        ({"encoding": "hot"}, "unknown encoding"),
        ({"outcome": "chance"}, "unknown outcome"),
        ({"option": "lo"}, "did you mean 'low'"),
        ({"hidden": ["dose"]}, "'dose' is no covariate"),
    ):
        with pytest.raises(sd.errors.SDSCMError, match=message):
            evaluate(benchmark, tmp_path / "out", **({"estimators": "zero", "progress": False} | arguments))
    with pytest.raises(sd.errors.DataError, match="is no benchmark"):
        evaluate(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_command(benchmark: Path, tmp_path: Path) -> None:
    arguments = [
        "evaluate",
        str(benchmark),
        "--out",
        str(tmp_path),
        "--estimators",
        "linear_t",
        "--encoding",
        "integer",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "linear_t  " in result.output
    assert (tmp_path / "report.html").exists()
    assert pd.read_csv(tmp_path / "leaderboard.csv")["failures"].eq(0).all()


def test_no_file_of_a_benchmark_is_copied_into_the_report(benchmark: Path, tmp_path: Path) -> None:
    """The graph is drawn from the family on the card; a picture beside it, which may run a script, is not looked at."""
    copy = tmp_path / "there"
    shutil.copytree(benchmark, copy)
    (copy / "dag.svg").write_text('<svg><image/href="#"/onerror="PWNED()"/></svg>')
    evaluate(copy, tmp_path / "out", estimators="zero", covariates=["all"], limit=1, progress=False)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "PWNED" not in page
    assert page.count('aria-label="Causal graph.') == 1
    card = json.loads((copy / "card.json").read_text(encoding="utf-8"))
    (copy / "family.json").write_text(json.dumps(card["family"]))
    (copy / "card.json").write_text(json.dumps(card | {"family": str(copy / "family.json")}))
    with pytest.raises(sd.errors.DataError, match=r"card.json is damaged"):
        evaluate(copy, tmp_path / "other", estimators="zero", progress=False)


def test_an_outcome_whose_expected_effects_are_not_known(benchmark: Path, tmp_path: Path) -> None:
    found = evaluate(
        benchmark,
        tmp_path,
        estimators="linear_t",
        covariates=["all"],
        outcome="logp",
        encoding="integer",
        limit=1,
        progress=False,
    )
    mine = row(found, "linear_t")
    assert mine[["cate_coverage", "cate_score", "cate_r2", "regret", "rank_correlation"]].isna().all()
    assert np.isfinite(mine[["pehe", "ate_rmse", "cate_width"]].astype(float)).all()
    assert "what they should contain is not known" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_estimators_that_are_made(benchmark: Path, tmp_path: Path) -> None:
    """They are scored as their class is, and kept by what they hold."""

    def board(estimators: Any) -> pd.DataFrame:
        return evaluate(
            benchmark, tmp_path, estimators=estimators, covariates=["all"], limit=1, progress=False
        ).leaderboard.set_index("estimator")

    found = board({"whole": Shrunk(), "half": Shrunk(0.5), "named": "tests.bench.mine:Shrunk"})
    assert found.loc["whole", "pehe"] == found.loc["named", "pehe"] != found.loc["half", "pehe"]
    with pytest.raises(ResumeError, match="parameters"):
        board({"half": Shrunk(2.0)})

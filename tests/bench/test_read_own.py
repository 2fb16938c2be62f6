"""Tables as people have them: any names, what is wrong is named, and a bad file is left out and said to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from sdscm_jax.bench import Columns, evaluate, open_benchmark
from sdscm_jax.bench.estimators import extra
from sdscm_jax.cli import app, bench_commands
from sdscm_jax.errors import DataError

N = 200
TRIAL = Columns("treated", "wage", ["age", "town"], arms=["no", "yes"])


def trial(seed: int = 0, effect: float = 2.0) -> pd.DataFrame:
    """Workers with an age and a town, half of them trained; training adds ``effect``, in town b twice that."""
    rng = np.random.default_rng(seed)
    age, town = rng.integers(20, 60, N), rng.choice(["a", "b", "c"], N)
    treated = rng.random(N) < 1 / (1 + np.exp(-(age - 40) / 10))
    gain = np.where(town == "b", 2 * effect, effect)
    wage = 0.1 * age + treated * gain + rng.normal(0, 0.5, N)
    return pd.DataFrame(
        {"age": age, "town": town, "treated": np.where(treated, "yes", "no"), "wage": wage, "gain": gain}
    )


def changed(column: str, value: Any, row: int = 3) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object})
        frame.loc[row, column] = value
        return frame

    return change


def test_a_table_with_any_names(tmp_path: Path) -> None:
    frame = trial()
    frame.to_csv(tmp_path / "mine.csv")
    data = open_benchmark(tmp_path / "mine.csv", columns=TRIAL).dataset(0)
    np.testing.assert_array_equal(data.t, frame["treated"] == "yes")
    np.testing.assert_array_equal(data.y, frame["wage"])
    # A number stays one; a text is as many columns as it has options, but for the first.
    for encoding in ("onehot", "integer"):
        x = data.encoded("all", encoding)
        np.testing.assert_array_equal(x[:, 0], frame["age"])
        options = (
            [frame["town"] == "b", frame["town"] == "c"]
            if encoding == "onehot"
            else [data.covariates["town"].cat.codes]
        )
        np.testing.assert_array_equal(x[:, 1:], np.stack(options, 1))
    assert not data.known
    assert data.wording is None
    # Effects that are known: both potential outcomes follow.
    known = Columns("treated", "wage", arms=("no", "yes"), effect="gain")
    data = open_benchmark(tmp_path / "mine.csv", columns=known, hidden=("age",)).dataset(0)
    assert list(data.covariates) == ["age", "town"]
    assert data.visible("observed") == ["town"]
    np.testing.assert_allclose(data.ite, frame["gain"])
    np.testing.assert_allclose(data.outcomes[np.arange(N), data.t], data.y)
    # The same from Parquet.
    frame.to_parquet(tmp_path / "mine.parquet")
    other = open_benchmark(tmp_path / "mine.parquet", columns=known, hidden=("age",)).dataset(0)
    assert other.digest == data.digest


WRONG: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], Columns, str]] = {
    "a number is missing": (changed("age", np.nan), TRIAL, "row 4, column 'age': is missing"),
    "a text is missing": (changed("town", np.nan), TRIAL, "row 4, column 'town': is missing"),
    "a text among numbers": (changed("age", "forty"), TRIAL, "row 4, column 'age': 'forty' is not a number"),
    "no outcome": (changed("wage", "n/a?"), TRIAL, "row 4, column 'wage': 'n/a.' is not a number"),
    "too large": (changed("wage", 1e300), TRIAL, r"row 4, column 'wage': '1e\+300' is not a number between"),
    "another arm": (changed("treated", "maybe"), TRIAL, "row 4, column 'treated': 'maybe' is no treatment: 'no'"),
    "no arm": (changed("treated", np.nan), TRIAL, "row 4, column 'treated': is missing"),
    "yes and no": (
        lambda x: x,
        Columns("treated", "wage", ["age"]),
        "'(yes|no)' is no treatment: 0 or 1 .or say.*--arms",
    ),
    "one and two": (
        lambda x: x.assign(treated=(x["treated"] == "yes") + 1),
        Columns("treated", "wage", ["age"]),
        "column 'treated': '2' is no treatment: 0 or 1",
    ),
    "names": (
        lambda x: x.assign(town=[f"town {i}" for i in range(N)]),
        TRIAL,
        "column 'town' has 200 different texts in 200 units, such as 'town 0': a name is no covariate",
    ),
    "no such column": (lambda x: x.drop(columns="age"), TRIAL, "column 'age' is missing"),
    "one arm": (lambda x: x.assign(treated="no"), TRIAL, "all 200 units have treatment 0"),
    "one outcome": (lambda x: x.assign(wage=1.0), TRIAL, "the outcome is 1.0 for every unit"),
    "propensities": (
        lambda x: x.assign(p=1.5),
        Columns("treated", "wage", ["age"], propensity="p", arms=["no", "yes"]),
        "row 1, column 'p': '1.5' is no probability",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case: str, tmp_path: Path) -> None:
    change, columns, message = WRONG[case]
    change(trial()).to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(DataError, match=f"mine.csv.*{message}") as caught:
        open_benchmark(tmp_path / "mine.csv", columns=columns).dataset(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (trial().to_csv(sep=";"), "values are separated by ';'; a comma was expected"),
        (trial().to_csv().replace("town,", "age,", 1), "there are two columns 'age'"),
        ("", "cannot be read as CSV"),
        ("age,town,treated,wage\n", "there are no units"),
        ("age,town,treated,wage\n1,a,no,2,5,6\n", "more fields than the heading"),
    ],
)
def test_a_file_that_is_no_such_table_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(DataError, match=f"mine.csv.*{message}"):
        open_benchmark(tmp_path / "mine.csv", columns=TRIAL).dataset(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Columns("t", "t"), "column 't' is named for two things"),
        (lambda: Columns("t", "y", ["x", "x"]), "column 'x' is named for two things"),
        (lambda: Columns("t", "y", arms=["a"]), "arms are two values"),
        (lambda: Columns("t", "y", arms=["a", object()]), "arms are two values"),
        (lambda: Columns("t", 3), "the column of the outcome"),
        (lambda: open_benchmark("/nowhere/x.csv", "logp", columns=TRIAL), "of a table of one's own, columns name"),
        (lambda: open_benchmark("/nowhere/x.csv", columns=TRIAL), "there is no table"),
        (lambda: open_benchmark("/nowhere/x.csv", columns={"treatment": "t"}), "columns is a Columns"),
    ],
)
def test_arguments_that_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


def test_a_directory_with_a_bad_file_is_evaluated_without_it(tmp_path: Path) -> None:
    there = tmp_path / "tables"
    there.mkdir()
    for seed in range(3):
        trial(seed).drop(columns="gain").to_csv(there / f"{seed}.csv", index=False)
    changed("age", "old")(trial(4)).to_csv(there / "bad.csv", index=False)
    (there / "worse.csv").write_bytes(b"\xff\xfe\x00")
    arguments = [
        "evaluate", str(there), "--out", str(tmp_path / "out"), "--estimators", "linear_regression,linear_t",
        "--treatment", "treated", "--outcome", "wage", "--covariates", "age,town", "--arms", "no,yes", "--jobs", "1",
    ]  # fmt: skip
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    told = " ".join(ran.output.split())
    assert "left out bad: " in told
    assert "row 4, column 'age': 'old' is not a number" in told
    assert "it is not known which of them share their mechanisms" in told
    assert " ATE lower upper CPU s " in told
    left_out = pd.read_csv(tmp_path / "out" / "unusable.csv")
    assert left_out["dataset"].tolist() == ["bad", "worse"]
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    # Who knows the truth has none to say.
    assert sorted(scores["estimator"].unique()) == ["linear_regression", "linear_t", "zero"]
    assert scores["failure"].isna().all()
    mine = scores[scores["estimator"] == "linear_t"]
    assert ((mine["ate_lower"] < 3.5) & (mine["ate_upper"] > 2)).all()
    assert scores[["ate_true", "pehe", "cate_coverage", "ite_coverage"]].isna().all(axis=None)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "The true effects of any data set are not known" in page
    assert "<b>the sampling unit is unknown</b>" in page
    assert "Estimated average effects, where the true ones are not known" in page
    assert "what they should contain is not known" in page


def test_without_the_extras_it_runs_and_says_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the first command of the README: neither joblib nor scikit-learn is there."""

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(bench_commands, "find_spec", lambda name: None)
    monkeypatch.setattr(extra, "importlib", SimpleNamespace(import_module=absent))
    trial().drop(columns="gain").to_csv(tmp_path / "mine.csv", index=False)
    arguments = [
        "evaluate", str(tmp_path / "mine.csv"), "--out", str(tmp_path / "out"),
        "--estimators", "linear_t,random_forest",
        "--treatment", "treated", "--outcome", "wage", "--covariates", "age,town", "--arms", "no,yes",
    ]  # fmt: skip
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    told = " ".join(ran.output.split())
    assert "random_forest failed once, with: EstimatorError: random_forest needs scikit-learn" in told
    assert "pip install '.[estimators]' (in the clone)" in told


def test_arms_are_numbers_of_numpy(tmp_path: Path) -> None:
    frame = trial()
    frame["treated"] = np.where(frame["treated"] == "yes", 2, 1)
    frame.to_csv(tmp_path / "mine.csv", index=False)
    columns = Columns("treated", "wage", effect="gain", arms=list(frame["treated"].sort_values().unique()))
    assert columns == Columns("treated", "wage", effect="gain", arms=[1, 2])
    result = evaluate(
        tmp_path / "mine.csv",
        tmp_path / "out",
        estimators="linear_t",
        covariates=["all"],
        columns=columns,
        progress=False,
    )
    assert result.leaderboard.set_index("estimator").loc["linear_t", "pehe"] < 0.3


@pytest.mark.slow
def test_effects_that_are_known_are_judged(tmp_path: Path) -> None:
    there = tmp_path / "tables"
    there.mkdir()
    for seed in range(4):
        trial(seed, effect=1.0 + seed).to_csv(there / f"{seed}.csv", index=False)
    pd.DataFrame({"dataset": range(4), "wording": ["x", "x", "y", "z"]}).to_csv(tmp_path / "who.csv", index=False)
    columns = Columns("treated", "wage", effect="gain", arms=["no", "yes"])
    found = {
        given: evaluate(
            there, tmp_path / str(given), estimators="linear_t", covariates=["all"], columns=columns, progress=False,
            wordings=tmp_path / "who.csv" if given else None,
        )
        for given in (True, False)
    }  # fmt: skip
    for given, result in found.items():
        board = result.leaderboard.set_index("estimator")
        assert board.loc["linear_t", "pehe"] < 0.3
        assert board.loc["linear_t", "beats_constant"] == 1
        assert np.isfinite(board.loc["linear_t", ["ate_bias_lower", "ate_bias_upper"]].astype(float)).all() == given
    assert found[True].scores["wording"].unique().tolist() == ["x", "y", "z"]
    with pytest.raises(DataError, match="wordings: data set '3' has none"):
        open_benchmark(there, columns=columns, wordings={"0": "x", "1.csv": "x", "2": "y"})
    with pytest.raises(DataError, match="data set '0' has two wordings, 'x' and 'y'"):
        open_benchmark(there, columns=columns, wordings={"0": "x", "0.csv": "y"})

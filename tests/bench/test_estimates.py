"""Estimates made elsewhere: what is read, what is refused, and that they are scored like any other."""

from math import inf, isnan, nan

import numpy as np
import pandas as pd
import pytest

from sdscm_jax.bench.dataset import Dataset
from sdscm_jax.bench.estimates import ESTIMATES, read_estimates, score_estimates
from sdscm_jax.bench.leaderboard import leaderboard
from sdscm_jax.bench.metrics import score
from sdscm_jax.errors import DataError, SDSCMError


def made(name: str, units: list[int]) -> Dataset:
    rng, n = np.random.default_rng(units), len(units)
    outcomes, t = rng.normal(size=(n, 2)), np.arange(n) % 2
    y = outcomes[np.arange(n), t]
    cate = outcomes[:, 1] - outcomes[:, 0]
    return Dataset(name, name, pd.DataFrame(index=range(n)), (), t, y, outcomes, cate, np.full(n, 0.5), np.array(units))


ONE, TWO = made("one", [3, 0, 7, 5]), made("two", [1, 2, 3])
PAIR = [ONE, TWO]


def table(data: Dataset, estimator: str, noise: float = 0.5, **columns) -> pd.DataFrame:
    effect = data.ite + noise * np.arange(len(data))
    named = {"dataset": data.name, "covariates": "all", "estimator": estimator, "unit": data.unit, "effect": effect}
    return pd.DataFrame({**named, "lower": effect - 1.0, "upper": effect + 0.5, **columns})


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "mine.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


GOOD = pd.concat([table(ONE, "forest", ate=0.25), table(TWO, "forest", ate=-1.0), table(TWO, "line", 2.0, ate=nan)])


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_estimates_come_back_in_the_order_of_the_units_beside_the_truth(tmp_path, name):
    path, shuffled = tmp_path / name, GOOD.sample(frac=1, random_state=0)
    if name.endswith("parquet"):
        shuffled.to_parquet(path)
    else:
        shuffled.to_csv(path, index=False)
    found = read_estimates(path, PAIR)
    assert list(found) == list(ESTIMATES)
    truth = np.concatenate([ONE.ite, TWO.ite, TWO.ite])
    expected = GOOD.assign(ite=truth, cate=truth)[list(ESTIMATES)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert found["unit"].dtype == np.int64
    assert found["effect"].dtype == np.float64


def test_they_are_scored_as_any_other():
    rows = score_estimates(GOOD, PAIR, level=0.8)
    assert list(zip(rows["dataset"], rows["estimator"], strict=True)) == (
        [("one", "forest"), ("one", "line"), ("two", "forest"), ("two", "line")]
    )
    effect = ONE.ite + 0.5 * np.arange(4)
    expected = score(ONE, effect, (effect - 1.0, effect + 0.5), 0.25, level=0.8)
    assert rows.loc[0, list(expected)].to_dict() == pytest.approx(expected, nan_ok=True)
    assert rows["ate"][3] == pytest.approx(TWO.ate + 2.0)  # Without one of its own: the mean of its effects.
    of_ite = score_estimates(GOOD, PAIR, interval_of="ite")
    assert of_ite["cate_coverage"].isna().all()
    assert (of_ite["ite_coverage"].dropna() == rows["cate_coverage"].dropna()).all()


def test_a_data_set_without_estimates_is_a_failure_and_not_left_out():
    rows = score_estimates(GOOD, PAIR)
    assert rows["failure"].fillna("").tolist() == ["", "no estimates of this data set", "", ""]
    board = leaderboard(rows).set_index("estimator")
    assert board.loc["line", ["datasets", "failures"]].tolist() == [2, 1]
    assert board.loc["line", "rank"] == 2.0


def test_what_may_be_left_out(write):
    found = read_estimates(write("unit,effect\n0,1.5\n3,2\n5,1e-3\n7,-1\n", "bart.v2.csv"), [ONE])
    assert found["effect"].tolist() == [2.0, 1.5, -1.0, 0.001]
    assert found["unit"].tolist() == [3, 0, 7, 5]
    assert set(found["estimator"]) == {"bart.v2"}
    assert set(found["covariates"]) == {"all"}
    assert found[["lower", "upper", "ate"]].isna().all(axis=None)
    assert isnan(score_estimates(found, [ONE])["cate_coverage"][0])


def test_what_r_writes_is_read(write):
    text = '"","unit","effect","lower","upper"\n"1",1,0.5,-Inf,Inf\n"2",2,1,NA,NA\n"3",3,1,0,2\n'
    with pytest.raises(DataError, match=r"mine.csv: row 2, column 'lower': is missing"):
        read_estimates(write(text), [TWO])
    found = read_estimates(write(text.replace("NA,NA", "-1,1")), [TWO])
    assert found["lower"].tolist() == [-inf, -1.0, 0.0]
    assert score_estimates(found, [TWO])["cate_width"][0] == inf


def test_one_estimator_may_have_intervals_and_another_none(tmp_path):
    both = pd.concat([table(TWO, "forest"), table(TWO, "line", lower=nan, upper=nan)])
    both.to_csv(tmp_path / "a.csv", index=False)
    rows = score_estimates(read_estimates(tmp_path / "a.csv", [TWO]), [TWO])
    assert rows["cate_coverage"].isna().tolist() == [False, True]


HEAD, ROWS = "dataset,unit,effect", "two,1,0.5\ntwo,2,0.5\ntwo,3,0.5\n"
LIMITS = "unit,effect,lower,upper,dataset\n1,0,{},two\n2,0,0,1,two\n3,0,0,1,two\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}\ntwo,1,0.5\ntwo,3,0.5\n", r"column 'unit': 1 of 3 units of data set 'two' .* the first is 2"),
        (f"{HEAD}\n{ROWS}two,9,0.5\n", r"row 4, column 'unit': '9' is no unit of data set 'two'"),
        (f"{HEAD}\n{ROWS}two,2,0.5\n", r"row 4, column 'unit': '2' is there more than once"),
        (f"{HEAD}\n{ROWS}tow,2,0.5\n", r"row 4, column 'dataset': 'tow' is none of the 2 .* did you mean 'two'"),
        (f"{HEAD}\n\n{ROWS}two,2.5,0.5\n", r"row 5, column 'unit': '2.5' is not a whole number"),
        (f"{HEAD}\ntwo,1e30,0.5\n", r"row 1, column 'unit': '1e30' is not a whole number"),
        (f"{HEAD}\ntwo,,0.5\n", r"row 1, column 'unit': is missing"),
        (f"{HEAD}\n,1,0.5\n", r"row 1, column 'dataset': is missing"),
        (f"{HEAD}\ntwo,1,0.5\ntwo,2,NaN\ntwo,3,\n", r"row 2, column 'effect': .*missing.* \(and 1 rows more\)"),
        (f"{HEAD}\ntwo,1,0.5\ntwo,2,half\n", r"row 2, column 'effect': 'half' is not a number"),
        (f"{HEAD}\ntwo,1,inf\n", r"row 1, column 'effect': is missing or not finite"),
        (f"{HEAD}\n", "there are no rows"),
        (f"{HEAD}\ntwo,1,0.5,8\n", "more fields than the heading"),
        ("", "cannot be read as CSV"),
        ("dataset,effect\ntwo,1\n", r"column 'unit' is missing"),
        ("unit,effect\n1,1\n", r"column 'dataset' is missing, and there are 2 data sets"),
        ("unit,effect,uper\n1,1,1\n", r"column 'uper' is not known; did you mean 'upper'"),
        ("unit,effect,upper\n1,1,1\n", r"column 'upper' but none of name 'lower'"),
        (LIMITS.format("2,1"), r"row 1, column 'lower': '2.0 > 1.0' is above the upper limit"),
        (LIMITS.format("1,"), r"row 1, column 'upper': is missing"),
        (f"{HEAD},ate\ntwo,1,0,1\ntwo,2,0,1\ntwo,3,0,2\n", r"row 3, column 'ate': '2.0' is not the same"),
        (f"{HEAD},ate\ntwo,1,0,1\ntwo,2,0,\ntwo,3,0,1\n", r"row 2, column 'ate': .* is not the same"),
        (f"{HEAD},covariates\ntwo,1,0,some\n", r"row 1, column 'covariates': 'some' is none of the 2"),
    ],
)
def test_what_is_wrong_is_named_with_file_row_and_column(write, text, message):
    path = write(text)
    with pytest.raises(DataError, match=message) as caught:
        read_estimates(path, PAIR)
    assert str(caught.value).startswith(f"{path}: ")


def test_files_that_are_none(tmp_path, write):
    with pytest.raises(DataError, match="there is no such file"):
        read_estimates(tmp_path / "gone.csv", PAIR)
    with pytest.raises(DataError, match=r"read from files named \*.csv"):
        read_estimates(write("", "a.xlsx"), PAIR)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_estimates(write("unit,effect\n", "a.parquet"), PAIR)
    with pytest.raises(DataError, match=r"share a name: \['two', 'two'\]"):
        read_estimates(write("unit,effect\n"), [TWO, TWO])
    with pytest.raises(DataError, match="no data sets"):
        read_estimates(write("unit,effect\n"), [])


def test_estimates_of_other_units_are_not_scored():
    with pytest.raises(SDSCMError, match=r"units are not those of data set 'two'"):
        score_estimates(table(TWO, "forest", ate=nan).iloc[::-1], [TWO])

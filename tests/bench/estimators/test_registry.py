"""Every estimator that has a name can be made, and is one."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from econml.dml import LinearDML
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sdscm_jax.bench.estimators.foreign import FromEconml, FromSklearn
from sdscm_jax.bench.estimators.linear import LinearT
from sdscm_jax.bench.estimators.protocol import Estimator, seed_of
from sdscm_jax.bench.estimators.registry import BASELINES, SUITE, chosen, described, estimator_names, make_estimator
from sdscm_jax.errors import EstimatorError

from ..mine import Shrunk


def test_all_names() -> None:
    names = estimator_names()
    assert {*SUITE, *BASELINES} <= set(names)
    for name in names:
        assert isinstance(make_estimator(name), Estimator), name
        assert getattr(make_estimator(name), "interval_of", "cate") in ("cate", "ite")


def test_choices() -> None:
    assert chosen("suite") == (*SUITE, *BASELINES)
    assert set(chosen("all")) == set(estimator_names())
    assert chosen(["bart", "bart", "tests.bench.mine:Noise"]) == ("bart", "tests.bench.mine:Noise", *BASELINES)
    assert not isinstance(object(), Estimator)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("linear", "did you mean 'linear_"),
        ("nowhere:Mine", "'nowhere:Mine' .* cannot be made: No module named 'nowhere'"),
        ("tests.bench.mine:Nois", "cannot be made: .*Nois"),
    ],
)
def test_unknown(name: str, message: str) -> None:
    with pytest.raises(EstimatorError, match=message):
        make_estimator(name)


@pytest.mark.parametrize(
    ("name", "module"), [("random_forest", "sklearn"), ("linear_dml", "econml"), ("bart", "bartz")]
)
def test_a_missing_extra_is_named(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for found in [m for m in sys.modules if m == module or m.startswith(module + ".")]:
        monkeypatch.setitem(sys.modules, found, None)
    monkeypatch.setitem(sys.modules, module, None)
    x, t = np.zeros((40, 1)), np.arange(40) % 2
    with pytest.raises(EstimatorError, match=r"\.\[estimators\]"):
        make_estimator(name).fit(jax.random.key(0), x, t, t + 0.0)


def test_a_class_is_named_by_where_it_is() -> None:
    name = "sdscm_jax.bench.estimators.linear:LinearT"
    assert chosen([LinearT, "zero"])[:2] == (name, "zero")
    assert chosen(LinearT)[0] == name
    assert isinstance(make_estimator(chosen(LinearT)[0]), LinearT)

    class Inside(LinearT):
        pass

    for made_by, said in ((Inside, "inside a function"), (int, "it has no fit, effect, interval, ate")):
        with pytest.raises(EstimatorError, match=said):
            chosen([made_by])


def test_an_estimator_is_called_by_its_class_or_as_its_user_says() -> None:
    class Inside(LinearT):
        pass

    first = LinearT()
    names = chosen([first, "linear_s", Inside()])
    assert names[:3] == ("LinearT", "linear_s", "Inside")
    # It is the estimator that is fitted, in another process too, and each time a new one.
    name = pickle.loads(pickle.dumps(names[0]))
    made = make_estimator(name)
    assert isinstance(made, LinearT)
    assert made is not make_estimator(name)
    assert described(name) == described(names[0])
    assert described(names[0])["defined"] == "sdscm_jax.bench.estimators.linear:LinearT"
    assert chosen({"a": Shrunk(0.5), "b": Shrunk, "c": "linear_s"})[:3] == ("a", "b", "c")
    assert described(chosen({"a": Shrunk(0.5)})[0]) != described(chosen({"a": Shrunk(2.0)})[0])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([Shrunk(0.5), Shrunk(2.0)], "two estimators are called 'Shrunk': name them"),
        ({"linear_t": Shrunk()}, "'linear_t' is the name of a registered estimator"),
        ({"../up": Shrunk()}, "the name of an estimator is of letters"),
        ({"mine": "oracle_ite"}, "is an oracle"),
        ([Ridge()], r"has no effect, interval, ate; bench\.FromSklearn\(…\) makes one of it"),
        ([3], "unknown estimator 3; known: .*'linear_t'"),
        (["nowhere/mine.py:Mine"], "there is no file"),
    ],
)
def test_what_is_no_estimator(asked: Any, message: str) -> None:
    with pytest.raises(EstimatorError, match=message):
        chosen(asked)


def test_a_class_or_an_estimator_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from tests.bench.mine import Shrunk\n\nclass Mine(Shrunk):\n    pass\n\nhalf = Mine(0.5)\n"
    folder = tmp_path / "sub"
    folder.mkdir()
    (folder / "estimators_of_mine.py").write_text(text)
    (folder / "json.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert make_estimator("sub/estimators_of_mine.py:Mine").by == 1.0
    assert make_estimator("sub/estimators_of_mine.py:half").by == 0.5
    assert described("sub/estimators_of_mine.py:Mine")["defined"] == "estimators_of_mine:Mine"
    with pytest.raises(EstimatorError, match="'json' is another one"):
        make_estimator("sub/json.py:Mine")


def test_estimators_of_other_libraries() -> None:
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(60, 2)), np.arange(60) % 2
    y = x[:, 0] + (1.0 + 2.0 * x[:, 1]) * t
    key = jax.random.key(0)
    two = FromSklearn(LinearRegression()).fit(key, x, t, y)
    np.testing.assert_allclose(two.effect(x), 1.0 + 2.0 * x[:, 1], atol=1e-9)
    assert two.interval(x, 0.95) is None
    # One linear model has one effect.
    one = FromSklearn(LinearRegression(), learner="s").fit(key, x, t, y)
    np.testing.assert_allclose(one.effect(x), one.ate(), atol=1e-9)
    # Seeds that are None come from the key, also inside a pipeline; covariates may be none.
    forest = FromSklearn(make_pipeline(StandardScaler(), RandomForestRegressor(n_estimators=3)))
    same, again, other = (forest.fit(jax.random.key(k), x, t, y).effect(x) for k in (0, 0, 1))
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()
    assert FromSklearn(LinearRegression()).fit(key, x[:, :0], t, 3.0 * t).ate() == pytest.approx(3.0)
    with pytest.raises(EstimatorError, match="predicts classes"):
        FromSklearn(LogisticRegression())
    with pytest.raises(EstimatorError, match="is an object, got the class Ridge"):
        FromSklearn(Ridge)
    dml = LinearDML(model_y=LinearRegression(), model_t=LogisticRegression(), discrete_treatment=True, cv=2)
    for options, known in (({}, True), ({"inference": None}, False)):
        found = FromEconml(dml, options).fit(key, x, t, y)
        plain = copy.deepcopy(dml)
        plain.random_state = seed_of(key)
        plain.fit(y, t, X=x, **options)
        np.testing.assert_allclose(found.effect(x), plain.effect(x))
        limits, average = found.interval(x, 0.9), found.ate_interval(0.9)
        assert (limits is not None, average is not None) == (known, known)
        if known:
            np.testing.assert_allclose(limits, plain.effect_interval(x, alpha=0.1))
            np.testing.assert_allclose(average, plain.ate_interval(x, alpha=0.1))
            assert average[0] < found.ate() < average[1]
    with pytest.raises(EstimatorError, match="has no effect"):
        FromEconml(Ridge())

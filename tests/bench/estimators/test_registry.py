"""Every estimator that has a name can be made, and is one."""

from __future__ import annotations

import sys

import jax
import numpy as np
import pytest

from sdscm_jax.bench.estimators.linear import LinearT
from sdscm_jax.bench.estimators.protocol import Estimator
from sdscm_jax.bench.estimators.registry import BASELINES, SUITE, chosen, estimator_names, make_estimator
from sdscm_jax.errors import EstimatorError


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

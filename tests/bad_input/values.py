"""What is handed over where something else is expected: values by the name that a reproducer says."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd


class Mute:
    """Says nothing of itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no representation")


@cache
def _nested(depth: int) -> list:
    # Made once: none of those that it is handed to changes it, and many of them get it.
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


def _circle() -> list:
    found: list = [1]
    found.append(found)
    return found


def _arguments(a: Any, b: Any, c: Any, d: Any) -> Any:
    return a


VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "np.True_": lambda: np.True_,
    "0": lambda: 0,
    "1": lambda: 1,
    "-1": lambda: -1,
    "7": lambda: 7,
    "2**63": lambda: 2**63,
    "10**5000": lambda: 10**5000,
    "0.5": lambda: 0.5,
    "-0.5": lambda: -0.5,
    "1e300": lambda: 1e300,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "np.float32('nan')": lambda: np.float32("nan"),
    "1j": lambda: 1j,
    "Decimal('NaN')": lambda: decimal.Decimal("NaN"),
    "''": lambda: "",
    "' '": lambda: " ",
    "'nonsense'": lambda: "nonsense",
    "'{}'": lambda: "{}",
    "'1'": lambda: "1",
    "'\\ud800'": lambda: "\ud800",
    "'a\\ud800 {}'": lambda: "a\ud800 {}",
    "'a\\0b'": lambda: "a\0b",
    "'x' * 100_000": lambda: "x" * 100_000,
    "b'rain'": lambda: b"rain",
    "[]": list,
    "()": tuple,
    "{}": dict,
    "set()": set,
    "{'rain'}": lambda: {"rain"},
    "frozenset({1})": lambda: frozenset({1}),
    "[None]": lambda: [None],
    "[nan]": lambda: [math.nan],
    "['\\ud800']": lambda: ["\ud800"],
    "[[1], [1, 2]]": lambda: [[1], [1, 2]],
    "[1, 'a']": lambda: [1, "a"],
    "['nonsense']": lambda: ["nonsense"],
    "['rain', 'rain']": lambda: ["rain", "rain"],
    "nested(500)": lambda: _nested(500),
    "nested(100_000)": lambda: _nested(100_000),
    "circle": _circle,
    "{'nonsense': 1}": lambda: {"nonsense": 1},
    "{1: 2}": lambda: {1: 2},
    "{None: None}": lambda: {None: None},
    "{'rain': None}": lambda: {"rain": None},
    "{'rain': {}}": lambda: {"rain": {}},
    "object()": object,
    "Mute()": Mute,
    "int": lambda: int,
    "ValueError": lambda: ValueError,
    "ValueError()": lambda: ValueError("oops"),
    "id": lambda: id,
    "lambda: 1": lambda: lambda: 1,
    "lambda a, b, c, d: a": lambda: _arguments,
    "generator": lambda: (x for x in ["rain"]),
    "range(3)": lambda: range(3),
    "np": lambda: np,
    "...": lambda: ...,
    "NotImplemented": lambda: NotImplemented,
    "pd.NA": lambda: pd.NA,
    "pd.NaT": lambda: pd.NaT,
    "datetime": lambda: datetime.datetime(2020, 1, 1),
    "Path('/dev/null/x')": lambda: Path("/dev/null/x"),
    "np.zeros(0)": lambda: np.zeros(0),
    "np.zeros(3)": lambda: np.zeros(3),
    "np.ones((2, 3))": lambda: np.ones((2, 3)),
    "np.full(40, nan)": lambda: np.full(40, math.nan),
    "np.zeros((4, 40))": lambda: np.zeros((4, 40)),
    "np.array(nan)": lambda: np.array(math.nan),
    "np.array([2**63], uint64)": lambda: np.array([2**63], np.uint64),
    "np.array(None)": lambda: np.array(None),
    "np.array([None, 1], object)": lambda: np.array([None, 1], object),
    "np.array([set()], object)": lambda: np.array([set()], object),
    "np.array(['rain'])": lambda: np.array(["rain"]),
    "np.array([b'x'])": lambda: np.array([b"x"]),
    "np.array(['2020'], 'M8[D]')": lambda: np.array(["2020"], "M8[D]"),
    "np.zeros(2, 'i4,f4')": lambda: np.zeros(2, "i4,f4"),
    "np.array([1j])": lambda: np.array([1j]),
    "np.ma.array([1], mask=[1])": lambda: np.ma.array([1], mask=[1]),
    "jnp.array([nan])": lambda: jnp.array([math.nan]),
    "jnp.zeros((2, 2), bfloat16)": lambda: jnp.zeros((2, 2), jnp.bfloat16),
    "jnp.array([9])": lambda: jnp.array([9]),
    "jax.random.key(0)": lambda: jax.random.key(0),
    "jax.random.split(jax.random.key(0))": lambda: jax.random.split(jax.random.key(0)),
    "jax.ShapeDtypeStruct": lambda: jax.ShapeDtypeStruct((2,), jnp.float32),
    "pd.DataFrame()": pd.DataFrame,
    "pd.DataFrame({'a': [1]})": lambda: pd.DataFrame({"a": [1]}),
    "pd.Series(['rain'])": lambda: pd.Series(["rain"]),
    "pd.Series([nan])": lambda: pd.Series([math.nan]),
    "dist.Normal()": lambda: dist.Normal(0.0, 1.0),
    "dist.Normal(0, nan)": lambda: dist.Normal(0.0, math.nan, validate_args=False),
    "dist.Normal": lambda: dist.Normal,
}

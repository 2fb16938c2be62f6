"""Whatever is handed over: one of the package's errors, or an answer where the values may be what they are.

python -m pytest -m search tests/bad_input        ten thousand cases
fault(Case("simulate", (("n", "nan"),)))          one of them again
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

import sdscm_jax as sd

from ..test_public_inputs import MADE_BY_US, PROTOCOLS, public
from . import meanings as m
from .calls import PUBLIC, Argument, Call
from .generator import Case, cases, fault
from .values import VALUES


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are among the values."""
    monkeypatch.chdir(tmp_path)


def faults(seed: int, count: int) -> list[str]:
    found = ((case, fault(case)) for case in itertools.islice(cases(seed), count))
    return [f"{said}\n    fault({case!r})" for case, said in found if said]


@pytest.mark.search
@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_call_works_as_it_is(name: str) -> None:
    assert fault(Case(name, ())) is None


@pytest.mark.parametrize("part", range(6))
def test_bad_inputs(part: int) -> None:
    found = faults(seed=part, count=50)
    assert not found, "\n".join(found)


@pytest.mark.search
@pytest.mark.parametrize("part", range(20))
def test_ten_thousand_bad_inputs(part: int) -> None:
    found = faults(seed=int(os.environ.get("SDSCM_SEED", "1000")) + part, count=500)
    assert not found, "\n".join(found)


# What takes nothing from outside, makes nothing, or is reached by way of another.
NOT_CALLED = {
    "Batch", "Comparison", "Contrast", "effects.Contrast", "Graph", "GumbelReparam", "LanguageModel", "Phrase",
    "Tabulated",
    "effects.Adjustment", "effects.Identified", "bench.Benchmark", "bench.Estimator", "bench.Evaluation",
    "bench.Columns",
    "testing.Laws", "audit.Pair", "audit.Proxy", "bench.estimator_names",
}  # fmt: skip


def test_every_public_function_is_called() -> None:
    """Functions and classes of the public lists; what is asked of objects is in the table by choice."""
    for full, _ in public():
        own = full.split(".")[-1]
        inside = (own[0].islower() and full.split(".")[0][0].isupper()) or full.count(".") > 1
        if inside or full in MADE_BY_US or PROTOCOLS.fullmatch(full) or full in NOT_CALLED:
            continue
        if own.endswith("Error") or own == "FitWarning":
            continue
        same = {full, full.replace("bench.", "families."), full.removeprefix("effects.")}
        assert any(name == one or name.startswith((f"{one} ", f"{one}.")) for one in same for name in PUBLIC), full


# -- the judge is judged -----------------------------------------------------------------------------


def judged(function: object, meaning: m.Meaning, value: str) -> str | None:
    PUBLIC["judged"] = Call(lambda place, /, x: function(x), {"x": Argument(lambda: 1, meaning)})  # type: ignore[operator]
    try:
        return fault(Case("judged", (("x", value),)))
    finally:
        del PUBLIC["judged"]


def refuse(_: object) -> None:
    raise sd.SDSCMError("no")


def test_nonsense_that_is_taken_is_found() -> None:
    assert judged(lambda _: None, m.count(), "nan") == "taken"
    assert judged(refuse, m.count(), "nan") is None


def test_what_is_right_and_refused_is_found() -> None:
    assert judged(refuse, m.count(), "7") == "refused: no"
    assert judged(lambda _: None, m.count(), "7") is None


def test_what_the_call_decides_is_left_to_it() -> None:
    assert judged(refuse, m.anything, "7") is None
    assert judged(lambda _: None, m.anything, "7") is None


def test_a_raw_error_is_found() -> None:
    for meaning in (m.count(), m.anything):
        assert judged(lambda x: {}[x], meaning, "7") == "KeyError at ?: 7"


def test_a_message_without_end_is_found() -> None:
    class Long(sd.SDSCMError):
        def __str__(self) -> str:
            return "x" * 100_000

    def long(_: object) -> None:
        raise Long

    assert judged(long, m.anything, "7") == "a message of 100000 characters"


def test_a_hang_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bad_input.generator.SECONDS", 1)

    def hang(_: object) -> None:
        while True:
            pass

    assert (judged(hang, m.anything, "7") or "").startswith("Slow")


@pytest.mark.parametrize("value", VALUES)
def test_every_value_can_be_made_and_every_meaning_says_something(value: str) -> None:
    for call in PUBLIC.values():
        for argument in call.arguments.values():
            assert argument.meaning(VALUES[value]()) in (True, False, None)

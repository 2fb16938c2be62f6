"""Every way to run a program agrees with the specification, on programs of the whole language (DESIGN §7, laws 11-13).

``SDSCM_SPEC_SEED`` chooses other programs. A program that fails is shrunk and written to ``kept/``, where it is a
test from then on; commit it.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from . import language
from .executors import EXECUTORS, Disagreement, hold
from .generator import cases, observed_cases
from .language import Case
from .observed import hold_evidence
from .programs import build

KEPT = Path(__file__).parent / "kept"
SEED = int(os.environ.get("SDSCM_SPEC_SEED", "14"))
WAYS = tuple(EXECUTORS)
# Every other program of the default run goes the way that compiles least.
QUICK = tuple(way for other in WAYS[1:] for way in (WAYS[0], other))
# What evidence is asked of.
OBSERVED = ("staged", "in_graph")


def read(path: Path) -> tuple[tuple[str, ...], Case]:
    """The ways and the case of a kept file."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    ways = tuple(lines[0].removeprefix("ways:").replace(",", " ").split())
    return ways, eval("\n".join(lines[1:]), vars(language))


def keep(case: Case, way: str, why: str) -> Path:
    """Write a failing case to a file that is a test from now on."""
    text = f"# {why.splitlines()[0]}\nways: {way}\n{case!r}\n"
    path = KEPT / f"{hashlib.sha256(text.encode()).hexdigest()[:10]}.txt"
    path.write_text(text, encoding="utf-8")
    return path


def check(case: Case, way: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (hold_evidence if case.evidence else hold)(case, way)


def search(strategy: Any, ways: tuple[str, ...], programs: int, number: int) -> None:
    """Try that many programs, one way each; the smallest that fails is kept.

    Raises:
        Disagreement: one fails.
    """
    print(f"SDSCM_SPEC_SEED={SEED}, part {number}: {programs} programs")
    failed: list[tuple[Case, str, str]] = []
    turn = [number]

    @hypothesis.seed(1000 * SEED + number)
    @settings(
        max_examples=programs,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )
    @given(case=strategy)
    def every(case: Case) -> None:
        # Once something has failed, its smallest form is looked for in the same way.
        way = failed[-1][1] if failed else ways[turn[0] % len(ways)]
        turn[0] += 1
        try:
            check(case, way)
        except Disagreement as error:
            failed.append((case, way, str(error)))
            raise

    try:
        every()
    except Exception as error:
        if not failed:
            raise
        case, way, why = failed[-1]
        path = keep(case, way, why)
        raise Disagreement(f"{why}\n{case!r}\nkept as {path}; commit it") from error


@pytest.mark.slow
@pytest.mark.parametrize("number", [pytest.param(i, marks=[pytest.mark.search] * (i > 2)) for i in range(10)])
def test_programs(number: int) -> None:
    search(cases(sites=2 + number % 2, units=3), QUICK, 10, 7 * number)


@pytest.mark.slow
def test_programs_with_evidence() -> None:
    search(observed_cases(sites=2), OBSERVED, 4, 99)


@pytest.mark.search
@pytest.mark.parametrize("number", range(100, 190))
def test_many_programs(number: int) -> None:
    search(cases(sites=2 + number % 3, units=3), QUICK, 10, number)


@pytest.mark.search
@pytest.mark.parametrize("number", range(190, 200))
def test_many_programs_with_evidence(number: int) -> None:
    search(observed_cases(sites=2 + number % 2), OBSERVED, 10, number)


# Those that take longest.
LONG = ("maximal_in_plates", "nested_in_a_plate")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in LONG else []) for path in sorted(KEPT.glob("*.txt"))],
    ids=lambda path: path.stem,
)
def test_kept(path: Path) -> None:
    ways, case = read(path)
    for way in ways:
        check(case, way)


def test_what_is_drawn_anew_is_the_same_in_every_way() -> None:
    """The language does not say with which noise; two ways to ask for a world get the same."""
    case = read(KEPT / "independent_beside_another_world.txt")[1]
    ways = ("staged", "in_graph", "one_at_a_time", "vmapped")
    first, *others = (EXECUTORS[way](case, build(case.program)).values for way in ways)
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_case_prints_as_what_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.KEPT", tmp_path)
    found: list[Case] = []

    @hypothesis.seed(SEED)
    @settings(max_examples=30, deadline=None, database=None, phases=[Phase.generate])
    @given(case=cases())
    def each(case: Case) -> None:
        assert read(keep(case, "staged", "why")) == (("staged",), case)
        found.append(case)

    each()
    assert len({repr(case) for case in found}) > 10

"""The checks that users run: right programs, sites and language models pass, and each check fails on one that
breaks its law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import SkipTest

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.testing.world_laws import CheckedWorlds, consistent, effective, levels, stable, unreached

from . import mutants
from .mutants import OPTIONS, TABLE, program

PLAIN = testing.mock_lm()
RIGHT = program()


class TestRight(testing.Laws):
    """A program for which all laws hold."""

    model = staticmethod(RIGHT)
    args = (PLAIN,)
    units = 12
    counted = 300


@pytest.fixture(scope="module")
def worlds() -> CheckedWorlds:
    return levels(RIGHT, 0, PLAIN, units=12)


# -- each law fails where it does not hold -----------------------------------------------------------------------


def spoilt(worlds: CheckedWorlds, site: str, unit: int, world: int) -> CheckedWorlds:
    """The worlds with another value in one place."""
    values = {name: array.copy() for name, array in worlds.data.values.items()}
    values[site][unit, world] = 1 - values[site][unit, world] % 2
    return replace(worlds, data=replace(worlds.data, values=values))


def test_worlds_that_were_changed(worlds: CheckedWorlds) -> None:
    # Of a choice every unit's own value is that of some world; of numbers it is kept by every other unit at least.
    assert consistent(worlds) >= 12 + 6 + 6
    assert effective(worlds) == 12 * 5
    # Nothing is before x; x is before the choice (three worlds), and both are before y.
    assert unreached(worlds) == 0 + 3 * 1 + 2
    assert stable(worlds) > 0
    day = worlds.data.worlds.index("do(day=rain)")
    with pytest.raises(AssertionError, match=r"makes x be a: site 'day', unit 3, world do\(day=rain\): '.*', .*'rain'"):
        effective(spoilt(worlds, "day", 3, day))
    with pytest.raises(AssertionError, match=r"its descendants only: site 'x', unit 5, world do\(day=rain\): value"):
        unreached(spoilt(worlds, "x", 5, day))
    unit = int(np.flatnonzero(worlds.factual(day))[0])
    with pytest.raises(AssertionError, match=rf"consistency.*site 'y', unit {unit}, world do\(day=rain\): value"):
        consistent(spoilt(worlds, "y", unit, day))


CHECKS: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "consistency": (testing.check_consistency, program(chance=mutants.Uncontrolled), r"site 'y', unit \d+, world do"),
    "interventional": (testing.check_interventional, program(chance=mutants.Biased), r"site 'y', world"),
    "abduction": (testing.check_abduction, program(mutants.Forgetful), r"site 'day', unit \d+, world \{\}.*observed"),
    "stability": (testing.check_stability, program(mutants.Unstable), r"site 'day', unit \d+, world do\(x=.*became"),
    "options": (testing.check_options, program(mutants.ByNumber), r"reverse order: site 'day', unit \d+: '.*expected"),
    "independence": (testing.check_independence, program(chance=mutants.Counted), r"chunks of 5 .*: site 'y', unit"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_programs_that_break_a_law(name: str) -> None:
    check, model, message = CHECKS[name]
    with pytest.raises(AssertionError, match=message):
        check(model, 0, PLAIN, units=1000)


def asks(lm: sd.LanguageModel) -> None:
    day = sd.sample("day", sd.Choice(lm, "It is {}.", OPTIONS[:2]))
    sd.sample("walk", sd.Choice(lm, "She takes {} today.", ["a walk", "a nap or two"], given=[day]))


@pytest.mark.slow
def test_ways_to_run_that_differ() -> None:
    lm = testing.mock_lm(asks)
    with pytest.raises(AssertionError, match=r"in_graph is staged: site 'walk', unit \d, world .*nats apart"):
        testing.check_execution(asks, 0, mutants.with_decoder(lm, mutants.ForgetsCache), units=4, ways=["in_graph"])
    with pytest.raises(sd.SDSCMError, match="did you mean 'in_graph'"):
        testing.check_execution(asks, 0, lm, ways=["in graph"])


def test_a_program_of_numbers_runs_in_graph_only() -> None:
    assert testing.check_execution(lambda: numpyro.sample("x", dist.Bernoulli(0.3)), 0, units=4) == ("in_graph",)


def test_what_does_not_apply_is_skipped() -> None:
    class Numbers(testing.Laws):
        model = staticmethod(lambda: sd.sample("x", dist.Normal(0.0, 1.0), exogenous=True))

    laws = Numbers()
    for test in (laws.test_consistency, laws.test_effectiveness, laws.test_non_descendants, laws.test_stability):
        with pytest.raises(SkipTest):
            test()
    with pytest.raises(SkipTest, match="finitely many"):
        laws.test_interventional_distribution()
    with pytest.raises(SkipTest, match="no choice"):
        laws.test_options()


def test_a_site_that_may_not_be_set() -> None:
    with pytest.raises(sd.SiteError, match="did you mean 'day'"):
        testing.check_consistency(RIGHT, 0, PLAIN, sites=["dya"])


# -- sites ----------------------------------------------------------------------------------------------------------


def choice(kind: type = sd.Choice, **options: Any) -> sd.Choice:
    return kind(PLAIN, "It is {}.", OPTIONS, scoring="uniform", bias=np.log(TABLE), **options)


RIGHT_SITES = [
    dist.Normal(jnp.zeros(2), 1.0),
    dist.Categorical(probs=jnp.asarray(TABLE)),
    choice(coupling="inverse_cdf"),
]
WRONG_SITES = {
    "probabilities sum to": mutants.Unnormalised(0.4),
    "have the shares": mutants.Biased(0.4),
    "from the same key": mutants.Uncontrolled(jnp.full(8, 0.5)),
    "outside of the support": mutants.Outside(0.0, 1.0),
    "not distributed by its cdf": mutants.Tilted(0.0, 1.0),
    "noise given a value replays it": choice(mutants.Forgetful),
}


@pytest.mark.parametrize("site", RIGHT_SITES, ids=lambda site: type(site).__name__)
def test_sites(site: Any) -> None:
    testing.check_site(site, draws=1000)


@pytest.mark.parametrize("message", WRONG_SITES)
def test_sites_that_are_wrong(message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        testing.check_site(WRONG_SITES[message])


# -- language models --------------------------------------------------------------------------------------------------

# Of right ones, the embedded one is checked in docs/testing.md.
WRONG_LMS = {
    "cached keys and values": mutants.ForgetsCache,
    "padding": mutants.SeesPadding,
    "a later token": mutants.SeesAhead,
    "staged are not those": mutants.ForgetsPool,
    "not finite": mutants.NotFinite,
}


@pytest.mark.parametrize("message", WRONG_LMS)
def test_language_models_that_are_wrong(message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        testing.check_lm(mutants.with_decoder(PLAIN, WRONG_LMS[message]))


def test_a_tokenizer_that_joins_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(PLAIN.codec), "suffix_tokens", lambda codec, left, right: None)
    with pytest.raises(AssertionError, match="after other text"):
        testing.check_lm(PLAIN)

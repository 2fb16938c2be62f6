"""Laws of counterfactual worlds, over random programs and random language models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import chex
import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.dsl.analysis.structure import structure
from sdscm_jax.dsl.handlers.alternatives import Alternatives
from sdscm_jax.dsl.noise.couplings.registry import parse_coupling
from sdscm_jax.dsl.scoring.scorings.registry import parse_scoring
from sdscm_jax.dsl.worlds.run_worlds import WorldResults, run_once, run_worlds
from sdscm_jax.dsl.worlds.worlds import as_worlds
from sdscm_jax.testing import check_abduction, check_execution, check_independence, check_options
from sdscm_jax.testing.world_laws import consistent, effective, levels, stable, unreached

from ..conftest import make_tiny_lm
from ..programs import Program, programs

UNITS = 24
few = settings(max_examples=5, deadline=None, derandomize=True)


@given(program=programs(), data=st.data(), family=st.sampled_from(["llama", "gpt2"]), seed=st.integers(0, 3))
@few
def test_worlds(
    tiny_tokenizer: PreTrainedTokenizerFast, program: Program, data: st.DataObject, family: str, seed: int
) -> None:
    lm = make_tiny_lm(tiny_tokenizer, family, seed)
    treatment = data.draw(st.sampled_from(program.names))
    worlds = levels(program, seed, lm, units=UNITS, sites=[treatment])
    count = len(program.options[program.names.index(treatment)])
    assert effective(worlds) == UNITS * count
    # Every unit's factual value is the one of some world.
    assert consistent(worlds) == UNITS
    others = set(program.names) - worlds.below(1) - {treatment}
    assert unreached(worlds) == len(others) * count
    below = {
        coupling for name, coupling in zip(program.names, program.couplings, strict=True) if name in worlds.below(1)
    }
    assert (stable(worlds) > 0) == any(parse_coupling(coupling).stable for coupling in below)


@pytest.mark.slow
@given(program=programs(max_sites=5), data=st.data(), seed=st.integers(0, 3))
@few
def test_abduction(tiny_tokenizer: PreTrainedTokenizerFast, program: Program, data: st.DataObject, seed: int) -> None:
    lm = make_tiny_lm(tiny_tokenizer, "llama", seed)
    hidden = data.draw(st.sets(st.sampled_from(program.names), max_size=1))
    treatment = data.draw(st.sampled_from(program.names))
    observed = check_abduction(program, seed, lm, units=UNITS, hidden=tuple(hidden), sites=[treatment])
    assert observed == UNITS * (len(program.names) - len(hidden))


@pytest.mark.slow
@given(program=programs(max_sites=4))
@few
def test_tabulated_is_staged(lm: sd.LanguageModel, program: Program) -> None:
    worlds = [{program.names[0]: 0}, {program.names[0]: 1}]
    ways = check_execution(program, 2, lm, units=UNITS, worlds=worlds, ways=["tabulated"])
    assert ways == ("staged", "tabulated")


@pytest.mark.slow
@given(program=programs(max_sites=2))
@few
def test_listing_options_otherwise_changes_no_value(lm: sd.LanguageModel, program: Program) -> None:
    listings = 1 + parse_scoring(program.scoring).odds_by_themselves
    unordered = sum(not parse_coupling(coupling).ordered for coupling in program.couplings or ())
    assert check_options(program, 5, lm, units=UNITS) == listings * unordered * UNITS


THREE = Program(((), (0,), (0, 1)), (("sun", "rain"), ("low", "high", "home"), ("Bob", "25")), ("It is {}.",) * 3)


@pytest.mark.slow
def test_a_unit_depends_on_nothing_but_its_number(lm: sd.LanguageModel) -> None:
    check_independence(THREE, 1, lm, units=20, chunks=[1, 7, 20])


@pytest.mark.slow
def test_eager_is_staged(lm: sd.LanguageModel) -> None:
    assert check_execution(THREE, 3, lm, units=4, ways=["eager"]) == ("staged", "eager")


# Scores per token, which leave some chance to every option.
STEPS = Program(
    ((), (0,), (0, 1)), (("sun", "rain"), ("low", "high"), ("a run", "home", "25")), ("It is {}.",) * 3, "mean"
)


def test_worlds_that_cover_every_setting_are_as_one_at_a_time(lm: sd.LanguageModel) -> None:
    settings = [(1, 1), (0, 1), (1, 0), (0, 0)]
    worlds = as_worlds([{"x1": b, "x0": a} for a, b in settings], structure(STEPS, (lm,)))
    assert worlds.grid is not None
    keys = jax.random.split(jax.random.key(1), UNITS)

    def silent(lm: sd.LanguageModel) -> None:
        STEPS(lm)

    @jax.jit
    def alone(lm: sd.LanguageModel, which: int, numbers: tuple[int, int]) -> WorldResults:
        data = {name: Alternatives(which, number, ()) for name, number in zip(("x0", "x1"), numbers, strict=True)}
        return jax.vmap(lambda key: run_once(silent, key, data, (lm,)))(keys)

    together = jax.jit(lambda lm: jax.vmap(lambda key: run_worlds(silent, key, worlds, (lm,)))(keys))(lm)
    singles = [alone(lm, 0, (0, 0)), *(alone(lm, 1, numbers) for numbers in settings)]
    for world, single in enumerate(singles):
        for name in STEPS.names:
            chex.assert_trees_all_equal(together.values[name][:, world], single.values[name])
            of_world = together.log_probs[name][:, world]
            chex.assert_trees_all_close(of_world, single.log_probs[name], atol=5e-4, rtol=0)
    # The factual world, which is not run, is one of each kind for some unit.
    factual = {(int(a), int(b)) for a, b in zip(singles[0].values["x0"], singles[0].values["x1"], strict=True)}
    assert len(factual) > 2


@pytest.mark.parametrize(
    ("worlds", "couplings"),
    [
        ([{"x0": "sun"}], None),
        ([{"x0": "sun"}, {"x1": "low"}], None),
        ([{"x0": "sun", "x1": "low"}, {"x0": "rain", "x1": "high"}], None),
        ([{"x0": "sun"}, {"x0": lambda natural: natural}], None),
        ([{"x0": ["sun", "rain", "sun"]}, {"x0": ["rain", "sun", "rain"]}], None),
        # The noise below an intervention is other noise there: no world is the factual one.
        ([{"x0": "sun"}, {"x0": "rain"}], ("gumbel", "gumbel", "independent")),
    ],
)
def test_worlds_that_need_the_factual_one_beside_them(
    lm: sd.LanguageModel, worlds: list[dict[str, Any]], couplings: tuple[str, ...] | None
) -> None:
    assert as_worlds(worlds, structure(replace(STEPS, couplings=couplings), (lm,)), 3).grid is None


def test_noise_that_is_drawn_anew_upstream_of_all_interventions_is_shared(lm: sd.LanguageModel) -> None:
    program = replace(STEPS, couplings=("independent", "independent", "inverse_cdf"))
    worlds = as_worlds([{"x1": "high"}, {"x1": "low"}], structure(program, (lm,)))
    assert worlds.grid == (("x1",), (2,), (1, 0))

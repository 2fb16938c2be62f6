"""Laws of counterfactual worlds, over random programs and random language models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.dsl.intervention import Alternatives
from sdscm_jax.dsl.structure import structure
from sdscm_jax.dsl.worlds import WorldResults, as_worlds, run_once, run_worlds

from ..conftest import make_tiny_lm
from .programs import Program, programs

UNITS = 24
few = settings(max_examples=5, deadline=None, derandomize=True)


@given(program=programs(), data=st.data(), family=st.sampled_from(["llama", "gpt2"]), seed=st.integers(0, 3))
@few
def test_worlds(
    tiny_tokenizer: PreTrainedTokenizerFast, program: Program, data: st.DataObject, family: str, seed: int
) -> None:
    lm = make_tiny_lm(tiny_tokenizer, family, seed)
    treatment = data.draw(st.sampled_from(program.names))
    levels = program.options[program.names.index(treatment)]
    result = sd.simulate(program, seed, UNITS, lm, worlds=[{treatment: level} for level in levels])
    graph = result.graph
    below = graph.descendants(treatment)
    coupling = dict(zip(program.names, program.couplings or (), strict=True))
    # What the coupling draws anew, and what is downstream of that.
    anew = {name for name in below if coupling[name] == "independent"}
    anew |= {name for other in anew for name in graph.descendants(other)}
    reached = 0
    for k in range(len(levels)):
        world = 1 + k
        # Effectiveness.
        assert (result.values[treatment][:, world] == k).all()
        # Consistency: where the intervention is the factual value, nothing changes.
        same = result.values[treatment][:, 0] == k
        for name in program.names:
            values, log_probs = result.values[name], result.log_probs[name]
            if name not in anew:
                chex.assert_trees_all_equal(values[same, world], values[same, 0])
                chex.assert_trees_all_equal(log_probs[same, world], log_probs[same, 0])
            # What the intervention does not reach is bitwise equal.
            if name not in below and name != treatment:
                chex.assert_trees_all_equal(values[:, world], values[:, 0])
                chex.assert_trees_all_equal(log_probs[:, world], log_probs[:, 0])
            # Stability: an option whose odds fall against no rival stays.
            if name != treatment and (coupling[name] == "gumbel" or name not in below):
                rows = np.arange(UNITS)
                chosen = values[:, 0]
                change = log_probs[:, world] - log_probs[:, 0]
                kept = (change[rows, chosen][:, None] >= change).all(1)
                assert (values[kept, world] == chosen[kept]).all()
                reached += int(kept.sum())
    assert reached > 0 or set(coupling.values()) <= {"inverse_cdf", "independent"}


@given(program=programs(max_sites=5), data=st.data(), seed=st.integers(0, 3))
@few
def test_abduction(tiny_tokenizer: PreTrainedTokenizerFast, program: Program, data: st.DataObject, seed: int) -> None:
    lm = make_tiny_lm(tiny_tokenizer, "llama", seed)
    seen = sd.simulate(program, seed, UNITS, lm, logp=[])
    hidden = data.draw(st.sampled_from((None, *program.names)))
    evidence = {name: seen.values[name][:, 0] for name in program.names if name != hidden}
    treatment = data.draw(st.sampled_from(program.names))
    again = sd.simulate(program, 7, UNITS, lm, evidence=evidence, worlds=[{treatment: 0}], logp=[])
    below = again.graph.descendants(treatment)
    same = again.values[treatment][:, 0] == 0
    for name in program.names:
        # The noise replays the evidence, and what an intervention does not reach has it too.
        if name in evidence:
            chex.assert_trees_all_equal(again.values[name][:, 0], evidence[name])
        if name not in below and name != treatment:
            chex.assert_trees_all_equal(again.values[name][:, 1], again.values[name][:, 0])
        if "independent" not in (program.couplings or ()):
            chex.assert_trees_all_equal(again.values[name][same, 1], again.values[name][same, 0])


@given(program=programs(max_sites=4))
@few
def test_tabulated_is_in_graph(lm: sd.LanguageModel, program: Program) -> None:
    table = sd.tabulate(program, lm)
    worlds = [{program.names[0]: 0}, {program.names[0]: 1}]
    a, b = sd.simulate(program, 2, UNITS, lm, worlds=worlds), sd.simulate(table, 2, UNITS, worlds=worlds)
    for name in program.names:
        chex.assert_trees_all_close(a.log_probs[name], b.log_probs[name], atol=5e-5, rtol=0)
        # Two options that are as good as tied may change places.
        top = np.sort(a.log_probs[name], axis=-1)
        clear = (a.values[name] == b.values[name]).all(1)
        assert clear.mean() > 0.95, top


@given(program=programs(max_sites=3, couplings=("gumbel", "independent")), data=st.data())
@few
def test_reordering_options_changes_no_value(lm: sd.LanguageModel, program: Program, data: st.DataObject) -> None:
    shuffled = tuple(tuple(data.draw(st.permutations(options))) for options in program.options)
    other = replace(program, options=shuffled)
    a, b = (sd.simulate(p, 5, UNITS, lm, logp=[]).to_pandas() for p in (program, other))
    for name in program.names:
        assert a[name].astype(str).tolist() == b[name].astype(str).tolist()


# Not masked: what the walk of constrained decoding may do depends on all options.
@given(
    program=programs(
        max_sites=3,
        couplings=("gumbel", "independent"),
        scorings=("sequence", "option", "mean", "pmi", "reference"),
    ),
    data=st.data(),
)
@few
def test_an_option_that_does_not_win_changes_no_value(
    lm: sd.LanguageModel, program: Program, data: st.DataObject
) -> None:
    site = data.draw(st.integers(0, len(program.names) - 1))
    options = list(program.options)
    options[site] = (*options[site], "something else entirely")
    a = sd.simulate(program, 5, 60, lm, logp=[]).to_pandas()
    b = sd.simulate(replace(program, options=tuple(options)), 5, 60, lm, logp=[]).to_pandas()
    kept = b[f"x{site}"] != "something else entirely"
    assert kept.any()
    for name in program.names:
        assert a[name][kept].astype(str).tolist() == b[name][kept].astype(str).tolist()


@pytest.mark.parametrize("chunk", [1, 7, 20])
def test_a_unit_depends_on_nothing_but_its_number(lm: sd.LanguageModel, chunk: int) -> None:
    program = Program(((), (0,), (0, 1)), (("sun", "rain"), ("low", "high", "home"), ("Bob", "25")), ("It is {}.",) * 3)
    whole = sd.simulate(program, 1, 20, lm, worlds=[{"x1": "high"}])
    part = sd.simulate(program, 1, 13, lm, chunk=chunk)
    for name in program.names:
        chex.assert_trees_all_equal(whole.values[name][:13, :1], part.values[name])
        chex.assert_trees_all_close(whole.log_probs[name][:13, :1], part.log_probs[name], atol=2e-5, rtol=0)


def test_jitted_is_eager(lm: sd.LanguageModel) -> None:
    program = Program(((), (0,), (1,)), (("sun", "rain"), ("low", "high", "home"), ("Bob", "25")), ("It is {}.",) * 3)
    result = sd.simulate(program, jax.random.key(3), 4, lm)
    for i in range(4):
        key = jax.random.fold_in(jax.random.key(3), i)
        phrase = sd.handlers.exogenous(program, key)(lm)
        assert phrase.text == result.to_pandas()["x2"][i]


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
            chex.assert_trees_all_close(of_world, single.log_probs[name], atol=2e-5, rtol=0)
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

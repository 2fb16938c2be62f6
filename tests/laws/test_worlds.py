"""Laws of counterfactual worlds, over random programs and random language models."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd

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
    reached = 0
    for k in range(len(levels)):
        world = 1 + k
        # Effectiveness.
        assert (result.values[treatment][:, world] == k).all()
        # Consistency: where the intervention is the factual value, nothing changes.
        same = result.values[treatment][:, 0] == k
        for name in program.names:
            values, log_probs = result.values[name], result.log_probs[name]
            chex.assert_trees_all_equal(values[same, world], values[same, 0])
            chex.assert_trees_all_equal(log_probs[same, world], log_probs[same, 0])
            # What the intervention does not reach is bitwise equal.
            if name not in below and name != treatment:
                chex.assert_trees_all_equal(values[:, world], values[:, 0])
                chex.assert_trees_all_equal(log_probs[:, world], log_probs[:, 0])
            # Stability: an option whose odds fall against no rival stays.
            if name != treatment:
                rows = np.arange(UNITS)
                chosen = values[:, 0]
                change = log_probs[:, world] - log_probs[:, 0]
                kept = (change[rows, chosen][:, None] >= change).all(1)
                assert (values[kept, world] == chosen[kept]).all()
                reached += int(kept.sum())
    assert reached > 0


@given(program=programs(max_sites=3), data=st.data())
@few
def test_reordering_options_changes_no_value(lm: sd.LanguageModel, program: Program, data: st.DataObject) -> None:
    shuffled = tuple(tuple(data.draw(st.permutations(options))) for options in program.options)
    other = Program(program.parents, shuffled, program.templates, program.scoring)
    a, b = (sd.simulate(p, 5, UNITS, lm, logp=[]).to_pandas() for p in (program, other))
    for name in program.names:
        assert a[name].astype(str).tolist() == b[name].astype(str).tolist()


@given(program=programs(max_sites=3), data=st.data())
@few
def test_an_option_that_does_not_win_changes_no_value(
    lm: sd.LanguageModel, program: Program, data: st.DataObject
) -> None:
    site = data.draw(st.integers(0, len(program.names) - 1))
    options = list(program.options)
    options[site] = (*options[site], "something else entirely")
    a = sd.simulate(program, 5, 60, lm, logp=[]).to_pandas()
    b = sd.simulate(
        Program(program.parents, tuple(options), program.templates, program.scoring), 5, 60, lm, logp=[]
    ).to_pandas()
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

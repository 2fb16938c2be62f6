"""A program is what the function says at the call: a change of what it reads is a change of the program."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import sdscm_jax as sd
from sdscm_jax import testing

WORDS = ["low", "high"]


def given(state: Any, lm: Any) -> None:
    sd.sample("x", sd.Choice(lm, "It is {}.", WORDS, given=[state.text]))


def temperature(state: Any, lm: Any) -> None:
    sd.sample("x", sd.Choice(lm, "It is {}.", WORDS, given=["We look."], temperature=state.number))


def bias(state: Any, lm: Any) -> None:
    sd.sample("x", sd.Choice(lm, "It is {}.", WORDS, given=["We look."], bias=state.array))


def constant(state: Any, lm: Any) -> None:
    numpyro.sample("y", dist.Normal(state.number, 0.5))
    sd.sample("x", sd.Choice(lm, "It is {}.", WORDS))


def mapped(state: Any, lm: Any) -> None:
    x = sd.sample("x", sd.Choice(lm, "It is {}.", WORDS))
    numpyro.deterministic("y", x.map({"low": 0.0, "high": state.number}) + 1.0)


PROGRAMS = (given, temperature, bias, constant, mapped)


def fresh() -> SimpleNamespace:
    return SimpleNamespace(text="We look.", number=1.0, array=np.zeros(2, np.float32))


def change(state: Any) -> None:
    state.text, state.number = "We look again.", 3.0
    state.array[:] = [4.0, 0.0]


def closure(program: Callable, state: Any) -> Callable:
    return lambda lm: program(state, lm)


class Instance:
    def __init__(self, program: Callable, state: Any):
        self.program, self.state = program, state

    def __call__(self, lm: Any) -> None:
        self.program(self.state, lm)


def staged(model: Callable, lm: Any) -> Any:
    run = sd.simulate(model, 0, 40, *([] if lm is None else [lm]), worlds=[{"x": "high"}])
    return run.values, run.log_probs


def in_graph(model: Callable, lm: Any) -> Any:
    run = sd.simulate(model, 0, 40, lm, worlds=[{"x": "high"}], execution="in_graph")
    return run.values, run.log_probs


def compared(found: Any, expected: Any) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(found), jax.tree.leaves(expected)))


def words(lm: Any) -> None:
    sd.sample("x", sd.Choice(lm, "It is {}.", WORDS))


CASES = [(closure, program) for program in PROGRAMS] + [(Instance, mapped)]


@pytest.mark.parametrize(("make", "program"), CASES)
@pytest.mark.parametrize("run", [staged, pytest.param(in_graph, marks=pytest.mark.search)])
def test_simulate_runs_what_the_function_says_now(run: Callable, make: Callable, program: Callable) -> None:
    lm, state = testing.mock_lm(words), fresh()
    model = make(program, state)
    before = run(model, lm)
    assert compared(run(model, lm), before)
    change(state)
    after = run(model, lm)
    assert not compared(after, before)
    other = fresh()
    change(other)
    assert compared(after, run(make(program, other), lm))


@pytest.mark.parametrize("program", [given, bias, mapped])
def test_predictive_runs_what_the_function_says_now(program: Callable) -> None:
    lm, state = testing.mock_lm(words), fresh()
    draws = sd.Predictive(closure(program, state), num_samples=100)
    before = draws(jax.random.key(0), lm)
    assert compared(draws(jax.random.key(0), lm), before)
    change(state)
    assert not compared(draws(jax.random.key(0), lm), before)


@pytest.mark.parametrize("program", PROGRAMS)
def test_tables_are_of_what_the_function_says_now(program: Callable) -> None:
    lm, state = testing.mock_lm(words), fresh()
    table = sd.tabulate(closure(program, state), lm)
    before = staged(table, lm=None)
    change(state)
    after = staged(table, lm=None)
    assert not compared(after, before)
    assert compared(after, staged(sd.tabulate(closure(program, state), lm), lm=None))


@pytest.mark.slow
def test_a_policy_is_read_at_the_call() -> None:
    lm, state = testing.mock_lm(words), SimpleNamespace(option=0)

    def model(lm: Any) -> None:
        sd.sample("x", sd.Choice(lm, "It is {}.", WORDS))

    def policy(natural: Any) -> Any:
        return jnp.full_like(natural.index, state.option)

    for option in (0, 1, 0):
        state.option = option
        assert (sd.simulate(model, 0, 5, lm, worlds=[{"x": policy}]).values["x"][:, 1] == option).all()
        assert (sd.simulate(model, 0, 5, lm, do={"x": policy}).values["x"][:, 0] == option).all()


def test_kept_parts_of_the_program_as_it_was_are_refused(tmp_path: Any) -> None:
    lm, state = testing.mock_lm(words), fresh()
    model = closure(bias, state)
    sd.simulate(model, 0, 20, lm, out=tmp_path / "run", progress=False)
    change(state)
    with pytest.raises(sd.ResumeError, match="program"):
        sd.simulate(model, 0, 20, lm, out=tmp_path / "run", progress=False)

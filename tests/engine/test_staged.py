"""Staged execution: the values of the in-graph one, for the fewest tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.engine.forward import Forward, token_bytes
from sdscm_jax.engine.in_graph import InGraph

from ..conftest import make_tiny_lm
from ..programs import SCORINGS, Program, programs

# Two options whose odds differ by less may be exchanged by rounding (docs/execution.md).
TOLERANCE = 5e-4


def agree(a: sd.Simulation, b: sd.Simulation, program: Callable | None = None) -> None:
    """The same log-probabilities to rounding, and the same values up to the first near-tie of a unit."""
    assert a.worlds == b.worlds
    fine = np.ones((len(a), len(a.worlds)), bool)
    for name, values in a.values.items():
        if name in a.log_probs:
            x, y = a.log_probs[name][fine], b.log_probs[name][fine]
            np.testing.assert_allclose(x, y, atol=TOLERANCE, rtol=0)
        same = np.isclose(values, b.values[name], rtol=1e-4, atol=1e-4)
        fine &= same.reshape(*fine.shape, -1).all(-1)
    assert fine.mean() > 0.98


# Shrinking would compile programs for minutes.
@pytest.mark.slow
@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
@given(program=programs(max_sites=5), family=st.sampled_from(["llama", "gpt2"]), place=st.integers(0, 4))
def test_staged_is_in_graph(tiny_tokenizer: PreTrainedTokenizerFast, program: Program, family: str, place: int) -> None:
    model_lm, site = make_tiny_lm(tiny_tokenizer, family), place % len(program.names)
    worlds = [{program.names[site]: option} for option in program.options[site]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        staged, graph = (
            sd.simulate(program, 3, 24, model_lm, worlds=worlds, execution=execution, chunk=size)
            for execution, size in (("staged", 10), ("in_graph", 24))
        )
    agree(staged, graph)
    # Nothing that an intervention does not reach differs between worlds, to the bit.
    for name in set(program.names) - {program.names[site], *staged.graph.descendants(program.names[site])}:
        assert (staged.values[name] == staged.values[name][:, :1]).all()
        assert (staged.log_probs[name] == staged.log_probs[name][:, :1]).all()
    # A hidden state is not kept: two sites that ask after the very same text compute its last token twice.
    tokens, lower = staged.stats["tokens"], staged.stats["trie_tokens"]
    assert lower <= tokens == lower + staged.stats["recomputed"] <= staged.stats["positions"]
    assert staged.stats["recomputed"] <= 5 * len(program.names)


CHAIN = Program(
    ((), (0,), (0, 1), (0, 1, 2), (1, 3)),
    (("sun", "rain"), ("low", "high", "25"), ("home", "a long run"), ("Bob", "25"), ("low", "grade 1")),
    ("It is {}.", "We saw {} today.", "Today {} was there!", "Her score: {}%", "It is {}."),
)


def prefixes(lm: sd.LanguageModel, data: sd.Simulation, program: Program) -> int:
    """Distinct beginnings of texts that must go through the language model, counted from the texts."""
    found = set()
    start = (lm.codec.bos,) if lm.codec.bos is not None else ()
    for parents, options, template in zip(program.parents, program.options, program.templates, strict=True):
        for unit in range(len(data)):
            for world in range(len(data.worlds)):
                texts = [
                    program.templates[p].format(program.options[p][data.values[f"x{p}"][unit, world]]) for p in parents
                ]
                for option in options:
                    whole = lm.codec.encode(" ".join([*texts, template.format(option)]))
                    found |= {(*start, *whole[:i]) for i in range(1 - len(start), len(whole))}
    return len(found)


@pytest.mark.slow
def test_each_distinct_token_once(gpt2: sd.LanguageModel) -> None:
    data = sd.simulate(CHAIN, 0, 40, gpt2, worlds=[{"x1": "low"}, {"x1": "high"}])
    # x1 is not asked where it is set, but its options are scored in the factual world of every unit.
    assert data.stats["tokens"] == data.stats["trie_tokens"] == prefixes(gpt2, data, CHAIN)
    assert data.stats["recomputed"] == 0
    assert data.stats["reference_tokens"] > 20 * data.stats["tokens"]


@pytest.mark.slow
def test_little_memory_costs_tokens_and_changes_nothing(gpt2: sd.LanguageModel) -> None:
    worlds = [{"x1": "low"}, {"x1": "high"}]
    plenty = sd.simulate(CHAIN, 0, 40, gpt2, worlds=worlds)
    for slots in (60, 120):
        little = sd.simulate(CHAIN, 0, 40, gpt2, worlds=worlds, memory=slots * token_bytes(gpt2), chunk=16)
        agree(little, plenty)
        assert little.stats["trie_tokens"] == plenty.stats["trie_tokens"]
        assert little.stats["tokens"] == little.stats["trie_tokens"] + little.stats["recomputed"]
    with pytest.raises(sd.SDSCMError, match=r"memory holds the keys and values of 20 tokens.*at least memory=\d+"):
        sd.simulate(CHAIN, 0, 40, gpt2, memory=20 * token_bytes(gpt2))


@pytest.mark.slow
def test_the_store_pays_once(gpt2: sd.LanguageModel, lm: sd.LanguageModel, tmp_path: Path) -> None:
    first = sd.simulate(CHAIN, 0, 4, gpt2, store=tmp_path)
    again = sd.simulate(CHAIN, 0, 4, gpt2, store=tmp_path)
    assert first.stats["tokens"] > 0
    assert again.stats["tokens"] == 0
    assert again.stats["stored"] == first.stats["contexts"]
    for name, x in first.log_probs.items():
        np.testing.assert_array_equal(x, again.log_probs[name])
    more = sd.simulate(CHAIN, 0, 30, gpt2, store=tmp_path)
    assert 0 < more.stats["tokens"] < sd.simulate(CHAIN, 0, 30, gpt2).stats["tokens"]
    assert sd.simulate(CHAIN, 0, 4, lm, store=tmp_path).stats["stored"] == 0


@pytest.mark.slow
def test_out_of_memory_halves_the_calls(gpt2: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sd.simulate(CHAIN, 0, 20, gpt2)
    step, failures = Forward.step, [3]

    def failing(self: Forward, pool: Any, *rest: Any) -> Any:
        failures[0] -= 1
        if failures[0] == 0:
            jax.tree.map(lambda x: x.delete(), pool)
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return step(self, pool, *rest)

    monkeypatch.setattr(Forward, "step", failing)
    with pytest.warns(RuntimeWarning, match="out of memory; from now on 256 tokens"):
        found = sd.simulate(CHAIN, 0, 20, gpt2)
    agree(found, expected)
    assert found.stats["recomputed"] > 0


@pytest.mark.slow
def test_out_of_memory_halves_the_rows_in_graph(lm: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sd.simulate(CHAIN, 0, 12, lm, execution="in_graph", chunk=6)
    compile_, asked = InGraph._compile, []

    class Failing:
        tokens, lowered = 0, None

        def run(self, *inputs: Any) -> Any:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    def compiled(self: InGraph) -> Any:
        asked.append(self._together)
        return Failing() if len(asked) == 1 else compile_(self)

    monkeypatch.setattr(InGraph, "_compile", compiled)
    with pytest.warns(RuntimeWarning, match="out of memory; from now on 3 rows"):
        found = sd.simulate(CHAIN, 0, 12, lm, execution="in_graph", chunk=6)
    agree(found, expected)
    # Tokens are counted in graph too: every unit's own (but those that a call's rows share), with padding.
    assert asked == [6, 3]
    assert 0 < expected.stats["tokens"] <= found.stats["tokens"] < 1.05 * expected.stats["tokens"]


@pytest.mark.slow
def test_bfloat16(lm: sd.LanguageModel) -> None:
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), lm)
    staged, graph = (sd.simulate(CHAIN, 0, 16, low, execution=how) for how in ("staged", "in_graph"))
    assert staged.log_probs["x0"].dtype == np.float32
    np.testing.assert_allclose(staged.log_probs["x0"], graph.log_probs["x0"], atol=0.1)


def mixed(lm: sd.LanguageModel) -> None:
    """Numbers, words for numbers, a plate, and two templates alike."""
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    mood = sd.verbalize("mood", z, [0.0], ["low", "high"], "It is {}.")
    with numpyro.plate("many", 3):
        a = sd.sample("a", sd.Choice(lm, "We saw {} today.", ["sun", "rain"], given=[mood], temperature=jnp.exp(z) + 5))
    b = sd.sample(
        "b", sd.Choice(lm, "It is {}.", ["low", "high", "25"], given=["Bob was home.", mood], temperature=9.0)
    )
    numpyro.sample("y", dist.Normal(b.map({"low": 0.0, "high": 1.0, "25": 2.0}) + (a == "sun").sum(), 1.0))
    sd.sample("c", sd.Choice(lm, "It is {}.", ["low", "25"], given=[mood, b], bias=jnp.array([0.5, 0.0])))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"worlds": [{"mood": "high"}, {"b": lambda b: b.index}, {"z": 2.0}]},
        {"do": {"b": "25"}},
        {"worlds": [{"mood": "low", "b": sd.handlers.nested({"mood": "high"})}]},
        {"evidence": {"z": 0.3, "b": ["low", "high"] * 6}, "draws": 2, "worlds": [{"b": "25"}]},
    ],
    ids=["worlds", "do", "nested", "evidence"],
)
def test_every_kind_of_program(lm: sd.LanguageModel, options: dict[str, Any]) -> None:
    staged, graph = (sd.simulate(mixed, 1, 12, lm, execution=how, **options) for how in ("staged", "in_graph"))
    agree(staged, graph)
    assert staged.values["a"].shape[2:] == (3,)


@pytest.mark.slow
def test_what_cannot_be_staged_runs_in_graph(lm: sd.LanguageModel) -> None:
    with pytest.raises(sd.SDSCMError, match="did you mean 'staged'"):
        sd.simulate(CHAIN, 0, 3, lm, execution="stagd")
    with pytest.raises(sd.SDSCMError, match="in graph"):
        sd.simulate(CHAIN, 0, 3, lm, execution="in_graph", store="x")
    latent = {"evidence": {"x2": "home"}}
    agree(sd.simulate(CHAIN, 0, 4, lm, **latent), sd.simulate(CHAIN, 0, 4, lm, execution="in_graph", **latent))


@pytest.mark.slow
def test_a_nested_intervention_inside_the_model_runs_in_graph(lm: sd.LanguageModel) -> None:
    sites = {site.name: site.options for site in sd.graph(CHAIN, lm).sites}
    world = {"x1": sites["x1"][1], "x2": sd.handlers.nested({"x1": sites["x1"][0]})}
    inside = sd.simulate(sd.handlers.do(CHAIN, world), 0, 8, lm)
    agree(inside, sd.simulate(CHAIN, 0, 8, lm, do=world, execution="in_graph"))
    with pytest.raises(sd.SDSCMError, match="cannot run staged: site 'x2' has a nested intervention inside"):
        sd.simulate(sd.handlers.do(CHAIN, world), 0, 8, lm, execution="staged")


@pytest.mark.slow
def test_two_language_models(lm: sd.LanguageModel, gpt2: sd.LanguageModel) -> None:
    def model(one: sd.LanguageModel, other: sd.LanguageModel, third: sd.LanguageModel) -> None:
        x = sd.sample("x", sd.Choice(one, "It is {}.", ["low", "high"]))
        y = sd.sample("y", sd.Choice(other, "It is {}.", ["low", "high"], given=[x]))
        sd.sample("z", sd.Choice(third, "It is {}.", ["low", "high"], given=[x, y]))

    agree(*(sd.simulate(model, 0, 16, lm, gpt2, lm, execution=how) for how in ("staged", "in_graph")))


@pytest.mark.slow
def test_pmi_asks_without_context_once(gpt2: sd.LanguageModel) -> None:
    assert "pmi" in SCORINGS
    program = Program(CHAIN.parents, CHAIN.options, CHAIN.templates, "pmi")
    agree(*(sd.simulate(program, 0, 16, gpt2, execution=how) for how in ("staged", "in_graph")))

"""Evidence on free text, staged: read as in graph, for the fewest tokens, and replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro
import pytest

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.engine.forward import token_bytes
from sdscm_jax.engine.in_graph import InGraph
from sdscm_jax.engine.program import separate
from sdscm_jax.engine.simulate import prepare
from sdscm_jax.engine.staged import Staged
from sdscm_jax.handlers import couple

from .test_staged import TOLERANCE
from .test_staged_texts import agree

UNITS = 6
COUPLINGS = ("gumbel", "independent", "maximal", "hindsight(0.5)")


def seen(lm: sd.LanguageModel) -> None:
    """A choice, the text that is observed, and what reads it: a choice and a text."""
    sky = sd.sample("sky", sd.Choice(lm, "It is {}.", ["sun", "rain"]))
    warm = sky.map({"sun": 2.0, "rain": 0.7})
    note = sd.sample("note", sd.Text(lm, "We saw{}!", given=[sky], max_tokens=5, temperature=warm))
    walk = sd.sample("walk", sd.Choice(lm, "She is {}.", ["home", "high"], given=[sky, note], temperature=3.0))
    sd.sample("later", sd.Text(lm, "Today{}.", given=[note, walk], max_tokens=3))


NOTES = [" ok", " a run", " ok", "", " low", " ok"]
EVIDENCE: Mapping[str, Any] = {"sky": ["sun", "rain", "sun", "sun", "rain", "sun"], "note": NOTES}
WORLDS: Sequence[Mapping[str, Any]] = [{"sky": "rain"}, {"sky": "sun"}, {"walk": "home"}, {"note": " high"}]


def friends(lm: sd.LanguageModel) -> None:
    """A plate of observed texts, of which each member reads something else, at a temperature of its own."""
    heat = numpyro.sample("heat", numpyro.distributions.Uniform(0.5, 1.5))
    sky = sd.sample("sky", sd.Choice(lm, "It is {}.", ["sun", "rain"]))
    with numpyro.plate("friends", 2):
        friend = sd.sample("friend", sd.Choice(lm, "She goes {}.", ["low", "high"], given=[sky]))
        said = sd.sample("said", sd.Text(lm, "{}", given=[friend], max_tokens=4, stop=["!"], temperature=heat))
        sd.sample("end", sd.Choice(lm, "Her score: {}%", ["25", "low"], given=[said]))


OF_FRIENDS: Mapping[str, Any] = {
    "heat": np.array([0.6, 1.2, 0.9], np.float32),
    "sky": "sun",
    "friend": np.array([[0, 1], [1, 1], [0, 0]]),
    "said": [[" so", " ok"], ["", " ok"], [" ok", " low"]],
}


def both(
    program: Callable, lm: sd.LanguageModel, n: int = UNITS, **options: Any
) -> tuple[sd.Simulation, sd.Simulation]:
    staged = sd.simulate(program, 5, n, lm, execution="staged", **options)
    return staged, sd.simulate(program, 5, n, lm, execution="in_graph", **options)


@pytest.fixture(scope="module")
def run(lm: sd.LanguageModel) -> Callable[..., sd.Simulation]:
    return partial(sd.simulate, seen, 5, UNITS, lm, evidence=EVIDENCE, worlds=WORLDS, draws=2)


@pytest.fixture(scope="module")
def plain(run: Callable[..., sd.Simulation]) -> sd.Simulation:
    return run()


@pytest.mark.slow
def test_worlds_of_an_observed_text_are_those_in_graph(run: Callable[..., sd.Simulation], plain: sd.Simulation) -> None:
    assert "trie_tokens" in plain.stats
    agree(plain, run(execution="in_graph"))
    # The evidence, replayed; and a world that changes nothing of what it reads has it too.
    table = plain.to_pandas(logp=False)
    assert table["note"].tolist() == [x for x in NOTES for _ in range(2)]
    kept = plain.values["sky"][:, 0] == 1
    note = plain.values["note"]
    assert (note[kept, 1] == note[kept, 0]).all()
    assert (note[~kept, 1] != note[~kept, 0]).any()
    assert (note[:, 3] == note[:, 0]).all()


@pytest.mark.slow
@pytest.mark.parametrize("coupling", COUPLINGS[1:])
def test_couplings(lm: sd.LanguageModel, coupling: str) -> None:
    """In graph, and under an intervention that was there when the evidence arose."""
    program = couple(seen, coupling)
    agree(*both(program, lm, evidence=EVIDENCE, worlds=WORLDS, draws=2))
    under = {"do": {"sky": "sun"}, "evidence": {"note": NOTES}, "worlds": [{"sky": "rain"}, {"note": " high"}]}
    staged, graph = both(program, lm, **under)
    agree(staged, graph)
    assert staged.to_pandas(logp=False)["note"].tolist() == NOTES


@pytest.mark.slow
def test_a_share_of_noise_is_kept_as_in_graph(lm: sd.LanguageModel) -> None:
    """In graph too; one coupling of the slow tests, with less beside it."""

    def model(lm: sd.LanguageModel) -> None:
        sky = sd.sample("sky", sd.Choice(lm, "It is {}.", ["sun", "rain"], scoring="uniform"))
        warm = sky.map({"sun": 1.0, "rain": 0.95})
        sd.sample("note", sd.Text(lm, "We saw{}!", max_tokens=3, temperature=warm, coupling="hindsight(0.5)"))

    evidence, worlds = {"sky": "sun", "note": " ok"}, [{"sky": "rain"}]
    staged, graph = both(model, lm, n=24, evidence=evidence, worlds=worlds)
    agree(staged, graph)
    differ = (staged.values["note"][:, 1] != staged.values["note"][:, 0]).any(-1)
    assert 0 < differ.sum() < len(differ)


@pytest.mark.slow
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_plates_of_observed_texts(lm: sd.LanguageModel, coupling: str) -> None:
    worlds = [{"friend": "high"}, {"heat": 0.7}, {"sky": "rain"}]
    staged, graph = both(couple(friends, coupling), lm, n=3, evidence=OF_FRIENDS, worlds=worlds, draws=3)
    agree(staged, graph)
    assert staged.to_pandas(logp=False)["said[1]"].tolist() == np.repeat([" ok", " ok", " low"], 3).tolist()


def explained(program: Callable, lm: sd.LanguageModel, n: int, evidence: Mapping[str, Any]) -> list[np.ndarray]:
    """Log-probabilities of the evidence of units, staged and in graph."""
    run, _ = prepare(program, 5, n, (lm,), None, [], evidence, 1, ())
    rows = np.arange(n)
    ways = Staged(run, separate(run), n, 1 << 28), InGraph(run, n, 1 << 28)
    return [np.asarray(way(rows)[1].log_prob) for way in ways]


def test_evidence_is_as_likely_as_its_tokens(lm: sd.LanguageModel) -> None:
    """By logits of whole texts, one after another, with NumPy."""

    def model(lm: sd.LanguageModel) -> None:
        sky = sd.sample("sky", sd.Choice(lm, "It is {}.", ["sun", "rain"], scoring="uniform"))
        note = sd.Text(lm, "We saw{}!", given=[sky], max_tokens=5, temperature=2.0)
        sd.sample("note", note)

    evidence = {"sky": ["sun", "rain", "sun"], "note": [" ok", " a run", ""]}
    staged, graph = explained(model, lm, 3, evidence)
    data = sd.simulate(model, 0, 3, lm, evidence=evidence)
    logits = jax.jit(lambda lm, row: lm.logits(row))
    automaton = data.graph["note"].phrase.form.automaton
    for unit, sky in enumerate(evidence["sky"]):
        tokens = [int(token) for token in data.values["note"][unit, 0] if token >= 0]
        before = lm.codec.encode(f"It is {sky}. We saw")
        row = np.zeros(32, np.int32)
        row[: len(before) + len(tokens)] = [*before, *tokens]
        scores = np.asarray(logits(lm, row), float)[len(before) - 1 :] / 2.0
        total, state = np.log(0.5), 0
        for step, token in enumerate(tokens):
            allowed = automaton.next[state, automaton.classes] >= 0
            total += scores[step, token] - np.log(np.exp(scores[step][allowed]).sum())
            state = automaton.next[state, automaton.classes[token]]
        assert staged[unit] == pytest.approx(total, abs=TOLERANCE)
        assert graph[unit] == pytest.approx(total, abs=TOLERANCE)


@pytest.mark.slow
def test_evidence_of_plates_is_as_likely_as_in_graph(lm: sd.LanguageModel) -> None:
    staged, graph = explained(friends, lm, 3, OF_FRIENDS)
    np.testing.assert_allclose(staged, graph, atol=TOLERANCE, rtol=0)


@pytest.mark.slow
def test_an_observation_of_the_program_counts_as_evidence(lm: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel) -> None:
        sky = sd.sample("sky", sd.Choice(lm, "It is {}.", ["sun", "rain"]))
        note = sd.sample("note", sd.Text(lm, "We saw{}!", given=[sky], max_tokens=4), obs=" ok")
        sd.sample("walk", sd.Choice(lm, "She is {}.", ["home", "high"], given=[note]))

    evidence = {"sky": ["sun", "rain"], "walk": "home"}
    np.testing.assert_allclose(*explained(model, lm, 2, evidence), atol=TOLERANCE, rtol=0)
    agree(*both(model, lm, n=2, evidence=evidence, worlds=[{"sky": "rain"}]))


def test_impossible_texts_are_refused(lm: sd.LanguageModel) -> None:
    """A token that the law leaves out; and tokens that go on where the text is over."""

    def model(lm: sd.LanguageModel) -> None:
        sd.sample("note", sd.Text(lm, "We saw{}!", max_tokens=4, top_k=1))

    likely = sd.simulate(model, 0, 1, lm).values["note"][0, 0]
    rare, open_ended = np.where(likely >= 0, (likely + 1) % 50, -1), np.r_[likely[:2], -1, -1]
    for note in (rare, open_ended):
        for execution in ("staged", "in_graph"):
            with pytest.raises(sd.EvidenceError, match=r"the evidence has probability 0 under the model \(row 1\)"):
                sd.simulate(model, 0, 2, lm, execution=execution, evidence={"note": np.stack([likely, note])})


def test_each_distinct_token_once(lm: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel) -> None:
        sd.sample("note", sd.Text(lm, "We saw{}!", max_tokens=6))

    notes = [" ok", " a run", " a long run", " ok"]
    data = sd.simulate(model, 0, 4, lm, evidence={"note": notes}, draws=3)
    texts = {tuple(int(token) for token in row if token >= 0) for row in data.values["note"][:, 0]}
    # The last token of a text is not read; nor is the text written again.
    whole = [(*lm.codec.encode("We saw"), *text[:-1]) for text in texts]
    needed = {text[:i] for text in whole for i in range(1, len(text) + 1)}
    assert data.stats["tokens"] == data.stats["trie_tokens"] == len(needed)
    assert data.stats["reads"] == len(
        {(*lm.codec.encode("We saw"), *text[:i]) for text in texts for i in range(len(text))}
    )


@pytest.mark.slow
def test_how_texts_are_batched_changes_none(
    run: Callable[..., sd.Simulation], lm: sd.LanguageModel, plain: sd.Simulation
) -> None:
    little = run(memory=100 * token_bytes(lm))
    for other in (run(chunk=5), little):
        agree(other, plain)
        assert other.stats["trie_tokens"] == plain.stats["trie_tokens"]
    assert little.stats["calls"] > plain.stats["calls"]


@pytest.mark.slow
def test_the_store_pays_them_once(run: Callable[..., sd.Simulation], plain: sd.Simulation, tmp_path: Path) -> None:
    first, again = run(store=tmp_path), run(store=tmp_path)
    assert first.stats["tokens"] > again.stats["tokens"] == 0
    for name, values in first.values.items():
        np.testing.assert_array_equal(values, again.values[name])
        np.testing.assert_array_equal(values, plain.values[name])


@pytest.mark.slow
def test_a_lost_part_is_written_again(run: Callable[..., sd.Simulation], tmp_path: Path) -> None:
    whole = run(out=tmp_path, chunk=5)
    table, part = whole.to_pandas(), tmp_path / "part-00001.parquet"
    before = part.read_bytes()
    part.unlink()
    assert run(out=tmp_path, chunk=5).to_pandas().equals(table)
    assert part.read_bytes() == before


@pytest.mark.slow
def test_a_plan_is_an_upper_bound(lm: sd.LanguageModel, plain: sd.Simulation) -> None:
    cost = sd.plan(seen, UNITS, lm, evidence=EVIDENCE, worlds=WORLDS, draws=2, measure=False)
    assert plain.stats["tokens"] <= cost.tokens


def test_a_plan_knows_what_a_text_costs_that_is_only_read(lm: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel) -> None:
        sd.sample("note", sd.Text(lm, "We saw{}!", max_tokens=6))

    evidence = {"note": " a run"}
    exact = sd.plan(model, 3, lm, evidence=evidence, measure=False)
    assert exact.tokens == sd.simulate(model, 0, 3, lm, evidence=evidence).stats["tokens"]


def test_a_language_model_that_says_nothing(lm: sd.LanguageModel) -> None:
    broken = jax.tree.map(lambda x: x * np.nan if x.ndim == 1 else x, lm)

    def model(lm: sd.LanguageModel) -> None:
        sd.sample("note", sd.Text(lm, "We saw{}!", max_tokens=3))

    with pytest.raises(sd.ScoreError, match=r"site 'note': .* gives the token after 'We saw' no probabilities"):
        sd.simulate(model, 0, 2, broken, execution="staged", evidence={"note": " ok"})


@pytest.mark.slow
def test_noise_given_a_text_is_that_of_units_that_wrote_it(lm: sd.LanguageModel) -> None:
    """Counterfactuals of an observed text are those of the units of a large run that happened to write it."""

    def model(lm: sd.LanguageModel) -> None:
        sky = sd.sample("sky", sd.Choice(lm, "It is {}.", ["sun", "rain"], scoring="uniform"))
        warm = sky.map({"sun": 2.0, "rain": 0.3})
        sd.sample("note", sd.Text(lm, "We saw{}!", max_tokens=2, top_k=3, temperature=warm))

    mock = testing.mock_lm(model)
    worlds = [{"sky": "rain"}]
    many = sd.simulate(model, 1, 3000, mock, worlds=worlds).values
    sun = many["sky"][:, 0] == 0
    notes, counts = np.unique(many["note"][sun, 0], axis=0, return_counts=True)
    note = notes[np.argmax(counts)]
    found = many["note"][sun & (many["note"][:, 0] == note).all(-1), 1]
    evidence = {"sky": "sun", "note": note}
    drawn = sd.simulate(model, 2, 1, mock, evidence=evidence, worlds=worlds, draws=1500).values["note"]
    assert (drawn[:, 0] == note).all()
    for text in notes:
        a, b = ((rows == text).all(-1) for rows in (found, drawn[:, 1]))
        assert a.mean() == pytest.approx(b.mean(), abs=4 * 0.5 * np.sqrt(1 / len(a) + 1 / len(b)))

"""Free text, staged: what in graph is written, for the fewest tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro
import pytest

import sdscm_jax as sd
from sdscm_jax.engine.forward import token_bytes
from sdscm_jax.handlers import couple

from ..needs import needs
from .test_staged import TOLERANCE

WORLDS = [{"sky": "rain"}, {"note": " low"}, {"walk": "home"}, {"sky": "sun", "later": "It"}]
UNITS = 24


def diary(lm: sd.LanguageModel) -> None:
    """Choice, text, choice, text, choice; a plate of choices and one of texts; a number on the way."""
    sky = sd.sample("sky", sd.Choice(lm, "It is {}.", ["sun", "rain", "low"]))
    note = sd.sample(
        "note",
        sd.Text(lm, "We saw{} today!", given=[sky], max_tokens=5, temperature=0.5, stop=["!", "a", "s", "t", "i"]),
    )
    walk = sd.sample("walk", sd.Choice(lm, "She is {}.", ["home", "high"], given=[sky, note], temperature=3.0))
    heat = numpyro.sample("heat", numpyro.distributions.Uniform(0.3, 1.0))
    with numpyro.plate("friends", 2):
        friend = sd.sample("friend", sd.Choice(lm, "She goes {}.", ["low", "high"], given=[walk], temperature=9.0))
        sd.sample("said", sd.Text(lm, "{}", given=[friend, note], max_tokens=3, top_k=20, temperature=heat))
    later = sd.sample("later", sd.Text(lm, "Today {}.", given=[note, walk], max_tokens=4, top_p=0.9))
    sd.sample("end", sd.Choice(lm, "Her score: {}%", ["25", "low"], given=[note, walk, later]))


def read(lm: sd.LanguageModel) -> None:
    sky = sd.sample("sky", sd.Choice(lm, "It is {}.", ["sun", "rain"], temperature=50.0))
    note = sd.sample("note", sd.Text(lm, "We saw{}!", given=[sky], max_tokens=5, stop=["!", "a", "e"]))
    sd.sample("walk", sd.Choice(lm, "She is {}.", ["home", "high"], given=[sky, note], temperature=3.0))


def both(program: Callable, lm: sd.LanguageModel, **options: Any) -> tuple[sd.Simulation, sd.Simulation]:
    staged = sd.simulate(program, 5, UNITS, lm, **options)
    assert "trie_tokens" in staged.stats
    return staged, sd.simulate(program, 5, UNITS, lm, execution="in_graph", **options)


def agree(a: sd.Simulation, b: sd.Simulation) -> None:
    """All values the same, but for units in which two tokens or options tie; those have the same up to there."""
    assert a.worlds == b.worlds
    fine = np.ones((len(a), len(a.worlds)), bool)
    for name, values in a.values.items():
        if name in a.log_probs:
            np.testing.assert_allclose(a.log_probs[name][fine], b.log_probs[name][fine], atol=TOLERANCE, rtol=0)
        same = np.isclose(values, b.values[name], rtol=1e-5, atol=0)
        fine &= same.reshape(*fine.shape, -1).all(-1)
    assert fine.mean() > 0.98


@pytest.fixture(scope="module")
def plain(lm: sd.LanguageModel) -> sd.Simulation:
    return sd.simulate(read, 5, UNITS, lm, worlds=WORLDS[:1])


def test_texts_are_those_in_graph(lm: sd.LanguageModel, plain: sd.Simulation) -> None:
    agree(plain, sd.simulate(read, 5, UNITS, lm, worlds=WORLDS[:1], execution="in_graph"))
    assert len(set((plain.values["note"] >= 0).sum(-1).ravel().tolist())) > 2


@pytest.mark.slow
def test_many_kinds_of_texts_are_those_in_graph(lm: sd.LanguageModel) -> None:
    twins, graph = both(diary, lm, worlds=WORLDS)
    agree(twins, graph)
    lengths = (twins.values["note"][:, 0] >= 0).sum(-1)
    assert len(set(lengths.tolist())) > 1
    # A world that reaches nothing of a site has the very same text; where words before differ, it may part.
    assert (twins.values["note"][:, 3] == twins.values["note"][:, 0]).all()
    assert (twins.values["note"][:, 1] != twins.values["note"][:, 0]).any()
    table = twins.to_pandas(logp=False)
    assert set(table[f"note|{twins.worlds[2]}"]) == {" low"}
    # Each member of a plate has its own column.
    assert table["said[1]"].tolist() == twins.graph["said"].phrase.at(twins.values["said"][:, 0, 1]).text.tolist()


def test_each_distinct_token_once(lm: sd.LanguageModel, plain: sd.Simulation) -> None:
    needed = set()
    for unit, world in np.ndindex(len(plain), len(plain.worlds)):
        sky, tokens = ("sun", "rain")[plain.values["sky"][unit, world]], plain.values["note"][unit, world]
        tokens = tokens[tokens >= 0].tolist()
        before = lm.codec.encode(f"It is {sky}. We saw")
        # What ended a text, or was its last token, is not read by its writer; all of it is by the choice after it.
        rest = "" if lm.codec.decode(tuple(tokens)).endswith("!") else "!"
        assert plain.graph["note"].phrase.at(plain.values["note"][unit, world]).sentence.endswith("!")
        sentence = (*before, *tokens, *(lm.codec.encode(rest) if rest else ()))
        asked = [lm.codec.encode(f" She is {option}.") for option in ("home", "high")]
        whole = [(*sentence, *question[:-1]) for question in asked]
        needed |= {text[:i] for text in whole for i in range(1, len(text) + 1)}
    options = [lm.codec.encode(f"It is {x}.") for x in ("sun", "rain")]
    needed |= {text[:i] for text in options for i in range(1, len(text))}
    stats = plain.stats
    assert stats["trie_tokens"] == stats["tokens"] - stats["recomputed"] == len(needed)
    assert stats["written"] == (plain.values["note"] >= 0).sum()


def test_worlds_that_say_the_same_cost_nothing(lm: sd.LanguageModel, plain: sd.Simulation) -> None:
    """Half of the units have the text of a world already; of the others' texts only what parts is new."""
    one = sd.simulate(read, 5, UNITS, lm)
    rains = (plain.values["sky"][:, 0] == 1).mean()
    assert 0.2 < rains < 0.8
    assert plain.stats["written"] > 1.9 * one.stats["written"]
    assert plain.stats["tokens"] - one.stats["tokens"] < one.stats["tokens"]


@pytest.mark.slow
def test_how_texts_are_batched_changes_none(lm: sd.LanguageModel, plain: sd.Simulation) -> None:
    """Chunks; and a pool that holds a few texts at a time, the others waiting until one ends."""
    chunks = sd.simulate(read, 5, UNITS, lm, worlds=WORLDS[:1], chunk=8)
    little = sd.simulate(read, 5, UNITS, lm, worlds=WORLDS[:1], memory=60 * token_bytes(lm))
    for other in (chunks, little):
        agree(other, plain)
        assert other.stats["trie_tokens"] == plain.stats["trie_tokens"]
    assert little.stats["calls"] > plain.stats["calls"]
    with pytest.raises(sd.SDSCMError, match=r"memory holds the keys and values of 20 tokens.*at least memory=\d+"):
        sd.simulate(read, 5, UNITS, lm, memory=20 * token_bytes(lm))


@pytest.mark.slow
def test_the_store_pays_texts_once(lm: sd.LanguageModel, plain: sd.Simulation, tmp_path: Path) -> None:
    def run(n: int, key: int = 5) -> sd.Simulation:
        return sd.simulate(read, key, n, lm, worlds=WORLDS[:1], store=tmp_path, chunk=8)

    first, again = run(8), run(8)
    assert first.stats["tokens"] > again.stats["tokens"] == 0
    np.testing.assert_array_equal(first.values["note"], again.values["note"])
    more = run(UNITS)
    assert 0 < more.stats["tokens"] < plain.stats["tokens"]
    agree(more, plain)
    # Other noise writes other texts.
    assert run(8, key=6).stats["tokens"] > 0


@pytest.mark.slow
def test_a_lost_part_is_written_again(lm: sd.LanguageModel, tmp_path: Path) -> None:
    options: Mapping[str, Any] = {"worlds": WORLDS[:1], "out": tmp_path, "chunk": 8}
    whole = sd.simulate(read, 5, 20, lm, **options)
    table, part = whole.to_pandas(), tmp_path / "part-00001.parquet"
    before = part.read_bytes()
    part.unlink()
    again = sd.simulate(read, 5, 20, lm, **options)
    assert part.read_bytes() == before
    assert again.to_pandas().equals(table)
    assert again.text(9, 1) == whole.text(9, 1)


def test_a_plan_is_an_upper_bound(lm: sd.LanguageModel, plain: sd.Simulation) -> None:
    cost = sd.plan(read, UNITS, lm, worlds=WORLDS[:1], measure=False)
    assert plain.stats["tokens"] <= cost.tokens
    # Every text is as long as it may be, and parts from the others at once.
    assert cost.sites.loc["note", "contexts"] >= UNITS
    assert cost.sites.loc["note", "tokens"] >= 5 * cost.sites.loc["note", "contexts"]


@pytest.mark.slow
def test_texts_of_independent_worlds(lm: sd.LanguageModel) -> None:
    agree(*both(couple(read, "independent"), lm, worlds=WORLDS[:1]))


@pytest.mark.slow
def test_patterns(lm: sd.LanguageModel) -> None:
    needs("outlines_core")

    def form(lm: sd.LanguageModel) -> None:
        age = sd.sample("age", sd.Text(lm, "age: {}", max_tokens=8, pattern=r"[24]\d", temperature=5.0))
        sd.sample("said", sd.Text(lm, "He said {}!", given=[age], max_tokens=12, pattern=["yes", "no", "not now"]))

    agree(*both(form, lm, worlds=[{"age": "25"}]))


def test_what_stays_in_graph(lm: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel) -> None:
        sd.sample("note", sd.Text(lm, "We saw{}!", max_tokens=4))

    with pytest.raises(sd.SDSCMError, match=r"cannot run staged: site 'note' is free text that there is evidence on"):
        sd.simulate(model, 0, 2, lm, execution="staged", evidence={"note": " ok"})


def test_a_language_model_that_says_nothing(lm: sd.LanguageModel) -> None:
    broken = jax.tree.map(lambda x: x * np.nan if x.ndim == 1 else x, lm)

    def model(lm: sd.LanguageModel) -> None:
        sd.sample("note", sd.Text(lm, "We saw{}!", max_tokens=3))

    with pytest.raises(sd.ScoreError, match=r"site 'note': .* gives the token after 'We saw' no probabilities"):
        sd.simulate(model, 0, 2, broken)

"""Free text that nobody saw, given what it caused: its posterior by enumeration, counterfactuals by rejection."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.dsl.analysis.particles import _looks
from sdscm_jax.dsl.analysis.structure import structure
from sdscm_jax.handlers import abduct, counterfactual, do, exogenous

TOP, LENGTH = 3, 2
JUDGE = ["home", "out", "up"]


def ward(lm: sd.LanguageModel) -> sd.Phrase:
    topic = sd.sample("topic", sd.Choice(lm, "It is {}.", ["sun", "rain"], scoring="uniform", bias=[0.0, 0.5]))
    note = sd.Text(lm, "We saw{}!", max_tokens=LENGTH, top_k=TOP, temperature=topic.map({"sun": 2.0, "rain": 0.3}))
    return sd.sample("judge", sd.Choice(lm, "She is {}.", JUDGE, given=[sd.sample("note", note)], temperature=0.2))


@pytest.fixture(scope="module")
def lm() -> sd.LanguageModel:
    return testing.mock_lm(ward)


@pytest.fixture(scope="module")
def table(lm: sd.LanguageModel) -> tuple[list[tuple[int, tuple[int, ...]]], np.ndarray]:
    """Every topic and note, and their probability together with each verdict ``[cases, 3]``, written out."""
    start, end = lm.codec.encode("We saw"), lm.codec.end
    logits = jax.jit(lambda lm, row: lm.logits(row))
    cases: list[tuple[int, tuple[int, ...]]] = []
    chances: list[float] = []
    prior = np.exp([0.0, 0.5]) / np.exp([0.0, 0.5]).sum()
    for topic, warm in enumerate((2.0, 0.3)):
        todo: list[tuple[tuple[int, ...], float]] = [((), float(prior[topic]))]
        while todo:
            text, chance = todo.pop()
            if len(text) == LENGTH or text[-1:] == (end,):
                cases.append((topic, (*text, *(-1,) * (LENGTH - len(text)))))
                chances.append(chance)
                continue
            row = np.zeros(16, np.int32)
            row[: len(start) + len(text)] = [*start, *text]
            scores = np.asarray(logits(lm, row), float)[len(start) + len(text) - 1] / warm
            best = np.argsort(-scores)[:TOP]
            probs = np.exp(scores[best]) / np.exp(scores[best]).sum()
            todo += [((*text, int(t)), chance * p) for t, p in zip(best, probs, strict=True)]
    told = {"topic": np.array([t for t, _ in cases]), "note": np.array([n for _, n in cases], np.int32)}
    verdicts = np.exp(sd.simulate(ward, 0, len(cases), lm, do=told).log_probs["judge"][:, 0].astype(float))
    return cases, np.array(chances)[:, None] * verdicts


def check(counts: np.ndarray, chances: np.ndarray) -> None:
    """By chi-square; what is rare goes together."""
    expected = chances / chances.sum() * counts.sum()
    often = expected >= 5
    seen = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    if wanted[-1] < 1e-9:
        seen, wanted = seen[:-1], wanted[:-1]
    assert stats.chisquare(seen, wanted * (seen.sum() / wanted.sum())).pvalue > 1e-4


def numbers(data: sd.Simulation, cases: list, world: int = 0) -> np.ndarray:
    place = {case: i for i, case in enumerate(cases)}
    rows = zip(data.values["topic"][:, world].tolist(), data.values["note"][:, world].tolist(), strict=True)
    return np.array([place[topic, tuple(note)] for topic, note in rows])


@pytest.fixture(scope="module", params=[(400, 32), pytest.param((600, 128), marks=pytest.mark.search)], ids=str)
def seen(lm: sd.LanguageModel, request: pytest.FixtureRequest) -> sd.Simulation:
    draws, particles = request.param
    how: Any = {"worlds": [{"topic": "sun"}], "draws": draws, "particles": particles}
    return sd.simulate(ward, 1, 1, lm, evidence={"judge": "out"}, **how)


@pytest.mark.slow
def test_the_posterior_is_that_of_enumeration(seen: sd.Simulation, table: Any) -> None:
    cases, chances = table
    assert (seen.values["judge"][:, 0] == 1).all()
    assert len(cases) > 10
    check(np.bincount(numbers(seen, cases), minlength=len(cases)), chances[:, 1])
    # Not the prior, nor what a look at the beginning alone would say.
    with pytest.raises(AssertionError):
        check(np.bincount(numbers(seen, cases), minlength=len(cases)), chances.sum(1))
    assert 2 <= seen.stats["ess_least"] <= seen.stats["ess_mean"] <= seen.stats["particles"]


@pytest.mark.slow
def test_counterfactuals_are_those_of_rejection_sampling(lm: sd.LanguageModel, seen: sd.Simulation, table: Any) -> None:
    cases, _ = table
    units = sd.simulate(ward, 2, 4000, lm, worlds=[{"topic": "sun"}], logp=[])
    kept = units.values["judge"][:, 0] == 1
    assert kept.mean() > 0.1
    for site in ("note", "judge"):
        ours, theirs = (
            numbers(data, cases, 1) if site == "note" else data.values["judge"][:, 1] for data in (seen, units)
        )
        size = max(ours.max(), theirs.max()) + 1
        counts = np.array([np.bincount(x, minlength=size) for x in (ours, theirs[kept])])
        often = counts.sum(0) >= 12
        counts = np.column_stack([counts[:, often], counts[:, ~often].sum(1) + 1])
        assert stats.chi2_contingency(counts).pvalue > 1e-4
    # The very unit: where the world sets what was so, nothing changes.
    same = seen.values["topic"][:, 0] == 0
    assert (seen.values["note"][same, 0] == seen.values["note"][same, 1]).all()
    assert (seen.values["judge"][same, 1] == 1).all()
    assert (seen.values["judge"][~same, 1] != 1).any()


@pytest.mark.slow
def test_handlers_find_the_same_unit(lm: sd.LanguageModel) -> None:
    evidence, key = {"judge": "out"}, jax.random.fold_in(jax.random.key(1), 0)
    first = sd.simulate(ward, 1, 1, lm, evidence=evidence, worlds=[{"topic": "sun"}], particles=32)

    @jax.jit
    def both(key: jax.Array, lm: sd.LanguageModel) -> Any:
        unit = do(abduct(ward, evidence, key, particles=32), {"topic": "sun"})
        twin = counterfactual(ward, {"topic": "sun"}, evidence=evidence, particles=32)
        return unit(lm).index, exogenous(twin, key)(lm).index

    assert [int(x) for x in both(key, lm)] == [first.values["judge"][0, 1]] * 2


@pytest.mark.slow
def test_how_likely_the_evidence_was(lm: sd.LanguageModel, table: Any) -> None:
    found = jax.jit(
        lambda key, lm: jax.vmap(lambda key: abduct(ward, {"judge": "out"}, key, particles=64).posterior(lm)[1:])(key)
    )(jax.random.split(jax.random.key(0), 60), lm)
    # Unbiased, whatever the looks said.
    each = np.exp(np.asarray(found[0], float))
    error = each.std() / np.sqrt(len(each))
    assert each.mean() == pytest.approx(table[1][:, 1].sum(), abs=4 * error)
    assert error < 0.02


@pytest.mark.slow
def test_evidence_that_no_particle_explains(lm: sd.LanguageModel) -> None:
    def hopeless(lm: sd.LanguageModel) -> None:
        note = sd.sample("note", sd.Text(lm, "We saw{}!", max_tokens=4))
        bias = jnp.where(note == "zzzz", jnp.array([0.0, 0.0]), jnp.array([-jnp.inf, 0.0]))
        sd.sample("judge", sd.Choice(lm, "She is {}.", ["home", "out"], scoring="uniform", bias=bias))

    with pytest.raises(
        sd.EvidenceError, match=r"\('note'\) .*row 1\), and of 16 particles none explains it. Give more"
    ):
        sd.simulate(hopeless, 0, 2, lm, evidence={"judge": ["out", "home"]}, particles=16)
    with pytest.raises(sd.EvidenceError, match="particles is an integer of at least 16, got 2"):
        sd.simulate(hopeless, 0, 2, lm, evidence={"judge": "out"}, particles=2)


def story(lm: sd.LanguageModel) -> None:
    """Two texts, the second after the first, and causes of other kinds before, between and behind them."""
    topic = sd.sample("topic", sd.Choice(lm, "It is {}.", ["sun", "rain"], scoring="uniform"))
    with numpyro.plate("people", 2):
        sd.sample("aside", sd.Text(lm, "Aside{}!", max_tokens=2, top_k=2))
        first = sd.sample("first", sd.Text(lm, "We saw{}!", given=[topic], max_tokens=2, top_k=2))
        mood = numpyro.sample("mood", dist.Normal(0.0, 1.0))
        second = sd.sample("second", sd.Text(lm, "They said{}!", given=[first], max_tokens=5, top_k=2))
        said = sd.sample("said", sd.Choice(lm, "She is {}.", ["up", "out"], given=[second], temperature=0.4))
        bias = jnp.stack([mood, jnp.zeros_like(mood)], -1)
        sd.sample("judge", sd.Choice(lm, "He is {}.", ["home", "out"], given=[said, first], temperature=0.4, bias=bias))


def test_what_is_kept_at_each_look() -> None:
    lm = testing.mock_lm(story)
    sites = {site.name: site for site in structure(story, (lm,))}
    looks = _looks([sites[name] for name in ("topic", "first", "mood", "second", "said")])
    assert {name: x.tolist() for name, x in looks.until.items()} == {
        "first": [1, 2, 2, 2, 2, 2],
        "second": [5, 5, 2, 3, 4, 5],
    }
    assert {name: x.tolist() for name, x in looks.kept.items()} == {
        "topic": [0, 1, 1, 1, 1, 1],
        "first": [0, 1, 2, 2, 2, 2],
        "mood": [0, 0, 0, 1, 1, 1],
        "second": [0, 0, 0, 2, 3, 4],
        "said": [0, 0, 0, 0, 0, 0],
    }


@pytest.mark.slow
def test_causes_of_all_kinds_go_together() -> None:
    """Against rejection sampling: the causes, and what would have been."""
    lm = testing.mock_lm(story)
    how: Any = {"worlds": [{"topic": "sun"}], "logp": []}
    ours = sd.simulate(story, 1, 1, lm, evidence={"judge": ["home", "out"]}, draws=100, particles=32, **how).values
    units = sd.simulate(story, 2, 2000, lm, **how).values
    assert (ours["judge"][:, 0] == [0, 1]).all()
    kept = (units["judge"][:, 0] == [0, 1]).all(1)
    assert kept.mean() > 0.05
    for member in (0, 1):
        mood = ours["mood"][:, 0, member], units["mood"][kept, 0, member]
        assert stats.ks_2samp(*mood).pvalue > 1e-4
        for site, world in (("first", 0), ("second", 0), ("said", 0), ("first", 1), ("judge", 1)):
            of = [x[site][:, world, member] for x in (ours, {site: units[site][kept]})]
            codes = [x[..., 0] * 300 + x[..., 1] if site in ("first", "second") else x for x in of]
            names = np.unique(np.concatenate(codes))
            counts = np.array([[(x == name).sum() for name in names] for x in codes])
            often = counts.sum(0) >= 12
            assert stats.chi2_contingency(counts[:, often]).pvalue > 1e-4, (site, world, member)
    assert (ours["mood"][:, 0] == ours["mood"][:, 1]).all()

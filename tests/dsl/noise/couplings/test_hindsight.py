"""Couplings of free text, token by token, against the joint law of two worlds' texts written out by enumeration."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from scipy import stats

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.dsl.noise.couplings.hindsight import Hindsight
from sdscm_jax.dsl.noise.couplings.registry import COUPLINGS, parse_coupling
from sdscm_jax.engine.forward import token_bytes
from sdscm_jax.handlers import counterfactual, couple, do, exogenous

from ....dice import die

UNITS, TOP, LENGTH = 1500, 3, 2
WORLDS = [{"sky": "sun"}, {"sky": "rain"}]


def sky_of(lm: sd.LanguageModel) -> sd.Phrase:
    return sd.sample("sky", sd.Choice(lm, "It is {}.", ["sun", "rain"], scoring="uniform"))


def walk(lm: sd.LanguageModel) -> sd.Phrase:
    sky = sky_of(lm)
    # What is written in the sun is warmer: the same few tokens, with other probabilities.
    warm = sky.map({"sun": 2.0, "rain": 0.3})
    return sd.sample("note", sd.Text(lm, "We saw{}!", max_tokens=LENGTH, top_k=TOP, temperature=warm))


@pytest.fixture(scope="module")
def lm() -> sd.LanguageModel:
    return testing.mock_lm(walk)


@pytest.fixture(scope="module")
def laws(lm: sd.LanguageModel) -> dict[tuple[str, tuple[int, ...]], dict[int, float]]:
    """The law of the next token after some tokens of a note, in each world: of the three likeliest, with NumPy."""
    start = lm.codec.encode("We saw")
    logits = jax.jit(lambda lm, row: lm.logits(row))
    found: dict[tuple[str, tuple[int, ...]], dict[int, float]] = {}
    for sky, warm in (("sun", 2.0), ("rain", 0.3)):
        todo: list[tuple[int, ...]] = [()]
        while todo:
            before = todo.pop()
            tokens = [*start, *before]
            row = np.zeros(32, np.int32)
            row[: len(tokens)] = tokens
            scores = np.asarray(logits(lm, row), float)[len(tokens) - 1] / warm
            best = np.argsort(-scores)[:TOP]
            probs = np.exp(scores[best]) / np.exp(scores[best]).sum()
            found[sky, before] = dict(zip(best.tolist(), probs.tolist(), strict=True))
            todo += [(*before, t) for t in best.tolist() if t != lm.codec.end and len(before) + 1 < LENGTH]
    return found


def joint(laws: dict, coupling: str, skies: tuple[str, str], end: int) -> dict[tuple, float]:
    """``P(text in one world, text in the other)``, where each pair of tokens is drawn by the coupling's law of two."""
    own = parse_coupling(coupling)
    reached = {((), ()): 1.0}
    for _ in range(LENGTH):
        following: dict[tuple, float] = {}
        for texts, chance in reached.items():
            over = [text[-1:] == (end,) for text in texts]
            p, q = ({-1: 1.0} if o else laws[s, t] for o, s, t in zip(over, skies, texts, strict=True))
            tokens = sorted({*p, *q})
            both = np.array([[law.get(t, 0.0) for t in tokens] for law in (p, q)])
            # One that has ended leaves the other its law.
            pairs = np.outer(*both) if any(over) else own.joint(*both)
            for i, a in enumerate(tokens):
                for j, b in enumerate(tokens):
                    if pairs[i, j] > 0:
                        to = tuple(t if o else (*t, x) for t, x, o in zip(texts, (a, b), over, strict=True))
                        following[to] = following.get(to, 0.0) + chance * pairs[i, j]
        reached = following
    return reached


def texts(tokens: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(t for t in row if t >= 0) for row in tokens.tolist()]


def check(found: list, expected: dict) -> None:
    """By chi-square; what is rare goes together."""
    assert set(found) <= set(expected)
    counts = dict.fromkeys(expected, 0)
    for pair in found:
        counts[pair] += 1
    some = [pair for pair in expected if expected[pair] * len(found) >= 5]
    seen = [counts[pair] for pair in some]
    wanted = [expected[pair] * len(found) for pair in some]
    seen, wanted = [*seen, len(found) - sum(seen)], [*wanted, len(found) - sum(wanted)]
    if wanted[-1] < 1e-6 * len(found):
        seen, wanted = seen[:-1], [x * sum(seen[:-1]) / sum(wanted[:-1]) for x in wanted[:-1]]
    assert stats.chisquare(seen, wanted).pvalue > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "coupling",
    [*(pytest.param(x, marks=pytest.mark.slow) for x in ("gumbel", "independent")), "maximal", "hindsight(0.6)"],
)
def test_two_worlds_texts_have_the_joint_law_of_their_tokens(lm: sd.LanguageModel, laws: dict, coupling: str) -> None:
    data = sd.simulate(couple(walk, coupling), 1, UNITS, lm, worlds=WORLDS)
    sky, notes = data.values["sky"][:, 0], data.values["note"]
    for factual in (0, 1):
        units = sky == factual
        pairs = list(zip(texts(notes[units, 0]), texts(notes[units, 2 - factual]), strict=True))
        expected = joint(laws, coupling, (("sun", "rain"), ("rain", "sun"))[factual], int(lm.codec.end or 0))
        check(pairs, expected)
    # Each world by itself is the language model's, whatever the coupling.
    for world, s in ((1, "sun"), (2, "rain")):
        alone: dict[tuple[int, ...], float] = {}
        for (_, text), chance in joint(laws, "gumbel", (s, s), int(lm.codec.end or 0)).items():
            alone[text] = alone.get(text, 0.0) + chance
        check(texts(notes[:, world]), alone)


def told(lm: sd.LanguageModel) -> sd.Phrase:
    return sd.sample("note", sd.Text(lm, "They said{}!", given=[sky_of(lm)], max_tokens=3, temperature=0.8))


def read(lm: sd.LanguageModel) -> sd.Phrase:
    note = told(lm)
    with numpyro.plate("two", 2):
        sd.sample("more", sd.Text(lm, "And{}", given=[note], max_tokens=2))
    return sd.sample("back", sd.Choice(lm, "She is {}.", ["home", "out"], given=[note], scoring="mean"))


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["maximal", "hindsight(0.6)"])
def test_staged_and_in_graph_write_the_same(lm: sd.LanguageModel, coupling: str) -> None:
    staged, graph = (
        sd.simulate(couple(told, coupling), 3, 24, lm, worlds=WORLDS[1:], execution=how) for how in (None, "in_graph")
    )
    assert staged.stats["written"] > 0
    notes = staged.values["note"]
    assert (notes[:, 0] != notes[:, 1]).any()
    np.testing.assert_array_equal(notes, graph.values["note"])


@pytest.mark.parametrize(
    "coupling",
    [pytest.param("maximal", marks=pytest.mark.search), pytest.param("hindsight(0.6)", marks=pytest.mark.slow)],
)
def test_every_way_to_run_them_is_one(lm: sd.LanguageModel, coupling: str, tmp_path: Path) -> None:
    """In graph, chunks, a small pool, a store, a run that goes on, and handlers; plates, and what reads a text."""
    model, run = couple(read, coupling), partial(sd.simulate, worlds=WORLDS)
    staged = run(model, 3, 40, lm)
    store, out = {"chunk": 16, "store": tmp_path / "store"}, {"out": tmp_path / "out", "chunk": 16}
    assert (staged.values["more"][:, 0] != staged.values["more"][:, 1]).any()
    for how in ({"execution": "in_graph"}, store, {"memory": 120 * token_bytes(lm)}, out):
        other = run(model, 3, 40, lm, **how)  # type: ignore[arg-type]
        for name in staged.values:
            np.testing.assert_array_equal(staged.values[name], other.values[name], err_msg=f"{how} {name}")
    assert run(model, 3, 40, lm, **store).stats["tokens"] == 0
    (tmp_path / "out" / "part-00001.parquet").unlink()
    assert run(model, 3, 40, lm, **out).to_pandas().equals(other.to_pandas())
    key = jax.random.fold_in(jax.random.key(3), 5)
    both = jax.jit(lambda key, lm: exogenous(counterfactual(model, worlds=WORLDS), key)(lm).index)
    assert both(key, lm).tolist() == staged.values["back"][5].tolist()
    under = jax.jit(lambda key, lm: exogenous(do(model, WORLDS[1]), key)(lm).index)
    assert under(key, lm) == staged.values["back"][5, 2]


@pytest.mark.slow
def test_a_share_of_all_is_gumbel_and_none_independent(lm: sd.LanguageModel) -> None:
    """Byte for byte; and what is shared at a share is shared at every larger one."""
    shares = ("independent", "hindsight(0)", "hindsight(0.5)", "hindsight(1)", "gumbel")
    notes = [sd.simulate(couple(walk, share), 2, 200, lm, worlds=WORLDS).values["note"] for share in shares]
    np.testing.assert_array_equal(notes[0], notes[1])
    np.testing.assert_array_equal(notes[-1], notes[-2])
    for other in notes:
        np.testing.assert_array_equal(other[:, 0], notes[0][:, 0])
    agree = [(x[:, 1] == x[:, 2]).all(-1).mean() for x in notes[1:-1]]
    assert agree == sorted(agree)
    assert agree[0] < agree[-1] - 0.1


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_choice_shares_as_often(lm: sd.LanguageModel, share: float) -> None:
    """One concept: a choice is one draw. Closed form, in two worlds and for three couplings of sites."""
    coupling = f"hindsight({share})"
    p, q = np.array([0.2, 0.5, 0.3]), np.array([0.1, 0.6, 0.3])

    def model(lm: sd.LanguageModel) -> None:
        a = sd.sample("a", die(lm, [0.5, 0.5], ("no", "yes")))
        with numpyro.plate("members", 3):
            face = die(lm, jnp.stack([jnp.array(p), jnp.array(q)])[a.index])
            sd.sample("b", face.replace(coupling=parse_coupling(coupling)))

    units = 8000
    found = sd.simulate(model, 3, units, lm, worlds=[{"a": "no"}, {"a": "yes"}], logp=[]).values["b"]
    shared = (p * q).sum() * (1 - share) + share * sum(1 / np.maximum(p / p[k], q / q[k]).sum() for k in range(3))
    assert (found[:, 1] == found[:, 2]).mean() == pytest.approx(shared, abs=4 * 0.5 / np.sqrt(3 * units))
    assert np.trace(parse_coupling(coupling).joint(p, q)) == pytest.approx(shared)
    for world, law in ((1, p), (2, q)):
        counts = np.bincount(found[:, world].ravel(), minlength=3) / found[:, world].size
        np.testing.assert_allclose(counts, law, atol=4 * 0.5 / np.sqrt(3 * units))
    # Members of a plate share or not, each by itself.
    together = (found[:, 1] == found[:, 2]).mean(0)
    assert np.ptp(together) < 8 * 0.5 / np.sqrt(units)


def test_evidence_is_kept_as_far_as_noise_is_shared(lm: sd.LanguageModel) -> None:
    p, q, share = np.array([0.2, 0.5, 0.3]), np.array([0.1, 0.6, 0.3]), 0.4

    def model(lm: sd.LanguageModel) -> None:
        a = sd.sample("a", die(lm, [0.5, 0.5], ("no", "yes")))
        sd.sample("b", die(lm, jnp.stack([jnp.array(p), jnp.array(q)])[a.index]).replace(coupling=Hindsight(share)))

    found = sd.simulate(
        model, 0, 1, lm, evidence={"a": "no", "b": "sun"}, worlds=[{"a": "yes"}], draws=8000, logp=[]
    ).values["b"]
    assert (found[:, 0] == 0).all()
    law = Hindsight(share).joint(p, q)[0] / p[0]
    np.testing.assert_allclose(np.bincount(found[:, 1], minlength=3) / 8000, law, atol=4 * 0.5 / np.sqrt(8000))


@pytest.mark.slow
def test_a_note_that_was_read_is_what_others_are_beside(lm: sd.LanguageModel, laws: dict) -> None:
    """An observed text, the maximal coupling: the law of another world's, given it."""
    before = next(before for sky, before in laws if sky == "sun" and len(before) == 1)
    factual = (*before, next(iter(laws["sun", before])))
    evidence = {"sky": "sun", "note": np.array([factual], np.int32)}
    data = sd.simulate(couple(walk, "maximal"), 0, 1, lm, evidence=evidence, worlds=WORLDS[1:], draws=1000)
    assert (data.values["note"][:, 0] == np.array(factual)).all()
    both = joint(laws, "maximal", ("sun", "rain"), int(lm.codec.end or 0))
    given = {b: chance for (a, b), chance in both.items() if a == factual}
    check(texts(data.values["note"][:, 1]), {b: chance / sum(given.values()) for b, chance in given.items()})


def test_shares_that_are_none(lm: sd.LanguageModel) -> None:
    assert repr(pickle.loads(pickle.dumps(Hindsight(0.25)))) == "'hindsight(0.25)'"
    assert "hindsight" not in {*map(str, COUPLINGS)}
    for wrong, message in (
        ("hindsight", r"coupling 'hindsight' takes a share in brackets: hindsight\(share\)"),
        ("hindsight(2)", r"coupling 'hindsight\(2\)': the share is a finite number, at least 0 and at most 1"),
        ("hindsight(half)", r"the share is a finite number"),
        ("hindsite(0.5)", r"unknown coupling 'hindsite\(0.5\)'; did you mean 'hindsight\(share\)'"),
    ):
        with pytest.raises(sd.OptionError, match=message):
            couple(walk, wrong)
    with pytest.raises(sd.OptionError, match="share is a finite number"):
        Hindsight(-0.1)

"""Journeys of several visits, in a Python loop and in NumPyro's scan: laws of their worlds."""

from __future__ import annotations

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers as nh
from numpyro.contrib.control_flow import scan
from numpyro.infer.util import log_density

import sdscm_jax as sd
from sdscm_jax.handlers import do, exogenous

from ..plain import option_log_probs

LEVELS = ["low", "high", "sunny"]
VISITS, UNITS = 4, 60
T = 2.0


def notes(lm: sd.LanguageModel) -> None:
    """A free text at each visit, given all earlier ones."""
    earlier: list[sd.Phrase] = []
    for t in range(VISITS):
        earlier.append(sd.sample(f"note_{t}", sd.Text(lm, "She is {}.", given=earlier, max_tokens=4)))


def unrolled(lm: sd.LanguageModel) -> None:
    """A choice at each visit, given the one before."""
    last = sd.sample("first", sd.Choice(lm, "It is {}.", LEVELS, temperature=T))
    for t in range(1, VISITS):
        last = sd.sample(f"level_{t}", sd.Choice(lm, "It is {}.", LEVELS, given=[last], temperature=T))


def looped(lm: sd.LanguageModel) -> jax.Array:
    """The same, as a loop of JAX."""

    def visit(last: sd.Phrase, _: None) -> tuple[sd.Phrase, jax.Array]:
        now = sd.sample("level", sd.Choice(lm, "It is {}.", LEVELS, given=[last], temperature=T))
        return now, now.index

    first = sd.sample("first", sd.Choice(lm, "It is {}.", LEVELS, temperature=T))
    return scan(visit, first, None, length=VISITS - 1)[1]


@pytest.fixture(scope="module")
def chain(lm: sd.LanguageModel) -> tuple[np.ndarray, np.ndarray]:
    """P(first) and P(next | last), from whole texts."""
    scores = [option_log_probs(lm, text, "It is {}.", LEVELS) / T for text in ("", *(f"It is {x}." for x in LEVELS))]
    probs = np.stack([np.exp(s - np.logaddexp.reduce(s)) for s in scores])
    return probs[0], probs[1:]


@pytest.mark.slow
def test_notes_before_an_intervention_stay(lm: sd.LanguageModel) -> None:
    told = "low"
    natural = sd.simulate(notes, 0, UNITS, lm, worlds=[{"note_2": told}, {"note_0": told}])
    names = [f"note_{t}" for t in range(VISITS)]
    assert [natural.graph[name].parents for name in names] == [tuple(names[:t]) for t in range(VISITS)]
    for name in names[:2]:
        chex.assert_trees_all_equal(natural.values[name][:, 1], natural.values[name][:, 0])
    table = natural.to_pandas()
    assert (table["note_2|do(note_2=low)"] == told).all()
    assert (table["parts(note_1)|do(note_2=low)"] == -1).all()
    # Later ones change for some units.
    parts = table["parts(note_3)|do(note_2=low)"]
    assert (parts >= 0).any()
    same = natural.values["note_2"][:, 1] == natural.values["note_2"][:, 0]
    # Consistency: a unit whose note said that anyway has the same journey.
    chex.assert_trees_all_equal(
        natural.values["note_3"][same.all(-1), 1],
        natural.values["note_3"][same.all(-1), 0],
    )
    # Setting every unit to what it wrote changes nothing.
    written = [list(natural.values["note_0"][:, 0]), list(natural.values["note_2"][:, 0])]
    replayed = sd.simulate(
        notes, 0, UNITS, lm, worlds=[{"note_0": np.stack(written[0]), "note_2": np.stack(written[1])}]
    )
    for name in names:
        chex.assert_trees_all_equal(replayed.values[name][:, 0], natural.values[name][:, 0])
        chex.assert_trees_all_equal(replayed.values[name][:, 1], natural.values[name][:, 0])


@pytest.mark.slow
def test_a_loop_is_the_law_of_its_steps(lm: sd.LanguageModel, chain: tuple[np.ndarray, np.ndarray]) -> None:
    """Density, and distribution in every world, against a Markov chain that was multiplied out."""
    start, step = chain
    rng = np.random.default_rng(0)
    table = sd.tabulate(looped, lm)
    density = jax.jit(lambda values: log_density(table, (), {}, values)[0])
    for _ in range(3):
        first, rest = int(rng.integers(3)), rng.integers(3, size=VISITS - 1)
        path = [first, *rest]
        expected = np.log(start[first]) + sum(np.log(step[a, b]) for a, b in itertools.pairwise(path))
        np.testing.assert_allclose(density({"first": first, "level": rest}), expected, rtol=1e-4)

    units = 4000
    worlds = [{"first": "high"}, {"level": "sunny"}]
    result = sd.simulate(looped, 0, units, lm, worlds=worlds, logp=[])
    level = result.values["level"]
    assert level.shape == (units, 3, VISITS - 1)
    law = {0: start, 1: np.eye(3)[1]}
    for t in range(VISITS - 1):
        for w in law:
            law[w] = law[w] @ step
            share = np.bincount(level[:, w, t], minlength=3) / units
            assert (np.abs(share - law[w]) < 4 * np.sqrt(law[w] * (1 - law[w]) / units) + 1e-3).all()
    assert (level[:, 2] == LEVELS.index("sunny")).all()


def test_visits_before_an_intervention_stay(lm: sd.LanguageModel) -> None:
    result = sd.simulate(unrolled, 1, UNITS, lm, worlds=[{"level_2": "high"}, {"first": "low"}])
    for name in ("first", "level_1"):
        chex.assert_trees_all_equal(result.values[name][:, 1], result.values[name][:, 0])
        chex.assert_trees_all_equal(result.log_probs[name][:, 1], result.log_probs[name][:, 0])
    moved = result.values["level_3"][:, 1] != result.values["level_3"][:, 0]
    assert moved.any()
    anyway = result.values["level_2"][:, 0] == 1
    assert not moved[anyway].any()


@pytest.mark.slow
def test_a_loop_under_interventions(lm: sd.LanguageModel) -> None:
    """Worlds of simulate, the handler and NumPyro's own do agree; consistency in every unit."""
    worlds = [{"first": x} for x in LEVELS] + [{"level": lambda natural: (natural.index + 1) % 3}]
    result = sd.simulate(looped, 2, UNITS, lm, worlds=worlds, logp=[])
    first, level = result.values["first"], result.values["level"]
    for w, _ in enumerate(LEVELS):
        anyway = first[:, 0] == w
        assert anyway.any()
        chex.assert_trees_all_equal(level[anyway, 1 + w], level[anyway, 0])
    chex.assert_trees_all_equal(first[:, 4], first[:, 0])
    # The visit after the first one is shifted from what it was; later ones from what they would have been.
    chex.assert_trees_all_equal(level[:, 4, 0], (level[:, 0, 0] + 1) % 3)

    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(2), i))(jnp.arange(UNITS))
    for handler in (do, nh.do):
        run = jax.jit(
            jax.vmap(lambda key, lm, h=handler: exogenous(h(looped, {"first": 2}), key)(lm), in_axes=(0, None))
        )
        chex.assert_trees_all_equal(np.asarray(run(keys, lm)), level[:, 3])
    # With a table, the log-probabilities of every step are kept too.
    tabled = sd.simulate(sd.tabulate(looped, lm), 2, UNITS, worlds=worlds)
    chex.assert_trees_all_equal(tabled.values, result.values)
    assert tabled.log_probs["level"].shape == (UNITS, 5, VISITS - 1, 3)
    column = tabled.to_pandas()["logp(level[2]=sunny)|do(first=low)"]
    chex.assert_trees_all_equal(column.to_numpy(), tabled.log_probs["level"][:, 1, 2, 2])
    table = result.to_pandas(logp=False)
    assert table["level[0]"].tolist() == [LEVELS[i] for i in level[:, 0, 0]]
    assert "It is" in result.text(0)

"""Interventions along edges, as programs: however they run, and what cannot be read in two ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import chex
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import sdscm_jax as sd
from sdscm_jax.dsl.worlds.path_specific import along
from sdscm_jax.errors import InterventionError, SDSCMError
from sdscm_jax.handlers import do, exogenous, nested

from ... import hiring
from ...dice import die

LOW, HIGH = {"degree": hiring.LOW}, {"degree": hiring.HIGH}
DIRECT = [("degree", "interview")]
SEEDS = range(10)
N = 200


def run(program: Callable, seed: int, *args: object) -> dict[str, int]:
    """The values of one unit."""
    trace = numpyro.handlers.trace(exogenous(program, seed)).get_trace(*args)
    return {name: int(site["value"]) for name, site in trace.items()}


@pytest.mark.slow
def test_all_edges_and_none(table: sd.Tabulated) -> None:
    edges = sd.graph(table).edges
    for seed in SEEDS:
        low, high = (run(do(table, world), seed) for world in (LOW, HIGH))
        assert run(along(table, LOW, HIGH, edges), seed) == high
        assert run(along(table, LOW, HIGH, []), seed) == {**low, "degree": 1}


def test_direct_edge(table: sd.Tabulated) -> None:
    program = along(table, LOW, HIGH, DIRECT)
    nothing_else = do(table, {**HIGH, "experience": nested(LOW), "test": nested(LOW)})
    found = [run(program, seed) for seed in SEEDS]
    assert found == [run(nothing_else, seed) for seed in SEEDS]
    assert found != [run(do(table, HIGH), seed) for seed in SEEDS]


def test_witness(table: sd.Tabulated) -> None:
    # The test score reads the experience as it is with the degree, the interview reads it as it is without.
    through = [("degree", "test"), ("degree", "experience"), ("experience", "test"), ("test", "interview")]
    program = along(table, LOW, HIGH, through)
    differ = 0
    for seed in range(40):
        low, high = (run(do(table, world), seed) for world in (LOW, HIGH))
        wanted = run(do(table, {**LOW, "experience": low["experience"], "test": high["test"]}), seed)
        assert run(program, seed) == {**wanted, "degree": 1, "experience": high["experience"]}
        differ += wanted["interview"] != low["interview"]
    assert differ > 0


def test_no_language_model_is_asked(table: sd.Tabulated, tmp_path: Path) -> None:
    table.save(tmp_path / "table.safetensors")
    alone = sd.load_table(tmp_path / "table.safetensors", hiring.hiring)
    edges = [("degree", "experience"), ("experience", "interview")]
    found, expected = (run(along(program, LOW, HIGH, edges), 0) for program in (alone, table))
    assert found == expected


@pytest.mark.slow
def test_language_model_in_two_worlds(embedded: sd.LanguageModel) -> None:
    def model(lm: sd.LanguageModel) -> None:
        degree = sd.Choice(lm, "The highest degree listed is a {}.", [hiring.LOW, hiring.HIGH], scoring="uniform")
        d = sd.sample("degree", degree)
        law = jnp.array([[0.9, 0.1], [0.1, 0.9]])[d.index]
        t = sd.sample("test", die(lm, law, ("low", "high"), given=[d]))
        options = ["weak", "impressive"]
        sd.sample("interview", sd.Choice(lm, "The interview was {}.", options, given=[d, t], temperature=0.2))

    edges = [("degree", "test"), ("test", "interview")]
    program, table = along(model, LOW, HIGH, edges), sd.tabulate(model, embedded)
    found = sd.simulate(program, 0, N, embedded)
    expected = sd.simulate(along(table, LOW, HIGH, edges), 0, N)
    chex.assert_trees_all_equal(found.values, expected.values)
    # The language model's own probabilities, of the text with the low degree and of what the test says.
    scores = np.asarray(table.scores("interview"), np.float64)[0, found.values["test"][:, 0]] / 0.2
    wanted = scores - np.logaddexp.reduce(scores, -1, keepdims=True)
    chex.assert_trees_all_close(found.log_probs["interview"][:, 0], wanted.astype(np.float32), atol=1e-3)
    with pytest.raises(SDSCMError, match="cannot run staged: along some edges it asks for one site in two worlds"):
        sd.simulate(program, 0, N, embedded, execution="staged")


def dice(lm: sd.LanguageModel) -> None:
    """t and m are read as numbers, by a die and by NumPyro; z reads t as words and as a number; m is drawn anew."""
    t = sd.sample("t", die(lm, [0.5, 0.5], ("low", "high")))
    m = sd.sample("m", die(lm, jnp.array([[0.9, 0.1], [0.1, 0.9]])[t.index], ("no", "yes"), coupling="independent"))
    numpyro.sample("x", dist.Bernoulli(jnp.array([[0.1, 0.9], [0.8, 0.2]])[t.index, m.index]))
    sd.sample("z", die(lm, jnp.array([[0.9, 0.1], [0.1, 0.9]])[t.index], ("no", "yes"), given=[t, m]))


@pytest.mark.parametrize(
    ("edges", "site", "parent"),
    [
        # Felt along one edge, and read as a number along the other.
        ([("t", "m"), ("m", "x")], "x", "t"),
        ([("t", "m"), ("t", "x")], "x", "m"),
        ([("t", "m"), ("m", "z")], "z", "t"),
    ],
)
def test_numbers_along_inactive_edges(
    edges: Iterable[tuple[str, str]], site: str, parent: str, embedded: sd.LanguageModel
) -> None:
    with pytest.raises(InterventionError, match=f"site '{site}' reads '{parent}' as a number.*must be one of edges"):
        exogenous(along(dice, {"t": "low"}, {"t": "high"}, [*edges, *ELSE[site]]), 0)(embedded)


# Edges that make all sites but one readable.
ELSE = {"x": [("t", "z"), ("m", "z")], "z": [("t", "x"), ("m", "x")]}


def test_numbers_that_are_not_felt(embedded: sd.LanguageModel) -> None:
    # m does not feel t, so whoever reads it reads what is so under low.
    program = along(dice, {"t": "low"}, {"t": "high"}, [("t", "x"), ("t", "z")])
    for seed in range(8):
        found, low = (
            numpyro.handlers.trace(exogenous(p, seed)).get_trace(embedded) for p in (program, do(dice, {"t": "low"}))
        )
        mixed = do(dice, {"t": "high", "m": low["m"]["value"]})
        wanted = numpyro.handlers.trace(exogenous(mixed, seed)).get_trace(embedded)
        for name in ("m", "x", "z"):
            assert int(found[name]["value"]) == int(wanted[name]["value"])


def test_what_is_refused(table: sd.Tabulated) -> None:
    with pytest.raises(InterventionError, match="no edge 'degree' -> 'applicant'; did you mean 'degree -> "):
        exogenous(along(table, LOW, HIGH, [("degree", "applicant")]), 0)()
    with pytest.raises(InterventionError, match=r"base sets \['degree'\] and active sets \['test'\]"):
        along(table, LOW, {"test": "low"}, DIRECT)
    with pytest.raises(InterventionError, match=r"needs handlers\.exogenous"):
        numpyro.handlers.seed(along(table, LOW, HIGH, DIRECT), 0)()
    low = {"test": "low"}
    with pytest.raises(InterventionError, match=r"site 'experience' has its scores from a table.*do\(along\(table"):
        exogenous(along(do(table, low), LOW, HIGH, DIRECT), 0)()
    assert run(do(along(table, LOW, HIGH, DIRECT), low), 0)["test"] == 0

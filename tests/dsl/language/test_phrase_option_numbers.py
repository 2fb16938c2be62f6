"""Numbers that are no options, where nobody can refuse them on the host: never another option."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_density

import sdscm_jax as sd
from sdscm_jax import testing
from sdscm_jax.errors import ScoreError

LEVELS, DRUGS = ["low", "mid", "high"], ["wait", "treat"]
P = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
NUMBERS = [-4, -3, -2, -1, 0, 1, 2, 3, 7]


def model(lm: sd.LanguageModel) -> sd.Phrase:
    level = sd.sample("level", sd.Choice(lm, "It is {}.", LEVELS))
    return sd.sample("drug", sd.Choice(lm, "Then {}.", DRUGS, given=[level]))


@pytest.fixture(scope="module")
def mock() -> sd.LanguageModel:
    return testing.mock_lm(model, probs={"level": [0.2, 0.3, 0.5], "drug": P})


def level_of(lm: sd.LanguageModel, number: object) -> sd.Phrase:
    return sd.Choice(lm, "It is {}.", LEVELS).phrase(number, "level")


def test_densities_are_those_of_a_categorical(mock: sd.LanguageModel) -> None:
    choice, like = sd.Choice(mock, "It is {}.", LEVELS), dist.Categorical(probs=jnp.array([0.2, 0.3, 0.5]))
    for batch in (jnp.array(NUMBERS), jnp.array(NUMBERS).reshape(3, 3)):
        found, expected = (np.asarray(jax.jit(lambda v, d=d: d.log_prob(v))(batch)) for d in (choice, like))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        assert (found == -np.inf).sum() == 6
    # On the host it is an error, whatever NumPyro validates.
    with pytest.raises(sd.OptionError, match="3 options, numbered from 0"):
        choice.log_prob(-1)


@pytest.mark.parametrize("table", [False, True])
def test_what_reads_one_has_no_density_and_no_value(mock: sd.LanguageModel, table: bool) -> None:
    fn: Callable = sd.tabulate(model, mock) if table else lambda: model(mock)

    @jax.jit
    def density(level: jax.Array, drug: jax.Array) -> jax.Array:
        return log_density(fn, (), {}, {"level": level, "drug": drug})[0]

    np.testing.assert_allclose(density(2, 1), np.log(0.5 * 0.8), rtol=1e-4)
    for level, drug in [(-1, 1), (-1, 0), (3, 1), (2, -1), (2, 2)]:
        assert not np.isfinite(density(level, drug)), (level, drug)

    @jax.jit
    def draw(level: jax.Array) -> jax.Array:
        return sd.handlers.exogenous(numpyro.handlers.substitute(fn, {"level": level}), 0)().index

    assert [int(draw(level)) in (0, 1) for level in (0, 1, 2)] == [True] * 3
    assert [int(draw(level)) for level in (-1, -3, 3)] == [-1] * 3


@pytest.mark.parametrize("coupling", ["gumbel", "inverse_cdf"])
def test_noise_of_one_leads_nowhere(mock: sd.LanguageModel, coupling: str) -> None:
    choice = sd.Choice(mock, "It is {}.", LEVELS, coupling=coupling)
    replay = jax.jit(lambda v: choice.respond(choice.posterior_noise(jax.random.key(0), v)))
    assert [int(replay(v)) for v in range(3)] == [0, 1, 2]
    assert [int(replay(v)) for v in (-1, 3)] == [-1, -1]


def test_phrases_that_are_no_option(mock: sd.LanguageModel) -> None:
    numbers = jnp.array([-1, 0, 2, 3])
    inside = np.array([False, True, True, False])

    @jax.jit
    def read(number: jax.Array) -> dict[str, jax.Array]:
        level = level_of(mock, number)
        return {
            "float": level.map({"low": 0.5, "mid": 1.5, "high": 2.5}),
            "int": level.map({"low": 5, "mid": 6, "high": 7}),
            "bool": level.map({"low": True, "mid": True, "high": True}),
            "vector": level.map({"low": jnp.zeros(2), "mid": jnp.ones(2), "high": jnp.full(2, 2.0)}),
            "equal": level == "high",
            "unequal": level != "high",
            "same": level == level_of(mock, number),
            "one_hot": level.one_hot(),
        }

    found = {name: np.asarray(x) for name, x in read(numbers).items()}
    np.testing.assert_array_equal(found["float"], [np.nan, 0.5, 2.5, np.nan])
    np.testing.assert_array_equal(found["vector"], [[np.nan] * 2, [0, 0], [2, 2], [np.nan] * 2])
    # An integer cannot be NaN; what no option has is the least there is.
    least = np.iinfo(found["int"].dtype).min
    np.testing.assert_array_equal(found["int"], [least, 5, 7, least])
    np.testing.assert_array_equal(found["bool"], inside)
    np.testing.assert_array_equal(found["equal"], [False, False, True, False])
    np.testing.assert_array_equal(found["unequal"], ~found["equal"])
    np.testing.assert_array_equal(found["same"], inside)
    np.testing.assert_array_equal(found["one_hot"].sum(-1), inside)


def test_their_texts_are_refused(mock: sd.LanguageModel) -> None:
    for bad in (-1, 3, jnp.array([0, -1])):
        level = level_of(mock, bad)
        for read in (lambda p: p.text, lambda p: p.sentence):
            with pytest.raises(sd.OptionError, match="site 'level' has 3 options, numbered from 0; it has the value"):
                read(level)
        assert "level" in repr(level)


@pytest.mark.parametrize("in_graph", [False, True])
def test_simulations_refuse_them(in_graph: bool) -> None:
    def program(lm: sd.LanguageModel) -> None:
        level = sd.sample("level", sd.Choice(lm, "It is {}.", LEVELS))
        # A join that has no row for the high level.
        looked_up = jnp.array([0, 1, -1])[level.index]
        sd.sample("drug", sd.Choice(lm, "Then {}.", DRUGS, given=[level_of(lm, looked_up)]))

    lm = testing.mock_lm(program)
    with pytest.raises(ScoreError, match=r"site 'drug' has no value in \d+ of 20 rows"):
        sd.simulate(program, 0, 20, lm, execution="in_graph" if in_graph else None)


def test_free_text_after_one_has_no_density_and_no_tokens() -> None:
    def program(lm: sd.LanguageModel, number: object) -> sd.Phrase:
        return sd.sample("note", sd.Text(lm, "She said {}.", given=[level_of(lm, number)], max_tokens=3))

    lm = testing.mock_lm(program, 0)
    write = jax.jit(lambda number: sd.handlers.exogenous(program, 0)(lm, number).tokens)
    tokens = write(1)
    assert int(tokens[0]) >= 0
    assert (np.asarray(write(-1)) < -1).all()

    @jax.jit
    def log_prob(number: jax.Array) -> jax.Array:
        return sd.Text(lm, "She said {}.", given=[level_of(lm, number)], max_tokens=3).log_prob(tokens)

    assert np.isfinite(log_prob(1))
    assert np.isnan(log_prob(-1))


def test_numbers_that_are_none_are_not_verbalized() -> None:
    said = {"edges": [1.0, 2.0], "options": LEVELS, "template": "It is {}."}
    with pytest.raises(sd.OptionError, match="site 'level': nan is no number"):
        sd.verbalize("level", jnp.array([0.0, jnp.nan]), **said)
    found = jax.jit(lambda x: sd.verbalize("level", x, **said).index)(jnp.array([0.5, 2.0, jnp.inf, jnp.nan]))
    assert found.tolist() == [0, 2, 2, -1]

"""Which contexts a table has, that it gives their scores and no others, and that noise is JAX's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.handlers import condition, trace
from safetensors.numpy import save_file

import sdscm_jax as sd
from sdscm_jax.dsl.language.mechanism import mechanism_of
from sdscm_jax.dsl.scoring.contexts import Table
from sdscm_jax.dsl.tables.look_up import check_known
from sdscm_jax.dsl.tables.tabulate import score_contexts
from sdscm_jax.errors import ScoreError
from sdscm_jax.handlers import do, exogenous, nested
from sdscm_jax.models.executable import executable

SKY, SIZE = ["sun", "rain", "sunny"], ["low", "high"]


class Counting:
    """Scores that are a formula, in place of a language model's, and the contexts that they were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[int, ...]]] = []

    def __call__(self, choice: sd.Choice, indices: np.ndarray) -> np.ndarray:
        self.asked += [(str(choice.template), tuple(row)) for row in indices.tolist()]
        return formula(indices, len(choice.options))


def formula(contexts: np.ndarray, options: int) -> np.ndarray:
    """Scores ``[C, K]``: no two contexts have the same."""
    weights = np.sqrt(1 + np.arange(contexts.shape[1]))
    return np.stack([np.sin(k + contexts @ weights) for k in range(options)], -1).astype(np.float32)


def story(lm: sd.LanguageModel) -> None:
    """A choice of three phrases, one of which says a number in words."""
    x = sd.sample("x", sd.Choice(lm, "It is {}.", SKY))
    y = sd.sample("y", sd.Choice(lm, "We saw {}.", SIZE, given=[x]))
    number = numpyro.sample("number", dist.Normal(0.0, 1.0))
    v = sd.verbalize("v", number, [0.0], ["few", "many"], "There are {}.")
    sd.sample("z", sd.Choice(lm, "Then {}.", ["one", "two"], given=[x, "And", y, v]))


def test_an_intervention_leaves_one_value(lm: sd.LanguageModel) -> None:
    """What is fixed has one value, what is random all of them; a site that is set is not scored."""
    sizes = {"x": 3, "y": 2, "v": 2}

    def reached(fn: Callable) -> dict[str, set[tuple[int, ...]]]:
        table = sd.tabulate(fn, lm, scorer=Counting())
        return {name: set(map(tuple, table.rows(name)[0].tolist())) for name in table.names}

    def product(**fixed: int) -> set[tuple[int, ...]]:
        ranges = [[fixed[name]] if name in fixed else range(size) for name, size in sizes.items()]
        return {(i, j, k) for i in ranges[0] for j in ranges[1] for k in ranges[2]}

    everything = reached(story)
    assert everything == {"x": {()}, "y": {(0,), (1,), (2,)}, "z": product()}
    assert reached(do(story, {"x": "rain"})) == {"y": {(1,)}, "z": product(x=1)}
    assert reached(do(story, {"x": "rain", "v": "many"})) == {"y": {(1,)}, "z": product(x=1, v=1)}
    assert reached(do(story, {"number": -1.0})) == {**everything, "z": product(v=0)}
    assert reached(condition(story, {"y": jnp.int32(1)}))["z"] == product(y=1)
    # Random, though their own mechanisms are not needed.
    for world in ({"y": "uniform"}, {"y": dist.Bernoulli(0.5)}, {"y": nested({"x": "sun"})}):
        found = reached(do(story, world))
        assert found["z"] == product()
        assert "y" not in found
    # It needs its mechanism.
    assert reached(do(story, {"y": lambda natural: 1 - natural.index})) == everything
    # Of sites in a plate those that were observed, together.
    seen = np.array([0, 2, 2, 0])

    def plated(lm: sd.LanguageModel) -> None:
        with numpyro.plate("units", 4):
            x = sd.sample("x", sd.Choice(lm, "It is {}.", SKY), obs=seen)
            w = sd.sample("w", sd.Choice(lm, "It is {}.", SKY), obs=seen[::-1].copy())
            sd.sample("y", sd.Choice(lm, "We saw {}.", SIZE, given=[x, w]))

    assert reached(plated)["y"] == {(0, 0), (2, 2)}


def test_log_probabilities_of_what_is_replaced(lm: sd.LanguageModel) -> None:
    """A site under a stochastic intervention is scored when somebody asks for its probabilities."""
    scorer = Counting()
    table = sd.tabulate(do(story, {"y": "uniform"}), lm, scorer=scorer)
    assert "We saw {}." not in {template for template, _ in scorer.asked}

    def run() -> dict[str, Any]:
        return trace(exogenous(table, 0)).get_trace()

    x = int(run()["x"]["value"])
    assert "We saw {}." not in {template for template, _ in scorer.asked}
    replaced = jax.jit(lambda: mechanism_of(run()["y"]["fn"]).logits)()
    assert [row for template, row in scorer.asked if template == "We saw {}."] == [(0,), (1,), (2,)]
    chex.assert_trees_all_close(replaced, jax.nn.log_softmax(formula(np.array([[x]]), 2)[0]), atol=1e-5)
    again = sd.tabulate(do(do(story, {"y": "low"}), {"y": "uniform"}), lm, scorer=Counting())
    fn = jax.jit(lambda: mechanism_of(trace(exogenous(again, 0)).get_trace()["y"]["fn"]).logits)
    chex.assert_trees_all_close(fn(), replaced)
    # Each context was scored once.
    assert len(set(scorer.asked)) == len(scorer.asked) == 1 + 3 + 12


@pytest.mark.slow
def test_contexts_that_were_asked_for(lm: sd.LanguageModel) -> None:
    """Those of a simulation, in all its worlds, are the joint values of the parents; in them nothing changes."""
    full = sd.tabulate(story, lm, scorer=Counting())
    worlds = [{"x": "sun", "v": "many"}]
    data = sd.simulate(full, 0, 4, worlds=worlds)
    table = sd.tabulate(story, lm, contexts=data, scorer=Counting())
    parents = [data.values[name].ravel().tolist() for name in ("x", "y", "v")]
    assert set(map(tuple, table.rows("z")[0].tolist())) == set(zip(*parents, strict=True))
    assert len(table.rows("z")[0]) < 12
    again = sd.simulate(table, 0, 4, worlds=worlds)
    chex.assert_trees_all_equal(again.values, data.values)
    chex.assert_trees_all_equal(again.log_probs, data.log_probs)

    # What nothing is said of takes all its values; texts and numbers may stand for options, and broadcast.
    some = sd.tabulate(story, lm, contexts={"x": ["sun", "rain"], "v": 1}, scorer=Counting())
    assert set(map(tuple, some.rows("z")[0].tolist())) == {(x, y, 1) for x in (0, 1) for y in (0, 1)}
    assert some.rows("y")[0].tolist() == [[0], [1]]
    # Numbers that a phrase comes from.
    some = sd.tabulate(story, lm, contexts={"x": [1, 1], "y": [0, 0], "number": [-1.0, -2.0]}, scorer=Counting())
    assert some.rows("z")[0].tolist() == [[1, 0, 0]]
    for contexts, message in (
        ({"q": [0]}, "'q', which is no site"),
        ({"x": ["sunn"]}, "site 'x' has no option .*did you mean 'sunny'"),
        ({"x": [3]}, "'x' has 3 options"),
        ({"x": [0, 1], "y": [0, 1, 1]}, "do not go together"),
        ({"number": "many"}, "contexts of site 'number'"),
        ([0, 1], "got list"),
    ):
        with pytest.raises(sd.SDSCMError, match=message):
            sd.tabulate(story, lm, contexts=contexts, scorer=Counting())


@pytest.mark.slow
def test_contexts_inside_a_loop(lm: sd.LanguageModel) -> None:
    def loop(lm: sd.LanguageModel) -> None:
        first = sd.sample("first", sd.Choice(lm, "It is {}.", SKY))

        def step(last: sd.Phrase, _: None) -> tuple[sd.Phrase, jax.Array]:
            now = sd.sample("now", sd.Choice(lm, "It is {}.", SKY, given=[first, last]))
            return now, now.index

        last = scan(step, first, None, length=3)[0]
        sd.sample("end", sd.Choice(lm, "Then {}.", ["one", "two"], given=[last]))

    full = sd.tabulate(loop, lm, scorer=Counting())
    assert len(full.rows("now")[0]) == 9
    data = sd.simulate(full, 0, 2, worlds=[{"first": "rain"}])
    table = sd.tabulate(loop, lm, contexts=data, scorer=Counting())
    expected = set()
    for first, steps in zip(data.values["first"].ravel(), data.values["now"].reshape(-1, 3), strict=True):
        expected |= {(int(first), int(last)) for last in (first, *steps[:2])}
    assert set(map(tuple, table.rows("now")[0].tolist())) == expected
    assert table.rows("end")[0].ravel().tolist() == np.unique(data.values["now"][..., 2]).tolist()
    again = sd.simulate(table, 0, 2, worlds=[{"first": "rain"}])
    chex.assert_trees_all_equal(again.values, data.values)
    chex.assert_trees_all_equal(again.log_probs, data.log_probs)
    assert set(map(tuple, sd.tabulate(do(loop, {"first": "rain"}), lm, scorer=Counting()).rows("now")[0].tolist())) == {
        (1, 0),
        (1, 1),
        (1, 2),
    }


@pytest.mark.parametrize("sizes", [(3,) * 45, (2, 300, 5, 70_000), (7, 1, 2)])
def test_looking_up(sizes: tuple[int, ...]) -> None:
    """More contexts than 64 bits can number: those in the table have their scores, all others NaN."""
    rng = np.random.default_rng(0)
    contexts = np.stack([rng.integers(0, size, 40) for size in sizes], -1)
    contexts = np.concatenate([contexts, contexts[:3]])
    # Neighbours differ in one place; other rows are outside of the options.
    near = contexts.copy()
    place = rng.integers(0, len(sizes), len(near))
    near[np.arange(len(near)), place] = (near[np.arange(len(near)), place] + 1) % np.array(sizes)[place]
    outside = contexts.copy()
    outside[:, 0] = [-1, sizes[0]] * 21 + [1 << 30]
    known = {tuple(row): formula(row[None], 2)[0] for row in contexts}
    table = Table.of(sizes, contexts, formula(contexts, 2))
    assert len(table.contexts) == len(known)
    asked = np.concatenate([contexts, near, outside])
    found = np.asarray(jax.jit(lambda rows: table.look_up(list(rows.T)))(asked))
    expected = np.stack([known.get(tuple(row), np.full(2, np.nan)) for row in asked.tolist()])
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    np.testing.assert_array_equal(table.lacks(asked), np.isnan(expected[:, 0]))
    assert np.isnan(found).any()
    # Half of it, and then the other half.
    first, rest = np.array_split(contexts, 2)
    both = Table.of(sizes, first, formula(first, 2)).with_more(rest, formula(rest, 2))
    np.testing.assert_array_equal(both.contexts, table.contexts)
    np.testing.assert_array_equal(both.scores, table.scores)


def test_a_dense_table_has_the_same_scores(lm: sd.LanguageModel) -> None:
    contexts = np.argwhere(np.ones((3, 4, 2)))[np.random.default_rng(0).permutation(24)]
    dense = Table.of((3, 4, 2), contexts, formula(contexts, 5))
    assert dense.is_dense
    assert not Table.of((3, 4, 2), contexts[1:], formula(contexts[1:], 5)).is_dense
    asked = np.concatenate([contexts, [[0, 4, 0], [-1, 0, 0], [0, 0, 2]]])
    found = dense.look_up(list(asked.T))
    np.testing.assert_array_equal(found[:24], formula(contexts, 5))
    assert np.isnan(found[24:]).all()
    # Scores of the language model do not depend on which contexts are scored together.
    choice = sd.Choice(lm, "We saw {}.", SIZE, given=[sd.Choice(lm, "It is {}.", SKY).phrase(0), "And"])
    whole = score_contexts(choice, np.array([[0], [1], [2]]))
    chex.assert_shape(whole, (3, 2))
    chex.assert_trees_all_close(score_contexts(choice, np.array([[2]])), whole[2:], atol=5e-4)
    assert np.abs(whole[0] - whole[2]).max() > 1e-2
    # Another table of such a site compiles nothing.
    before = executable.cache_info().misses
    choice = sd.Choice(lm, "We saw {}.", SIZE, given=[sd.Choice(lm, "It is {}.", SKY).phrase(0), "And"])
    chex.assert_trees_all_equal(score_contexts(choice, np.array([[2], [0], [1]])), whole[[2, 0, 1]])
    assert executable.cache_info().misses == before


def test_what_is_not_in_a_table(lm: sd.LanguageModel) -> None:
    """Known contexts are errors with their text; traced ones give NaN and -1, which is no option."""
    table = sd.tabulate(do(story, {"x": "rain"}), lm, scorer=Counting())
    with pytest.raises(sd.SiteError, match=r"site 'y': 'It is sun.' is not among the 1 contexts in its table"):
        exogenous(do(table, {"x": "sun"}), 0)()

    @jax.jit
    @jax.vmap
    def run(x: jax.Array) -> dict[str, jax.Array]:
        found = trace(exogenous(do(table, {"x": x}), 0)).get_trace()
        values = {name: found[name]["value"] for name in ("x", "y", "z")}
        return values | {"log_prob": found["y"]["fn"].log_prob(1), "logits": found["z"]["fn"].logits}

    found = run(jnp.arange(3))
    missing = np.array([True, False, True])
    for name in ("y", "z"):
        np.testing.assert_array_equal(found[name] < 0, missing)
    np.testing.assert_array_equal(np.isnan(found["log_prob"]), missing)
    np.testing.assert_array_equal(np.isnan(found["logits"]), np.stack([missing, missing], -1))
    # It makes no difference where somebody else sets the site.
    values = trace(exogenous(do(table, {"x": "sun", "y": "high", "z": "one"}), 0)).get_trace()
    assert (int(values["y"]["value"]), int(values["z"]["value"])) == (1, 0)

    sites = sd.graph(table).sites
    one = {name: np.asarray(found[name])[:, None] for name in ("x", "y", "z")}
    with pytest.raises(ScoreError, match=r"'y' has no value in 2 of 3 rows, .* \(row 0, world 0\) after 'It is sun.'"):
        check_known(sites, one)
    check_known(sites, {name: x[1:2] for name, x in one.items()})


def test_too_many_contexts(lm: sd.LanguageModel) -> None:
    def wide(lm: sd.LanguageModel) -> None:
        values = [sd.sample(f"x{i}", sd.Choice(lm, "It is {}.", SKY, scoring="uniform")) for i in range(25)]
        sd.sample("y", sd.Choice(lm, "We saw {}.", SIZE, given=values))

    scorer = Counting()
    with pytest.raises(sd.SiteError, match=rf"'y' is given 25 phrases with {3**25} joint values.*contexts="):
        sd.tabulate(wide, lm, scorer=scorer)
    values = {f"x{i}": np.random.default_rng(i).integers(0, 3, (2, 3)) for i in range(25)}
    fewer = {name: x for name, x in values.items() if name not in ("x3", *(f"x{i}" for i in range(15, 25)))}
    with pytest.raises(sd.SiteError, match=rf"{6 * 3**11} joint values.*does not determine 'x3', 'x15'"):
        sd.tabulate(wide, lm, contexts=fewer, scorer=scorer)
    assert not scorer.asked
    table = sd.tabulate(wide, lm, contexts=values, scorer=scorer)
    with pytest.raises(sd.SiteError, match=rf"'y': its table has 6 of {3**25} contexts; see rows\('y'\)"):
        table.scores("y")

    @jax.jit
    @jax.vmap
    def run(numbers: dict[str, jax.Array]) -> jax.Array:
        return trace(exogenous(do(table, numbers), 0)).get_trace()["y"]["fn"].scores

    flat = {name: x.ravel() for name, x in values.items()}
    expected = formula(np.stack([flat[f"x{i}"] for i in range(25)], -1), 2)
    np.testing.assert_array_equal(run(flat), expected)
    assert np.isnan(run({**flat, "x24": (flat["x24"] + 1) % 3})).all()


def test_arguments_that_come_later(lm: sd.LanguageModel) -> None:
    """Each call finds what it comes to; what was scored is not scored again."""
    scorer = Counting()

    def late(lm: sd.LanguageModel, where: object, temperature: object) -> jax.Array:
        def inner() -> jax.Array:
            x = sd.sample("x", sd.Choice(lm, "It is {}.", SKY))
            y = sd.Choice(lm, "We saw {}.", SIZE, given=[x], temperature=temperature)
            return sd.sample("y", y).index

        return do(inner, {"x": where})()

    table = sd.tabulate(late, lm, scorer=scorer)
    assert not scorer.asked
    run = exogenous(table, 0)
    for where, temperature, contexts in (
        ("rain", 1.0, [[1]]),
        ("rain", 2.0, [[1]]),
        ("sun", 2.0, [[0], [1]]),
        # An array may have any value.
        (jnp.int32(1), 1.0, [[0], [1], [2]]),
    ):
        run(where, temperature)
        assert table.rows("y")[0].tolist() == contexts
    assert jax.jit(run)(jnp.int32(2), 3.0) in (0, 1)
    assert sorted(scorer.asked) == [("We saw {}.", (i,)) for i in range(3)]
    with pytest.raises(sd.SiteError, match="'x': its language model is being traced by JAX"):
        jax.jit(lambda lm: exogenous(sd.tabulate(story, lm), 0)())(lm)


def test_files(lm: sd.LanguageModel, tmp_path: Path) -> None:
    """Sparse tables come back as they were; files of dense ones are as they always were."""
    path = tmp_path / "table.safetensors"
    contexts = {"x": [1, 2], "y": [0, 1]}
    table = sd.tabulate(story, lm, contexts=contexts, scorer=Counting())
    table.save(path)
    loaded = sd.load_table(path, story)
    for name in ("x", "y", "z"):
        for a, b in zip(loaded.rows(name), table.rows(name), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(sd.SiteError, match=r"'y': 'It is sun.' is not among the 2 contexts"):
        exogenous(do(loaded, {"x": "sun"}), 0)()
    full = sd.tabulate(story, lm, scorer=Counting())
    metadata = {"sites": json.dumps(full.names), "arguments": json.dumps({"positional": 1, "keywords": []})}
    save_file({full.names[name]: np.asarray(full.scores(name)) for name in "xyz"}, path, metadata=metadata)
    old = sd.load_table(path, story)
    assert old.scores("z").shape == (3, 2, 2, 2)
    chex.assert_trees_all_equal(old.scores("z"), full.scores("z"))
    draws = [trace(exogenous(table, 0)).get_trace()["z"]["value"] for table in (old, full)]
    assert int(draws[0]) == int(draws[1])

"""In one trace every distinct prefix goes through the language model once: tokens, against a trie."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax.dsl.analysis.structure import structure
from sdscm_jax.dsl.worlds.run_worlds import WorldResults, run_worlds
from sdscm_jax.dsl.worlds.worlds import as_worlds
from sdscm_jax.engine.traced_tokens import traced_tokens

from ..plain import option_log_probs

SITES: dict[str, tuple[str, list[str]]] = {
    "weather": ("The weather outside is {}.", ["sunny", "rainy", "25"]),
    "level": ("It is {} today.", ["low", "high", "higher than high"]),
    "run": ("My friend goes for {}.", ["a run", "a long run home"]),
    "score": ("She is {} years old.", ["25", "7"]),
    "end": ("It is {}", ["low", "high"]),
}


@dataclass(frozen=True)
class Program:
    """Sites that are given sites; the returned value says nothing."""

    given: dict[str, Sequence[str]]

    def __call__(self, lm: sd.LanguageModel) -> None:
        phrases: dict[str, sd.Phrase] = {}
        for name, given in self.given.items():
            choice = sd.Choice(lm, *SITES[name], given=[phrases[parent] for parent in given])
            phrases[name] = sd.sample(name, choice)


CHAIN = Program({name: list(SITES)[:i] for i, name in enumerate(SITES)})
# No list is another one and the site it ends with.
SIBLINGS = Program(
    {
        "weather": [],
        "level": [],
        "run": ["weather", "level"],
        "score": ["weather", "level"],
        "end": ["weather", "level", "score"],
    }
)


def traced(program: Callable, lm: sd.LanguageModel, worlds: Sequence[dict[str, Any]] = ()) -> Any:
    prepared = as_worlds(list(worlds), structure(program, (lm,)))

    def run(lm: sd.LanguageModel, key: jax.Array) -> WorldResults:
        return run_worlds(program, key, prepared, (lm,))

    return jax.make_jaxpr(run)(lm, jax.random.key(0)).jaxpr


def trie(program: Program, lm: sd.LanguageModel, worlds: Sequence[dict[str, int]]) -> int:
    """Distinct proper prefixes of "context and template with an option", by whole texts."""
    nodes: set[tuple[int, ...]] = set()
    for values in worlds:
        said = {name: template.format(options[values[name]]) for name, (template, options) in SITES.items()}
        for name, given in program.given.items():
            template, options = SITES[name]
            for option in options:
                text = " ".join([*(said[parent] for parent in given), template.format(option)])
                tokens = tuple(lm.tokenizer.encode(text, add_special_tokens=False))
                nodes |= {tokens[:i] for i in range(1, len(tokens))}
    return len(nodes)


def random_worlds(intervened: Sequence[str], rng: np.random.Generator) -> list[dict[str, int]]:
    """Values of a unit in all settings of some sites; the factual ones are among them."""
    found: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}
    for setting in itertools.product(*(range(len(SITES[name][1])) for name in intervened)):
        values: dict[str, int] = {}
        done: list[tuple[str, int]] = []
        for name, (_, options) in SITES.items():
            if name in intervened:
                values[name] = setting[intervened.index(name)]
                done.append((name, values[name]))
            else:
                # The same where the same was done before it.
                shared = found.setdefault(tuple(done), {})
                values[name] = shared.setdefault(name, int(rng.integers(len(options))))
        found[(*done, ("all", 0))] = values
    return [values for at, values in found.items() if ("all", 0) in at]


@pytest.mark.parametrize("intervened", [(), ("run",), ("level", "score")], ids=["1 world", "2 + 1", "6 + 1"])
def test_a_chain_costs_its_trie(lm: sd.LanguageModel, intervened: tuple[str, ...]) -> None:
    options = [SITES[name][1] for name in intervened]
    worlds = [dict(zip(intervened, setting, strict=True)) for setting in itertools.product(*options)]
    tokens = traced_tokens(traced(CHAIN, lm, worlds if intervened else ()))
    rng = np.random.default_rng(0)
    units = [random_worlds(intervened, rng) for _ in range(8)]
    bounds = {trie(CHAIN, lm, unit) for unit in units}
    # The factual world is one of the others, so the bound does not depend on what was drawn.
    assert bounds == {tokens}


def test_worlds_that_are_no_grid_are_run_beside_the_factual_one(lm: sd.LanguageModel) -> None:
    one, both = (traced_tokens(traced(CHAIN, lm, worlds)) for worlds in ((), [{"level": "low"}, {"level": "high"}]))
    below = one - traced_tokens(traced(Program({name: CHAIN.given[name] for name in ("weather", "level")}), lm))
    # Nothing before the intervention is computed again.
    assert both == one + 2 * below


def test_siblings_read_their_context_once(lm: sd.LanguageModel) -> None:
    lengths = [len(lm.codec.encode_after(text)) for text in sentences("level")]
    bound = trie(SIBLINGS, lm, [{**dict.fromkeys(SITES, 0), "level": int(np.argmax(lengths))}])
    # "level" after "weather" is encoded by the first site that is given both, with room for its longest
    # option (which is the one of this bound): every option has the shape of that one.
    assert traced_tokens(traced(SIBLINGS, lm)) == bound
    first = Program({name: SIBLINGS.given[name] for name in ("weather", "level", "run")})
    both = Program({**first.given, "score": ["weather", "level"]})
    tokens = [lm.codec.encode_after(text) for text in sentences("score")]
    own = {row[:i] for row in tokens for i in range(1, len(row))}
    assert traced_tokens(traced(both, lm)) - traced_tokens(traced(first, lm)) == len(own)


def sentences(name: str) -> list[str]:
    template, options = SITES[name]
    return [template.format(option) for option in options]


def test_scores_in_a_context_that_a_sibling_read(lm: sd.LanguageModel) -> None:
    @jax.jit
    def scores(lm: sd.LanguageModel) -> list[jax.Array]:
        weather, level = (sd.Choice(lm, *SITES[name]) for name in ("weather", "level"))
        context = [weather.phrase(jnp.asarray(1)), level.phrase(jnp.asarray(0))]
        names = ("run", "score", "end")
        return [sd.Choice(lm, *SITES[name], given=context).scores for name in names]

    for name, found in zip(("run", "score", "end"), scores(lm), strict=True):
        plain = option_log_probs(lm, "The weather outside is rainy. It is low today.", *SITES[name])
        chex.assert_trees_all_close(np.asarray(found, np.float64), plain, atol=5e-4, rtol=0)


def test_a_sibling_of_an_intervention_is_computed_once_for_all_worlds(lm: sd.LanguageModel) -> None:
    # "score" reads less than "run" has read: what of that is the same in all worlds is not taken from there.
    program = Program({"weather": [], "level": [], "run": ["weather", "level"], "score": ["weather"]})
    without = Program({name: program.given[name] for name in ("weather", "level", "run")})
    worlds = [{"level": "low"}, {"level": "high"}]
    alone = traced_tokens(traced(program, lm)) - traced_tokens(traced(without, lm))
    assert traced_tokens(traced(program, lm, worlds)) - traced_tokens(traced(without, lm, worlds)) == alone


def test_an_observed_site_whose_probabilities_are_wanted_costs_no_more(lm: sd.LanguageModel) -> None:
    def seen(lm: sd.LanguageModel) -> None:
        weather = sd.sample("weather", sd.Choice(lm, *SITES["weather"]), obs="rainy")
        sd.sample("level", sd.Choice(lm, *SITES["level"], given=[weather]))

    drawn = Program({"weather": [], "level": ["weather"]})
    assert traced_tokens(traced(seen, lm)) == traced_tokens(traced(drawn, lm))


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 5])
def test_a_text_is_encoded_as_it_is_written(lm: sd.LanguageModel, most: int) -> None:
    def scores(lm: sd.LanguageModel, key: jax.Array, carried: bool) -> jax.Array:
        weather = sd.Choice(lm, *SITES["weather"]).phrase(jnp.asarray(2))
        site = sd.Text(lm, "She said {}. Yes!", given=[weather], max_tokens=most)
        items = [weather, site.phrase(site.sample(key))]
        # Of another array nobody knows that it says the same.
        return sd.Choice(lm, *SITES["level"], given=items if carried else jax.tree.map(lambda x: x + 0, items)).scores

    both = [lambda lm, key, carried=carried: scores(lm, key, carried) for carried in (True, False)]
    keys = jax.random.split(jax.random.key(0), 12)
    found = jax.jit(jax.vmap(lambda lm, key: [fn(lm, key) for fn in both], (None, 0)))(lm, keys)
    chex.assert_trees_all_close(*found, atol=5e-4, rtol=0)
    carried, again = (traced_tokens(jax.make_jaxpr(fn)(lm, keys[0]).jaxpr) for fn in both)
    # The weather, what stands before the text, and all of the text but its last token.
    weather = max(len(lm.codec.encode(text)) for text in sentences("weather"))
    assert again - carried == weather + len(lm.codec.encode_after("She said")) + most - 1

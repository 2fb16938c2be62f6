"""Tables from the staged engine: the scores of ``score_contexts``, for the fewest tokens, compiled once."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest
from numpyro.handlers import trace

import sdscm_jax as sd
from sdscm_jax.dsl.language.mechanism import mechanism_of
from sdscm_jax.dsl.scoring.scorings.registry import SCORINGS
from sdscm_jax.dsl.tables.tabulate import Scorer, score_contexts
from sdscm_jax.engine import tabulation
from sdscm_jax.engine.forward import token_bytes
from sdscm_jax.engine.scorer import Counts
from sdscm_jax.engine.tabulation import TrieScorer
from sdscm_jax.handlers import do, exogenous

OPTIONS = (("sun", "rain"), ("low", "high", "a long run"), ("Bob", "25", "2"))
PARENTS = ((), (0,), (0, 1))
WORDING = ("It is {}.", "We saw {} today.", "Then {}")
# Tokens as many, but other ones.
OTHER = ("Is it {}.", "We {} saw today.", "Than {}")


def model(lm: sd.LanguageModel, wording: Sequence[str] = WORDING, scoring: str = "sequence") -> None:
    """Three choices, the last given both others and a text."""
    x = sd.sample("x0", sd.Choice(lm, wording[0], OPTIONS[0], scoring=scoring))
    y = sd.sample("x1", sd.Choice(lm, wording[1], OPTIONS[1], given=[x], scoring=scoring))
    sd.sample("x2", sd.Choice(lm, wording[2], OPTIONS[2], given=[x, "And", y], scoring=scoring))


def texts(wording: Sequence[str], site: int) -> Iterator[str]:
    """Every text that a site may be asked for, with each of its options."""
    for values in product(*(OPTIONS[p] for p in PARENTS[site])):
        given = [wording[p].format(value) for p, value in zip(PARENTS[site], values, strict=True)]
        for option in OPTIONS[site]:
            yield " ".join([*given[:1], *(["And"] if site == 2 else []), *given[1:], wording[site].format(option)])


def beginnings(lm: sd.LanguageModel, wordings: Sequence[Sequence[str]], sites: Sequence[int] = (0, 1, 2)) -> int:
    """Distinct beginnings of these texts whose next token is asked for or that others go on from."""
    found = set()
    start = (lm.codec.bos,) if lm.codec.bos is not None else ()
    for wording, site in product(wordings, sites):
        for text in texts(wording, site):
            tokens = lm.codec.encode(text)
            found |= {(*start, *tokens[:i]) for i in range(1 - len(start), len(tokens))}
    return len(found)


def tables(lm: sd.LanguageModel, scorer: Scorer, **arguments: Any) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():
        # The tokenizer joins pieces of the last template.
        warnings.simplefilter("ignore")
        table = sd.tabulate(model, lm, **arguments, scorer=scorer)
    return {name: np.asarray(table.scores(name)) for name in table.names}


@pytest.mark.parametrize("scoring", SCORINGS)
def test_scores_are_those_of_score_contexts(gpt2: sd.LanguageModel, scoring: str) -> None:
    """In a table of three sites."""
    scorer = TrieScorer()
    found = tables(gpt2, scorer, scoring=scoring)
    chex.assert_trees_all_close(found, tables(gpt2, score_contexts, scoring=scoring), atol=5e-4, rtol=0)
    assert set(found) == (set() if scoring == "uniform" else {"x0", "x1", "x2"})
    assert (scorer.counts(gpt2) == Counts()) == (scoring == "uniform")


def test_another_score_of_the_same_tokens_is_free(gpt2: sd.LanguageModel) -> None:
    """What a language model said of tokens serves every scoring that reads the same ones."""
    template, options = "The weather outside is {}.", ["sunny", "low"]
    summed, mean = (sd.Choice(gpt2, template, options, scoring=scoring) for scoring in ("sequence", "mean"))
    contexts, scorer = np.zeros((1, 0), np.int32), TrieScorer()
    scorer(summed, contexts)
    before = scorer.counts(gpt2)
    np.testing.assert_allclose(scorer(mean, contexts), score_contexts(mean, contexts), atol=5e-4, rtol=0)
    assert replace(scorer.counts(gpt2), reference_tokens=0) == replace(before, reference_tokens=0)


def test_language_models_are_told_apart(gpt2: sd.LanguageModel, lm: sd.LanguageModel) -> None:
    scorer = TrieScorer()
    found = [tables(each, scorer) for each in (gpt2, lm)]
    for each, own in zip((gpt2, lm), found, strict=True):
        chex.assert_trees_all_equal(tables(each, TrieScorer()), own)
        assert scorer.counts(each).tokens == beginnings(each, [WORDING])
    assert np.abs(found[0]["x2"] - found[1]["x2"]).max() > 0.1


def test_uniform_asks_nothing(lm: sd.LanguageModel) -> None:
    scorer = TrieScorer()
    scores = scorer(sd.Choice(lm, "It is {}.", OPTIONS[1], scoring="uniform"), np.zeros((4, 0), np.int32))
    chex.assert_trees_all_equal(scores, np.zeros((4, 3), np.float32))
    assert scorer.counts(lm) == Counts()


def test_contexts_in_any_order(gpt2: sd.LanguageModel) -> None:
    """A row of scores belongs to its context, also where contexts repeat."""
    x = sd.Choice(gpt2, WORDING[0], OPTIONS[0]).phrase(0)
    y = sd.Choice(gpt2, WORDING[1], OPTIONS[1], given=[x])
    scores = TrieScorer()(y, np.array([[1], [0], [1]]))
    chex.assert_trees_all_close(scores, tables(gpt2, TrieScorer())["x1"][[1, 0, 1]], atol=5e-4, rtol=0)


def test_each_distinct_token_once(gpt2: sd.LanguageModel) -> None:
    """In all sites, calls and wordings; the same again costs nothing."""
    scorer = TrieScorer()
    first = tables(gpt2, scorer)
    before = scorer.counts(gpt2)
    assert before.tokens == before.trie_tokens == beginnings(gpt2, [WORDING])
    assert before.contexts == 1 + 2 + 6
    again = tables(gpt2, scorer)
    chex.assert_trees_all_equal(again, first)
    assert scorer.counts(gpt2).tokens == before.tokens
    # Of another wording of the outcome only what comes after its parents is new.
    changed = (*WORDING[:2], "Now {}")
    tables(gpt2, scorer, wording=changed)
    assert scorer.counts(gpt2).tokens == beginnings(gpt2, [WORDING, changed])
    tables(gpt2, scorer, wording=OTHER)
    assert scorer.counts(gpt2).tokens == beginnings(gpt2, [WORDING, changed, OTHER])
    scorer.forget()
    chex.assert_trees_all_close(tables(gpt2, scorer), first, atol=5e-4, rtol=0)
    assert (scorer.counts(gpt2) - before).tokens == beginnings(gpt2, [WORDING, changed, OTHER])


@pytest.mark.parametrize("scoring", ["sequence", "masked", "pmi"])
def test_other_wordings_compile_nothing(gpt2: sd.LanguageModel, caplog: pytest.LogCaptureFixture, scoring: str) -> None:
    def compiled(fn: Callable[[], Any]) -> int:
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
            fn()
        return sum("Finished XLA compilation" in record.getMessage() for record in caplog.records)

    scorer = TrieScorer()
    tables(gpt2, scorer, scoring=scoring)
    assert compiled(lambda: tables(gpt2, scorer, wording=OTHER, scoring=scoring)) == 0
    assert compiled(lambda: jax.jit(lambda x: x + 1)(np.zeros(7))) > 0


def test_little_memory_costs_tokens_and_changes_nothing(
    gpt2: sd.LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that holds less than a site."""
    plenty, distinct = tables(gpt2, TrieScorer()), beginnings(gpt2, [WORDING, OTHER])
    tokens = []
    for remembered in (8, 1):
        monkeypatch.setattr(tabulation, "REMEMBERED", remembered)
        scorer = TrieScorer(memory=64 * token_bytes(gpt2))
        for _ in range(2):
            chex.assert_trees_all_close(tables(gpt2, scorer), plenty, atol=5e-4, rtol=0)
            tables(gpt2, scorer, wording=OTHER)
        tokens.append(scorer.counts(gpt2).tokens)
        assert tokens[-1] < scorer.counts(gpt2).reference_tokens
    # What is remembered is not asked again, though its keys and values are gone.
    assert distinct < tokens[0] < 2 * distinct < tokens[1]
    with pytest.raises(sd.SDSCMError, match=r"memory holds the keys and values of 20 tokens.*at least memory=\d+"):
        tables(gpt2, TrieScorer(memory=20 * token_bytes(gpt2)))


@pytest.mark.slow
def test_the_pool_grows(gpt2: sd.LanguageModel) -> None:
    """A site of more tokens than the first pool has is computed once."""
    words, long = [f"{a}{b}" for a in "abcdefgh" for b in "xyz"], "We saw that it was so for a very long time, {}."

    def wide(lm: sd.LanguageModel) -> None:
        x = sd.sample("x", sd.Choice(lm, "It is {}.", words))
        y = sd.sample("y", sd.Choice(lm, "Then {}.", words[:5], given=[x]))
        sd.sample("z", sd.Choice(lm, long, ["low", "high"], given=[x, y]))

    scorer, large = TrieScorer(memory=8000 * token_bytes(gpt2)), TrieScorer()
    table, expected = sd.tabulate(wide, gpt2, scorer=scorer), sd.tabulate(wide, gpt2, scorer=large)
    counts, fewest = scorer.counts(gpt2), large.counts(gpt2)
    assert fewest.tokens == fewest.trie_tokens > 4096
    # The texts that the site goes on from were in the first pool.
    assert fewest.tokens < counts.tokens < 1.3 * fewest.tokens
    for name in ("x", "y", "z"):
        chex.assert_trees_all_close(table.scores(name), expected.scores(name), atol=5e-4, rtol=0)


def test_the_store_pays_once(gpt2: sd.LanguageModel, tmp_path: Path) -> None:
    first = tables(gpt2, TrieScorer(store=tmp_path), scoring="pmi")
    scorer = TrieScorer(store=tmp_path)
    again = tables(gpt2, scorer, scoring="pmi")
    chex.assert_trees_all_equal(again, first)
    counts = scorer.counts(gpt2)
    # The contexts of two sites, and these without their contexts.
    assert (counts.tokens, counts.stored) == (0, 2 + 6 + 2)


@pytest.mark.parametrize("scoring", ["sequence", "masked"])
def test_a_site_that_is_asked_inside_jit(gpt2: sd.LanguageModel, scoring: str) -> None:
    """A site under a stochastic intervention is scored when its probabilities are asked for."""
    table = sd.tabulate(do(model, {"x1": "uniform"}), gpt2, scoring=scoring, scorer=TrieScorer())
    assert set(table.names) == {"x0", "x2"}

    @jax.jit
    def run() -> tuple[jax.Array, jax.Array]:
        sites = trace(exogenous(table, 0)).get_trace()
        mechanism = mechanism_of(sites["x1"]["fn"])
        assert isinstance(mechanism, sd.Choice)
        return sites["x0"]["value"], mechanism.scores

    x, scores = run()
    chex.assert_trees_all_close(scores, tables(gpt2, TrieScorer(), scoring=scoring)["x1"][x], atol=5e-4, rtol=0)

"""``mock_lm``: its probabilities are those that were written down, and depend on all that a site is given."""

from __future__ import annotations

from typing import Any

import chex
import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax import effects, testing
from sdscm_jax.dsl.scoring.score_query import Question
from sdscm_jax.testing.mock import _following
from sdscm_jax.testing.mock_tokenizer import mock_tokenizer

DRUGS = ("begin a checkpoint inhibitor", "start an aromatase inhibitor", "start")


def clinic(lm: sd.LanguageModel, scoring: str = "sequence") -> None:
    age = sd.sample("age", sd.Choice(lm, "A {}-year-old woman arrives.", ["25", "55"], scoring=scoring))
    level = sd.Choice(lm, "The tumor exhibits {} levels.", ["low", "high"], given=[age, "She waits."], scoring=scoring)
    pdl1 = sd.sample("pdl1", level)
    sd.sample("drug", sd.Choice(lm, "The choice is to {}.", DRUGS, given=[pdl1, age], scoring=scoring))


@pytest.mark.parametrize(("scoring", "chat"), [("masked", False), ("sequence", True)])
def test_probabilities_are_those_that_were_given(scoring: str, chat: bool) -> None:
    def model(lm: sd.LanguageModel) -> None:
        clinic(lm, scoring)

    drugs = len(DRUGS)
    # In the order of given: pdl1, then age.
    table = np.random.default_rng(0).dirichlet([1] * drugs, (2, 2))
    table[0, 1] = np.eye(drugs)[0]
    lm = testing.mock_lm(model, probs={"age": [0.25, 0.75], "drug": table}, chat=chat)
    found = effects.network(model, lm)
    chex.assert_trees_all_close(found["age"].table, np.array([0.25, 0.75]), atol=1e-5)
    # The parents of a factor are in program order.
    chex.assert_trees_all_close(found["drug"].table, table.transpose(1, 0, 2), atol=1e-5)
    # What was not given is drawn, and leaves every option a chance in every context.
    assert (found["pdl1"].table > 0.01).all()
    assert np.abs(found["pdl1"].table[0] - found["pdl1"].table[1]).max() > 0.01


def test_seeds_are_other_models() -> None:
    one, again, other = (testing.mock_lm(clinic, seed=seed) for seed in (0, 0, 1))
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("probs", "error", "message"),
    [
        ({"pdl": [0.5, 0.5]}, sd.SiteError, "did you mean 'pdl1'"),
        ({"pdl1": {"low": 1.0}}, sd.OptionError, "its options are"),
        ({"pdl1": [0.5, 0.6]}, sd.OptionError, "sum to 1"),
        ({"drug": np.full((2, 3), 1 / 3)}, sd.OptionError, r"expected \(2, 2, 3\), or \(3,\)"),
    ],
)
def test_probabilities_that_are_none(probs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        testing.mock_lm(clinic, probs=probs)


def test_probabilities_that_cannot_be_set() -> None:
    with pytest.raises(sd.OptionError, match="scoring='pmi' cannot be set"):
        testing.mock_lm(clinic, "pmi", probs={"age": [0.5, 0.5]})
    with pytest.raises(sd.OptionError, match="site 'a': an option begins another"):
        _following("a", Question((0,), (), (), (5,), ((1,), (1, 2)), "option"), np.array([0.5, 0.5]))
    with pytest.raises(sd.SiteError, match="give it too"):
        testing.mock_lm(probs={"age": [0.5, 0.5]})


def test_free_text_can_be_read() -> None:
    def model(lm: sd.LanguageModel) -> None:
        note = sd.sample("note", sd.Text(lm, "The note says: {}.", max_tokens=12))
        sd.sample("drug", sd.Choice(lm, "The choice is to {}.", ["wait", "begin a checkpoint inhibitor"], given=[note]))

    data = sd.simulate(model, 0, 40, testing.mock_lm(model))
    assert set("".join(data.to_pandas()["note"])) <= set("abcdefghijklmnopqrstuvwxyz .")
    assert set(data.values["drug"][:, 0].tolist()) == {0, 1}


def test_phrases_are_tokens_as_whole_words_only() -> None:
    tokenizer = mock_tokenizer(["low", "low tide", "São", "(a+b)*"])
    for text, pieces in {"lowly low tide": 7, "São!": 2, "slow": 4, "x(a+b)*": 2}.items():
        tokens = tokenizer.encode(text)
        assert len(tokens) == pieces, tokenizer.convert_ids_to_tokens(tokens)
        assert tokenizer.decode(tokens) == text

"""Bad input: one clear message each, before the language model is run."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax.dsl.scoring.scorings.base import Scoring
from sdscm_jax.dsl.scoring.scorings.registry import SCORINGS, parse_scoring
from sdscm_jax.dsl.scoring.template import Template
from sdscm_jax.testing import mock_lm

from .test_choice import count_tokens


@pytest.fixture(autouse=True)
def no_model_work(monkeypatch: pytest.MonkeyPatch) -> object:
    calls = count_tokens(monkeypatch)
    yield
    assert calls == []


def chain(lm: sd.LanguageModel) -> None:
    age = sd.sample("age", sd.Choice(lm, "She is {}.", ["young", "old"]), exogenous=True)
    pdl1 = sd.sample("pdl1", sd.Choice(lm, "PD-L1 is {}.", ["low", "high"], given=[age]))
    sd.sample("drug", sd.Choice(lm, "Give {}.", ["this", "that"], given=[age, pdl1]))


@pytest.mark.parametrize("template", ["no blank", "{} and {}", "", 5])
def test_templates(lm: sd.LanguageModel, template: object) -> None:
    with pytest.raises(sd.TemplateError, match=r"one blank \{\}"):
        sd.Choice(lm, template, ["a", "b"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "has no options"),
        (["a", ""], "option 1 of 'It is {}.' is empty"),
        (["a", "b", "a"], "option 'a' of 'It is {}.' is listed twice"),
        (["a", 3], "option 1 of 'It is {}.' is not a string: 3"),
        ("low", "are a list of strings"),
    ],
)
def test_options(lm: sd.LanguageModel, options: object, message: str) -> None:
    with pytest.raises(sd.OptionError, match=message):
        sd.Choice(lm, "It is {}.", options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([3], r"given\[0\] of 'It is {}.' is neither a phrase nor a text: 3"),
        (["fine", None], r"given\[1\] .* None"),
        (["  "], "neither a phrase nor a text"),
        ([jax.numpy.array(0)], "use sd.sample, which returns a phrase"),
        (7, "is a list of phrases and strings"),
    ],
)
def test_given(lm: sd.LanguageModel, given: object, message: str) -> None:
    with pytest.raises(sd.GivenError, match=message):
        sd.Choice(lm, "It is {}.", ["a", "b"], given=given)


def test_settings(lm: sd.LanguageModel) -> None:
    with pytest.raises(sd.OptionError, match="unknown scoring 'seqence'; did you mean 'sequence'"):
        sd.Choice(lm, "It is {}.", ["a", "b"], scoring="seqence")
    with pytest.raises(sd.OptionError, match="unknown coupling"):
        sd.Choice(lm, "It is {}.", ["a", "b"], coupling="none")
    with pytest.raises(sd.OptionError, match="temperature is positive"):
        sd.Choice(lm, "It is {}.", ["a", "b"], temperature=0.0)
    with pytest.raises(TypeError, match="lm is a LanguageModel"):
        sd.Choice("gpt2", "It is {}.", ["a", "b"])


@pytest.mark.parametrize(
    ("world", "message"),
    [
        ({"pdl": "low"}, "no site 'pdl'; did you mean 'pdl1'"),
        ({"age": "old"}, "site 'age' is exogenous"),
        ({"pdl1": "hihg"}, "site 'pdl1' has no option 'hihg'; did you mean 'high'"),
        ({"pdl1": 2}, "site 'pdl1' has 2 options, numbered from 0; got 2"),
        ({"pdl1": 0.5}, "site 'pdl1' has 2 options"),
        ("pdl1", "mapping from site names to values"),
    ],
)
@pytest.mark.parametrize("how", ["do", "worlds"])
def test_interventions(lm: sd.LanguageModel, world: object, message: str, how: str) -> None:
    with pytest.raises(sd.InterventionError, match=message):
        sd.simulate(chain, 0, 5, lm, **{how: world if how == "do" else [world]})


def test_worlds(lm: sd.LanguageModel) -> None:
    with pytest.raises(sd.InterventionError, match="listed twice"):
        sd.simulate(chain, 0, 5, lm, worlds=[{"pdl1": "low"}, {"pdl1": "low"}])
    with pytest.raises(sd.InterventionError, match="always there"):
        sd.simulate(chain, 0, 5, lm, worlds=[{}])
    with pytest.raises(sd.InterventionError, match="list of mappings"):
        sd.simulate(chain, 0, 5, lm, worlds={"pdl1": "low"})


def test_unknown_site_of_the_handler(lm: sd.LanguageModel) -> None:
    model = sd.handlers.do(lambda lm: None, {"pdl1": "low"})
    with pytest.raises(sd.InterventionError, match="no site 'pdl1'"):
        model(lm)


@pytest.mark.parametrize(
    "run",
    [lambda model, lm: sd.simulate(model, 0, 5, lm), lambda model, lm: sd.graph(model, lm)],
    ids=["simulate", "graph"],
)
def test_two_sites_of_one_name(lm: sd.LanguageModel, run: Callable) -> None:
    def model(lm: sd.LanguageModel) -> None:
        sd.sample("x", sd.Choice(lm, "It is {}.", ["a", "b"]))
        sd.sample("x", sd.Choice(lm, "It is {}.", ["c", "d"]))

    with pytest.raises(sd.SiteError, match="two sites are named 'x'"):
        run(model, lm)


def test_a_context_that_is_too_long(lm: sd.LanguageModel) -> None:
    long = "word " * 300
    with pytest.raises(sd.ContextLengthError, match=r"needs up to \d+ positions; this language model has 256"):
        sd.Choice(lm, "It is {}.", ["a", "b"], given=[long])


@pytest.mark.parametrize("n", [0, -1, 2.5, "3", True])
def test_number_of_units(lm: sd.LanguageModel, n: object) -> None:
    with pytest.raises(sd.SDSCMError, match="n, the number of units, is an integer of at least 1"):
        sd.simulate(chain, 0, n, lm)


def test_other_arguments_of_simulate(lm: sd.LanguageModel) -> None:
    with pytest.raises(sd.SDSCMError, match="chunk, a number of rows, is an integer of at least 1"):
        sd.simulate(chain, 0, 5, lm, chunk=0)
    with pytest.raises(sd.SiteError, match="logp names 'drugs', which is no choice site; did you mean 'drug'"):
        sd.simulate(chain, 0, 5, lm, logp=["drugs"])


def test_phrases() -> None:
    level = sd.Phrase(jax.numpy.array(0), Template.parse("It is {}."), ("low", "high"), "level")
    with pytest.raises(sd.OptionError, match="site 'level' has no option 'hgh'; did you mean 'high'"):
        _ = level == "hgh"
    with pytest.raises(sd.OptionError, match="map gives no number for 'high'"):
        level.map({"low": 0.0})
    with pytest.raises(sd.OptionError, match="no option 'mid'"):
        level.map({"low": 0.0, "high": 1.0, "mid": 2.0})
    with pytest.raises(TypeError, match="another text in each unit"):
        jax.jit(lambda p: len(p.text))(level)


@pytest.mark.parametrize("scoring", ["sequense", "", None, 3])
def test_a_scoring_that_is_not_known_has_no_scores(scoring: object) -> None:
    with pytest.raises(sd.OptionError, match="unknown scoring"):
        parse_scoring(scoring)
    with pytest.raises(sd.OptionError, match="unknown scoring"):
        sd.Choice(mock_lm(), "It is {}.", ["up", "low"], scoring=scoring)  # type: ignore[arg-type]


@pytest.mark.parametrize("scoring", SCORINGS)
def test_scores_on_the_host_are_those_on_the_device(scoring: Scoring) -> None:
    tree = scoring.tree(((1, 2), (1, 3, 4), (1,), (5,)))
    edges = np.log(np.random.default_rng(0).dirichlet(np.ones(9), 3)[:, : len(tree.edge_rows)]).astype(np.float32)
    found = scoring.scores_on_host(tree, edges)
    assert (found.shape, found.dtype) == ((3, 4), np.float32)
    np.testing.assert_allclose(found, scoring.scores(tree, jax.numpy.asarray(edges)), rtol=1e-6)

"""``Choice(scoring="reference")`` against the published procedure, run in PyTorch on the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import jax
import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax.families import Family

from ....needs import needs, shared_path
from .torch_pairs import Pair, benchmark_module, load_pair, one_thread, random_gpt2_pair

torch = needs("torch")
pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    with benchmark_module("reference_torch") as module:
        yield module


@pytest.fixture(scope="module")
def gpt2_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A tiny random GPT-2 with the real tokenizer, which has no BOS."""
    return random_gpt2_pair(tmp_path_factory.mktemp("gpt2"), positions=1024, spread=0.4)


@pytest.fixture(scope="module")
def stories_pair() -> Pair:
    """A real Llama whose tokenizer puts BOS in front of every option."""
    return load_pair(shared_path("lms", "stories260K"))


@pytest.fixture(params=["gpt2_pair", "stories_pair"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.getfixturevalue(request.param)


# Parents of the sites below: template, options, number of the option that is the parent's value.
PARENTS = [
    ("A {}-year-old woman arrives at the clinic.", ["25", "55", "85"], 1),
    ("The weather outside is {}.", ["sunny", "rainy", "snowy", "cold"], 2),
    ("I owe it to myself to go {}.", ["to the gym", "for a run outside"], 1),
]
SITES = [
    ("After this, my marathon time will {}.", ["improve", "worsen"]),
    ("{} is part of her medical history.", ["hypertension", "type 2 diabetes mellitus", "osteoporosis"]),
    ("I have a friend named {}.", ["John", "Jane", "Alice", "Bob", "Charlie"]),
    # One option begins with the tokens of another, and one repeats a token.
    ("The best choice is to {}!", ["wait", "wait and see", "run and run", "initiate an aromatase inhibitor"]),
]


@pytest.mark.parametrize("parents", range(4))
@pytest.mark.parametrize(("template", "options"), SITES)
def test_scores_are_those_of_the_published_loop(
    pair: Pair, reference: ModuleType, template: str, options: list[str], parents: int
) -> None:
    used = PARENTS[:parents]

    @jax.jit
    def scores(lm: sd.LanguageModel) -> jax.Array:
        given = [sd.Choice(lm, text, texts).phrase(index) for text, texts, index in used]
        return sd.Choice(lm, template, options, given=given, scoring="reference").scores

    context = [text.replace("{}", texts[index]) for text, texts, index in used]
    expected = reference.score_options(pair.model, pair.tokenizer, context, template.split("{}")[0], options)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(scores(pair.lm), expected, atol=5e-4)


def test_skipping_logits_that_are_not_read_changes_no_score(pair: Pair, reference: ModuleType) -> None:
    template, options = SITES[3]
    plain, frugal = (
        reference.score_options(
            pair.model, pair.tokenizer, ["It is cold."], template.split("{}")[0], options, last_logits_only=last
        )
        for last in (False, True)
    )
    np.testing.assert_allclose(frugal, plain, atol=1e-4)


def test_bos_stands_before_every_option(stories_pair: Pair) -> None:
    choice = sd.Choice(stories_pair.lm, "The weather is {}.", ["hot", "cold"], scoring="reference")
    assert {row[0] for row in choice._blank.rows} == {stories_pair.lm.codec.bos}


def assert_member_agrees(pair: Pair, reference: ModuleType, family: Family, units: int) -> None:
    """Scores of every site of a few units, on the options that the library drew."""
    member = family.member(0, scoring="reference")
    data = sd.simulate(member, jax.random.key(0), units, pair.lm)
    for i in range(units):
        drawn = {name: int(values[i, 0]) for name, values in data.values.items()}
        unit = reference.run_unit(pair.model, pair.tokenizer, member, fixed=drawn)
        assert unit.indices == drawn
        for name, scores in unit.scores.items():
            expected = torch.tensor(scores, dtype=torch.float64).log_softmax(-1).numpy()
            np.testing.assert_allclose(data.log_probs[name][i, 0], expected, atol=5e-4, err_msg=f"{name}, unit {i}")


def test_whole_member_of_the_published_family(gpt2_pair: Pair, reference: ModuleType) -> None:
    family = Family.from_reference_json(shared_path("reference", "breast_cancer_config.json"))
    assert_member_agrees(gpt2_pair, reference, family, units=3)


@pytest.mark.parametrize("story", ["confounder", "collider"])
def test_whole_stories(stories_pair: Pair, reference: ModuleType, story: str) -> None:
    family = Family.from_vignette(getattr(sd.vignettes, story))
    assert_member_agrees(stories_pair, reference, family, units=3)


def test_the_loop_draws_from_the_softmax_of_its_scores(stories_pair: Pair, reference: ModuleType) -> None:
    family = Family.from_vignette(sd.vignettes.confounder)
    count = reference.Count()
    units = list(
        reference.run_units(stories_pair.model, stories_pair.tokenizer, family.member(0), 40, seed=1, count=count)
    )
    # name2 is uniform: not scored. Every other variable: one forward of its prefix, one of each option.
    assert count.forwards == 40 * sum(1 + len(v.options) for v in family.variables if not v.uniform)
    share = np.bincount([unit.indices["weather"] for unit in units], minlength=5) / 40
    expected = torch.tensor(units[0].scores["weather"]).softmax(-1).numpy()
    np.testing.assert_allclose(share, expected, atol=4 * np.sqrt(0.25 / 40))

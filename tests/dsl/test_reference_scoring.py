"""``Choice(scoring="reference")`` against the published procedure, run in PyTorch on the same weights."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax.bench.family import Family

from ..conftest import ROOT, shared_path

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.oracle


class Pair(NamedTuple):
    """The same weights on both sides."""

    lm: sd.LanguageModel
    model: Any
    tokenizer: Any


def load_pair(directory: Path) -> Pair:
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return Pair(sd.load_lm(directory), model, transformers.AutoTokenizer.from_pretrained(directory))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and threads that wait for a busy core lose much."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    """benchmarks/ is no package: the module is loaded from its path."""
    spec = importlib.util.spec_from_file_location("reference_torch", ROOT / "benchmarks" / "reference_torch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up by name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def gpt2_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A tiny random GPT-2 with the real tokenizer, which has no BOS."""
    directory = tmp_path_factory.mktemp("gpt2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(shared_path("lms", "tokenizer-gpt2"))
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=1024, vocab_size=len(tokenizer), initializer_range=0.4
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return load_pair(directory)


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
    np.testing.assert_allclose(scores(pair.lm), expected, atol=1e-4)


def test_skipping_logits_that_are_not_read_changes_no_score(pair: Pair, reference: ModuleType) -> None:
    template, options = SITES[3]
    plain, frugal = (
        reference.score_options(
            pair.model, pair.tokenizer, ["It is cold."], template.split("{}")[0], options, last_logits_only=last
        )
        for last in (False, True)
    )
    np.testing.assert_allclose(frugal, plain, atol=1e-5)


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
            np.testing.assert_allclose(data.log_probs[name][i, 0], expected, atol=1e-4, err_msg=f"{name}, unit {i}")


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

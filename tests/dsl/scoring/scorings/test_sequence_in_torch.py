"""The batched PyTorch baseline of benchmarks/ against ``Choice(scoring="sequence")``, on the same weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdscm_jax as sd
from sdscm_jax.families import Family, Member

from ....needs import needs, shared_path
from .torch_pairs import Pair, benchmark_module, load_pair, one_thread, random_gpt2_pair

torch = needs("torch")
pytestmark = pytest.mark.oracle

UNITS = 12


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def batched() -> Iterator[ModuleType]:
    with benchmark_module("batched_torch") as module:
        yield module


@pytest.fixture(scope="module")
def gpt2_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A tiny random GPT-2 with the real tokenizer, which has no BOS."""
    # Weights small enough that no option is certain, large enough that the context matters.
    return random_gpt2_pair(tmp_path_factory.mktemp("gpt2"), positions=256, spread=0.2)


@pytest.fixture(scope="module")
def stories_pair() -> Pair:
    """A real Llama, whose tokenizer has a BOS; fewer heads of keys than of queries."""
    return load_pair(shared_path("lms", "stories260K"))


def variable(name: str, template: tuple[str, str], options: list[str], parents: list[int], **rest: Any) -> dict:
    return {
        "variable_name": name,
        "possible_prefix_suffix_pairs": [list(template)],
        "candidate_set": options,
        "parent_indices": parents,
        "exogenous": False,
        **rest,
    }


# The text begins with a blank; one sentence begins another; lengths differ; the last site does not go
# on from the one before it, and is given a site that the model is not asked about.
STORY = Family.from_reference_json(
    {
        "setup_sequence_sample_space": [
            variable("who", ("", " went to the park."), ["Lily", "Tom", "The old man"], []),
            variable("sky", ("It was a ", " day."), ["sunny", "very sunny", "rainy and cold"], [0]),
            variable("deed", ("The best thing was to ", ""), ["wait", "wait and see", "run"], [0, 1]),
            variable("coin", ("The coin showed ", "."), ["heads", "tails"], [], intervention_choice="uniform"),
            variable("mood", ("In the end all were ", "."), ["happy", "sad and tired"], [0, 1, 2]),
            variable("meal", ("They ate ", "."), ["bread", "red apples"], [1, 3]),
        ]
    }
)
CONFOUNDER = Family.from_vignette(sd.vignettes.confounder)


def any_values(family: Family) -> dict[str, np.ndarray]:
    """Option numbers ``[B]`` of every site, whatever the language model thinks of them."""
    rng = np.random.default_rng(0)
    return {v.name: rng.integers(len(v.options), size=UNITS) for v in family.variables}


@partial(jax.jit, static_argnames="member")
def choice_log_probs(lm: sd.LanguageModel, values: dict[str, jax.Array], member: Member) -> dict[str, jax.Array]:
    """Log-probabilities ``[B, K]`` of every site where the sites have these values ``[B]``."""
    phrases: dict[str, sd.Phrase] = {}
    found: dict[str, jax.Array] = {}
    for v, wording in zip(member.family.variables, member.wordings, strict=True):
        given = [phrases[parent] for parent in v.parents]
        scoring = "uniform" if v.uniform else "sequence"
        choice = sd.Choice(lm, v.templates[wording], v.options, given=given, scoring=scoring)
        phrases[v.name] = choice.phrase(values[v.name])
        found[v.name] = jnp.broadcast_to(choice.logits, (UNITS, len(v.options)))
    return found


@pytest.mark.parametrize(("pair", "family"), [("gpt2_pair", STORY), ("stories_pair", CONFOUNDER)])
def test_log_probabilities_are_those_of_choice(
    request: pytest.FixtureRequest, batched: ModuleType, pair: str, family: Family
) -> None:
    lm, model, tokenizer = request.getfixturevalue(pair)
    member = family.member(0)
    # Every option of every site is gone on from, which draws would not be.
    values = any_values(family)
    expected = choice_log_probs(lm, values, member)
    # Units differ, so that they are compared and not one row with itself.
    assert max(np.ptp(log_probs, axis=0).max() for log_probs in expected.values()) > 0.1
    counts = []
    for merge in (True, False):
        count = SimpleNamespace(tokens=0, forwards=0)
        found = batched.run_batch(model, tokenizer, member, UNITS, fixed=values, count=count, merge=merge)
        counts.append(count)
        chex.assert_trees_all_equal({name: indices.numpy() for name, (indices, _) in found.items()}, values)
        chex.assert_trees_all_close(
            {name: log_probs.numpy() for name, (_, log_probs) in found.items()}, expected, atol=1e-3
        )
    assert counts[0].tokens < counts[1].tokens
    assert counts[0].forwards == counts[1].forwards == sum(not v.uniform for v in family.variables)


def test_whole_units_share_what_they_have_in_common(gpt2_pair: Pair, batched: ModuleType) -> None:
    """Twice the same units cost the tokens of once; without merging, twice as many."""
    values = any_values(STORY)
    twice = {name: np.tile(value, 2) for name, value in values.items()}

    def tokens(fixed: dict[str, Any], merge: bool) -> int:
        count = SimpleNamespace(tokens=0, forwards=0)
        units = len(fixed["who"])
        batched.run_batch(
            gpt2_pair.model, gpt2_pair.lm.codec, STORY.member(0), units, fixed=fixed, count=count, merge=merge
        )
        return count.tokens

    assert tokens(twice, True) == tokens(values, True)
    assert tokens(twice, False) == 2 * tokens(values, False)


def test_draws_follow_the_probabilities(stories_pair: Pair, batched: ModuleType) -> None:
    member, units = CONFOUNDER.member(0), 400

    def run(seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        return batched.run_batch(stories_pair.model, stories_pair.tokenizer, member, units, generator)

    found = run(1)
    for name in ("weather", "gym", "marathon"):
        indices, log_probs = found[name]
        options = log_probs.shape[1]
        share = np.bincount(indices, minlength=options) / units
        chex.assert_trees_all_close(share, log_probs.exp().mean(0).double().numpy(), atol=4 * np.sqrt(0.25 / units))
        chex.assert_trees_all_equal(indices, run(1)[name][0])
    assert any(not torch.equal(found[name][0], value) for name, (value, _) in run(2).items())


def test_fused_activation_changes_no_probability(gpt2_pair: Pair, batched: ModuleType) -> None:
    member, codec = STORY.member(0), gpt2_pair.lm.codec
    fused = batched.fuse_activation(copy.deepcopy(gpt2_pair.model))
    assert not any("NewGELU" in type(module).__name__ for module in fused.modules())
    plain, quick = (
        batched.run_batch(model, codec, member, UNITS, fixed=any_values(STORY)) for model in (gpt2_pair.model, fused)
    )
    for name in plain:
        chex.assert_trees_all_close(quick[name][1].numpy(), plain[name][1].numpy(), atol=1e-3)

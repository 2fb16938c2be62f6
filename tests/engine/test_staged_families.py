"""Programs on families whose layers differ from Llama's: windows, caps, norms of queries and keys."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models.checkpoint import abstract_decoder

from .. import plain
from ..conftest import make_tiny_lm
from ..models.family_models import MODELS, SHORT
from ..models.make_golden import random_model, torch_logits
from ..needs import needs

TEMPLATES = {"weather": "The weather outside is {}.", "run": "My friend goes for {}.", "age": "She is {} years old."}
OPTIONS = {"weather": ["low", "very high"], "run": ["a run", "sunny"], "age": ["25", "low or high", "a friend"]}


def day(lm: sd.LanguageModel) -> None:
    given: list[sd.Phrase] = []
    for site, template in TEMPLATES.items():
        given.append(sd.sample(site, sd.Choice(lm, template, OPTIONS[site], given=given)))


def check(lm: sd.LanguageModel) -> None:
    """Log-probabilities staged, in graph and by the plain scorer, in every context."""
    contexts = list(itertools.product(OPTIONS["weather"], OPTIONS["run"]))
    worlds = [{"weather": weather, "run": run} for weather, run in contexts]
    staged = sd.simulate(day, 0, 2, lm, worlds=worlds)
    graph = sd.simulate(day, 0, 2, lm, worlds=worlds, execution="in_graph")
    for site in OPTIONS:
        np.testing.assert_allclose(staged.log_probs[site], graph.log_probs[site], atol=5e-4, rtol=0)
    for world, (weather, run) in enumerate(contexts, start=1):
        context = f"{TEMPLATES['weather'].format(weather)} {TEMPLATES['run'].format(run)}"
        scores = plain.option_log_probs(lm, context, TEMPLATES["age"], OPTIONS["age"])
        expected = scores - np.logaddexp.reduce(scores)
        np.testing.assert_allclose(staged.log_probs["age"][0, world], expected, atol=5e-4, rtol=0)
    ages = staged.log_probs["age"][0, 1:]
    assert np.abs(ages - ages[:1]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma2"])
def test_program(family: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Random weights, and windows that are far shorter than the texts."""
    lm = make_tiny_lm(tiny_tokenizer, family)
    config = replace(lm.config, windows=(SHORT, None), attention_cap=3.0, logit_cap=4.0)
    check(replace(lm, graph=abstract_decoder(config, jnp.float32)[0]))


# One of each kind in CI; what is left is looked at where its logits alone are not enough.
IN_CI = ("mistral", "gemma3_text", "mixtral, windows", "deepseek_v3", "llama4_text, windows", "qwen3_next")
BESIDE = (
    "gemma2",
    "gpt_oss, windows",
    "deepseek_v2, groups",
    "lfm2_moe",
    "gemma4_text, windows",
    "gemma3n_text, windows",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=pytest.mark.oracle) for x in IN_CI]
    + [pytest.param(x, marks=pytest.mark.search) for x in BESIDE],
)
def test_live_program(
    name: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores are those that PyTorch's logits give."""
    needs("torch")
    family, settings = MODELS[name]
    sizes = {"vocab_size", "vocab_size_per_layer_input"} & {"vocab_size", *settings}
    settings = settings | dict.fromkeys(sizes, len(tiny_tokenizer))
    model = random_model(family, settings, 5)
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)

    def log_probs(_: sd.LanguageModel, tokens: jax.Array) -> np.ndarray:
        row = np.asarray(tokens)[None]
        return np.asarray(jax.nn.log_softmax(torch_logits(model, row, np.ones_like(row))[0]))

    monkeypatch.setattr(plain, "_log_probs", log_probs)
    lm = sd.load_lm(tmp_path)
    assert SHORT in lm.config.windows or lm.config.mixers or "deepseek" in name
    check(lm)

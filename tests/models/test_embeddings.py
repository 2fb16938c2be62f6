"""Texts as vectors."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd

from ..needs import needs
from .family_models import MODELS as FAMILY_MODELS
from .make_golden import MODELS, random_model

TEXTS = ["She is 25 years old.", "It is low.", "My friend goes for a run. The weather outside is sunny.", "It"]


@pytest.mark.slow
def test_texts_of_any_length_are_pooled(lm: sd.LanguageModel) -> None:
    mean, last = (lm.embed(TEXTS, pool=pool) for pool in ("mean", "last"))
    assert (mean.shape, mean.dtype) == ((4, lm.config.width), np.float32)
    for i in (0, 3):
        # The text by itself, without padding.
        tokens = jnp.array(lm.codec.encode(TEXTS[i]))
        length = len(tokens)
        hidden = np.asarray(lm.encode(tokens, jnp.arange(length), jnp.tri(length, dtype=bool))[0])
        np.testing.assert_allclose(mean[i], hidden.mean(0), atol=1e-5)
        np.testing.assert_allclose(last[i], hidden[-1], atol=1e-5)
    assert lm.embed([]).shape == (0, lm.config.width)


def test_what_cannot_be_embedded(lm: sd.LanguageModel) -> None:
    with pytest.raises(sd.OptionError, match=r"texts\[1\]"):
        lm.embed(["It is low.", ""])
    with pytest.raises(sd.OptionError, match="texts"):
        lm.embed("It is low.")
    with pytest.raises(sd.ContextLengthError, match=r"texts\[0\] .* needs \d+ positions; this language model has 256"):
        lm.embed(["It is low. " * 200])
    for bad in (3, -4, "last", True):
        with pytest.raises(sd.SDSCMError, match="layer"):
            lm.embed(TEXTS, layer=bad)  # type: ignore[arg-type]
    with pytest.raises(sd.SDSCMError, match="did you mean 'mean'"):
        lm.embed(TEXTS, pool="men")


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["gpt2", "gemma3_text"])
def test_hidden_states_are_those_of_transformers(
    name: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    torch = needs("torch")
    family, settings = (MODELS | FAMILY_MODELS)[name]
    model = random_model(family, settings | {"vocab_size": len(tiny_tokenizer)}, 0)
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    lm = sd.load_lm(tmp_path)
    for pool, layer in (("mean", -1), ("last", -1), ("mean", 1), ("last", 0)):
        found = lm.embed(TEXTS, layer=layer, pool=pool)
        for row, text in zip(found, TEXTS, strict=True):
            before = () if lm.codec.bos is None else (lm.codec.bos,)
            tokens = torch.tensor([[*before, *lm.codec.encode(text)]])
            with torch.inference_mode():
                states = model(tokens, output_hidden_states=True).hidden_states[layer][0, len(before) :].numpy()
            expected = states.mean(0) if pool == "mean" else states[-1]
            np.testing.assert_allclose(row, expected, atol=1e-4 * np.abs(states).max())

"""Texts as vectors."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd

from ..needs import needs
from .make_golden import MODELS, random_model

TEXTS = ["She is 25 years old.", "It is low.", "My friend goes for a run. The weather outside is sunny.", "It"]


def one_by_one(lm: sd.LanguageModel, text: str, pool: str) -> np.ndarray:
    """A text by itself, without padding."""
    before = () if lm.codec.bos is None else (lm.codec.bos,)
    tokens = jnp.array([*before, *lm.codec.encode(text)])
    length = len(tokens)
    hidden, _ = lm.encode(tokens, jnp.arange(length), jnp.tri(length, dtype=bool))
    own = np.asarray(hidden)[len(before) :]
    return own.mean(0) if pool == "mean" else own[-1]


def test_texts_of_any_length_are_pooled(lm: sd.LanguageModel, embedded: sd.LanguageModel) -> None:
    for model, pool in ((lm, "mean"), (lm, "last"), (embedded, "mean")):
        found = model.embed(TEXTS, pool=pool)
        assert (found.shape, found.dtype) == ((4, model.config.width), np.float32)
        for row, text in zip(found, TEXTS, strict=True):
            np.testing.assert_allclose(row, one_by_one(model, text, pool), atol=1e-5)
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
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_hidden_states_are_those_of_transformers(
    name: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    torch = needs("torch")
    family, settings = MODELS[name]
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
            np.testing.assert_allclose(row, states.mean(0) if pool == "mean" else states[-1], atol=5e-4, rtol=1e-4)

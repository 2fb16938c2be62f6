"""The tokenizer in use is the one that ``tokenizer.json`` describes, whatever class is named beside it.

The truth is ``tokenizers`` on the file.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import BpeTrainer

import sdscm_jax as sd
from sdscm_jax.models.tokenizer import load_tokenizer

from .test_checkpoint import fails
from .test_checkpoint_tokens import TEXT, byte_level, written


def lower_case() -> Tokenizer:
    tokenizer = byte_level(("<e>",), TEXT.lower())
    tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def without_accents() -> Tokenizer:
    tokenizer = byte_level(("<e>",))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    return tokenizer


def single_digits() -> Tokenizer:
    tokenizer = byte_level(("<e>",))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def sentence_pieces(scheme: str) -> Tokenizer:
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = BpeTrainer(vocab_size=300, special_tokens=["<e>", "<unk>"], show_progress=False)
    tokenizer.train_from_iterator([TEXT] * 20, trainer)
    return tokenizer


SHIPPED = {
    "lower case": (lower_case, ("GPT2Tokenizer", "GPTNeoXTokenizer", "Qwen2Tokenizer", "LlamaTokenizer")),
    "without accents": (without_accents, ("GPT2Tokenizer", "GPTNeoXTokenizer", "Qwen2Tokenizer")),
    "single digits": (single_digits, ("GPT2Tokenizer", "Qwen2Tokenizer")),
    "no space in front": (lambda: sentence_pieces("never"), ("LlamaTokenizer", "LlamaTokenizerFast")),
    "space in front": (
        lambda: sentence_pieces("always"),
        ("LlamaTokenizer", "GPT2Tokenizer", "PreTrainedTokenizerFast"),
    ),
}
PLAIN = ("She is 255 years old in 2024.", "It is CAFÉ low.", " 北京 is it ", "The tumor exhibits low levels.")


@pytest.mark.parametrize(
    ("name", "label"), [(name, label) for name, (_, labels) in SHIPPED.items() for label in labels]
)
def test_the_file_counts_whatever_the_class(tmp_path: Path, name: str, label: str) -> None:
    """Transformers rebuilds from the class what it knows of it; the tokens are those of tokenizer.json."""
    make, _ = SHIPPED[name]
    described = make()
    unk = {"unk_token": "<unk>"} if described.token_to_id("<unk>") is not None else {}
    written(tmp_path, described, {"tokenizer_class": label, "eos_token": "<e>", "bos_token": "<e>", **unk})
    lm = sd.load_lm(tmp_path)
    for text in PLAIN:
        expected = described.encode(text, add_special_tokens=False).ids
        assert list(lm.codec.encode(text)) == expected
        assert lm.codec.decode(expected) == described.decode(expected, skip_special_tokens=False)
    lm.save(tmp_path / "again")
    assert sd.load_lm(tmp_path / "again").codec == lm.codec


def test_other_numbers_than_the_file_gives(tmp_path: Path) -> None:
    """A configuration that makes of the file what no class can: refused, with what differs."""
    written(tmp_path, byte_level(("<e>",)), {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<e>"})
    assert load_tokenizer(tmp_path).eos_token == "<e>"
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "tokenizer" in fails(tmp_path)


def test_words_as_tokens(tmp_path: Path) -> None:
    """A tokenizer without pieces, whose decoder is none: read and written as the file has it."""
    words = ["<e>", "<unk>", "The", "tumor", "exhibits", "low", "high", "levels", "of", "."]
    described = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    described.pre_tokenizer = pre_tokenizers.Whitespace()
    written(
        tmp_path, described, {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<e>", "unk_token": "<unk>"}
    )
    assert sd.load_lm(tmp_path).codec.encode("The tumor exhibits high levels.") == (2, 3, 4, 6, 7, 9)


def test_loading_warns_of_no_text_that_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Transformers counts the texts that a tokenizer is tried on: they may be longer than what the model reads."""
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<e>", "model_max_length": 8}
    written(tmp_path, byte_level(("<e>",)), told)
    with caplog.at_level("WARNING"):
        logger = logging.getLogger("transformers")
        logger.addHandler(caplog.handler)
        try:
            lm = sd.load_lm(tmp_path)
            assert len(lm.codec.encode("The tumor exhibits low levels of everything.")) > 8
        finally:
            logger.removeHandler(caplog.handler)
    assert caplog.messages == []

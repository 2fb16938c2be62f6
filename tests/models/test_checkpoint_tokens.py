"""Tokenizers as checkpoints ship them: what begins a text and ends it, tokens without an embedding, special tokens that
a text names, and characters without a token.

The truth is the tokenizer's own answer for a whole text, and logits of those ids.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models.checkpoint import save_parameters
from sdscm_jax.models.codec import Codec, UnknownCharacterWarning
from sdscm_jax.models.families import tiny_config
from sdscm_jax.models.token_bytes import token_bytes

from ..conftest import make_tiny_lm
from .test_checkpoint import edit_config, fails, write_model

SENTENCE, OPTIONS = "The tumor exhibits {} levels of PD-L1.", ["low", "high"]
TEXT = (
    "The tumor exhibits low levels, or high levels, of PD-L1. She is 25 years old in 2024. It is sunny. "
    "The mutation is in TP53 now."
)


def byte_level(special: tuple[str, ...], text: str = TEXT) -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text] * 20, trainer)
    return tokenizer


def written(directory: Path, tokenizer: Tokenizer, config: dict[str, Any] | None) -> Path:
    """A random model with a tokenizer's files as they are shipped."""
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=tokenizer.id_to_token(0))
    lm = make_tiny_lm(plain)
    write_model(directory, plain, tie_word_embeddings=True)
    settings = {"head_dim": 8, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 256}
    edit_config(directory, **settings, rms_norm_eps=lm.config.norm_eps)
    save_parameters(directory, lm.config, lm.params, jnp.float32)
    for path in directory.glob("*token*"):
        path.unlink()
    tokenizer.save(str(directory / "tokenizer.json"))
    if config is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def probabilities(lm: sd.LanguageModel, ids: list[list[int]], start: int) -> np.ndarray:
    """Of each row of ids, from ``start`` on, among the rows: by one plain pass over each."""
    scores = []
    for row in ids:
        log_probs = np.asarray(jax.nn.log_softmax(lm.logits(jnp.array([row]))[0]), np.float64)
        scores.append(sum(log_probs[i - 1, row[i]] for i in range(start, len(row))))
    weights = np.exp(np.array(scores) - max(scores))
    return weights / weights.sum()


# -- what begins a text ---------------------------------------------------------------------------

BEGINNINGS: dict[str, tuple[dict[str, Any] | None, list[str]]] = {
    "no tokenizer_config.json": (None, ["<b>"]),
    "not declared": ({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<e>"}, ["<b>"]),
    "declared": ({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<b>", "eos_token": "<e>"}, ["<b>"]),
    "as class": ({"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "<b>", "eos_token": "<e>"}, ["<b>"]),
    "two": ({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<b>", "eos_token": "<e>"}, ["<b>", "<l>"]),
    "declared, and not put": ({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<b>"}, []),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_what_begins_a_text(tmp_path: Path, name: str) -> None:
    config, begun = BEGINNINGS[name]
    tokenizer = byte_level(("<e>", "<b>", "<l>"))
    if begun:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{' '.join(begun)} $A <e>", special_tokens=[(t, tokenizer.token_to_id(t)) for t in (*begun, "<e>")]
        )
    lm = sd.load_lm(written(tmp_path, tokenizer, config))
    # What stands behind a text, if anything, is not before what is to come.
    whole = [AutoTokenizer.from_pretrained(tmp_path).encode(SENTENCE.format(option)) for option in OPTIONS]
    whole = [ids[:-1] if begun else ids for ids in whole]
    assert lm.codec.begin == tuple(map(tokenizer.token_to_id, begun))
    shared = len(begun) + len(tokenizer.encode("The tumor exhibits", add_special_tokens=False).ids)
    expected = probabilities(lm, whole, shared)
    np.testing.assert_allclose(sd.Choice(lm, SENTENCE, OPTIONS).probs, expected, atol=1e-5)
    given = sd.Choice(lm, "It is {}.", ["sunny", "low"], given=["She is 25 years old."])
    pieces = [tokenizer.encode(f"She is 25 years old. It is {o}.", add_special_tokens=False).ids for o in given.options]
    rows = [[*lm.codec.begin, *ids] for ids in pieces]
    expected = probabilities(lm, rows, len(rows[0]) - 2)
    np.testing.assert_allclose(given.probs, expected, atol=1e-5)


def test_a_soft_prompt_stands_behind_the_first_of_what_begins(tmp_path: Path) -> None:
    """In a program, and in training, which has the rest in its documents."""
    tokenizer = byte_level(("<e>", "<b>", "<l>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<b> <l> $A", special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("<b>", "<l>")]
    )
    lm = sd.load_lm(written(tmp_path, tokenizer, None))
    adapted = sd.SoftPrompt(lm, 2)(lm)
    start = sd.Choice(adapted, SENTENCE, OPTIONS).question.start
    assert start == (1, *adapted.prompt_tokens, 2)


# -- tokens without an embedding ------------------------------------------------------------------


def with_words(special: bool = False, **settings: Any) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(tokenizer_object=byte_level(("<e>",)), eos_token="<e>")
    fast.add_tokens([AddedToken(word, **settings) for word in ("PD-L1", "HER2")], special_tokens=special)
    return fast


def test_tokens_that_the_table_does_not_have(tmp_path: Path) -> None:
    """Words were added to the tokenizer, and the embedding table is as it was."""
    fast = with_words()
    size = len(fast) - 2
    lm = sd.random_lm(tiny_config("llama", size), fast, 0)
    for make in (
        lambda: sd.Choice(lm, SENTENCE, OPTIONS),
        lambda: sd.Choice(lm, "The mutation is in {} now.", ["HER2", "TP53"]),
        lambda: sd.Choice(lm, "It is {}.", OPTIONS, given=["HER2 is high."]),
        lambda: sd.Text(lm, "HER2 is {}.", max_tokens=4),
        lambda: sd.SoftPrompt(lm, 4, init="HER2"),
    ):
        with pytest.raises(
            sd.SDSCMError, match=f"'(PD-L1|HER2)' .number {size}|{size + 1}.*embeddings of {size} tokens"
        ):
            make()
    np.testing.assert_allclose(sd.Choice(lm, "The gene is {}.", ["TP53", "low"]).probs.sum(), 1, atol=1e-6)


def test_a_larger_table_is_nothing_to_refuse() -> None:
    fast = with_words()
    padded = sd.random_lm(tiny_config("llama", len(fast) + 13), fast, 0)
    assert np.isfinite(sd.Choice(padded, SENTENCE, OPTIONS).probs).all()
    assert padded.codec.fingerprint == Codec(fast).fingerprint


def test_caches_tell_tables_apart() -> None:
    """The same tokenizer with a table that has the tokens, and one that does not."""
    fast = with_words()
    assert Codec(fast, len(fast)).encode("HER2") == (len(fast) - 1,)
    with pytest.raises(sd.TemplateError, match="HER2"):
        Codec(fast, len(fast) - 1).encode("HER2")


@pytest.mark.parametrize("role", ["bos_token", "eos_token"])
def test_a_start_that_the_table_does_not_have(role: str) -> None:
    """Then there is none; where it begins every text, nothing can be read."""
    tokenizer = byte_level(())
    size = tokenizer.get_vocab_size()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{role: "<s>"})
    codec = Codec(fast, size)
    assert (codec.start, codec.end) == (None, None)
    lm = sd.random_lm(tiny_config("llama", size), fast, 0)
    with pytest.raises(sd.OptionError, match="no token to begin with"):
        sd.Choice(lm, "{} is it.", ["Low", "High"])
    backend = fast.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", size)])
    begun = PreTrainedTokenizerFast(tokenizer_object=backend, **{role: "<s>"})
    with pytest.raises(sd.LoadError, match=f"begins every text with the token '<s>' .number {size}"):
        Codec(begun, size)


# -- special tokens that a text names -------------------------------------------------------------


def test_a_text_does_not_name_a_special_token() -> None:
    fast = with_words(special=True)
    lm = make_tiny_lm(fast)
    for make in (
        lambda: sd.Choice(lm, SENTENCE, OPTIONS),
        lambda: sd.Choice(lm, "It is {}.", ["HER2", "low"]),
        lambda: sd.Choice(lm, "It is {}.", OPTIONS, given=["<e>It is so."]),
        lambda: sd.Choice(lm, "It is HE{}.", ["R2", "low"]),
        lambda: sd.Text(lm, "HER2 is {}", max_tokens=4),
        lambda: sd.Text(lm, "It is {}", max_tokens=4, stop="<e>"),
    ):
        with pytest.raises(sd.TemplateError, match=r"contains '(PD-L1|HER2|<e>)', which is a special token"):
            make()
    # Its parts are characters like others.
    assert lm.codec.decode(lm.codec.encode("HER 2 <e")) == "HER 2 <e"


@pytest.mark.parametrize("settings", [{}, {"lstrip": True}, {"single_word": True}])
def test_words_that_were_added_are_read(settings: dict[str, bool]) -> None:
    """Ordinary added tokens are those of the tokenizer."""
    fast = with_words(**settings)
    lm = make_tiny_lm(fast)
    rows = [fast.encode(SENTENCE.format(option)) for option in OPTIONS]
    assert fast.convert_tokens_to_ids("PD-L1") in rows[0]
    expected = probabilities(lm, rows, len(fast.encode("The tumor exhibits")))
    np.testing.assert_allclose(sd.Choice(lm, SENTENCE, OPTIONS).probs, expected, atol=1e-5)


# -- what ends a text -----------------------------------------------------------------------------


def ending_lm(directory: Path, generation: Any, config: Any = 0) -> sd.LanguageModel:
    """A model whose tokenizer ends texts with ``<e>``, number 0, and a checkpoint that says more."""
    written(directory, byte_level(("<e>", "<turn>", "<tool>")), {"eos_token": "<e>"})
    edit_config(directory, eos_token_id=config)
    if generation is not None:
        (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    return sd.load_lm(directory)


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [
        ([0, 1], 0, {0, 1}),
        (1, 0, {0, 1}),
        (None, [0, 2], {0, 2}),
        ([0, 1], [0, 2], {0, 1}),
        (None, None, {0}),
        # Words of the tokenizer: left over from another model.
        (None, 300, {0}),
        ([50256], 2, {0}),
    ],
)
def test_ends(tmp_path: Path, generation: Any, config: Any, ends: set[int]) -> None:
    lm = ending_lm(tmp_path, generation, config)
    assert set(lm.codec.ends) == ends
    lm.save(tmp_path / "again")
    assert sd.load_lm(tmp_path / "again").fingerprint() == lm.fingerprint()


@pytest.mark.slow
def test_a_text_ends_with_any_of_them(tmp_path: Path) -> None:
    """P(the text ends here) is the sum over all, at a temperature too; every draw says so with one token."""
    lm = ending_lm(tmp_path, [0, 1, 2])
    table = lm.params["embedding"]["embedding"]
    prompt = lm.codec.encode("It is")
    logits = np.asarray(lm.logits(jnp.array([prompt]))[0, -1], np.float64)
    for temperature in (1.0, 0.7):
        site = sd.Text(lm, "It is{}", max_tokens=3, temperature=temperature)
        scaled = logits / temperature
        # Other tokens than these three end nothing, and are all text here.
        allowed = np.array([token is not None for token in token_bytes(lm.codec, len(table[...]))])
        weights = np.exp(scaled - scaled.max()) * (allowed | np.isin(np.arange(len(scaled)), [0, 1, 2]))
        expected = np.log(weights[[0, 1, 2]].sum() / weights.sum())
        ended = np.full(3, -1)
        ended[0] = lm.codec.end
        np.testing.assert_allclose(site.log_prob(ended), expected, atol=1e-4)
        draws = np.asarray(site.sample(jax.random.key(0), (200,)))
        assert set(draws[np.isin(draws, [0, 1, 2])]) <= {lm.codec.end}
        share = (draws[:, 0] == lm.codec.end).mean()
        assert abs(share - np.exp(expected)) < 4 * np.sqrt(np.exp(expected) / 200) + 0.01


@pytest.mark.parametrize("content", ['{"eos_token_id": "<e>"}', '{"eos_token_id": [1.5]}', "[", "3"])
def test_ends_that_are_none(tmp_path: Path, content: str) -> None:
    ending_lm(tmp_path, None)
    (tmp_path / "generation_config.json").write_text(content)
    assert "generation_config.json" in fails(tmp_path)


# -- characters without a token -------------------------------------------------------------------


def characters(unk: str | None) -> PreTrainedTokenizerFast:
    letters = sorted(set("The town is large. Seoul Busan in nighlow") - {" "})
    tokenizer = Tokenizer(
        BPE({t: i for i, t in enumerate(["<e>", *([unk] if unk else []), "▁", *letters])}, [], unk_token=unk)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", **({"unk_token": unk} if unk else {}))


@pytest.mark.parametrize("unk", ["<unk>", None])
def test_characters_without_a_token_are_said(unk: str | None) -> None:
    """Whether the tokenizer writes an unknown token there, or nothing at all."""
    lm = make_tiny_lm(characters(unk))
    for template, given, pieces in (
        ("The 도시 is {}.", [], ("'도시'",)),
        ("The town is {}.", ["Seoul\u0142 is large."], ("'ł'",)),
        ("The town is {}.", ["The x is y."], ("'x'", "'y'")),
    ):
        with pytest.warns(UnknownCharacterWarning) as said:
            sd.Choice(lm, template, ["low", "high"], given=given)
        assert len(said) == 1
        message = str(said[0].message)
        assert all(piece in message for piece in pieces)
        assert repr(template) in message
        assert (unk or "nothing") in message
    with pytest.warns(UnknownCharacterWarning, match="'도시'"):
        sd.Text(lm, "The 도시 is {}", max_tokens=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.Choice(lm, "The town  is {}.", ["low", "high"], given=["Seoul is large."])
    with pytest.raises(sd.OptionError, match="have the same tokens"):
        sd.Choice(lm, "The town is {}.", ["서울", "부산"])


def test_a_tokenizer_of_all_bytes_has_every_character(lm: sd.LanguageModel) -> None:
    assert lm.codec.unread("서울 😀 \x07") == ()

"""Small language models that several test modules share."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models.families import tiny_config


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE without BOS, trained on a few sentences."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = "The weather outside is sunny. It is low or high. My friend goes for a run. She is 25 years old."
    tokenizer.train_from_iterator([text] * 50, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )


def make_tiny_lm(tokenizer: PreTrainedTokenizerFast, family: str = "llama", seed: int = 0) -> sd.LanguageModel:
    """A random model, with weights large enough that its choices are not all alike."""
    import jax

    lm = sd.random_lm(tiny_config(family, len(tokenizer)), tokenizer, seed)
    return jax.tree.map(lambda x: x * 6 if x.ndim > 1 else x, lm)


@pytest.fixture(scope="session")
def lm(tiny_tokenizer: PreTrainedTokenizerFast) -> sd.LanguageModel:
    """A tiny random Llama."""
    return make_tiny_lm(tiny_tokenizer)


@pytest.fixture(scope="session")
def gpt2(tiny_tokenizer: PreTrainedTokenizerFast) -> sd.LanguageModel:
    """A tiny random GPT-2."""
    return make_tiny_lm(tiny_tokenizer, "gpt2")


@pytest.fixture(scope="session")
def embedded() -> sd.LanguageModel:
    """The embedded default."""
    return sd.load_lm()


@pytest.fixture(scope="session")
def table(embedded: sd.LanguageModel) -> sd.Tabulated:
    """``hiring`` without its language model, which was asked beforehand, once for all tests of effects."""
    from sdscm_jax.engine.tabulation import TrieScorer

    from .hiring import hiring

    return sd.tabulate(hiring, embedded, scorer=TrieScorer(memory=1 << 24))

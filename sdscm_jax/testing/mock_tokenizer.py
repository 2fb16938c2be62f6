"""A tokenizer that needs no file: a token for each byte, and one for each phrase that it is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

END = "<|end|>"
# Turns in plain words; white space is kept as it stands.
CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def mock_tokenizer(phrases: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without BOS.

    Args:
        phrases: texts that are one token each wherever they stand as whole words.

    >>> tokenizer = mock_tokenizer(["low", " levels."])
    >>> [tokenizer.decode([i]) for i in tokenizer.encode("slow low levels.")]
    ['s', 'l', 'o', 'w', ' ', 'low', ' levels.']
    """
    whole = sorted({phrase for phrase in phrases if len(phrase.encode()) > 1}, key=lambda p: (-len(p), p))
    spelling = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    names = [END, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(_spelled(spelling, phrase) for phrase in whole)]
    # A phrase is in the vocabulary, and so is not taken apart; what stands between phrases is.
    tokenizer = Tokenizer(BPE(vocab={name: i for i, name in enumerate(names)}, merges=[], ignore_merges=True))
    split = [pre_tokenizers.Split(Regex("|".join(map(_as_words, whole))), "isolated")] if whole else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, spelling])
    tokenizer.decoder = decoders.ByteLevel()
    found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, clean_up_tokenization_spaces=False)
    found.chat_template = CHAT
    return found


def byte_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> Sequence[int]:
    """Ids of the bytes of a text, phrase or not."""
    names = _spelled(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), text)
    return tokenizer.convert_tokens_to_ids(list(names))


def _spelled(spelling: pre_tokenizers.ByteLevel, text: str) -> str:
    return "".join(piece for piece, _ in spelling.pre_tokenize_str(text))


def _as_words(phrase: str) -> str:
    before = r"(?<!\w)" if re.match(r"\w", phrase) else ""
    after = r"(?!\w)" if re.search(r"\w$", phrase) else ""
    return before + re.sub(r"([^\w\s])", r"\\\1", phrase) + after

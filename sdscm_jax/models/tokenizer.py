"""The tokenizer of a checkpoint, which is the one that ``tokenizer.json`` describes, and what ends its texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..errors import LoadError

GENERATION = "generation_config.json"

# What normalisers and ways of splitting differ in: capitals, accents and other spellings of one character, digits,
# white space at the ends and inside, line breaks, other scripts, signs, and the marks that tokenizers use themselves.
_PROBES = (
    "She is 255 years old in 2024, and paid 1,250.75.",
    " It is caf\u00e9 low. It is cafe\u0301 low. ",
    "The weather, it's SUNNY; we'll see (maybe).",
    "A  B\tC\nD\n\n E   \n",
    "\ud55c\uad6d\uc5b4 \u5317\u4eac \u65e5\u672c \u03b1\u03b2\u0393 \u043f\u0440\u0438 \u0639\u0631\u0628",
    "\U0001f600 \U0001f469\u200d\U0001f467 \ufb01 \u2460 \uff21 \u2026 \u201cx\u201d",
    "a_b-c/d@e.com #1 50% \u20ac5 \\n `` '' x\u00a0y\u200bz",
    "<0x41> \u2581 \u0120 ## _x",
)
# How many of the vocabulary's tokens make another probe.
_SAMPLED = 256


def load_tokenizer(directory: Path) -> Any:
    """The ``transformers`` tokenizer of a directory.

    Transformers rebuilds some tokenizers from the class that ``tokenizer_config.json`` names, and leaves out what that
    class does not know. Where that is another tokenizer than ``tokenizer.json`` describes, the file counts.

    Raises:
        LoadError: there is none, or none that does what ``tokenizer.json`` says.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        # Not None, which asks the user whether to run the checkpoint's code, and believes any "y" that comes in.
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds here
        raise LoadError(f"{directory} has no readable tokenizer: {error}") from error
    file = directory / "tokenizer.json"
    if not file.is_file():
        return tokenizer
    try:
        described = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing narrower
        raise LoadError(f"{file} cannot be read: {error}") from error
    described.no_truncation()
    described.no_padding()
    if _difference(tokenizer, described) is None:
        return tokenizer
    plain = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    if (found := _difference(plain, described)) is not None:
        raise LoadError(f"{directory}: {found}; tokenizer_config.json changes what tokenizer.json describes")
    return plain


def _difference(tokenizer: Any, described: Tokenizer) -> str | None:
    """What a tokenizer reads or writes in another way than a file describes it; None if it does not."""
    own = tokenizer.get_vocab()
    for token, number in described.get_vocab().items():
        if own.get(token) != number:
            return f"token {token!r} is number {number} in tokenizer.json and {own.get(token)} for transformers"
    # Without special tokens: transformers adds those of tokenizer_config.json, and no text names one.
    words = sorted(set(described.get_vocab().values()) - set(tokenizer.added_tokens_decoder))
    some = described.decode(words[:: max(1, len(words) // _SAMPLED)])
    for text in (*_PROBES, some):
        expected = described.encode(text, add_special_tokens=False).ids
        # Not verbose: transformers would warn of a text of more tokens than the model has positions; none reads it.
        found = tokenizer.encode(text, add_special_tokens=False, verbose=False)
        if found != expected:
            return f"tokenizer.json reads {text!r} as {expected}, transformers as {found}"
        written = tokenizer.decode(found, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if written != described.decode(expected, skip_special_tokens=False):
            return f"the tokens of {text!r} are written as {written!r}, and not as tokenizer.json writes them"
    return None


def listed_ends(directory: Path) -> tuple[int, ...]:
    """Ids that end a text by ``generation_config.json``, or where that says nothing by ``config.json``.

    Raises:
        LoadError: the file cannot be read, or names what is no id.
    """
    for name in (GENERATION, "config.json"):
        path = directory / name
        if not path.is_file():
            continue
        try:
            ends = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise LoadError(f"{path} cannot be read: {error}") from error
        if ends is None:
            continue
        ends = ends if isinstance(ends, list) else [ends]
        if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ends):
            raise LoadError(f"{path}: eos_token_id is a token's number, or a list of them, got {ends}")
        return tuple(ends)
    return ()

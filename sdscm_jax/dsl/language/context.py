"""What a site is given: phrases and strings, and how they become the tokens before its template."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
from jax import Array

from ...checks import text, told
from ...errors import GivenError
from ...models.codec import Codec, Tokens, UnknownCharacterWarning
from ..scoring.option_tree import padded
from ..scoring.score_query import Piece
from ..scoring.template import Template, check_static
from .phrase import Phrase
from .text_phrase import TextPhrase
from .text_query import WrittenText

Given = tuple[Phrase | str, ...]


class TokenBoundaryWarning(UserWarning):
    """The tokenizer joins two pieces of a text into other tokens than it gives them apart."""


def parse_given(given: Any, template: Template) -> Given:
    """``given`` as a tuple; a single phrase or string stands for a list of one.

    Raises:
        GivenError: an entry is neither a phrase nor a non-empty string.
    """
    if isinstance(given, (Phrase, str)):
        given = (given,)
    if not isinstance(given, Sequence):
        raise GivenError(f"given of {str(template)!r} is a list of phrases and strings, got {told(given)}")
    for i, item in enumerate(given):
        if isinstance(item, Phrase) or (isinstance(item, str) and item.strip()):
            if isinstance(item, str):
                text(item, f"given[{i}] of {str(template)!r}", GivenError)
            check_static(item, f"given[{i}] of {str(template)!r}")
            continue
        hint = "; use sd.sample, which returns a phrase" if hasattr(item, "dtype") else ""
        raise GivenError(f"given[{i}] of {str(template)!r} is neither a phrase nor a text: {told(item)}{hint}")
    return tuple(given)


def item_texts(item: Phrase | str) -> tuple[str, ...]:
    """The texts that an item of ``given`` may be."""
    return item.sentences if isinstance(item, Phrase) else (item,)


def item_tokens(item: Phrase | str, codec: Codec, first: bool, leading_space: bool) -> tuple[Tokens, ...]:
    """Tokens of each text that an item may be, at the start of a text or after other text."""
    if not first:
        return tuple(codec.encode_after(text) for text in item_texts(item))
    space = " " if leading_space else ""
    return tuple(codec.encode_first(space + text) for text in item_texts(item))


def given_piece(item: Phrase | str, codec: Codec, first: bool, leading_space: bool) -> Piece:
    """What an item may be, as a list of tokens or, of free text, as a way to tell them."""
    return (
        WrittenText(item.form, first)
        if isinstance(item, TextPhrase)
        else item_tokens(item, codec, first, leading_space)
    )


def longest_tokens(item: Phrase | str, codec: Codec, first: bool, leading_space: bool) -> int:
    """How many tokens an item may have."""
    if isinstance(item, TextPhrase):
        return item.form.longest(first)
    return max(map(len, item_tokens(item, codec, first, leading_space)))


def pending_tokens(item: Phrase | str, codec: Codec, first: bool, leading_space: bool) -> tuple[Array, Array]:
    """Tokens of an item whose text may be traced: int32 and bool ``[..., longest]``."""
    if isinstance(item, TextPhrase):
        return item.context_tokens(first)
    return chosen_tokens(item, item_tokens(item, codec, first, leading_space))


def chosen_tokens(item: Phrase | str, texts: tuple[Tokens, ...]) -> tuple[Array, Array]:
    """Those of the tokens of its texts that an item has: int32 and bool ``[..., longest]``."""
    tokens, valid = (jnp.asarray(x) for x in padded(texts))
    index = item.index if isinstance(item, Phrase) else 0
    return tokens[index], valid[index]


def check_boundaries(codec: Codec, given: Given, next_texts: tuple[str, ...], where: str) -> None:
    """Warn where joining pieces changes their tokens (only neighbours can)."""
    # What free text ends with is not known, so its boundaries are not checked.
    texts = [*(() if isinstance(item, TextPhrase) else item_texts(item) for item in given), next_texts]
    for left, right in itertools.pairwise(texts):
        bad = _broken_boundary(codec, left, right)
        if bad is not None:
            warnings.warn(
                f"{where}: this tokenizer does not split between {bad[0]!r} and {bad[1]!r}; the pieces keep the "
                "tokens that they have apart, which are not those of the whole text",
                TokenBoundaryWarning,
                stacklevel=4,
            )


def check_written(codec: Codec, given: Given, own: tuple[str, ...], where: str) -> None:
    """Warn where the tokenizer has no token for a piece of a site's own text, or of a string that it is given."""
    texts = [*(item for item in given if isinstance(item, str)), *own]
    pieces = list(dict.fromkeys(piece for text in texts for piece in codec.unread(text)))
    if pieces:
        warnings.warn(
            f"{where}: this tokenizer has no token for {', '.join(map(repr, pieces))}: the language model reads "
            f"{codec.tokenizer.unk_token or 'nothing'} there, whatever it is",
            UnknownCharacterWarning,
            stacklevel=4,
        )


@lru_cache(maxsize=4096)
def _broken_boundary(codec: Codec, left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, str] | None:
    for a in left:
        for b in right:
            if codec.suffix_tokens(a, " " + b) != codec.encode_after(b):
                return a, b
    return None

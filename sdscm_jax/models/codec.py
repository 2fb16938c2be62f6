"""From text to token ids, by one rule, so that the tokens of a text do not depend on how it was
assembled. ``docs/tokenization.md`` is the prose of this module."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

Tokens = tuple[int, ...]

# A neutral left neighbour: what follows it is tokenised as the middle of a text.
_ANCHOR = "."


class Codec:
    """A tokenizer with this package's conventions; compares and hashes by content.

    Attributes:
        tokenizer: the ``transformers`` tokenizer.
        bos: id that the tokenizer puts at position 0 of a text, or None.
        start: id that conditions the first token of a text where there is no ``bos`` (the
            end-of-text token), or None.
        end: id that ends a text that the language model writes, or None.
        fingerprint: hexadecimal digest of the tokenizer's content.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        begun = tokenizer.encode("x", add_special_tokens=True)
        bos = tokenizer.bos_token_id
        self.bos: int | None = bos if bos is not None and begun and begun[0] == bos else None
        self.start: int | None = next(
            (i for i in (self.bos, bos, tokenizer.eos_token_id) if i is not None),
            None,
        )
        self.end: int | None = tokenizer.eos_token_id
        backend = getattr(tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        self.fingerprint = hashlib.sha256(f"{self.bos} {self.start} {content}".encode()).hexdigest()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codec) and self.fingerprint == other.fingerprint

    def encode(self, text: str) -> Tokens:
        """Token ids of a whole text, without BOS."""
        return _encode(self, text)

    def opening(self, first: bool) -> Tokens:
        """Token ids that begin every text; ``first``: of a site that is given nothing."""
        return () if self.bos is None else (self.bos,)

    def encode_first(self, text: str) -> Tokens:
        """Token ids of the first given text, after ``opening``."""
        return self.encode(text)

    def encode_own(self, text: str, first: bool) -> Tokens:
        """Token ids of a site's own text, after what it is given; ``first``: it is given nothing."""
        return self.encode(text) if first else self.encode_after(text)

    def lead(self, first: bool) -> str:
        """White space that a site's own text begins with."""
        return "" if first else " "

    def encode_after(self, text: str) -> Tokens:
        """Token ids of a space and ``text``, where other text stands before."""
        tokens = self.suffix_tokens(_ANCHOR, " " + text)
        # A tokenizer that does not split there at all: the piece keeps the tokens it has alone.
        return self.encode(" " + text) if tokens is None else tokens

    def suffix_tokens(self, left: str, right: str) -> Tokens | None:
        """Ids that ``right`` adds to ``left``; None if the boundary does not fall between tokens."""
        head, whole = self.encode(left), self.encode(left + right)
        return whole[len(head) :] if whole[: len(head)] == head else None

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)


@lru_cache(maxsize=1 << 16)
def _encode(codec: Codec, text: str) -> Tokens:
    if not text:
        return ()
    # The name of a special token inside a text is text: a text cannot smuggle in a BOS.
    return tuple(codec.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))


def common_prefix(*sequences: Sequence[int]) -> int:
    """Length of the longest common prefix.

    >>> common_prefix([1, 2, 3], [1, 2, 4], [1, 2])
    2
    """
    length = 0
    for column in zip(*sequences, strict=False):
        if any(token != column[0] for token in column):
            break
        length += 1
    return length

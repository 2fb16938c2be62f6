"""From text to token ids, by one rule, so that the tokens of a text do not depend on how it was
assembled. ``docs/tokenization.md`` is the prose of this module."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from ..errors import LoadError, TemplateError

Tokens = tuple[int, ...]

# A neutral left neighbour: what follows it is tokenised as the middle of a text.
_ANCHOR = "."
# Texts of which any tokenizer writes one at least.
_WORDS = ("x", "a", "A", "1", ".", "the")


class UnknownCharacterWarning(UserWarning):
    """The tokenizer has no token for a character of a text: the language model does not read it."""


class Codec:
    """A tokenizer with this package's conventions; compares and hashes by content.

    Args:
        tokenizer: the ``transformers`` tokenizer.
        size: number of tokens that the language model has embeddings of; None: of all.
        ends: ids that end a text by the checkpoint's own account; those that are words of the tokenizer
            are no such ids, and are passed over.

    Attributes:
        tokenizer: the ``transformers`` tokenizer.
        begin: ids that the tokenizer puts before a text.
        bos: the first of them, or None.
        start: id that conditions the first token of a text where nothing begins it (the end-of-text
            token), or None.
        end: id that ends a text that the language model writes, or None.
        fingerprint: hexadecimal digest of the tokenizer's content.

    Raises:
        LoadError: the tokenizer puts something around a text that cannot be told from it, or begins it with a token
            that the language model has no embedding of.
    """

    def __init__(self, tokenizer: Any, size: int | None = None, ends: Sequence[int] = ()):
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.special = frozenset(tokenizer.all_special_ids) | {i for i, token in added.items() if token.special}
        # A table that is larger than the tokenizer is nothing to look at.
        self.size = size if size is not None and max(tokenizer.get_vocab().values()) >= size else None
        self.begin = _begin(tokenizer)
        for i in self.begin:
            if self._beyond(i):
                raise LoadError(f"the tokenizer begins every text with {self._missing(i)}")
        self.bos: int | None = self.begin[0] if self.begin else None
        declared = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        self.start: int | None = self.bos if self.begin else None if self._beyond(declared) else declared
        known = self.special | set(added)
        eos = tokenizer.eos_token_id
        listed = tuple(i for i in ends if i in known and not self._beyond(i))
        # The last that is listed is what closes an instruct model's turn, where one is.
        self.end: int | None = listed[-1] if listed else None if self._beyond(eos) else eos
        self._also_ends = listed and tuple(i for i in (*listed, eos) if i is not None and not self._beyond(i))
        backend = getattr(tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        self._writes_all = _writes_all(json.loads(content), tokenizer.get_vocab()) if backend is not None else False
        identity = f"{','.join(map(str, self.begin)) or None} {self.start} {content}"
        if self.size is not None or self.ends != (eos,):
            identity = f"{self.size} {self.ends} {identity}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()

    @property
    def ends(self) -> Tokens:
        """All ids that end a text: whichever the language model says, the text is ended by ``end``."""
        return tuple(dict.fromkeys(i for i in (self.end, *self._also_ends) if i is not None))

    def _beyond(self, token: int | None) -> bool:
        return token is not None and self.size is not None and token >= self.size

    def _missing(self, token: int) -> str:
        name = self.tokenizer.convert_ids_to_tokens(token)
        return (
            f"the token {name!r} (number {token}), and this language model has embeddings of {self.size} tokens only: "
            "tokens were added to the tokenizer, and not to the model (resize_token_embeddings)"
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codec) and self.fingerprint == other.fingerprint

    def encode(self, text: str) -> Tokens:
        """Token ids of a whole text, without what begins it.

        Raises:
            TemplateError: the text names a special token, or the language model has no embedding of one of its tokens.
        """
        return _encode(self, text)

    def read(self, text: str) -> Tokens:
        """Token ids of a text in which the names of special tokens are those tokens.

        Raises:
            TemplateError: the language model has no embedding of one of them.
        """
        tokens: Tokens = tuple(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))
        for token in tokens:
            if self._beyond(token):
                raise TemplateError(f"{text!r} has {self._missing(token)}")
        return tokens

    def unread(self, text: str) -> tuple[str, ...]:
        """The pieces of a text that the tokenizer has no token for; all of it, where they cannot be told.

        The language model reads the unknown token there, or nothing.
        """
        return () if self._writes_all else _unread(self, text)

    def refuse_special(self, text: str, tokens: Sequence[int]) -> None:
        """Refuse a text whose ``tokens``, as ``read`` gives them, have a special one among them.

        Raises:
            TemplateError: names it.
        """
        named = [token for token in tokens if token in self.special]
        if not named or self._unnamed(text, tokens):
            return
        # What stands for an unknown character may be among them beside what is named.
        named = [token for token in named if token != self.tokenizer.unk_token_id] or named
        raise TemplateError(
            f"{text!r} contains {self.tokenizer.convert_ids_to_tokens(named[0])!r}, which is a special token of this "
            "tokenizer, and texts are read without those. What a chat is marked with, load_lm(..., chat=True) writes; "
            "a word of a domain is added to a tokenizer with special_tokens=False"
        )

    def _unnamed(self, text: str, tokens: Sequence[int]) -> bool:
        apart = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return tuple(apart) == tuple(tokens)

    def opening(self, first: bool) -> Tokens:
        """Token ids that begin every text; ``first``: of a site that is given nothing."""
        return self.begin

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
    tokens = codec.read(text)
    # A text cannot smuggle in a BOS, nor have one silently taken for characters.
    codec.refuse_special(text, tokens)
    return tokens


def _begin(tokenizer: Any) -> Tokens:
    """What a tokenizer puts before a text."""
    for word in _WORDS:
        alone = tokenizer.encode(word, add_special_tokens=False)
        whole = tokenizer.encode(word, add_special_tokens=True)
        if not alone:
            continue
        for start in range(len(whole) - len(alone) + 1):
            if whole[start : start + len(alone)] == alone:
                return tuple(whole[:start])
        raise LoadError(f"the tokenizer writes {word!r} as {alone}, and with special tokens as {whole}: another text")
    return ()


def _writes_all(described: dict[str, Any], vocabulary: dict[str, int]) -> bool:
    """Does a tokenizer have tokens for every byte?"""
    model = described["model"]
    if model.get("byte_fallback"):
        return all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))
    before = described.get("pre_tokenizer") or {}
    kinds = {part.get("type") for part in before.get("pretokenizers", [before])}
    return "ByteLevel" in kinds and all(letter in vocabulary for letter in ByteLevel.alphabet())


@lru_cache(maxsize=1 << 16)
def _unread(codec: Codec, text: str) -> tuple[str, ...]:
    tokenizer, unk = codec.tokenizer, codec.tokenizer.unk_token_id
    if not tokenizer.is_fast:
        return (text,) if unk in tokenizer.encode(text, add_special_tokens=False) else ()
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(found["input_ids"], found["offset_mapping"], strict=True)
    unknown = {at for token, (start, stop) in spans if token == unk for at in range(start, stop)}
    # White space that a tokenizer takes away is no character that it does not know.
    shown = "".join(
        c if not c.isspace() and (at in unknown or _vanishes(codec, c)) else "\0" for at, c in enumerate(text)
    )
    return tuple(piece for piece in shown.split("\0") if piece)


@lru_cache(maxsize=1 << 16)
def _vanishes(codec: Codec, character: str) -> bool:
    """Does a character add nothing to a text's tokens?"""
    once, twice = (codec.tokenizer.encode(character * n, add_special_tokens=False) for n in (1, 2))
    return once == twice


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

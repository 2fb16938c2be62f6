"""The bytes that tokens add to a text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from .codec import Codec


@lru_cache(maxsize=16)
def token_bytes(codec: Codec, vocab_size: int) -> tuple[bytes | None, ...]:
    """The bytes that each token adds to a text, in the middle of it; None for special and missing ids.

    Args:
        codec: the tokenizer.
        vocab_size: number of tokens V that the model has.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> codec = load_lm().codec
    >>> pieces = token_bytes(codec, 1400)
    >>> b"".join(pieces[token] for token in codec.encode("A café.")).decode(), pieces[0], pieces[1399]
    ('A café.', None, None)
    """
    tokenizer = codec.tokenizer
    # Not those only that have a role (Llama 3 has reserved ones), and what ends a text is no text.
    special = codec.special | set(codec.ends)
    spelling = _spelling(tokenizer)
    pieces: list[bytes | None] = [None] * vocab_size
    for token, i in tokenizer.get_vocab().items():
        if i < vocab_size and i not in special:
            pieces[i] = _added(codec, i, token) if spelling is None else spelling(token)
    return tuple(pieces)


def _spelling(tokenizer: Any) -> Callable[[str], bytes] | None:
    """How the tokenizer's decoder reads a token's name; None if it has to be asked each time."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = (json.loads(backend.to_str()) if backend is not None else {}).get("decoder") or {}
    parts = decoder.get("decoders", [decoder])
    kinds = {part.get("type") for part in parts}
    if "ByteLevel" in kinds:
        return _byte_level
    spaces = [part["replacement"] for part in parts if part.get("type") == "Metaspace"]
    spaces += [
        part["pattern"]["String"]
        for part in parts
        if part.get("type") == "Replace" and part["content"] == " " and "String" in part["pattern"]
    ]
    return partial(_sentence_piece, space=spaces[0], bytewise="ByteFallback" in kinds) if spaces else None


def _byte_alphabet() -> dict[str, int]:
    # GPT-2's: a printable byte stands for itself, the others follow from U+0100 on.
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(rest)}


_BYTES = _byte_alphabet()


def _byte_level(token: str) -> bytes:
    # A name with anything else in it (an added token of spaces) is meant literally.
    return bytes(_BYTES[c] for c in token) if all(c in _BYTES for c in token) else token.encode()


def _byte_name(token: str) -> bytes | None:
    """The byte of a token like ``<0x0A>``."""
    return bytes([int(token[3:5], 16)]) if re.fullmatch("<0x[0-9A-Fa-f]{2}>", token) else None


def _sentence_piece(token: str, space: str, bytewise: bool) -> bytes:
    byte = _byte_name(token) if bytewise else None
    return token.replace(space, " ").encode() if byte is None else byte


def _added(codec: Codec, i: int, token: str) -> bytes | None:
    """What token ``i`` adds to a text, by decoding; None if that cannot be told."""
    before = codec.encode(".")
    head, whole = codec.decode(before), codec.decode((*before, i))
    text = whole.removeprefix(head)
    if token in text:
        return text.encode() if whole.startswith(head) else None
    if (byte := _byte_name(token)) is not None:
        return byte
    return text.encode() if whole.startswith(head) and "\ufffd" not in text else None

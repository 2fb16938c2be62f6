"""The tokenizer of a GGUF file, from its vocabulary.

A GGUF file has the tokens, their merges or scores, and a name for the way in which text is split before merges; what
the name means stands in llama.cpp's code (``src/llama-vocab.cpp``), and here for the names that are supported. Another
name is refused: text that is split in another way has other tokens, and with them other probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ..checks import told
from ..errors import LoadError

_KEYS = "tokenizer.ggml."
# Types of tokens.
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_SPACE = "\u2581"

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _by_pattern(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _gpt2() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _digits_then_gpt2() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


# Name of the way of splitting -> what splits, are whole words looked up before merges, does NFC come first?
_SPLITTERS: dict[str, tuple[Any, bool, bool]] = {
    **dict.fromkeys(("gpt-2", "olmo"), (_gpt2, False, False)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r"), (_digits_then_gpt2, False, False)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), (lambda: _by_pattern(_LLAMA3), True, False)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), (lambda: _by_pattern(_QWEN2), False, True)),
    "tekken": (lambda: _by_pattern(_TEKKEN), True, False),
}


def gguf_tokenizer(metadata: Mapping[str, Any]) -> Any:
    """The ``transformers`` tokenizer that a file's metadata describe.

    Args:
        metadata: of the file, as in ``GGUFFile``.

    Raises:
        LoadError: there is none, or one of another kind than byte-level BPE (with a known way of splitting) or
            SentencePiece's BPE; or what is said contradicts itself.
    """
    from transformers import PreTrainedTokenizerFast

    tokens, types = _list(metadata, "tokens"), _list(metadata, "token_type", [])
    kind = metadata.get(f"{_KEYS}model")
    if not all(isinstance(token, str) for token in tokens) or len({*tokens}) != len(tokens):
        raise LoadError("its tokens are texts, each there once")
    types = types or [_NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise LoadError(f"it has {len(tokens)} tokens, and types of {len(types)}")
    if kind not in ("gpt2", "llama"):
        raise LoadError(f"a tokenizer of kind {told(kind)} is not supported (known: 'gpt2', 'llama')")
    try:
        tokenizer = _byte_level(metadata, tokens) if kind == "gpt2" else _sentencepiece(metadata, tokens, types)
    except LoadError:
        raise
    except Exception as error:  # tokenizers raises nothing narrower
        raise LoadError(f"its tokenizer cannot be built: {error}") from error
    for special, number in ((True, _CONTROL), (False, _USER_DEFINED)):
        added = [
            AddedToken(token, normalized=False, special=special)
            for token, t in zip(tokens, types, strict=True)
            if t == number
        ]
        tokenizer.add_special_tokens(added) if special else tokenizer.add_tokens(added)
    if (found := tokenizer.get_vocab_size()) != len(tokens):
        raise LoadError(f"its tokens make a vocabulary of {found}, and there are {len(tokens)}")
    named = {f"{name}_token": _token(metadata, tokens, key) for name, key in _NAMED.items()}
    default = kind == "llama" or metadata.get(f"{_KEYS}pre") in ("llama-bpe", "llama3", "llama-v3", "tekken")
    _put_around(tokenizer, metadata, named, default)
    found = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        **{name: token for name, token in named.items() if token is not None},
    )
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        found.chat_template = template
    return found


_NAMED = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


def gguf_ends(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    """Ids that end a text; what closes a turn comes last, where there is such a token."""
    found = [metadata.get(f"{_KEYS}{key}_token_id") for key in ("eos", "eot")]
    return tuple(dict.fromkeys(number for number in found if isinstance(number, int) and number >= 0))


def _list(metadata: Mapping[str, Any], key: str, default: Any = None) -> list[Any]:
    found = metadata.get(f"{_KEYS}{key}", default)
    if not isinstance(found, list):
        raise LoadError(f"it has no list {_KEYS}{key}, so no tokenizer")
    return found


def _token(metadata: Mapping[str, Any], tokens: Sequence[str], key: str) -> str | None:
    number = metadata.get(f"{_KEYS}{key}_token_id")
    if number is None:
        return None
    if not isinstance(number, int) or not 0 <= number < len(tokens):
        raise LoadError(f"{_KEYS}{key}_token_id is the number of a token, got {told(number)}")
    return tokens[number]


def _byte_level(metadata: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer:
    """BPE over bytes, as of GPT-2."""
    name = metadata.get(f"{_KEYS}pre")
    if name not in _SPLITTERS:
        raise LoadError(
            f"it splits text by {told(name)} ({_KEYS}pre), which is not supported (known: {', '.join(_SPLITTERS)}); "
            "the model's own directory of safetensors has a tokenizer.json"
        )
    splitter, whole_words, composed = _SPLITTERS[name]
    merges = [tuple(merge.split(" ", 1)) for merge in _list(metadata, "merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole_words))
    if composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = splitter()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(metadata: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]) -> Tokenizer:
    """SentencePiece's BPE: pairs are merged in the order of the scores of what they make."""
    scores = _list(metadata, "scores")
    if len(scores) != len(tokens):
        raise LoadError(f"it has {len(tokens)} tokens, and scores of {len(scores)}")
    unknown = _token(metadata, tokens, "unknown")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    bpe = models.BPE(
        vocab=vocabulary,
        merges=_merges(tokens, types, scores),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback="<0x00>" in vocabulary,
    )
    tokenizer = Tokenizer(bpe)
    prefix = bool(metadata.get(f"{_KEYS}add_space_prefix", True))
    spaces = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefix else spaces
    written = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*written, decoders.Strip(" ", 1, 0)] if prefix else written)
    return tokenizer


def _merges(tokens: Sequence[str], types: Sequence[int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every pair of tokens that make a third, best first.

    Tokens that a user defined are found in the text before merges, and neither make others nor are made.
    """
    score = {token: s for token, t, s in zip(tokens, types, scores, strict=True) if t == _NORMAL}
    # The longer left part first, as in transformers' conversions of SentencePiece.
    found = [
        (-value, cut - len(token), token)
        for token, value in score.items()
        for cut in range(1, len(token))
        if token[:cut] in score and token[cut:] in score
    ]
    return [(token[:right], token[right:]) for _, right, token in sorted(found)]


def _put_around(tokenizer: Tokenizer, metadata: Mapping[str, Any], named: Mapping[str, Any], begins: bool) -> None:
    """Have ``encode`` put what llama.cpp puts before and after a text."""
    before = named["bos_token"] if metadata.get(f"{_KEYS}add_bos_token", begins) else None
    after = named["eos_token"] if metadata.get(f"{_KEYS}add_eos_token", False) else None
    around = [token for token in (before, after) if token is not None]
    if around:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*([before] if before else []), "$A", *([after] if after else [])],
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(around)],
        )

"""How the options of a blank become tokens: which tokens condition and which are scored.

The rule (joint tokenisation from the longest common prefix): tokenise the text before the blank,
and the text with each option filled in, each as a whole; what all of them share conditions, what
follows is scored. Every option is then charged for the same characters, and is made of the tokens
that the model saw in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..errors import OptionError
from .codec import Codec, Tokens, common_prefix


@dataclass(frozen=True)
class OptionTokens:
    """Tokens of one blank, at the start of a text or after other text.

    Attributes:
        shared: condition every option (the text before the blank, or most of it).
        rows: per option, the tokens that are scored.
        sentences: per option, the tokens of the whole filled-in template; what a later site sees.
        needs_start: True where nothing precedes the scored tokens, so that a start token must.
    """

    shared: Tokens
    rows: tuple[Tokens, ...]
    sentences: tuple[Tokens, ...]
    needs_start: bool


@lru_cache(maxsize=4096)
def option_tokens(
    codec: Codec, prefix: str, options: tuple[str, ...], suffix: str, *, with_suffix: bool, first: bool
) -> OptionTokens:
    """Apply the rule.

    Args:
        codec: the tokenizer.
        prefix: text before the blank.
        options: texts that may fill the blank.
        suffix: text after the blank.
        with_suffix: score the suffix together with the option.
        first: True where the site is given nothing, False where its text follows others.

    Raises:
        OptionError: two options have the same tokens.
        TemplateError: in a chat, see ``ChatCodec``.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> codec = load_lm().codec
    >>> tokens = option_tokens(codec, "It is ", ("low", "high"), ".", with_suffix=True, first=False)
    >>> codec.decode(tokens.shared), [codec.decode(row) for row in tokens.rows]
    (' It is', [' low.', ' high.'])
    """
    base = codec.encode_own(prefix, first)
    joint = [codec.encode_own(prefix + option + (suffix if with_suffix else ""), first) for option in options]
    sentences = tuple(codec.encode_own(prefix + option + suffix, first) for option in options)
    seen: dict[Tokens, str] = {}
    for option, tokens in zip(options, joint, strict=True):
        if tokens in seen:
            raise OptionError(
                f"options {seen[tokens]!r} and {option!r} of {prefix + '{}' + suffix!r} have the same tokens, "
                "so the language model cannot tell them apart"
            )
        seen[tokens] = option
    boundary = min(common_prefix(base, tokens) for tokens in joint)
    # An option must keep a token of its own to be scored by.
    boundary = min(boundary, *(len(tokens) - 1 for tokens in joint))
    return OptionTokens(
        shared=base[:boundary],
        rows=tuple(tokens[boundary:] for tokens in joint),
        sentences=sentences,
        needs_start=first and boundary == 0 and not codec.opening(first),
    )

"""What a free text may be, as a small table over tokens: where it ends, and what may come next.

A text ends with a stop string, with the end-of-text token, or when it matches a pattern. Either rule
is first an automaton over bytes, because a token may be part of a character; the tokens are then
walked through it on the host, once, and only the resulting table is used under ``jit``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..errors import OptionError
from .byte_automaton import FAR, distinct, fewest_steps, pattern_table, reachable, restricted, stop_table
from .codec import Codec
from .token_bytes import token_bytes

# Closes a pattern, because outlines-core looks for the first alternative that matches and no further:
# "a" of "a|ab" and of "a(bc)?". Before the mark nothing matches. A noncharacter: no text has it.
_CLOSE = "\U0010ffff"


@dataclass(frozen=True, eq=False)
class TokenAutomaton:
    """Which tokens may follow, and where a text is over. Compares and hashes by identity.

    State 0 is the start. At an ending state no token may follow.

    Attributes:
        classes: int32 ``[V]``, the class of each token; tokens that no state tells apart share one.
        next: int32 ``[S, C]``, the state after a token of each class, -1 where it is forbidden.
        ending: int32 ``[S]``, 0 where the text goes on, ``1 + j`` where it is over in way j.
        remaining: int32 ``[S]``, fewest tokens to an ending state; 2**30 if there is none to reach.
            0 everywhere if the text may be cut off anywhere.
        endings: per way, the string at the end of the text that ended it, or None.
        ending_tokens: per way, how many tokens at the end are not text: 1 for the end-of-text token.
    """

    classes: np.ndarray
    next: np.ndarray
    ending: np.ndarray
    remaining: np.ndarray
    endings: tuple[str | None, ...]
    ending_tokens: tuple[int, ...]

    def walk(self, tokens: Array) -> Array:
        """States before each token and after the last.

        Args:
            tokens: int32 ``[..., T]``, padded with -1 after the end.

        Returns:
            int32 ``[..., T + 1]``; -1 once a forbidden token is met. Padding leaves a state as it is.

        >>> from sdscm_jax.models.language_model import load_lm
        >>> codec = load_lm().codec
        >>> automaton = stop_automaton(codec, 1190, (".",))
        >>> tokens = codec.encode(" low.")
        >>> automaton.walk(jnp.array([*tokens, -1])).tolist(), automaton.walk(jnp.array([*tokens, 5])).tolist()
        ([0, 0, 1, 1], [0, 0, 1, -1])
        """
        classes, after = jnp.asarray(self.classes), jnp.asarray(self.next)

        def step(state: Array, token: Array) -> tuple[Array, Array]:
            moved = jnp.where(state < 0, -1, after[jnp.maximum(state, 0), classes[jnp.maximum(token, 0)]])
            state = jnp.where(token < 0, state, moved)
            return state, state

        tokens = jnp.asarray(tokens)
        start = jnp.zeros(tokens.shape[:-1], jnp.int32)
        _, states = jax.lax.scan(step, start, jnp.moveaxis(tokens, -1, 0))
        return jnp.moveaxis(jnp.concatenate([start[None], states]), 0, -1)


@lru_cache(maxsize=1024)
def stop_automaton(codec: Codec, vocab_size: int, stop: tuple[str, ...], lead: str = "") -> TokenAutomaton:
    """Any text up to and with the first stop string, or up to the end-of-text token.

    A token inside which a stop string ends early is forbidden, so that a text ends with its stop
    string and not beyond it. Only what is generated counts: a stop string that began before it is
    not seen. The ways to end are the stop strings in their order and then, if the tokenizer has it,
    the end-of-text token; where several stop strings end together, the longest is the way.

    Args:
        codec: the tokenizer.
        vocab_size: number of tokens V that the model has; those unknown to the tokenizer are forbidden.
        stop: stop strings; there may be none.
        lead: string that the text begins with, unless it is empty: a token that goes on the word before is forbidden.

    Raises:
        OptionError: a stop string is empty, or the tokenizer cannot write the lead.
        TemplateError: one names a special token.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> automaton = stop_automaton(load_lm().codec, 1190, (".", "\\n"))
    >>> automaton.endings, automaton.ending_tokens, automaton.ending.tolist()
    (('.', '\\n', None), (0, 0, 1), [0, 1, 2, 3])
    """
    if not all(stop):
        raise OptionError(f"a stop string is empty: {stop!r}")
    for text in stop:
        # One that names a special token would never be met: no text has it as characters.
        codec.encode(text)
    table, way = stop_table([s.encode() for s in stop])
    begun, n = lead.encode(), len(lead.encode())
    # The lead, a state for each of its bytes; then anything up to a stop string.
    before = np.full((n, 256), -1, np.int32)
    before[np.arange(n), list(begun)] = np.arange(1, n + 1)
    table = np.vstack([before, np.where(table < 0, -1, table + n)]).astype(np.int32)
    way = np.concatenate([np.zeros(n, np.int32), way])
    columns, step = _token_steps(token_bytes(codec, vocab_size), table)
    if not reachable(step)[n:].any():
        raise OptionError(f"this tokenizer cannot write {lead!r}, which the blank of a text begins with")
    may_end = (way == 0) & ((np.arange(len(way)) == 0) | (np.arange(len(way)) >= n))
    return _automaton(codec, columns, step, way, may_end, (*stop, None), free=True)


def pattern_automaton(
    codec: Codec,
    vocab_size: int,
    pattern: str | tuple[str, ...],
    suffix: str,
    max_tokens: int,
    where: str,
    *,
    lead: str = "",
) -> TokenAutomaton:
    """Texts that match a pattern as a whole (as ``re.fullmatch`` has it), between two literal strings.

    A text is over as soon as no token may follow. Where it may be over or go on, the end-of-text
    token ends it, and counts as a token; if the tokenizer has none, the text must go on. Tokens from
    which no text can be completed are forbidden. The syntax is that of Rust's ``regex`` crate:
    Python's without anchors, word boundaries, look-around and back-references; ``\\d``, ``\\w``, ``\\s``
    and their opposites are of ASCII. White space is as in the pattern: nothing is added.

    Args:
        codec: the tokenizer.
        vocab_size: number of tokens V that the model has; those unknown to the tokenizer are forbidden.
        pattern: a regular expression, or the strings that the text may be.
        suffix: string that follows the pattern, and is generated.
        max_tokens: most tokens that a text may have, with the end-of-text token where one is needed.
        where: names the site in errors.
        lead: string that goes before the pattern, and is generated.

    Raises:
        OptionError: the pattern is malformed or too large, or nothing but the empty text matches it,
            or nothing of ``max_tokens`` tokens.
        ImportError: the extra ``constrained`` is not installed.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> codec = load_lm().codec
    >>> automaton = pattern_automaton(codec, 1190, ("low", "high"), ".", 8, "site 'level'", lead=" ")
    >>> [int(automaton.ending[automaton.walk(jnp.array(codec.encode(text)))[-1]]) for text in (" low.", " low")]
    [1, 0]
    """
    told = repr(pattern) if isinstance(pattern, str) or len(pattern) <= 5 else f"{pattern[:5]!r} and so on"
    try:
        automaton = _matching(codec, vocab_size, lead, pattern, suffix)
    except ValueError as error:
        raise OptionError(f"{where}: the pattern {told} cannot be used: {error}") from error
    fewest = automaton.remaining[0]
    if fewest == 0:
        raise OptionError(f"{where}: the pattern {told} matches only the empty text")
    if fewest == FAR:
        and_ends = "" if len(automaton.endings) > 1 else " and ends there (it has no end-of-text token)"
        raise OptionError(f"{where}: nothing that the tokenizer can write matches the pattern {told}{and_ends}")
    if fewest > max_tokens:
        raise OptionError(f"{where}: the pattern {told} takes at least {fewest} tokens; max_tokens is {max_tokens}")
    return automaton


@lru_cache(maxsize=1024)
def _matching(codec: Codec, vocab_size: int, lead: str, pattern: str | tuple[str, ...], suffix: str) -> TokenAutomaton:
    if isinstance(pattern, str):
        pattern_table(pattern)  # alone: "a)(b" would close the group that it is put in
        body = pattern
    else:
        if not pattern:
            raise ValueError("it has no strings")
        body = "|".join(map(re.escape, pattern))
    table, final = pattern_table(f"{re.escape(lead)}(?:{body}){re.escape(suffix)}{_CLOSE}")
    # The mark that closes the pattern is not generated: a state from which it completes is final.
    states = np.arange(len(table))
    for byte in _CLOSE.encode():
        states = np.append(table[:, byte], -1)[states]
    final = np.append(final, False)[states]
    kept = fewest_steps(table, final) < FAR
    kept[0] = True
    table, final = restricted(table, kept), final[kept]

    columns, step = _token_steps(token_bytes(codec, vocab_size), table)
    # A state may be alive by bytes and not by tokens.
    alive = np.append(fewest_steps(step, final) < FAR, False)
    step = np.where(alive[step], step, -1)
    over = final & (step < 0).all(1)
    return _automaton(codec, columns, step, over.astype(np.int32), final & ~over, (suffix or None,) * 2, free=False)


def _token_steps(pieces: Sequence[bytes | None], table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Walk tokens through an automaton over bytes.

    Args:
        pieces: bytes of each token; None or nothing forbids it.
        table: int32 ``[B, 256]``, -1 where a byte is forbidden.

    Returns:
        int ``[V]``, the column of each token, -1 if it is forbidden everywhere; and the columns,
        int32 ``[B, U]``: the state after the token.

    >>> table = np.full((2, 256), -1)
    >>> table[0, ord("a")] = table[1, ord("b")] = 1
    >>> columns, step = _token_steps([b"a", b"ab", b"abb", b"ba", None], table)
    >>> columns.tolist(), step.tolist()
    ([0, 1, 2, -1, -1], [[1, 1, 1], [-1, -1, -1]])
    """
    # Bytes that no state tells apart are one letter; tokens of the same letters are one word.
    narrow, letters = distinct(table)
    narrow = np.vstack([narrow, np.full_like(narrow[:1], -1)])  # row -1: stays forbidden
    alphabet = bytes(letters.tolist())
    words: dict[bytes, int] = {}
    word_of = np.array([words.setdefault(piece.translate(alphabet), len(words)) if piece else -1 for piece in pieces])
    lengths = np.array([len(word) for word in words], np.int64)
    width = int(lengths.max(initial=0))
    spelled = np.frombuffer(b"".join(word.ljust(width, b"\0") for word in words), np.uint8).reshape(len(words), width)

    # One letter at a time, each distinct beginning once, and only while some state allows it.
    column_of = np.full(len(words) + 1, -1)
    ended, count = [np.zeros((len(table), 0), np.int32)], 0
    live, at = np.arange(len(words)), np.zeros(len(words), np.int64)
    step = np.arange(len(table), dtype=np.int32)[:, None]
    for position in range(width):
        beginnings, at = np.unique(at * 256 + spelled[live, position], return_inverse=True)
        step = narrow[step[:, beginnings // 256], beginnings % 256]
        allowed = (step >= 0).any(0)
        step, keep = step[:, allowed], allowed[at]
        live, at = live[keep], (np.cumsum(allowed) - 1)[at[keep]]
        last = lengths[live] == position + 1
        column_of[live[last]] = count + np.arange(last.sum())
        ended.append(step[:, at[last]])
        count += int(last.sum())
        live, at = live[~last], at[~last]
        if not len(live):
            break
    return column_of[word_of], np.concatenate(ended, axis=1)


def _automaton(
    codec: Codec,
    columns: np.ndarray,
    step: np.ndarray,
    ending: np.ndarray,
    may_end: np.ndarray,
    endings: tuple[str | None, ...],
    *,
    free: bool,
) -> TokenAutomaton:
    """Add the end-of-text token, and drop what is not needed.

    Args:
        codec: the tokenizer.
        columns: as from ``_token_steps``.
        step: as from ``_token_steps``.
        ending: int32 ``[B]``, as in ``TokenAutomaton``.
        may_end: bool ``[B]``, where the end-of-text token may follow.
        endings: as in ``TokenAutomaton``; the last is that by the end-of-text token.
        free: True if a text may be cut off anywhere.
    """
    eos = codec.end
    over = np.full(len(step), -1)
    if eos is None or eos >= len(columns):
        endings, ending_tokens = endings[:-1], (0,) * (len(endings) - 1)
    else:
        over[may_end] = len(step)
        step, over = np.vstack([step, np.full_like(step[:1], -1)]), np.append(over, -1)
        ending, ending_tokens = np.append(ending, len(endings)), (0,) * (len(endings) - 1) + (1,)
        columns = columns.copy()
        columns[eos] = step.shape[1]
    step = np.column_stack([step, over, np.full(len(step), -1)])  # column -1: forbidden everywhere

    remaining = fewest_steps(step, ending > 0)
    kept = reachable(step) & (free | (remaining < FAR))
    kept[0] = True
    after, classes = distinct(restricted(step, kept))
    return TokenAutomaton(
        classes=classes[columns].astype(np.int32),
        next=after,
        ending=ending[kept].astype(np.int32),
        remaining=np.where(free, 0, remaining[kept]).astype(np.int32),
        endings=endings,
        ending_tokens=ending_tokens,
    )

"""What a free text may be, as a small table over tokens: where it ends, and what may come next.

A text ends with a stop string, with the end-of-text token, or when it matches a pattern. Either rule
is first an automaton over bytes, because a token may be part of a character; the tokens are then
walked through it on the host, once, and only the resulting table is used under ``jit``.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..errors import OptionError
from .codec import Codec

# ``remaining`` where no ending can be reached.
_FAR = 1 << 30
# A pattern with more states than this would take gigabytes.
_MOST_STATES = 1 << 13
# Digits are those of ASCII, as who writes \d means them.
_CLASSES = {
    r"\d": "[0-9]",
    r"\D": "[^0-9]",
    r"\w": "[A-Za-z0-9_]",
    r"\W": "[^A-Za-z0-9_]",
    r"\s": r"[\x20\t\n\r\f\v]",
    r"\S": r"[^\x20\t\n\r\f\v]",
}
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
def stop_automaton(codec: Codec, vocab_size: int, stop: tuple[str, ...]) -> TokenAutomaton:
    """Any text up to and with the first stop string, or up to the end-of-text token.

    A token inside which a stop string ends early is forbidden, so that a text ends with its stop
    string and not beyond it. Only what is generated counts: a stop string that began before it is
    not seen. The ways to end are the stop strings in their order and then, if the tokenizer has it,
    the end-of-text token; where several stop strings end together, the longest is the way.

    Args:
        codec: the tokenizer.
        vocab_size: number of tokens V that the model has; those unknown to the tokenizer are forbidden.
        stop: stop strings; there may be none.

    Raises:
        OptionError: a stop string is empty.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> automaton = stop_automaton(load_lm().codec, 1190, (".", "\\n"))
    >>> automaton.endings, automaton.ending_tokens, automaton.ending.tolist()
    (('.', '\\n', None), (0, 0, 1), [0, 1, 2, 3])
    """
    if not all(stop):
        raise OptionError(f"a stop string is empty: {stop!r}")
    table, way = _stop_table([s.encode() for s in stop])
    columns, step = _token_steps(token_bytes(codec, vocab_size), table)
    return _automaton(codec, columns, step, way, way == 0, (*stop, None), free=True)


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
    if fewest == _FAR:
        and_ends = "" if len(automaton.endings) > 1 else " and ends there (it has no end-of-text token)"
        raise OptionError(f"{where}: nothing that the tokenizer can write matches the pattern {told}{and_ends}")
    if fewest > max_tokens:
        raise OptionError(f"{where}: the pattern {told} takes at least {fewest} tokens; max_tokens is {max_tokens}")
    return automaton


@lru_cache(maxsize=1024)
def _matching(codec: Codec, vocab_size: int, lead: str, pattern: str | tuple[str, ...], suffix: str) -> TokenAutomaton:
    if isinstance(pattern, str):
        _pattern_table(pattern)  # alone: "a)(b" would close the group that it is put in
        body = pattern
    else:
        if not pattern:
            raise ValueError("it has no strings")
        body = "|".join(map(re.escape, pattern))
    table, final = _pattern_table(f"{re.escape(lead)}(?:{body}){re.escape(suffix)}{_CLOSE}")
    # The mark that closes the pattern is not generated: a state from which it completes is final.
    states = np.arange(len(table))
    for byte in _CLOSE.encode():
        states = np.append(table[:, byte], -1)[states]
    final = np.append(final, False)[states]
    kept = _distance(table, final) < _FAR
    kept[0] = True
    table, final = _restricted(table, kept), final[kept]

    columns, step = _token_steps(token_bytes(codec, vocab_size), table)
    # A state may be alive by bytes and not by tokens.
    alive = np.append(_distance(step, final) < _FAR, False)
    step = np.where(alive[step], step, -1)
    over = final & (step < 0).all(1)
    return _automaton(codec, columns, step, over.astype(np.int32), final & ~over, (suffix or None,) * 2, free=False)


# -- automata over bytes --------------------------------------------------------------------------


def _stop_table(stop: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Aho and Corasick's automaton: int32 ``[B, 256]``, and the stop string ``1 + j`` that ends in a state."""
    children: list[dict[int, int]] = [{}]
    way = [0]
    for j, string in enumerate(stop):
        node = 0
        for byte in string:
            if byte not in children[node]:
                children[node][byte] = len(children)
                children.append({})
                way.append(0)
            node = children[node][byte]
        way[node] = way[node] or 1 + j
    table = np.zeros((len(children), 256), np.int32)
    # The state of the longest proper suffix of a state's string that is a state too.
    shorter = np.zeros(len(children), np.int32)
    queue = [0]
    for node in queue:
        table[node] = table[shorter[node]]
        way[node] = way[node] or way[shorter[node]]
        for byte, child in children[node].items():
            shorter[child] = table[node, byte] if node else 0
            table[node, byte] = child
            queue.append(child)
    ways = np.array(way, np.int32)
    table[ways > 0] = -1
    return table, ways


def _pattern_table(regex: str) -> tuple[np.ndarray, np.ndarray]:
    """The automaton of a regular expression: int32 ``[B, 256]``, and which states match, bool ``[B]``.

    Raises:
        ValueError: with the reason.
    """
    try:
        from outlines_core import Index, Vocabulary
    except ImportError as error:
        message = "free text that matches a pattern needs the extra: pip install 'sdscm-jax[constrained]'"
        raise ImportError(message) from error
    # A class may stand in a class.
    regex = re.sub(r"\\.", lambda found: _CLASSES.get(found[0], found[0]), regex)
    # Each byte is a token. The real tokens are walked here, because outlines-core refuses a vocabulary
    # in which one of several alternatives cannot be spelled, and lists each token at each state.
    try:
        index = Index(regex, Vocabulary(256, {bytes([byte]): [byte] for byte in range(256)}))
    except ValueError as error:
        raise ValueError(_reason(regex, error)) from error
    transitions, start = index.get_transitions(), index.get_initial_state()
    if len(transitions) > _MOST_STATES:
        raise ValueError(f"it has {len(transitions)} states; narrower classes or counts have fewer")
    number = {state: n for n, state in enumerate(sorted(transitions, key=lambda state: state != start))}
    table = np.full((len(number), 256), -1, np.int32)
    for state, row in transitions.items():
        for byte, after in row.items():
            if byte < 256:
                table[number[state], byte] = number[after]
    final = np.zeros(len(number), bool)
    final[[number[state] for state in index.get_final_states()]] = True
    return table, final


def _reason(regex: str, error: ValueError) -> str:
    # Python says what is malformed and where; outlines-core only that something is.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(regex)
    except re.error as plain:
        return str(plain)
    return f"{error} (it may have no anchors, word boundaries, look-around or back-references)"


# -- from bytes to tokens -------------------------------------------------------------------------


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
    narrow, letters = _distinct(table)
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

    remaining = _distance(step, ending > 0)
    kept = _reachable(step) & (free | (remaining < _FAR))
    kept[0] = True
    after, classes = _distinct(_restricted(step, kept))
    return TokenAutomaton(
        classes=classes[columns].astype(np.int32),
        next=after,
        ending=ending[kept].astype(np.int32),
        remaining=np.where(free, 0, remaining[kept]).astype(np.int32),
        endings=endings,
        ending_tokens=ending_tokens,
    )


def _distance(step: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Fewest steps from each state to a goal, int ``[S]``.

    >>> _distance(np.array([[1, -1], [2, 0], [-1, -1]]), np.array([False, False, True])).tolist()
    [2, 1, 0]
    """
    distance = np.where(goal, 0, _FAR)
    found = np.append(goal, False)  # row -1: a forbidden step
    rows, steps = np.flatnonzero(~goal), 0
    while len(rows):
        near = found[step[rows]].any(1)
        if not near.any():
            break
        steps += 1
        distance[rows[near]], found[rows[near]] = steps, True
        rows = rows[~near]
    return distance


def _reachable(step: np.ndarray) -> np.ndarray:
    """States that can be reached from state 0, bool ``[S]``."""
    found = np.zeros(len(step) + 1, bool)  # row -1: a forbidden step
    rows = np.array([0])
    while len(rows):
        found[rows] = True
        rows = np.unique(step[rows])
        rows = rows[(rows >= 0) & ~found[rows]]
    return found[:-1]


def _distinct(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct columns in the order in which they appear, and which of them each column is.

    >>> [x.tolist() for x in _distinct(np.array([[3, 1, 3], [0, 2, 0]]))]
    [[[3, 1], [0, 2]], [0, 1, 0]]
    """
    first: dict[bytes, int] = {}
    which = np.array([first.setdefault(column.tobytes(), i) for i, column in enumerate(table.T)])
    chosen = np.array(list(first.values()))
    return table[:, chosen], np.searchsorted(chosen, which)


def _restricted(step: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The table of some of the states, which are renumbered; steps to others are forbidden."""
    number = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
    return number[step[kept]].astype(np.int32)


# -- what tokens say ------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def token_bytes(codec: Codec, vocab_size: int) -> tuple[bytes | None, ...]:
    """The bytes that each token adds to a text, in the middle of it; None for special and missing ids.

    Args:
        codec: the tokenizer.
        vocab_size: number of tokens V that the model has.

    >>> from sdscm_jax.models.language_model import load_lm
    >>> codec = load_lm().codec
    >>> pieces = token_bytes(codec, 1200)
    >>> b"".join(pieces[token] for token in codec.encode("A café.")).decode(), pieces[0], pieces[1199]
    ('A café.', None, None)
    """
    tokenizer = codec.tokenizer
    special = set(tokenizer.all_special_ids)
    # A tokenizer may have special tokens without a role (Llama 3's reserved ones).
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
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

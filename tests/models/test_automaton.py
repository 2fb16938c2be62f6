"""Token automata: what bytes tokens stand for, and which texts stop strings and patterns allow.

The independent check is a search in the bytes of whole texts: ``bytes.find`` for stop strings and
``re.fullmatch`` for patterns, over every sequence of a few tokens of a small tokenizer.
"""

from __future__ import annotations

import itertools
import re
import sys
from functools import cache
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models.automaton import TokenAutomaton, pattern_automaton, stop_automaton
from sdscm_jax.models.codec import Codec
from sdscm_jax.models.token_bytes import token_bytes

from ..needs import absent, shared_path

some = settings(max_examples=100, deadline=None, derandomize=True)
needs_extra = pytest.mark.skipif(find_spec("outlines_core") is None, reason=absent("outlines_core"))
FAR = 2**30

# "é" is the two tokens "Ã" and "©" of GPT-2's alphabet; "©a" begins in the middle of a character.
PIECES = {"a": b"a", "b": b"b", "c": b"c", "ab": b"ab", "bca": b"bca", "Ã": b"\xc3", "©a": b"\xa9a", "©": b"\xa9"}
MERGES = [("a", "b"), ("b", "c"), ("bc", "a"), ("©", "a")]
SMALL = 12  # more than the tokenizer has


@cache
def small_codec(eos: bool = True) -> Codec:
    names = [*PIECES, "bc", "<end>", "<reserved>"]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Special tokens without a role, as Llama 3 has.
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<end>", "<reserved>")])
    role = {"eos_token": "<end>"} if eos else {}
    return Codec(PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **role))


def spell(tokens: tuple[int, ...]) -> bytes:
    values = list(PIECES.values())
    return b"".join(values[token] for token in tokens)


EOS = len(PIECES) + 1
PLAIN = range(len(PIECES))


def follow(automaton: TokenAutomaton, tokens: tuple[int, ...]) -> int:
    state = 0
    for token in tokens:
        state = int(automaton.next[state, automaton.classes[token]]) if state >= 0 else -1
    return state


def follow_all(automaton: TokenAutomaton, longest: int) -> dict[tuple[int, ...], int]:
    """The state after every sequence of at most so many plain tokens."""
    states = {(): 0}
    for n in range(longest):
        for tokens in [t for t in states if len(t) == n]:
            for token in PLAIN:
                state = states[tokens]
                states[*tokens, token] = int(automaton.next[state, automaton.classes[token]]) if state >= 0 else -1
    return states


def check_form(automaton: TokenAutomaton, free: bool) -> None:
    """What every automaton promises."""
    states, classes = automaton.next.shape
    assert automaton.classes.dtype == automaton.next.dtype == np.int32
    assert automaton.ending.dtype == automaton.remaining.dtype == np.int32
    assert set(automaton.classes) == set(range(classes)), "no class is without a token"
    assert len(np.unique(automaton.next, axis=1).T) == classes, "no two classes are alike"
    assert automaton.next.min() >= -1
    assert automaton.next.max() < states
    assert (automaton.next[automaton.ending > 0] == -1).all()
    assert automaton.ending.max() <= len(automaton.endings) == len(automaton.ending_tokens)
    if free:
        assert (automaton.remaining == 0).all()
        return
    # Bellman's equation determines the distances, given that they are finite.
    room = np.where(automaton.next < 0, FAR, automaton.remaining[automaton.next]).min(1)
    np.testing.assert_array_equal(automaton.remaining, np.where(automaton.ending > 0, 0, 1 + room))
    assert (automaton.remaining < FAR).all()


# -- bytes of tokens ------------------------------------------------------------------------------


@cache
def unigram() -> Codec:
    """As T5 and Llama have it in part: a Unigram model, ``▁`` for the space, byte tokens."""
    vocab = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("▁a", -1.0), ("b", -1.0), ("ab", -1.0)]
    vocab += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])
    return Codec(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", clean_up_tokenization_spaces=False
        )
    )


@cache
def word_piece() -> Codec:
    """As BERT has it: spaces are implied."""
    vocab = ["[UNK]", "[SEP]", ".", "run", "##ning", "a", "é", "<0x0A>"]
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocab)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return Codec(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[SEP]", clean_up_tokenization_spaces=False
        )
    )


def codec_of(name: str) -> Codec:
    if name == "embedded":
        return sd.load_lm().codec
    return unigram() if name == "unigram" else Codec(AutoTokenizer.from_pretrained(shared_path("lms", name)))


TEXTS = (
    "Hello world.",
    " It is low;  two spaces,\n\nand lines\tand tabs.",
    "A 25-year-old woman's café, naïve. 100%",
    "환자는 서울에 삽니다. 日本 😀 👩‍👧",
    "a ab b",
)
# What the small vocabulary can write.
LATIN = ("Hello world.", " It is low;  two spaces.", "A year-old woman's <tag> [x] 50% — €™", "a ab b")


@pytest.mark.parametrize("name", ["embedded", "tokenizer-gpt2", "stories260K", "babyllama-tok105", "unigram"])
def test_bytes_spell_the_text(name: str) -> None:
    codec = codec_of(name)
    pieces = token_bytes(codec, len(codec.tokenizer))
    for text in LATIN if name == "babyllama-tok105" else TEXTS:
        tokens = codec.encode(text)
        if codec.tokenizer.unk_token_id in tokens:
            assert name == "babyllama-tok105", text
            tokens = tuple(token for token in tokens if token != codec.tokenizer.unk_token_id)
            text = "".join(c for c in text if codec.tokenizer.unk_token_id not in codec.encode(c))
        # Llama 2's tokenizers put a space before a text.
        lead = " " if name in ("stories260K", "babyllama-tok105") else ""
        assert b"".join(pieces[token] or b"?" for token in tokens).decode() == lead + text


@pytest.mark.parametrize("name", ["embedded", "tokenizer-gpt2", "stories260K", "babyllama-tok105", "unigram"])
def test_bytes_agree_with_decoding(name: str) -> None:
    """A token after others adds to their text what its bytes say, if those are whole characters."""
    codec = codec_of(name)
    size = len(codec.tokenizer)
    special = set(codec.tokenizer.all_special_ids)
    head = codec.encode("b")
    for i, piece in list(enumerate(token_bytes(codec, size)))[:: 1 + size // 3000]:
        assert (piece is None) == (i in special)
        try:
            text = "" if piece is None else piece.decode()
        except UnicodeDecodeError:
            continue
        if piece is not None:
            assert codec.decode((*head, i)) == codec.decode(head) + text


def test_bytes_by_decoding() -> None:
    """A tokenizer of another kind is asked what each token adds."""
    assert token_bytes(word_piece(), 9) == (None, None, b" .", b" run", b"ning", b" a", " é".encode(), b" <0x0A>", None)


def test_bytes_of_added_and_missing_tokens() -> None:
    codec = small_codec()
    assert token_bytes(codec, SMALL) == (*PIECES.values(), b"bc", None, None, None)
    assert token_bytes(codec, 3) == (b"a", b"b", b"c")
    tokenizer = Tokenizer(models.BPE({"a": 0, "Ġ": 7}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(["   "])
    gaps = Codec(PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    (added,) = (i for t, i in gaps.tokenizer.get_vocab().items() if t == "   ")
    assert {i: b for i, b in enumerate(token_bytes(gaps, 12)) if b} == {0: b"a", 7: b" ", added: b"   "}


# -- stop strings ---------------------------------------------------------------------------------


def stopped(text: bytes, stop: tuple[str, ...]) -> int | None:
    """0: goes on; ``1 + j``: ends with stop string j; None: ran beyond one."""
    ends = [text.find(s.encode()) + len(s.encode()) for s in stop if s.encode() in text]
    if not ends:
        return 0
    if min(ends) < len(text):
        return None
    return 1 + max((j for j, s in enumerate(stop) if text.endswith(s.encode())), key=lambda j: (len(stop[j]), -j))


@pytest.mark.slow
@some
@given(stop=st.lists(st.text("abcé", min_size=1, max_size=5), max_size=4).map(tuple), eos=st.booleans())
def test_stop_strings(stop: tuple[str, ...], eos: bool) -> None:
    codec = small_codec(eos)
    automaton = stop_automaton(codec, SMALL, stop)
    check_form(automaton, free=True)
    assert automaton.endings == (*stop, None) if eos else automaton.endings == stop
    assert automaton.ending_tokens == (0,) * len(stop) + (1,) * eos
    for tokens, state in follow_all(automaton, 4).items():
        expected = stopped(spell(tokens), stop)
        assert (state == -1) == (expected is None), tokens
        if expected is not None:
            assert automaton.ending[state] == expected, tokens
            after = automaton.next[state, automaton.classes[EOS]]
            assert (after >= 0) == (eos and expected == 0)
            assert after == -1 or automaton.ending[after] == len(automaton.endings)
            assert expected == 0 or (automaton.next[state] == -1).all(), "nothing follows the end"
    assert all(follow(automaton, (token,)) == -1 for token in (EOS + 1, SMALL - 1)), "special and missing tokens"


def test_stop_string_over_several_tokens(embedded: sd.LanguageModel) -> None:
    codec, size = embedded.codec, embedded.config.vocab_size
    stop = " levels were found."
    automaton = stop_automaton(codec, size, (stop, ".", "é"))
    tokens = codec.encode("High" + stop)
    assert len(codec.encode(stop)) > 1
    states = [follow(automaton, tokens[:n]) for n in range(len(tokens) + 1)]
    assert [int(automaton.ending[s]) for s in states] == [0] * len(tokens) + [1], "the longest that ends there"
    assert automaton.ending[follow(automaton, codec.encode("Low."))] == 2
    assert automaton.ending[follow(automaton, codec.encode("a é"))] == 3
    assert len(codec.encode("é")) > 1


def test_token_beyond_a_stop_string_is_forbidden() -> None:
    codec = codec_of("tokenizer-gpt2")
    automaton = stop_automaton(codec, 50300, (".",))
    names = codec.tokenizer.get_vocab()
    for name, way in ((".", 1), ("Ġ.", 1), ("...", None), ('."', None), ("Ġlow", 0)):
        state = follow(automaton, (names[name],))
        assert (None if state < 0 else automaton.ending[state]) == way, name
    assert follow(automaton, (50299,)) == -1
    assert automaton.ending[follow(automaton, (names["Ġlow"], 50256))] == 2
    assert automaton.next.shape == (3, 4), "50257 tokens, of four kinds"


def test_stop_is_cached_and_checked() -> None:
    codec = small_codec()
    assert stop_automaton(codec, SMALL, ("a",)) is stop_automaton(codec, SMALL, ("a",))
    with pytest.raises(sd.OptionError, match="a stop string is empty"):
        stop_automaton(codec, SMALL, ("a", ""))


# -- patterns -------------------------------------------------------------------------------------


def patterns() -> st.SearchStrategy[str]:
    atoms = st.sampled_from(["a", "b", "c", "é", ".", "[^a]", "[abé]", "ab", "bc", "", "z"])

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.lists(inner, min_size=2, max_size=3).map("".join),
            st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
            st.tuples(inner, st.sampled_from(["*", "?", "+", "{1,2}", "*?", "??"])).map(lambda p: f"(?:{p[0]}){p[1]}"),
        )

    return st.recursive(atoms, larger, max_leaves=8)


def matches(regex: str, text: bytes) -> bool:
    try:
        return re.fullmatch(regex, text.decode()) is not None
    except UnicodeDecodeError:
        return False


def check_pattern(pattern: str | tuple[str, ...], lead: str, suffix: str, longest: int) -> None:
    """Against ``re.fullmatch`` on every text of at most ``longest`` tokens."""
    codec = small_codec()
    body = pattern if isinstance(pattern, str) else "|".join(map(re.escape, pattern))
    regex = f"{lead}(?:{body}){re.escape(suffix)}"
    texts = itertools.chain.from_iterable(itertools.product(PLAIN, repeat=n) for n in range(longest + 1))
    right = {t for t in texts if matches(regex, spell(t))}
    try:
        automaton = pattern_automaton(codec, SMALL, pattern, suffix, 100, "here", lead=lead)
    except sd.OptionError:
        automaton = None
    if automaton is None:
        assert right <= {()}, "there is no text to write"
        return
    check_form(automaton, free=False)
    assert automaton.endings == (suffix or None,) * 2
    assert automaton.ending_tokens == (0, 1)
    begun = {t[:n] for t in right for n in range(len(t))}  # what has a proper continuation
    for tokens, state in follow_all(automaton, longest).items():
        if state == -1:
            assert tokens not in right | begun
            continue
        way = automaton.ending[state]
        after = automaton.next[state, automaton.classes[EOS]]
        assert (way == 1 or after >= 0) == (tokens in right), tokens
        assert after == -1 or automaton.ending[after] == 2
        assert way == 0 or tokens not in begun, "it ends only where nothing can follow"
        goes_on = (automaton.next[state, automaton.classes[: len(PIECES) + 1]] >= 0).any()
        assert goes_on == (way == 0), "where nothing can follow it is over"
        # Any beginning is of some text: go on by the shortest way.
        went = list(tokens)
        while not automaton.ending[state]:
            step = np.where(automaton.next[state] < 0, FAR, automaton.remaining[automaton.next[state]]).argmin()
            went.append(int(np.flatnonzero(automaton.classes == step)[0]))
            state = int(automaton.next[state, step])
        went = went[:-1] if went[-1] == EOS else went
        assert all(t in PLAIN or t == len(PIECES) for t in went)
        pieces = token_bytes(codec, SMALL)
        assert matches(regex, b"".join(pieces[t] or b"" for t in went))


@needs_extra
@some
@given(pattern=patterns(), lead=st.sampled_from(["", "c"]), suffix=st.sampled_from(["", "a", "é"]))
def test_patterns(pattern: str, lead: str, suffix: str) -> None:
    check_pattern(pattern, lead, suffix, 3)


@needs_extra
@some
@given(strings=st.lists(st.text("abcé", max_size=5), min_size=1, max_size=4).map(tuple))
def test_sets_of_strings(strings: tuple[str, ...]) -> None:
    check_pattern(strings, "", "", 4)


@needs_extra
@pytest.mark.parametrize("pattern", ["a|ab", "ab|a", "a*?", "(a|ab)(c|bca)?", "a.*", "é|éa", "b+", "ab?z?", "a(bz)?|c"])
def test_pattern_is_of_the_whole_text(pattern: str) -> None:
    """Also where a search would take the first alternative, or the shortest."""
    check_pattern(pattern, "", "", 4)


@needs_extra
def test_strings_are_meant_literally(embedded: sd.LanguageModel) -> None:
    codec, size = embedded.codec, embedded.config.vocab_size
    strings = ("1.5 (a|b)*", "[x]", "$^\\", "a b\n", "#~&-")
    automaton = pattern_automaton(codec, size, strings, "?", 30, "here", lead=" ")
    for text in strings:
        assert automaton.ending[follow(automaton, codec.encode(f" {text}?"))] == 1
    for text in ("1x5 (a|b)*", "x", "a", ""):
        assert follow(automaton, codec.encode(f" {text}?")) == -1
    assert automaton.endings == ("?", "?")


@needs_extra
@pytest.mark.parametrize("name", ["embedded", "tokenizer-gpt2", "stories260K", "babyllama-tok105", "unigram"])
def test_patterns_on_real_tokenizers(name: str) -> None:
    codec = codec_of(name)
    size, pattern = len(codec.tokenizer), r" [A-Z]?[a-z]+( [a-z]+){0,2}"
    if name == "unigram":
        pattern = " a[ab]*"
    automaton = pattern_automaton(codec, size, pattern, ".", 20, "here")
    check_form(automaton, free=False)
    pieces = token_bytes(codec, size)
    random = np.random.default_rng(0)
    for _ in range(50):
        state, text = 0, b""
        while not automaton.ending[state]:
            allowed = np.flatnonzero(automaton.next[state] >= 0)
            if len(text) > 30:  # now end
                left = automaton.remaining[automaton.next[state, allowed]]
                allowed = allowed[left == left.min()]
            token = int(random.choice(np.flatnonzero(np.isin(automaton.classes, allowed))))
            state, text = int(automaton.next[state, automaton.classes[token]]), text + (pieces[token] or b"?")
        assert re.fullmatch(pattern + r"\.", text.decode())
    text = " ab" if name == "unigram" else " Low levels"
    tokens = codec.encode((text if name in ("embedded", "tokenizer-gpt2", "unigram") else text[1:]) + ".")
    assert automaton.ending[follow(automaton, tokens)] == 1


@needs_extra
def test_unicode_pattern() -> None:
    """Tokens that are parts of characters, and a model with more tokens than the tokenizer."""
    codec = codec_of("tokenizer-gpt2")
    automaton = pattern_automaton(codec, 50300, r"\p{L}[^ ]?|[^\W]\d|😀+", "", 10, "here")
    check_form(automaton, free=False)
    for text, can_end in (("서울", True), ("é1", True), ("1", False), ("12", True), ("😀😀", True)):
        state = follow(automaton, codec.encode(text))
        assert state >= 0
        assert (automaton.ending[state] > 0 or follow(automaton, (*codec.encode(text), 50256)) >= 0) == can_end, text
    assert follow(automaton, codec.encode("é ")) == -1


@needs_extra
@pytest.mark.parametrize("pattern", [r"\w+", r"\W+", r"\d\D", r"[\d.]+", r"[^\w-]+", r"\S\s", r"\\d", r"[^\S\n]+"])
def test_classes_are_of_ascii(pattern: str) -> None:
    codec = codec_of("tokenizer-gpt2")
    automaton = pattern_automaton(codec, 50257, pattern, "", 9, "here")
    for text in (
        "a",
        "é",
        "1",
        "٣",
        "1x",
        "1٣",
        "٣x",
        "3.14",
        "-",
        "?",
        "_a0",
        " ",
        "\xa0",
        "\n",
        "x ",
        "é\n",
        "\\d",
        "\\3",
    ):
        state = follow(automaton, codec.encode(text))
        can_end = state >= 0 and (automaton.ending[state] > 0 or follow(automaton, (*codec.encode(text), 50256)) >= 0)
        assert can_end == bool(re.fullmatch(pattern, text, re.ASCII)), text


@needs_extra
def test_tables_stay_small() -> None:
    """Any text of up to 50 characters, of 50257 tokens: ten states for each character, at most."""
    automaton = pattern_automaton(codec_of("tokenizer-gpt2"), 50257, ".{1,50}", "", 50, "here")
    assert automaton.next.shape[0] <= 500
    assert automaton.next.shape[1] <= 60


@needs_extra
def test_tokenizer_without_end_of_text() -> None:
    """A text ends only where nothing can follow."""
    codec = small_codec(eos=False)
    automaton = pattern_automaton(codec, SMALL, "a{1,3}", "", 3, "here")
    assert (automaton.endings, automaton.ending_tokens) == ((None,), (0,))
    assert automaton.ending[[follow(automaton, (0,) * n) for n in range(4)]].tolist() == [0, 0, 0, 1]
    # Nothing that begins "ab" ever ends.
    automaton = pattern_automaton(codec, SMALL, "a(b+|c)", "", 3, "here")
    check_form(automaton, free=False)
    assert follow(automaton, (0, 1)) == -1
    assert automaton.ending[follow(automaton, (0, 2))] == 1
    with pytest.raises(sd.OptionError, match=r"and ends there .it has no end-of-text token.$"):
        pattern_automaton(codec, SMALL, "a+", "", 9, "here")


@needs_extra
@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("a(", r"unterminated subpattern"),
        ("a)(b", r"unbalanced parenthesis"),
        ("[", r"unterminated character set"),
        ("^a$", r"no anchors"),
        (r"\ba", r"no anchors, word boundaries"),
        ("(?=a)a", r"look-around"),
        ("[a&&b]", r"cannot be used"),
        (r"\p{L}{1,300}", r"states; narrower classes"),
        ((), r"no strings"),
        ("", r"only the empty text"),
        (("",), r"only the empty text"),
        ("z", r"nothing that the tokenizer can write matches the pattern 'z'"),
        ("a*z", r"nothing that the tokenizer can write"),
        (("za", "zb"), r"nothing that the tokenizer can write"),
        ("a{9}", r"takes at least 9 tokens; max_tokens is 4"),
        ("c{4,}", r"takes at least 5 tokens; max_tokens is 4"),
    ],
)
def test_unusable_patterns(pattern: str | tuple[str, ...], match: str) -> None:
    with pytest.raises(sd.OptionError, match=f"^site 'x': .*{match}"):
        pattern_automaton(small_codec(), SMALL, pattern, "", 4, "site 'x'")


@needs_extra
def test_fewest_tokens_are_counted() -> None:
    """To the last token, whatever pieces the tokenizer has."""
    codec = small_codec()
    automaton = pattern_automaton(codec, SMALL, "(ab){2}c", "", 3, "here")
    assert automaton.remaining[0] == 3
    assert automaton is pattern_automaton(codec, SMALL, "(ab){2}c", "", 7, "elsewhere"), "one table for all sites"
    with pytest.raises(sd.OptionError, match="at least 3 tokens; max_tokens is 2"):
        pattern_automaton(codec, SMALL, "(ab){2}c", "", 2, "here")


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "outlines_core", None)
    with pytest.raises(ImportError, match=r"pip install '.\[constrained\]'"):
        pattern_automaton(small_codec(), SMALL, "ab?c?a?", "", 9, "here")


# -- under jit ------------------------------------------------------------------------------------


@settings(some, max_examples=10)
@given(
    rows=st.lists(st.lists(st.integers(0, SMALL - 1), max_size=5), min_size=6, max_size=6),
    stop=st.lists(st.text("abc", min_size=1, max_size=3), max_size=2).map(tuple),
)
def test_walk(rows: list[list[int]], stop: tuple[str, ...]) -> None:
    automaton = stop_automaton(small_codec(), SMALL, stop)
    tokens = np.full((2, 3, 5), -1, np.int32)
    expected = np.zeros((2, 3, 6), np.int32)
    for (i, j), row in zip(np.ndindex(2, 3), rows, strict=True):
        tokens[i, j, : len(row)] = row
        expected[i, j] = [follow(automaton, tuple(row[:n])) for n in range(6)]
    states = jax.jit(automaton.walk)(jnp.asarray(tokens))
    assert states.dtype == jnp.int32
    np.testing.assert_array_equal(states, expected)
    np.testing.assert_array_equal(automaton.walk(jnp.asarray(tokens[0, 0])), expected[0, 0])

"""How text becomes tokens: the rule of ``codec.py`` and ``options.py``, on four kinds of tokenizer.

The independent check throughout: the whole text, tokenised at once by the tokenizer itself.
"""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import sdscm_jax as sd
from sdscm_jax.models.codec import Codec, Tokens, common_prefix
from sdscm_jax.models.options import OptionTokens, option_tokens

from ..needs import shared_path

few = settings(max_examples=30, deadline=None, derandomize=True)

# Llama 3: digits in groups of up to three, never together with the space before them.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TRAINING_TEXT = (
    "A 25-year-old woman arrives at the clinic. The tumor exhibits low levels, or high levels, of PD-L1. "
    "She is in grade 12 and moved to New York City in 2024. hello world. 100% of 55 patients. It is low."
)


@cache
def llama3_like() -> PreTrainedTokenizerFast:
    """Llama 3's pre-tokenisation and BOS, with few merges."""
    tokenizer = Tokenizer(BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    trainer = BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TRAINING_TEXT] * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special[0]} $A",
        pair=f"{special[0]} $A {special[0]} $B",
        special_tokens=[(special[0], tokenizer.token_to_id(special[0]))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1], clean_up_tokenization_spaces=False
    )


NAMES = ("tokenizer-gpt2", "stories260K", "babyllama-tok105", "llama3-like")
# Those that can write any text, so that decoding gives it back.
LOSSLESS = ("tokenizer-gpt2", "stories260K", "llama3-like")
# Those whose pieces show where a text was split.
BYTE_LEVEL = ("tokenizer-gpt2", "llama3-like")


@cache
def codec_of(name: str) -> Codec:
    if name == "llama3-like":
        return Codec(llama3_like())
    return Codec(AutoTokenizer.from_pretrained(shared_path("lms", name)))


def pieces(codec: Codec, tokens: Tokens) -> list[str]:
    """Tokens as they stand in the vocabulary, with the space as a space."""
    return [t.replace("Ġ", " ").replace("▁", " ") for t in codec.tokenizer.convert_ids_to_tokens(list(tokens))]


def whole_text(codec: Codec, text: str) -> Tokens:
    """The tokenizer's own answer."""
    return tuple(codec.tokenizer.encode(text, add_special_tokens=False)) if text else ()


# Prefix, options, suffix.
BLANKS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "word": ("The tumor exhibits ", ("low", "high"), " levels of PD-L1."),
    "continued word": ("A ", ("25", "55", "105"), "-year-old woman arrives."),
    "number": ("She is in grade ", ("1", "12", "1234"), "."),
    "percent": ("It helps ", ("5", "55", "100"), "% of patients."),
    "number or word": ("The grade is ", ("12", "low"), "."),
    "split word": ("hello wor", ("ld", "k", "ry"), "."),
    "option begins another": ("She lives in ", ("New York", "New York City"), "."),
    "option begins another, at the end": ("She lives in ", ("New York", "New York City"), ""),
    "option is a prefix of a word": ("It is ", ("low", "lower", "lowest"), ""),
    "leading space in the option": ("It is", (" low", " high"), "."),
    "leading and trailing spaces": ("It is  ", ("low ", " high"), " now."),
    "punctuation": ("Well", (".", "!", "...", ", no."), ""),
    "empty prefix": ("", ("Low", "High"), " levels were found."),
    "empty prefix, shared beginning": ("", ("New York", "New York City"), " is large."),
    "one option": ("It is ", ("low",), "."),
    "apostrophe": ("The patient", ("'s drug", " took it"), "."),
    "Korean": ("환자는 ", ("서울", "부산"), "에 삽니다."),
    "Korean particle": ("그", ("는", "가"), " 왔다."),
    "emoji": ("She feels ", ("😀", "😁", "😢"), " today."),
    "emoji of several code points": ("Family: ", ("👩‍👧", "👩‍👦", "👩"), "."),
}
UNWRITABLE = {"Korean", "Korean particle", "emoji", "emoji of several code points"}
ENDINGS = (
    "She is 25",
    "She is 25 years old.",
    "Is it so?",
    'He said "no"',
    "x:",
    "(maybe)",
    "그렇다",
    "ok 😀",
    "New York",
)


def cases() -> list[tuple[str, str]]:
    """Tokenizer and blank; without those that the tokenizer cannot write, see ``test_unwritable``."""
    return [(n, blank) for n in NAMES for blank in BLANKS if n in LOSSLESS or blank not in UNWRITABLE]


def check_rule(codec: Codec, prefix: str, options: tuple[str, ...], suffix: str, with_suffix: bool, left: str) -> None:
    """Everything that the rule promises. ``left``: the text before the template, or nothing."""
    first = not left
    tokens = option_tokens(codec, prefix, options, suffix, with_suffix=with_suffix, first=first)
    before, begin = whole_text(codec, left), left and left + " "
    assert len(tokens.rows) == len(tokens.sentences) == len(options)
    for option, row, sentence in zip(options, tokens.rows, tokens.sentences, strict=True):
        scored = prefix + option + (suffix if with_suffix else "")
        assert row, "an option is scored by at least one token"
        assert (*before, *tokens.shared, *row) == whole_text(codec, begin + scored)
        assert (*before, *sentence) == whole_text(codec, begin + prefix + option + suffix)
        assert codec.bos not in (*tokens.shared, *row, *sentence)
    # Maximal: one shared token more, and it is not of the prefix, or not shared, or leaves an option without a token.
    base = whole_text(codec, begin + prefix)[len(before) :]
    assert tokens.shared == base[: len(tokens.shared)]
    n = len(tokens.shared) + 1
    wholes = [(*tokens.shared, *row) for row in tokens.rows]
    assert any(len(w) == n or w[:n] != base[:n] for w in wholes) or n > len(base)
    assert tokens.needs_start == (first and not tokens.shared and codec.bos is None)


# -- BOS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_bos(name: str) -> None:
    """In front of a text once, where the tokenizer puts it there; never inside."""
    codec = codec_of(name)
    with_bos = tuple(codec.tokenizer.encode("It is low. It is high."))
    pieced = (*codec.encode("It is low."), *codec.encode_after("It is high."))
    if name == "tokenizer-gpt2":
        # It has a BOS token, and puts it nowhere; its end-of-text token can still begin a text.
        assert codec.bos is None
        assert codec.tokenizer.bos_token_id is not None
        assert codec.start == codec.tokenizer.eos_token_id == 50256
        assert with_bos == pieced
    else:
        assert codec.bos == codec.start == codec.tokenizer.bos_token_id
        assert with_bos == (codec.bos, *pieced)
        assert with_bos.count(codec.bos) == 1


def test_no_start(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """No BOS: the end-of-text token; not that either: None."""
    assert Codec(tiny_tokenizer).bos is None
    assert Codec(tiny_tokenizer).start == tiny_tokenizer.eos_token_id
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str()))
    assert (Codec(bare).bos, Codec(bare).start) == (None, None)


# -- pieces of a text ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("left", ENDINGS)
def test_sentences_join(name: str, left: str) -> None:
    """Sentence by sentence, or all at once: the same tokens."""
    codec = codec_of(name)
    right = ["It is low.", "25 years", "'s odd", "New York City", "(x)", "그녀는", "😀", "- no", '"Yes"']
    text, joined = codec.encode(left), left
    for sentence in right:
        text, joined = (*text, *codec.encode_after(sentence)), f"{joined} {sentence}"
        assert text == whole_text(codec, joined)


# No space at either end, which is where pieces meet; anything inside.
sentence_text = (
    st.text(alphabet="abzABZ0123456789 .,;:!?'\"-%()\n\t/한국어é́😀👩‍", min_size=1, max_size=20)
    .map(str.strip)
    .filter(bool)
)


@given(name=st.sampled_from(NAMES), texts=st.lists(sentence_text, min_size=2, max_size=4))
@few
def test_any_sentences_join(name: str, texts: list[str]) -> None:
    codec = codec_of(name)
    tokens = codec.encode(texts[0])
    for text in texts[1:]:
        tokens = (*tokens, *codec.encode_after(text))
    assert tokens == whole_text(codec, " ".join(texts))


@given(name=st.sampled_from(LOSSLESS), text=sentence_text)
@few
def test_decoding_gives_the_text_back(name: str, text: str) -> None:
    codec = codec_of(name)
    assert codec.decode(codec.encode(text)) == text


@pytest.mark.parametrize("name", NAMES)
def test_a_boundary_inside_a_token_is_noticed(name: str) -> None:
    codec = codec_of(name)
    # The two others happen to divide this word here.
    assert (codec.suffix_tokens("hello wor", "ld") is None) == (name in BYTE_LEVEL)
    assert codec.suffix_tokens("hello", " world") == codec.encode_after("world")
    assert codec.suffix_tokens("", "hello") == codec.encode("hello")
    assert codec.suffix_tokens("hello", "") == ()
    assert codec.encode("") == ()


@cache
def superword() -> Codec:
    """A tokenizer that knows no words: its tokens reach across spaces and full stops."""
    tokenizer = Tokenizer(BPE())
    trainer = BpeTrainer(vocab_size=400, special_tokens=["<e>"], show_progress=False)
    tokenizer.train_from_iterator(["It is low. It is high. The end. She runs. "] * 20, trainer)
    return Codec(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>"))


def test_tokens_across_sentences_are_noticed() -> None:
    assert superword().suffix_tokens("It is low.", " It is high.") is None


def test_no_text_is_lost() -> None:
    """Where pieces cannot be joined as the whole would be, they keep their own tokens, all of them."""
    codec = superword()
    assert codec.encode_after("It is low.")
    assert codec.encode_after("It is low.") != codec.encode_after("She runs.")


# -- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "blank"), cases())
def test_rule(name: str, blank: str) -> None:
    codec = codec_of(name)
    for with_suffix in (True, False):
        for left in ("", *ENDINGS):
            check_rule(codec, *BLANKS[blank], with_suffix, left)


part = st.text(alphabet="abcAB 0123.,'-%한é😀", max_size=8)


@given(
    name=st.sampled_from(LOSSLESS),
    prefix=part,
    options=st.lists(part.filter(str.strip), min_size=1, max_size=4, unique=True),
    suffix=part,
    left=st.sampled_from(("", *ENDINGS)),
    with_suffix=st.booleans(),
)
@few
def test_rule_on_any_text(
    name: str, prefix: str, options: list[str], suffix: str, left: str, with_suffix: bool
) -> None:
    """Also: distinct options stay distinct, for a tokenizer that can write any text."""
    check_rule(codec_of(name), prefix, tuple(options), suffix, with_suffix, left)


@given(name=st.sampled_from(NAMES), blank=st.sampled_from(sorted(set(BLANKS) - UNWRITABLE)), data=st.data())
@few
def test_order_of_options(name: str, blank: str, data: st.DataObject) -> None:
    """Tokens of an option depend on the set of options and not on their order."""
    codec, (prefix, options, suffix) = codec_of(name), BLANKS[blank]
    order = data.draw(st.permutations(range(len(options))))
    shuffled = tuple(options[i] for i in order)
    first = option_tokens(codec, prefix, options, suffix, with_suffix=True, first=False)
    second = option_tokens(codec, prefix, shuffled, suffix, with_suffix=True, first=False)
    assert second.shared == first.shared
    assert second.rows == tuple(first.rows[i] for i in order)
    assert second.sentences == tuple(first.sentences[i] for i in order)


def shown(name: str, blank: str, first: bool = True) -> tuple[str, list[str]]:
    """What is shared and what is scored (option only), with tokens divided by bars."""
    codec, (prefix, options, suffix) = codec_of(name), BLANKS[blank]
    tokens: OptionTokens = option_tokens(codec, prefix, options, suffix, with_suffix=False, first=first)
    return "|".join(pieces(codec, tokens.shared)), ["|".join(pieces(codec, row)) for row in tokens.rows]


@pytest.mark.parametrize(
    ("name", "blank", "shared", "rows"),
    [
        # The space belongs to the option …
        ("tokenizer-gpt2", "word", "The| tumor| exhibits", [" low", " high"]),
        ("tokenizer-gpt2", "continued word", "A", [" 25", " 55", " 105"]),
        # … except where the tokenizer keeps it apart from digits.
        ("llama3-like", "continued word", "A| ", ["25", "55", "1|0|5"]),
        ("llama3-like", "number", "She| is| in| grade| ", ["1", "12", "12|3|4"]),
        # Options of both kinds: conditioning stops before the space, so that all are charged for it.
        ("llama3-like", "number or word", "The| grade| is", [" |12", " low"]),
        # A word that the blank divides is scored whole.
        ("tokenizer-gpt2", "split word", "hello", [" world", " work", " worry"]),
        ("tokenizer-gpt2", "option begins another", "She| lives| in", [" New| York", " New| York| City"]),
        ("tokenizer-gpt2", "option is a prefix of a word", "It| is", [" low", " lower", " lowest"]),
        ("tokenizer-gpt2", "empty prefix", "", ["Low", "High"]),
        ("babyllama-tok105", "number", " |S|h|e| |i|s| |i|n| |g|r|a|d|e| ", ["1", "1|2", "1|2|3|4"]),
    ],
)
def test_examples(name: str, blank: str, shared: str, rows: list[str]) -> None:
    assert shown(name, blank) == (shared, rows)


def test_empty_prefix_after_text() -> None:
    """The space between the context and the option is the option's."""
    assert shown("tokenizer-gpt2", "empty prefix", first=False) == ("", [" Low", " High"])
    codec = codec_of("tokenizer-gpt2")
    for first in (True, False):
        tokens = option_tokens(codec, *BLANKS["empty prefix"], with_suffix=True, first=first)
        assert tokens.needs_start == first


def test_prefix_that_is_all_of_an_option() -> None:
    """ "low" is the prefix's own last word with nothing added: it still keeps a token to be scored by."""
    codec = codec_of("tokenizer-gpt2")
    tokens = option_tokens(codec, "It is low ", ("er", " "), "", with_suffix=False, first=True)
    assert all(tokens.rows)
    assert (*tokens.shared, *tokens.rows[0]) == whole_text(codec, "It is low er")


# -- options that the tokenizer cannot tell apart -----------------------------------------------


@pytest.mark.parametrize("blank", ["Korean", "emoji"])
def test_unwritable(blank: str) -> None:
    """A tokenizer of 105 characters turns all others into ``<unk>``."""
    prefix, options, suffix = BLANKS[blank]
    with pytest.raises(sd.OptionError) as caught:
        option_tokens(codec_of("babyllama-tok105"), prefix, options, suffix, with_suffix=True, first=False)
    message = str(caught.value)
    assert repr(options[0]) in message
    assert repr(options[1]) in message
    assert repr(prefix + "{}" + suffix) in message


def test_only_the_pair_is_named() -> None:
    with pytest.raises(sd.OptionError, match=r"options 'a☃' and 'a\^' of 'x \{\}' have the same tokens"):
        # ``~`` is in the vocabulary, ``☃`` and ``^`` are not.
        option_tokens(codec_of("babyllama-tok105"), "x ", ("b", "a~", "a☃", "a^"), "", with_suffix=True, first=True)


def test_sentencepiece_underscore() -> None:
    """SentencePiece writes a space as ``▁``, so that the character itself is a space to it."""
    for with_suffix in (True, False):
        with pytest.raises(sd.OptionError, match="'a b' and 'a▁b'"):
            option_tokens(codec_of("stories260K"), "x ", ("a b", "a▁b"), "", with_suffix=with_suffix, first=True)


# -- Codec as a static value --------------------------------------------------------------------


def test_codecs_compare_by_content() -> None:
    """Two loads are one static value to ``jit``; different tokenizers are not."""
    path = shared_path("lms", "stories260K")
    a, b = Codec(AutoTokenizer.from_pretrained(path)), Codec(AutoTokenizer.from_pretrained(path))
    assert a is not b
    assert a == b
    assert hash(a) == hash(b)
    assert len({codec_of(name).fingerprint for name in NAMES}) == len(NAMES)
    assert a != codec_of("babyllama-tok105")
    assert a != "stories260K"


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=4))
@few
def test_common_prefix(sequences: list[list[int]]) -> None:
    n = common_prefix(*sequences)
    assert len({tuple(s[:n]) for s in sequences}) == 1
    assert any(len(s) == n for s in sequences) or len({s[n] for s in sequences}) > 1

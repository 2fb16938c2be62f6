"""``mock_lm``: a language model for tests, which needs no weights and no files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import numpyro
from flax import nnx
from numpyro.primitives import Messenger

from .. import checks
from ..checks import function
from ..dsl.handlers.exogenous import exogenous
from ..dsl.handlers.given_values import set_stand_in
from ..dsl.language.choice import Choice
from ..dsl.language.messages import mechanism_at
from ..dsl.language.text_phrase import TextPhrase
from ..dsl.scoring.score_query import Question
from ..errors import OptionError, SiteError, nearest
from ..models.chat import Chat, ChatCodec
from ..models.codec import Codec
from ..models.config import DecoderConfig
from ..models.language_model import LanguageModel
from .mock_decoder import Answers, HashDecoder
from .mock_tokenizer import END, byte_ids, mock_tokenizer

# Contexts of one site whose probabilities are written down.
MOST_CONTEXTS = 4096
# What free text is made of; other tokens are unlikely, except as options.
_WRITTEN = "abcdefghijklmnopqrstuvwxyz ."
_UNLIKELY = -12.0


def mock_lm(
    program: Callable | None = None,
    *args: Any,
    probs: Mapping[str, Any] | None = None,
    seed: int = 0,
    chat: Chat | bool = False,
) -> LanguageModel:
    """A language model that is there at once: what it says is a hash of the text before.

    It is made for a program: each option is one token, so that options of all lengths have a chance, and every
    choice depends on all texts that it is given. Free text is letters. The hash is of integers, so scores are
    the same in every way to run a program, up to the rounding of a softmax.

    Args:
        program: a model function whose first argument is the language model; None: options are spelled
            letter by letter, and the shortest nearly always wins.
        *args: further arguments of the program.
        probs: choice site -> probabilities that it is to have: a mapping of its options' texts, whatever it
            is given, or an array ``[K_1, …, K_m, K]`` over the options of the m phrases that it is given, in
            the order of ``given``, and its own. (The site's temperature and bias then act on these.)
        seed: other seeds are other language models.
        chat: as for ``load_lm``; the chat template is plain text.

    Raises:
        SiteError: ``probs`` names what is no choice site.
        OptionError: probabilities that are none, of other options or in another shape; of a site whose
            scoring is not ``"sequence"``, ``"option"`` or ``"masked"``; that is given free text; or of one
            with more than 4,096 contexts.

    >>> import sdscm_jax as sd
    >>> def model(lm):
    ...     pdl1 = sd.sample("pdl1", sd.Choice(lm, "The tumor exhibits {} levels of PD-L1.", ["low", "high"]))
    ...     sd.sample("drug", sd.Choice(lm, "The best choice is to {}.", ["wait", "treat"], given=[pdl1]))
    >>> lm = mock_lm(model, probs={"pdl1": {"low": 0.3, "high": 0.7}, "drug": [[0.9, 0.1], [0.2, 0.8]]})
    >>> sd.effects.ate(sd.effects.exact(model, lm), "pdl1", "drug").value.round(3).tolist()
    [-0.7, 0.7]
    """
    seed = checks.seed(seed)
    program = None if program is None else function(program)
    probs = None if probs is None else checks.mapping(probs, "probs", OptionError)
    chat = chat if isinstance(chat, Chat) else checks.flag(chat, "chat, where it is no Chat,")
    plain = _language_model((), {}, seed, chat)
    if program is None:
        if probs:
            raise SiteError("probs are of the sites of a program; give it too: mock_lm(program, probs=...)")
        return plain
    checks.takes(program, (plain, *args))
    found = _at_choices(program, plain, args, lambda choice: (choice.template, choice.options))
    phrases = [text for template, options in found.values() for text in (template.prefix, template.suffix, *options)]
    lm = _language_model(phrases, {}, seed, chat)
    if not probs:
        return lm
    for name in probs:
        if name not in found:
            raise SiteError(f"probs names {name!r}, which is no choice site; {nearest(name, list(found))}")
    asked = _at_choices(program, lm, args, _question)
    following: dict[tuple[int, ...], dict[int, float]] = {}
    for name, value in probs.items():
        question = asked[name]
        if isinstance(question, str):
            raise OptionError(f"site {name!r}: the probabilities of {question} cannot be set")
        following |= _following(name, question, _table(name, value, found[name][1], question.sizes))
    return _language_model(phrases, following, seed, chat)


def _language_model(phrases: Any, following: Any, seed: int, chat: Chat | bool) -> LanguageModel:
    tokenizer = mock_tokenizer(phrases)
    size = len(tokenizer)
    config = DecoderConfig(
        family="mock", vocab_size=size, width=2, layers=1, heads=1, kv_heads=1, head_dim=1, mlp_width=1,
        max_positions=4096, norm="rms", norm_eps=0.0, positions="rotary", activation="silu", gated=True,
        query_scale=1.0,
    )  # fmt: skip
    bias = np.full(size, _UNLIKELY, np.float32)
    bias[[*byte_ids(tokenizer, _WRITTEN), tokenizer.convert_tokens_to_ids(END)]] = 0.0
    graph, params, _ = nnx.split(HashDecoder(config, bias, Answers.of(following, seed), seed), nnx.Param, ...)
    codec = ChatCodec(tokenizer, chat if isinstance(chat, Chat) else Chat()) if chat else Codec(tokenizer)
    return LanguageModel(params, graph, codec)


class _Choices(Messenger):
    """Collects something of every choice site, and draws from no site of a language model."""

    def __init__(self, fn: Callable, wanted: Callable[[Choice], Any]):
        self.wanted = wanted
        self.found: dict[str, Any] = {}
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        mechanism = mechanism_at(msg)
        if isinstance(mechanism, Choice):
            self.found[msg["name"]] = self.wanted(mechanism)
        set_stand_in(msg)


def _at_choices(program: Callable, lm: LanguageModel, args: tuple, wanted: Callable[[Choice], Any]) -> dict[str, Any]:
    """Something of every choice site of a program, by name; no language model is run."""
    choices = _Choices(exogenous(program, 0), wanted)

    def look() -> None:
        with numpyro.handlers.block():
            choices(lm, *args)

    jax.eval_shape(look)
    return choices.found


def _question(choice: Choice) -> Question | str:
    """What a choice asks, or why that cannot be answered by what is written down."""
    if not choice.scoring.learnt:
        return f"scoring={choice.scoring!r}"
    if any(isinstance(phrase, TextPhrase) for phrase in choice.phrases):
        return "a site that is given free text"
    return choice.question


def _table(name: str, value: Any, options: tuple[str, ...], sizes: tuple[int, ...]) -> np.ndarray:
    """Probabilities ``[*sizes, K]``."""
    shape = (*sizes, len(options))
    if int(np.prod(sizes)) > MOST_CONTEXTS:
        raise OptionError(f"site {name!r} has {int(np.prod(sizes))} contexts; probs are for {MOST_CONTEXTS} at most")
    if isinstance(value, Mapping):
        if set(value) != set(options):
            raise OptionError(f"site {name!r}: probs are of {sorted(value)}, its options are {list(options)}")
        value = [value[option] for option in options]
    table = checks.finite(value, f"site {name!r}: probs", OptionError)
    if table.shape not in (shape, shape[-1:]):
        raise OptionError(f"site {name!r}: probs have shape {table.shape}, expected {shape}, or {shape[-1:]} for all")
    if (table < 0).any() or not np.allclose(table.sum(-1), 1):
        raise OptionError(f"site {name!r}: probs are not negative and sum to 1 in every context; got {table.tolist()}")
    return np.broadcast_to(table, shape)


def _following(name: str, question: Question, table: np.ndarray) -> dict[tuple[int, ...], dict[int, float]]:
    """The chances of the next token, after every text that leads to an option."""
    for a, b in itertools.permutations(question.rows, 2):
        if b[: len(a)] == a:
            raise OptionError(f"site {name!r}: an option begins another, and its scoring leaves out what ends them")
    found: dict[tuple[int, ...], dict[int, float]] = {}
    for pieces, chances in zip(itertools.product(*question.texts), table.reshape(-1, table.shape[-1]), strict=True):
        before = (*question.start, *itertools.chain(*pieces), *question.shared)
        for row, chance in zip(question.rows, chances, strict=True):
            for i, token in enumerate(row):
                after = found.setdefault((*before, *row[:i]), {})
                after[token] = after.get(token, 0.0) + float(chance)
    # Below an option of probability 0 nothing is likelier than anything.
    return {
        text: {t: c / sum(after.values()) if sum(after.values()) else 1 / len(after) for t, c in after.items()}
        for text, after in found.items()
    }

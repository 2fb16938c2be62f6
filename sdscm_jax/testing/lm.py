"""A language model by itself: caches, padding, masks and tokens do not change what it says."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .. import checks
from ..checks import instance, items, real
from ..dsl.language.choice import Choice
from ..dsl.scoring.score_query import Question
from ..engine.tabulation import TrieScorer
from ..errors import ProgramError, SDSCMError
from ..models.codec import Codec
from ..models.language_model import LanguageModel
from ..models.pages import Pages, followed_by
from .failure import require

TEXTS = (
    "A 55-year-old woman arrives at the clinic.",
    "It is low, isn't it?",
    "She paid 1,250 euros in São Paulo!",
)
# Tokens of a text that are looked at, and how they are cut into calls.
_LENGTH, _CUTS = 16, (1, 4, 9)


def check_lm(lm: LanguageModel, texts: Sequence[str] = TEXTS, *, tolerance: float | None = None) -> None:
    """Whatever way a language model is called, it says the same.

    - Tokens lie in its vocabulary, no text begins another text, and joined texts have the tokens that they have apart.
    - Logits are finite float32.
    - A token does not change what is said before it; padding on either side changes nothing, nor does a batch.
    - Cached keys and values, in calls of several sizes, are as good as one pass.
    - Options are scored in graph and by the staged engine as from the logits of the whole texts.

    Args:
        lm: the language model.
        texts: two or more, which stand one after another.
        tolerance: of log-probabilities, in nats; by default 1e-3, and 0.25 where parameters are not float32.

    Raises:
        AssertionError: names what does not hold, and by how much.

    >>> from sdscm_jax import testing
    >>> check_lm(testing.mock_lm())
    """
    instance(lm, LanguageModel, "lm", ProgramError)
    texts = items(texts, "texts")
    if not texts:
        raise SDSCMError("texts are one or more; there are none")
    for one in texts:
        checks.text(one, "one of the texts")
    usual = 1e-3 if lm.dtype == jnp.float32 else 0.25
    atol = usual if tolerance is None else real(tolerance, "tolerance", least=0)
    _check_tokens(lm, texts)
    start = (*lm.codec.opening(True), *lm.prompt_tokens) or (lm.codec.start or 0,)
    rows = [(*start, *lm.codec.encode(text)) for text in texts]
    length = min(_LENGTH, *map(len, rows))
    tokens = jnp.array([row[:length] for row in rows], jnp.int32)
    logits = _logits(lm, tokens)
    size = (*tokens.shape, lm.config.vocab_size)
    require(logits.dtype == jnp.float32, f"logits are {logits.dtype}, expected float32")
    require(logits.shape == size, f"logits have the shape {logits.shape}, expected {size}")
    require(bool(jnp.isfinite(logits).all()), "logits are not finite")
    expected = jax.nn.log_softmax(logits)
    for what, found in _other_ways(lm, tokens):
        _require_close(what, found, expected[: len(found), : found.shape[1]], atol)
    _check_scores(lm, texts, atol)


def _check_tokens(lm: LanguageModel, texts: Sequence[str]) -> None:
    codec = lm.codec
    for text in texts:
        own = codec.encode(text)
        outside = [token for token in own if not 0 <= token < lm.config.vocab_size]
        require(not outside, f"tokens {outside} of {text!r} are not in the vocabulary of {lm.config.vocab_size}")
        require(codec.bos is None or codec.bos not in own, f"BOS is among the tokens of {text!r}")
    for left, right in itertools.pairwise(texts):
        found, alone = codec.suffix_tokens(left, " " + right), Codec.encode_after(codec, right)
        require(found == alone, f"{right!r} after {left!r} has the tokens {found}, after other text {alone}")


@jax.jit
def _logits(lm: LanguageModel, tokens: Any) -> Array:
    return lm.logits(tokens)


@jax.jit
def _padded(lm: LanguageModel, tokens: Array, before: int, after: int) -> Array:
    """Logits where any tokens stand before and after, and are not looked at."""
    length = tokens.shape[-1]
    order = jnp.arange(2 * length) - before
    real = (order >= 0) & (order < length)
    padded = jnp.where(real, jnp.take(tokens, jnp.clip(order, 0, length - 1), axis=-1), 1 + order % 5)
    shape = padded.shape
    positions, mask = jnp.broadcast_to(jnp.clip(order, 0, length - 1), shape), jnp.broadcast_to(real, shape)
    return jax.lax.dynamic_slice_in_dim(lm.logits(padded, positions, mask), before, length, axis=-2)


@jax.jit
def _in_calls(lm: LanguageModel, tokens: Array) -> Array:
    """Logits from several calls, each of which has the keys and values of those before."""
    count, length = tokens.shape
    past: Pages = None
    found = []
    cuts = [0, *(cut for cut in _CUTS if cut < length), length]
    for start, stop in itertools.pairwise(cuts):
        mask = jnp.broadcast_to(jnp.tri(length, dtype=bool)[start:stop, :stop], (count, stop - start, stop))
        at = jnp.broadcast_to(jnp.arange(stop), (count, stop))
        earlier = None if past is None else at[:, :start]
        hidden, new = lm.encode(tokens[:, start:stop], at[:, start:], mask, past, earlier)
        past = new if past is None else followed_by(past, new)
        found.append(lm.decoder.logits(hidden))
    return jnp.concatenate(found, axis=1)


def _other_ways(lm: LanguageModel, tokens: Array) -> list[tuple[str, Array]]:
    """Log-probabilities ``[texts, tokens, V]`` that are to be those of one pass, or its beginning."""
    length = tokens.shape[-1]
    other = tokens.at[:, -1].set((tokens[:, -1] + 1) % lm.config.vocab_size)
    ways = [
        ("a later token changes what is said before it", _logits(lm, other)[:, :-1]),
        ("a text in a batch is not the text alone", _logits(lm, tokens[:1])),
        ("padding after a text changes it", _padded(lm, tokens, 0, length)),
        ("padding before a text changes it", _padded(lm, tokens, length // 2, length)),
        ("cached keys and values are not as one pass", _in_calls(lm, tokens)),
    ]
    return [(what, jax.nn.log_softmax(found)) for what, found in ways]


def _check_scores(lm: LanguageModel, texts: Sequence[str], atol: float) -> None:
    options = ["low", "very high", "somewhere in between"]
    choice = Choice(lm, "The level of it is {}.", options, given=list(texts[:2]))
    expected = _plain(lm, choice.question)
    in_graph = jax.jit(lambda choice: choice.scores)(choice)
    staged = TrieScorer(memory=1 << 24)(choice, np.zeros((1, 0), np.int32))[0]
    where = f"of {options} in {str(choice.template)!r}"
    _require_close(f"scores {where} in graph are not those of the whole texts", in_graph, expected, atol)
    _require_close(f"scores {where} staged are not those of the whole texts", staged, expected, atol)


def _plain(lm: LanguageModel, question: Question) -> np.ndarray:
    """Scores of ``"sequence"`` from logits of whole texts: no cache, tree or trie."""
    before = (*question.start, *itertools.chain(*(texts[0] for texts in question.texts)), *question.shared)
    longest = max(map(len, question.rows))
    rows = np.array([(*before, *row, *(0,) * (longest - len(row))) for row in question.rows], np.int32)
    log_probs = np.asarray(jax.nn.log_softmax(_logits(lm, rows)), np.float64)
    at = len(before) - 1
    return np.array([
        sum(log_probs[k, at + i, token] for i, token in enumerate(row)) for k, row in enumerate(question.rows)
    ])  # fmt: skip


def _require_close(what: str, found: Any, expected: Any, atol: float) -> None:
    apart = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64)).max()
    require(apart <= atol, f"{what}: {apart:.3g} nats, more than {atol}")

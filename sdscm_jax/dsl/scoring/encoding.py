"""Encoded text inside one trace: keys and values carried from site to site.

An ``Encoding`` is the text so far: slots that went through the language model, and pending tokens
that did not yet. Slots may be empty (their ``valid`` is False), so that texts of different lengths
share one static shape. Scoring a site sends the pending tokens, the text before the blank and the
tree of its options through the model in one call, each token once; choosing an option then gathers
its slots instead of computing them again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.codec import Tokens, common_prefix
from ...models.language_model import LanguageModel
from ...models.options import OptionTokens
from ...models.pages import Pages, followed_by, take
from .option_tree import OptionTree, chain_tree, padded

P = ParamSpec("P")
R = TypeVar("R")


class Encoding(NamedTuple):
    """A text as S encoded slots and P pending tokens; ``...`` are batch dimensions.

    Attributes:
        cache: pages of the slots (None: there are none).
        positions: int32 ``[..., S]``.
        valid: bool ``[..., S]``.
        length: int32 ``[...]``, number of valid slots.
        pending: int32 ``[..., P]``.
        pending_valid: bool ``[..., P]``.
    """

    cache: Pages
    positions: Array
    valid: Array
    length: Array
    pending: Array
    pending_valid: Array

    @classmethod
    def of_tokens(cls, tokens: Tokens) -> Encoding:
        """A text of which nothing is encoded."""
        nothing = jnp.zeros((0,), jnp.int32)
        pending = jnp.array(tokens, jnp.int32)
        return cls(None, nothing, nothing.astype(bool), jnp.int32(0), pending, jnp.ones(pending.shape, bool))

    def then(self, tokens: Array, valid: Array) -> Encoding:
        """This text followed by pending tokens ``[..., P']``, of which the valid ones count."""
        return self._replace(pending=_join(self.pending, tokens), pending_valid=_join(self.pending_valid, valid))

    def without_last(self, slots: int) -> Encoding:
        """This text, all of it encoded, without its last ``slots``, of which each is valid."""
        if not slots:
            return self
        assert self.cache is not None
        end = self.valid.shape[-1] - slots
        return self._replace(
            cache=jax.tree.map(lambda x: x[..., :end, :], self.cache),
            positions=self.positions[..., :end],
            valid=self.valid[..., :end],
            length=self.length - slots,
        )


class ScoredTree(NamedTuple):
    """What scoring a site leaves behind, for the sites that read it.

    Attributes:
        text: the text up to the blank, all of it encoded.
        nodes: pages of the tree's nodes.
    """

    text: Encoding
    nodes: Pages


def _join(a: Array, b: Array) -> Array:
    batch = jnp.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    a, b = jnp.broadcast_to(a, (*batch, a.shape[-1])), jnp.broadcast_to(b, (*batch, b.shape[-1]))
    return jnp.concatenate([a, b], axis=-1)


def _one_program(*static: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function of a language model one program, compiled once, where the parameters are at hand.

    Outside of ``jax.jit`` it would be a hundred operations, of which many are compiled anew for every length of a text.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        jitted = jax.jit(function, static_argnames=static)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(args[0]))
            return function(*args, **kwargs) if traced else jitted(*args, **kwargs)

        return call

    return decorate


@_one_program("shared", "tree")
def score_tree(lm: LanguageModel, text: Encoding, shared: Tokens, tree: OptionTree) -> tuple[Array, ScoredTree]:
    """Encode what is pending, the shared tokens and the tree; read the tree's edges.

    Args:
        lm: the language model.
        text: the text before the template.
        shared: the template's tokens before the blank.
        tree: the options.

    Returns:
        float32 log-probabilities of the edges ``[..., E]``, and the encoding.
    """
    logits, scored = _encode_rows(lm, text, shared, tree)
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    return logits[..., tree.edge_rows, tree.edge_tokens] - normaliser[..., tree.edge_rows], scored


@_one_program()
def read_on(lm: LanguageModel, text: Encoding) -> tuple[Array, Encoding]:
    """Encode what is pending; float32 logits ``[..., V]`` of the next token, and the encoding."""
    logits, scored = _encode_rows(lm, text, (), chain_tree([(0,)]))
    return logits[..., 0, :], scored.text


@_one_program()
def read_along(lm: LanguageModel, text: Encoding, tokens: Array, valid: Array) -> Array:
    """Logits of each of the next tokens given those before.

    Args:
        lm: the language model.
        text: the text before.
        tokens, valid: int32 and bool ``[..., T]``; valid ones stand first.

    Returns:
        float32 ``[..., T, V]``; row t is the distribution that ``tokens[..., t]`` was drawn from.
    """
    first, text = read_on(lm, text)
    if tokens.shape[-1] == 1:
        return first[..., None, :]
    tokens, valid = tokens[..., :-1], valid[..., :-1]
    batch = jnp.broadcast_shapes(tokens.shape[:-1], text.valid.shape[:-1], text.length.shape)
    count = tokens.shape[-1]
    positions = text.length[..., None] + jnp.arange(count, dtype=jnp.int32)
    own = jnp.tri(count, dtype=bool) & valid[..., None, :]
    old = jnp.broadcast_to(text.valid[..., None, :], (*batch, count, text.valid.shape[-1]))
    mask = jnp.concatenate([old, jnp.broadcast_to(own, (*batch, count, count))], axis=-1)
    tokens, positions = (jnp.broadcast_to(x, (*batch, count)) for x in (tokens, positions))
    hidden, _ = lm.encode(tokens, positions, mask, text.cache, text.positions)
    later = lm.decoder.logits(hidden)
    return jnp.concatenate([jnp.broadcast_to(first[..., None, :], (*batch, 1, first.shape[-1])), later], axis=-2)


def _encode_rows(lm: LanguageModel, text: Encoding, shared: Tokens, tree: OptionTree) -> tuple[Array, ScoredTree]:
    """Logits ``[..., 1 + N, V]`` after the text up to the blank and after each node of the tree."""
    base = text.then(jnp.array(shared, jnp.int32), jnp.ones(len(shared), bool))
    batch = jnp.broadcast_shapes(base.pending.shape[:-1], base.valid.shape[:-1], base.length.shape)
    length = base.pending.shape[-1]
    new_valid = jnp.broadcast_to(base.pending_valid, (*batch, length))
    # Counted before it is broadcast: XLA is slow at folding the sum of a large constant.
    counted = jnp.broadcast_to(jnp.cumsum(base.pending_valid, axis=-1, dtype=jnp.int32), (*batch, length))
    base_positions = base.length[..., None] + jnp.maximum(counted - 1, 0)
    total = base.length + counted[..., -1]
    tokens = jnp.concatenate(
        [
            jnp.broadcast_to(base.pending, (*batch, length)),
            jnp.broadcast_to(jnp.asarray(tree.tokens), (*batch, tree.size)),
        ],
        axis=-1,
    )
    positions = jnp.concatenate(
        [jnp.broadcast_to(base_positions, (*batch, length)), total[..., None] + jnp.asarray(tree.depth)], axis=-1
    )

    # Rows: new tokens; columns: old slots, then new tokens.
    shape = np.zeros((length + tree.size, length + tree.size), bool)
    shape[:length, :length] = np.tri(length, dtype=bool)
    shape[length:, :length] = True
    shape[length:, length:] = tree.ancestors
    columns = jnp.concatenate([new_valid, jnp.ones((*batch, tree.size), bool)], axis=-1)
    new_mask = jnp.asarray(shape) & columns[..., None, :]
    slots = base.valid.shape[-1]
    old_mask = jnp.broadcast_to(base.valid[..., None, :], (*batch, length + tree.size, slots))
    hidden, encoded = lm.encode(
        tokens, positions, jnp.concatenate([old_mask, new_mask], axis=-1), base.cache, base.positions
    )

    # Row 0 is the last real token before the options.
    if shared:
        last = hidden[..., length - 1 : length, :]
    else:
        at = jnp.max(jnp.where(new_valid, jnp.arange(length, dtype=jnp.int32), 0), axis=-1)
        last = jnp.take_along_axis(hidden, at[..., None, None], axis=-2)
    rows = jnp.concatenate([last, hidden[..., length:, :]], axis=-2)
    logits = lm.decoder.logits(rows)

    def tokens_of(pages: Pages, start: int, stop: int) -> Pages:
        return jax.tree.map(lambda x: x[..., start:stop, :], pages)

    before = tokens_of(encoded, 0, length)
    after = Encoding(
        cache=before if base.cache is None else followed_by(base.cache, before),
        positions=_join(base.positions, base_positions),
        valid=_join(base.valid, new_valid),
        length=total,
        pending=jnp.zeros((0,), jnp.int32),
        pending_valid=jnp.zeros((0,), bool),
    )
    return logits, ScoredTree(after, tokens_of(encoded, length, length + tree.size))


def choose(scored: ScoredTree, blank: OptionTokens, tree: OptionTree, index: Array) -> Encoding:
    """The text with option ``index`` ``[...]`` filled in.

    Slots are reused as far as the sentence has the tokens that were encoded; the rest is pending.
    At least one token is, so that the next site has a token to read on from.
    """
    reused: list[int] = []
    for sentence, path in zip(blank.sentences, tree.paths, strict=True):
        encoded = (*blank.shared, *(int(tree.tokens[n]) for n in path))
        reused.append(min(common_prefix(sentence, encoded), len(sentence) - 1))
    kept = min(len(blank.shared), *reused)
    text = scored.text.without_last(len(blank.shared) - kept)
    if kept < len(blank.shared):
        reused = [kept] * len(reused)
    paths, on_path = padded([path[: n - kept] for path, n in zip(tree.paths, reused, strict=True)])
    rest, rest_valid = padded([s[n:] for s, n in zip(blank.sentences, reused, strict=True)])
    if paths.shape[1]:
        assert text.cache is not None
        chosen_valid = jnp.asarray(on_path)[index]
        text = text._replace(
            cache=followed_by(text.cache, take(scored.nodes, jnp.asarray(paths)[index])),
            positions=_join(text.positions, text.length[..., None] + jnp.arange(paths.shape[1], dtype=jnp.int32)),
            valid=_join(text.valid, chosen_valid),
            length=text.length + chosen_valid.sum(-1, dtype=jnp.int32),
        )
    return text._replace(pending=jnp.asarray(rest)[index], pending_valid=jnp.asarray(rest_valid)[index])

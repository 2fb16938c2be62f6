"""Texts as vectors: the hidden states of a layer, pooled over a text's tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .. import checks
from ..errors import ContextLengthError, OptionError
from .codec import Tokens

POOLS = ("mean", "last")

# Tokens that go through the language model together, and the lengths that texts are padded to multiples of.
_TOGETHER, _STEP = 2048, 16


def embed_texts(lm: Any, texts: Any, layer: Any, pool: Any) -> np.ndarray:
    """See ``LanguageModel.embed``."""
    # A column of a table is a list of texts too.
    said = checks.items(texts.tolist() if hasattr(texts, "tolist") else texts, "texts", OptionError)
    for i, text in enumerate(said):
        checks.text(text, f"texts[{i}]", OptionError)
    pool = checks.one_of(pool, POOLS, "pool")
    count = lm.config.layers
    layer = checks.count(
        layer, "layer, counted from 0 (the embeddings) or back from the last,", least=-count - 1, most=count
    )
    rows = [_tokens(lm, text, i) for i, text in enumerate(said)]
    found = np.zeros((len(rows), lm.config.width), np.float32)
    # Texts of like lengths go together; all calls of one length have one shape.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][1]))
    while order:
        width = -(-sum(map(len, rows[order[0]])) // _STEP) * _STEP
        some = [i for i in order[: max(1, _TOGETHER // width)] if sum(map(len, rows[i])) <= width]
        order = order[len(some) :]
        size = 1 << (len(some) - 1).bit_length()
        tokens, counted = np.zeros((size, width), np.int32), np.zeros((size, width), bool)
        for row, i in enumerate(some):
            before, own = rows[i]
            tokens[row, : len(before) + len(own)] = (*before, *own)
            counted[row, len(before) : len(before) + len(own)] = True
        found[some] = np.asarray(_pooled(lm, tokens, counted, layer % (count + 1), pool))[: len(some)]
    return found


def _tokens(lm: Any, text: str, number: int) -> tuple[Tokens, Tokens]:
    """What begins a text, and its own tokens.

    Raises:
        ContextLengthError: they are more than the positions.
    """
    codec = lm.codec
    opening = codec.opening(True) if lm.chat is None else codec.begin
    before, own = (*opening, *lm.prompt_tokens), codec.encode(text)
    limit = lm.config.max_positions
    if len(before) + len(own) > limit:
        raise ContextLengthError(
            f"texts[{number}] ({text[:40]!r}…) needs {len(before) + len(own)} positions; this language model has "
            f"{limit}. Cut the text, or use a model with more positions"
        )
    return before, own


@partial(jax.jit, static_argnames=("layer", "pool"))
def _pooled(lm: Any, tokens: Array, counted: Array, layer: int, pool: str) -> Array:
    """Float32 ``[B, width]`` of tokens ``[B, T]``, of which some count."""
    length = tokens.shape[-1]
    # Padding stands after what is read: causal attention does not see it.
    mask = jnp.broadcast_to(jnp.tri(length, dtype=bool), (*tokens.shape, length))
    positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
    hidden = lm.decoder.hidden(tokens, positions, mask, layer).astype(jnp.float32)
    if pool == "last":
        last = length - 1 - jnp.argmax(counted[:, ::-1], axis=-1)
        return jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
    weights = counted[..., None].astype(jnp.float32)
    return (hidden * weights).sum(1) / weights.sum(1)

"""A decoder without weights: what follows a text is a hash of all its tokens and their places.

Hashes are sums of integers, so they do not depend on how a text was cut into calls, batches or cached
tokens: every way to run a program gives the same scores. One token that a call sees too many, too few,
or at another place gives other ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from ..models.config import DecoderConfig
from ..models.pages import KeyValues, followed_by
from ..models.sight import Rows

# Logits are this far from those of other tokens of a kind, at most.
SPREAD = 1.5
# Logit of what a written-down text leaves no chance.
NEVER = -100.0


class Answers(NamedTuple):
    """What follows some texts, as written down.

    Attributes:
        texts: uint32 ``[N]``, hashes of the texts, ascending.
        tokens: int32 ``[N, M]``, tokens that may follow, -1 where there are fewer.
        logits: float32 ``[N, M]``.
    """

    texts: np.ndarray
    tokens: np.ndarray
    logits: np.ndarray

    @classmethod
    def of(cls, following: dict[tuple[int, ...], dict[int, float]], seed: int) -> Answers:
        """Answers from texts (token ids, starting with what begins every text) and the chances of tokens."""
        width = max((len(chances) for chances in following.values()), default=1)
        hashes = np.array([hash_of(text, seed) for text in following], np.uint32)
        order = np.argsort(hashes)
        tokens, logits = np.full((len(hashes), width), -1, np.int32), np.full((len(hashes), width), NEVER, np.float32)
        for row, chances in enumerate(following.values()):
            tokens[row, : len(chances)] = list(chances)
            with np.errstate(divide="ignore"):
                logits[row, : len(chances)] = np.log(list(chances.values()))
        return cls(hashes[order], tokens[order], logits[order])


def _mixed(x: Any) -> Any:
    """Bits of uint32 stirred (the finaliser of MurmurHash3); NumPy and JAX arrays."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _at_place(tokens: Any, positions: Any, seed: Any) -> Any:
    """What a token adds to the hash of a text."""
    return _mixed(_mixed(tokens * np.uint32(0x9E3779B1) + seed) + positions * np.uint32(0x85157AF5))


def hash_of(text: Sequence[int], seed: int) -> np.uint32:
    """The hash of a text, as ``HashDecoder`` finds it."""
    places = _at_place(np.array(text, np.uint32), np.arange(len(text), dtype=np.uint32), np.array([seed], np.uint32))
    return places.sum(dtype=np.uint32)


class _Table(nnx.Module):
    def __init__(self, answers: Answers):
        self.texts, self.tokens, self.logits = (nnx.Param(jnp.asarray(x)) for x in answers)


class HashDecoder(nnx.Module):
    """A stand-in for ``models.decoder.Decoder``, with the same calls.

    Its keys are token ids and its values positions, so that what it caches can be seen; its hidden states
    are hashes, as two halves.

    Args:
        config: sizes; one layer, one head of width 1, hidden states of width 2.
        bias: float32 ``[V]``, added to the logits of all tokens.
        answers: what follows some texts.
        seed: of the hash.
    """

    def __init__(self, config: DecoderConfig, bias: np.ndarray, answers: Answers, seed: int):
        self.config = config
        # The first leaf, from which the dtype of the language model is read.
        self.bias = nnx.Param(jnp.asarray(bias, jnp.float32))
        self.blocks = _Table(answers)
        self.seed = nnx.Param(jnp.array(seed, jnp.uint32))

    def encode(
        self,
        tokens: Array,
        positions: Array,
        mask: Array,
        past: KeyValues | None = None,
        past_positions: Array | None = None,
    ) -> tuple[Array, KeyValues]:
        """See ``Decoder.encode``."""
        tokens, positions = jnp.broadcast_arrays(tokens, positions)
        new = KeyValues(*(x.astype(jnp.float32)[None, ..., None, :, None] for x in (tokens, positions)))
        whole = new if past is None else followed_by(past, new)
        seen = jnp.where(mask, self._places(whole)[..., None, :], np.uint32(0))
        return _as_hidden(seen.sum(-1, dtype=jnp.uint32)), new

    def encode_rows(self, tokens: Array, positions: Array, rows: Rows, pool: KeyValues) -> tuple[Array, KeyValues]:
        """See ``Decoder.encode_rows``."""
        new = KeyValues(*(x.astype(jnp.float32)[None, :, None, None] for x in (tokens, positions)))
        own = _at_place(_bits(tokens), _bits(positions), self.seed[...])[rows.members]
        own = jnp.where(rows.ancestors, own[:, None, :], np.uint32(0)).sum(-1, dtype=jnp.uint32)
        before = self._places(jax.tree.map(lambda x: jnp.moveaxis(x[:, rows.past], -2, -3), pool))
        there = jnp.arange(rows.past.shape[-1]) < rows.lengths[:, None]
        whole = own + jnp.where(there, before, np.uint32(0)).sum(-1, dtype=jnp.uint32)[:, None]
        return _as_hidden(jnp.take(whole.reshape(-1), rows.places, mode="clip")), new

    def _places(self, cached: KeyValues) -> Array:
        tokens, positions = (_bits(x[0, ..., 0, :, 0]) for x in cached)
        return _at_place(tokens, positions, self.seed[...])

    def logits(self, hidden: Array) -> Array:
        """Float32 logits ``[..., V]`` of the token after each hidden state."""
        text = (_bits(hidden[..., 0]) << 16) | _bits(hidden[..., 1])
        tokens = jnp.arange(self.config.vocab_size, dtype=jnp.uint32)
        noise = _mixed(_mixed(text)[..., None] + tokens * np.uint32(0x9E3779B1)) >> 8
        drawn = SPREAD * (2 * noise.astype(jnp.float32) / np.float32(1 << 24) - 1) + self.bias[...]
        if not self.blocks.texts.size:
            return drawn
        row = jnp.minimum(jnp.searchsorted(self.blocks.texts[...], text), self.blocks.texts.size - 1)
        written = jnp.full(drawn.shape, NEVER, jnp.float32)
        for m in range(self.blocks.tokens.shape[-1]):
            here = tokens.astype(jnp.int32) == self.blocks.tokens[row, m][..., None]
            written = jnp.where(here, self.blocks.logits[row, m][..., None], written)
        return jnp.where((self.blocks.texts[row] == text)[..., None], written, drawn)

    def log_probs(self, hidden: Array, rows: Array, tokens: Array) -> Array:
        """See ``Decoder.log_probs``."""
        logits = self.logits(hidden)
        return logits[rows, tokens] - jax.nn.logsumexp(logits, axis=-1)[rows]


def _bits(x: Array) -> Array:
    return x.astype(jnp.uint32)


def _as_hidden(texts: Array) -> Array:
    return jnp.stack([texts >> 16, texts & np.uint32(0xFFFF)], axis=-1).astype(jnp.float32)

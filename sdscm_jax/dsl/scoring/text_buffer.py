"""A text while it is being written: room for its tokens among the slots of what stands before it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ...models.language_model import LanguageModel
from ...models.pages import Pages
from .encoding import Encoding


class TextBuffer(NamedTuple):
    """A text that is being written: encoded slots before it, and a buffer for its own tokens."""

    cache: Pages
    positions: Array
    valid: Array
    length: Array
    start: int

    @classmethod
    def begin(cls, text: Encoding, shape: tuple[int, ...], room: int) -> TextBuffer:
        """The text so far with ``room`` empty slots, for a batch of ``shape``."""
        assert text.cache is not None
        slots = text.valid.shape[-1]

        def roomy(x: Array) -> Array:
            x = jnp.broadcast_to(
                x.reshape(x.shape[0], *(1,) * (len(shape) - (x.ndim - 4)), *x.shape[1:]),
                (x.shape[0], *shape, *x.shape[-3:]),
            )
            return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, room), (0, 0)])

        pad = [(0, 0)] * len(shape) + [(0, room)]
        return cls(
            jax.tree.map(roomy, text.cache),
            jnp.pad(jnp.broadcast_to(text.positions, (*shape, slots)), pad),
            jnp.pad(jnp.broadcast_to(text.valid, (*shape, slots)), pad),
            jnp.broadcast_to(text.length, shape),
            slots,
        )

    def text(self, tokens: Array, valid: Array) -> Encoding:
        """All of the text: the buffer's tokens as far as they are valid, then those that are not in it."""
        room = self.valid.shape[-1] - self.start
        kept = valid[..., :room]
        return Encoding(
            cache=self.cache,
            positions=self.positions,
            valid=jnp.concatenate([self.valid[..., : self.start], kept], axis=-1),
            length=self.length + kept.sum(-1, dtype=jnp.int32),
            pending=tokens[..., room:],
            pending_valid=valid[..., room:],
        )

    def append(self, lm: LanguageModel, token: Array, real: Array, number: Array) -> tuple[Array, TextBuffer]:
        """Encode one more token ``[...]``; its hidden state ``[..., width]``."""
        position = self.length + number
        mask = jnp.concatenate([self.valid, jnp.ones((*token.shape, 1), bool)], axis=-1)[..., None, :]
        hidden, new = lm.encode(token[..., None], position[..., None], mask, self.cache, self.positions)
        slot = self.start + number
        put = jax.lax.dynamic_update_slice_in_dim
        return hidden[..., 0, :], self._replace(
            cache=jax.tree.map(lambda old, x: put(old, x, slot, axis=old.ndim - 2), self.cache, new),
            positions=put(self.positions, position[..., None], slot, axis=self.positions.ndim - 1),
            valid=put(self.valid, real[..., None], slot, axis=self.valid.ndim - 1),
        )


class WrittenText(NamedTuple):
    """A text that has been written, for sites that read it; see ``Readable``.

    Attributes:
        written: the text.
        opening: how many of the tokens of its sentence are the template's before it.
        first: did no text stand before it?
    """

    written: TextBuffer
    opening: int
    first: bool

    def up_to(self, phrase: Any) -> Encoding:
        """The text without what ended it, and with what its template has after it."""
        rest, valid = (x[..., self.opening :] for x in phrase.context_tokens(self.first))
        return self.written.text(rest, valid)

"""What new tokens see of those before them: in a cache of a batch of texts, or in a pool of all texts.

``OverCache`` is for batches of texts with cached tokens, ``OverRows`` for tokens of many texts laid end to end. What a
layer does with them (attention, a recurrence, a convolution) is written once, in terms of what both have.

Shapes: ``...`` are any batch dimensions (none in ``OverRows``), T the new tokens of a text, S its earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .pages import Pages, concatenate_tokens

# Tokens of earlier text that are looked at together (on an accelerator more), and rows that look at them.
_PAST, _ACCELERATED_PAST = 64, 128
_ROWS = 8

# Of what was found so far, pages of further tokens ``[..., heads, S, size]``, which of them are seen (bool
# ``[..., T, S]``) and their positions ``[..., S]``.
Step = Callable[[Any, Pages, Array, Array], Any]


class Rows(NamedTuple):
    """How N tokens laid end to end belong to R texts, at most T of them to each.

    Attributes:
        members: int ``[R, T]``, which of the N tokens are a row's (any number where there are fewer).
        places: int ``[N]``, the place ``row * T + t`` of each token.
        ancestors: bool ``[R, T, T]``, True where a token (second axis) sees another of its row.
        past: int ``[R, S]``, slots of the tokens that stand before the row, from position 0 on; S is a
            multiple of 128.
        lengths: int ``[R]``, how many of these there are.
    """

    members: Array | np.ndarray
    places: Array | np.ndarray
    ancestors: Array | np.ndarray
    past: Array | np.ndarray
    lengths: Array | np.ndarray


class Together(NamedTuple):
    """New tokens of some texts, side by side.

    Attributes:
        own: bool ``[..., T, T]``, True where a token sees another of these.
        at: int ``[..., T]``, positions.
        earlier: goes through the earlier tokens with a ``Step``, from what there is without them.
    """

    own: Array
    at: Array
    earlier: Callable[[Step, Any], Any]


class OverCache:
    """Cached tokens, of which each layer has pages of its own.

    Args:
        mask, positions, past, past_positions: see ``Decoder.encode``.
    """

    def __init__(self, mask: Array, positions: Array, past: Pages, past_positions: Array | None):
        self.mask, self.positions, self.past = mask, positions, past
        self.count = mask.shape[-1] - mask.shape[-2]
        self.keys_at = positions
        if past_positions is not None:
            earlier = jnp.broadcast_to(past_positions, (*positions.shape[:-1], past_positions.shape[-1]))
            self.keys_at = jnp.concatenate([earlier, positions], -1)

    def of_layer(self, own: Pages) -> Pages:
        """The pages of a layer where all are alike, which are its slice of all."""
        return own

    def stored(self, name: str, place: Array) -> Pages:
        """The pages ``[..., heads, S, size]`` of one of the layers of a mixer; None: there are none."""
        if self.past is None or name not in self.past:
            return None
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, place, keepdims=False), self.past[name])

    def by_text(
        self, of: Callable[..., Array], parts: tuple[Array, ...], stored: Pages, like: jax.ShapeDtypeStruct
    ) -> Array:
        """``of(together, *parts)``, of parts ``[..., heads, T, size]``; of the heads, size and dtype of ``like``."""
        past = self.count

        def earlier(step: Step, first: Any) -> Any:
            if stored is None:
                return first
            return step(first, stored, self.mask[..., :past], self.keys_at[..., :past])

        return of(Together(self.mask[..., past:], self.positions, earlier), *parts).astype(like.dtype)

    def near(self, x: Array, stored: Array | None, count: int) -> Array:
        """What stands 1, 2, … ``count`` tokens before each token, ``[..., T, count, size]``; zeros before a text.

        Args:
            x, stored: of the new tokens and of the earlier ones, ``[..., 1, T, size]``.
        """
        x = x if stored is None else concatenate_tokens(stored[None], x[None])[0]
        wanted = self.positions[..., None] - jnp.arange(1, count + 1)
        there = self.mask[..., None, :] & (self.keys_at[..., None, None, :] == wanted[..., None])
        index = there.argmax(-1).reshape(*wanted.shape[:-2], -1, 1)
        x = jnp.broadcast_to(x[..., 0, :, :], (*index.shape[:-2], *x.shape[-2:]))
        found = jnp.take_along_axis(x, index, axis=-2).reshape(*wanted.shape, -1)
        return jnp.where(there.any(-1)[..., None], found, 0)

    def sums(self, x: Array) -> Array:
        """Float32 ``[..., heads, T, size]``, summed over each new token and the new ones that it sees."""
        seen = self.mask[..., self.count :] | jnp.eye(x.shape[-2], dtype=bool)
        return _summed(seen[..., None, :, :], x)

    def last(self, stored: Array) -> Array:
        """What the last of the earlier tokens has, ``[..., heads, T, size]``, of each new one; zeros where none is."""
        mask = self.mask[..., : self.count]
        index = jnp.where(mask, self.keys_at[..., None, : self.count], -1).argmax(-1)
        batch = jnp.broadcast_shapes(stored.shape[:-3], index.shape[:-1])
        stored = jnp.broadcast_to(stored, (*batch, *stored.shape[-3:]))
        index = jnp.broadcast_to(index, (*batch, index.shape[-1]))[..., None, :, None]
        found = jnp.take_along_axis(stored, index, axis=-2)
        return jnp.where(mask.any(-1)[..., None, :, None], found, 0)


class Stored(NamedTuple):
    """A layer's pages in a pool: leaves ``[layers * slots, heads, size]``, of which its own begin at ``start``."""

    pages: Pages
    start: Array


def part(stored: Pages, of: Callable[[Pages], Pages]) -> Pages:
    """A part of a layer's pages, in a pool or not; None: there are none."""
    if isinstance(stored, Stored):
        return stored._replace(pages=of(stored.pages))
    return None if stored is None else of(stored)


class OverRows:
    """Tokens within rows, and earlier ones in a pool.

    Args:
        rows, positions, pool: see ``Decoder.encode_rows``.
    """

    def __init__(self, rows: Rows, positions: Array, pool: Pages):
        self.rows, self.positions = rows, positions
        self.slots = jax.tree.leaves(pool)[0].shape[1]
        self.flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), pool)
        self.queries_at = positions[rows.members]
        count = len(rows.members)
        processor = jax.default_backend() == "cpu"
        # On a processor rows go a few at a time, those that are there only and as far as their texts go.
        self.together = _ROWS if processor and count % _ROWS == 0 else count
        self.at_once = _PAST if processor else _ACCELERATED_PAST
        self.there = rows.ancestors.any((1, 2)).sum()

    def of_layer(self, own: Array) -> Stored:
        """The pages of a layer where all are alike, of its number."""
        return Stored(self.flat, own * self.slots)

    def stored(self, name: str, place: Array) -> Stored:
        """The pages of one of the layers of a mixer."""
        return Stored(self.flat.get(name), place * self.slots)

    def by_text(
        self, of: Callable[..., Array], parts: tuple[Array, ...], stored: Stored, like: jax.ShapeDtypeStruct
    ) -> Array:
        """``of(together, *parts)`` of parts ``[heads, N, size]``; of the heads, size and dtype of ``like``."""
        rows, together, at_once = self.rows, self.together, self.at_once
        count, width = rows.members.shape

        def some(x: Array | np.ndarray, first: int | Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, first, together)

        def of_rows(first: int | Array) -> Array:  # [together, heads, T, size]
            members, ancestors, past, lengths, at = (
                some(x, first) for x in (rows.members, rows.ancestors, rows.past, rows.lengths, self.queries_at)
            )

            def earlier(step: Step, first: Any) -> Any:
                def further(number: Array, so_far: Any) -> Any:
                    start = number * at_once
                    place = start + jnp.arange(at_once)
                    slot = stored.start + jax.lax.dynamic_slice_in_dim(past, start, at_once, axis=1)
                    pages = jax.tree.map(
                        lambda x: jnp.swapaxes(jnp.take(x, slot, axis=0, mode="clip"), 1, 2), stored.pages
                    )
                    known = jnp.broadcast_to((place < lengths[:, None])[:, None, :], (together, width, at_once))
                    return step(so_far, pages, known, jnp.broadcast_to(place, slot.shape))

                return jax.lax.fori_loop(0, (lengths.max() + at_once - 1) // at_once, further, first)

            # [heads, N, size] -> [rows, heads, T, size]
            own = [jnp.moveaxis(x[:, members], 0, 1) for x in parts]
            return of(Together(ancestors, at, earlier), *own).astype(like.dtype)

        def added(number: Array, found: Array) -> Array:
            first = number * together
            return jax.lax.dynamic_update_slice_in_dim(found, of_rows(first), first, 0)

        if together == count:
            found = of_rows(0)
        else:
            found = jnp.zeros((count, like.shape[0], width, like.shape[-1]), like.dtype)
            found = jax.lax.fori_loop(0, (self.there + together - 1) // together, added, found)
        return self._by_token(jnp.moveaxis(found, 1, 0))

    def _by_token(self, x: Array) -> Array:
        """``[heads, N, size]`` of ``[heads, R, T, size]``."""
        return jnp.take(x.reshape(x.shape[0], -1, x.shape[-1]), self.rows.places, axis=1, mode="clip")

    def near(self, x: Array, stored: Stored, count: int) -> Array:
        """What stands 1, 2, … ``count`` tokens before each token, ``[N, count, size]``; zeros before a text.

        Args:
            x: of the new tokens, ``[1, N, size]``.
            stored: of the earlier ones.
        """
        rows, at = self.rows, self.queries_at
        number, new = len(rows.members), x.shape[-2]
        back = jnp.arange(1, count + 1)
        # The last of the tokens before each row stand behind the new ones.
        tail = jnp.take_along_axis(jnp.asarray(rows.past), jnp.maximum(rows.lengths[:, None] - back, 0), axis=1)
        behind = jnp.take(stored.pages, stored.start + tail, axis=0, mode="clip")
        both = jnp.concatenate([x[0], behind.reshape(number * count, -1)])
        wanted = at[..., None] - back  # [R, T, count]
        there = rows.ancestors[:, :, None, :] & (at[:, None, None, :] == wanted[..., None])
        own = jnp.take_along_axis(jnp.asarray(rows.members)[:, None, :], there.argmax(-1), axis=-1)
        of_tail = jnp.arange(number)[:, None, None] * count + (rows.lengths[:, None, None] - 1 - wanted)
        index = jnp.where(there.any(-1), own, new + of_tail).reshape(-1, count)[rows.places]
        found = jnp.take(both, index, axis=0, mode="clip")
        return jnp.where((self.positions[:, None] >= back)[..., None], found, 0)

    def sums(self, x: Array) -> Array:
        """Float32 ``[heads, N, size]``, summed over each new token and the new ones that it sees."""
        return self._by_token(_summed(jnp.asarray(self.rows.ancestors), x[:, self.rows.members]))

    def last(self, stored: Stored) -> Array:
        """What the last of the earlier tokens has, ``[heads, N, size]``, of each new one; zeros where none is."""
        rows = self.rows
        before = jnp.take_along_axis(jnp.asarray(rows.past), jnp.maximum(rows.lengths - 1, 0)[:, None], axis=1)[:, 0]
        found = jnp.take(stored.pages, stored.start + before, axis=0, mode="clip")
        found = jnp.where((rows.lengths > 0)[:, None, None], found, 0)
        return jnp.moveaxis(found[rows.places // rows.members.shape[1]], 0, 1)


Sight = OverCache | OverRows


def _summed(seen: Array, x: Array) -> Array:
    """Exact where sums are: full float32 products, on every device."""
    return jnp.matmul(seen.astype(jnp.float32), x, precision=jax.lax.Precision.HIGHEST)

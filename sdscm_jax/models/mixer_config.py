"""What layers take from other tokens, where layers differ in this: the switches of each mixer.

A mixer is what a layer has in the place of attention, or beside it: attention with sizes of its own, a convolution, a
recurrence. A model whose layers are not all alike says of each mixer which layers have it (``DecoderConfig.mixers``).
The parameters of a mixer are a stack of their own, of those layers only, and so is what is kept of a token (``pages``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from .pages import Kept, KeyValues, Pages, Recurrent


class OfModel(Protocol):
    """The switches of the whole model, as far as a mixer reads them; see ``config``."""

    @property
    def width(self) -> int: ...

    def key_values(self, layers: int) -> KeyValues:
        """Sizes of the keys and values of a token in so many layers of attention."""

    def of_heads(self, seen: float) -> float:
        """Products that attention takes of a token in one layer, if it sees so many."""


@dataclass(frozen=True)
class Heads:
    """Attention, in some layers.

    Attributes:
        layers: numbers of the layers that have it.
        changes: switches of the configuration that are others here, and their values.
        reads: name of the mixer whose keys and values are read, those of its last layer before this one; this one then
            has none of its own and keeps nothing. None: it has its own.
    """

    layers: tuple[int, ...]
    changes: tuple[tuple[str, Any], ...] = ()
    reads: str | None = None

    def kept(self, config: OfModel) -> Pages:
        """Sizes of what is kept of a token."""
        return None if self.reads else config.key_values(len(self.layers))

    def products(self, config: OfModel, seen: float) -> float:
        """Products of numbers that a token takes, beside those with parameters, if it sees so many."""
        return len(self.layers) * config.of_heads(seen)


@dataclass(frozen=True)
class Convolution:
    """A gated short convolution over the last tokens (LFM2; see ``short_conv``).

    Attributes:
        layers: numbers of the layers that have it.
        size: over how many tokens it goes.
        bias: of projections and convolution, is there one?
    """

    layers: tuple[int, ...]
    size: int
    bias: bool = False

    def kept(self, config: OfModel) -> Pages:
        """Sizes of what is kept of a token: what the convolution reads of it."""
        return Kept(len(self.layers), 1, config.width)

    def products(self, config: OfModel, seen: float) -> float:
        """None: those of the convolution are with parameters."""
        return 0.0


@dataclass(frozen=True)
class Delta:
    """The gated delta rule behind a short convolution (Qwen3-Next; see ``delta_net``).

    Attributes:
        layers: numbers of the layers that have it.
        key_heads, value_heads: how many heads of queries and keys there are, and of values.
        key_size, value_size: of a head's.
        size: over how many tokens the convolution goes.
    """

    layers: tuple[int, ...]
    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    size: int

    @property
    def channels(self) -> int:
        """Of the convolution: queries, keys and values."""
        return 2 * self.key_heads * self.key_size + self.value_heads * self.value_size

    def kept(self, config: OfModel) -> Pages:
        """Sizes of what is kept of a token."""
        n = len(self.layers)
        return Recurrent(
            Kept(n, self.key_heads, self.key_size),
            Kept(n, self.value_heads, self.value_size, exact=True),
            Kept(n, self.value_heads, 2, exact=True),
            Kept(n, 1, self.channels),
        )

    def products(self, config: OfModel, seen: float) -> float:
        """Products of numbers that a token takes, beside those with parameters, if it sees so many."""
        # The query and the key are compared with every key, and both take every value.
        return 2 * len(self.layers) * (self.key_heads * self.key_size + self.value_heads * self.value_size) * seen


Mixer = Heads | Convolution | Delta

"""What layers take from other tokens, where layers differ in this: the switches of each mixer.

A mixer is what a layer has in the place of attention, or beside it: attention with sizes of its own, a convolution, a
recurrence. A model whose layers are not all alike says of each mixer which layers have it (``DecoderConfig.mixers``).
The parameters of a mixer are a stack of their own, of those layers only, and so is what is kept of a token (``pages``).
"""

from __future__ import annotations

import math
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
        factors: of what the mixer reads, and of what it gives.
        reads: name of the mixer whose keys and values are read, those of its last layer before this one; this one then
            has none of its own and keeps nothing. None: it has its own.
    """

    layers: tuple[int, ...]
    changes: tuple[tuple[str, Any], ...] = ()
    factors: tuple[float, float] = (1.0, 1.0)
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


@dataclass(frozen=True)
class StateSpace:
    """A Mamba 2 layer (Dao and Gu 2024, arXiv 2405.21060; see ``state_space``).

    Attributes:
        layers: numbers of the layers that have it.
        heads, head_size: how many heads there are, and of what size their inputs are.
        groups, state: how many keys (B) and queries (C) heads share, and their size.
        size: over how many tokens the convolution goes.
        bias, out_bias, convolution_bias: of the projections, of the last of them and of the convolution, is there one?
        limit: within which steps are kept.
        normed: is what comes of it normed, in groups?
        gated_first: the gate is before that norm, not behind it.
        activation: behind the convolution; None: the model's.
        parts: factors of the projections: gate, input, B, C and step.
        factors: of what the mixer reads, and of what it gives.
    """

    layers: tuple[int, ...]
    heads: int
    head_size: int
    groups: int
    state: int
    size: int
    bias: bool = False
    out_bias: bool = False
    convolution_bias: bool = True
    limit: tuple[float, float] = (0.0, math.inf)
    normed: bool = True
    gated_first: bool = True
    activation: str | None = None
    parts: tuple[float, float, float, float, float] = (1.0,) * 5
    factors: tuple[float, float] = (1.0, 1.0)

    @property
    def inner(self) -> int:
        """Size of the inputs of all heads."""
        return self.heads * self.head_size

    @property
    def channels(self) -> int:
        """Of the convolution: inputs, B and C."""
        return self.inner + 2 * self.groups * self.state

    def kept(self, config: OfModel) -> Pages:
        """Sizes of what is kept of a token."""
        n = len(self.layers)
        return Recurrent(
            Kept(n, self.groups, self.state),
            Kept(n, self.heads, self.head_size),
            Kept(n, self.heads, 3, exact=True),
            Kept(n, 1, self.channels),
        )

    def products(self, config: OfModel, seen: float) -> float:
        """Products of numbers that a token takes, beside those with parameters, if it sees so many."""
        return len(self.layers) * (self.groups * self.state + self.inner) * seen


@dataclass(frozen=True)
class Alone:
    """An MLP, or experts, that are a layer by themselves (Nemotron-H).

    Attributes:
        layers: numbers of the layers that are.
        sparse: are there experts?
    """

    layers: tuple[int, ...]
    sparse: bool = False

    def kept(self, config: OfModel) -> Pages:
        """Nothing."""

    def products(self, config: OfModel, seen: float) -> float:
        """None beside those with parameters."""
        return 0.0


Mixer = Heads | Convolution | Delta | StateSpace | Alone

"""Layers of several kinds in one scan: each takes its mixers' parameters and pages from the stacks that have them.

A layer has one mixer, or several beside one another whose results are added; which, is a number that goes over the
layers with what else differs between them. So every kind is compiled once, however many layers there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from .config import DecoderConfig
from .delta_net import DeltaNet
from .feed import Feed
from .mixer_config import Alone, Convolution, Delta, Heads, Mixer, StateSpace
from .pages import Pages
from .self_attention import Seen, SelfAttention
from .short_conv import GatedConvolution
from .state_space import StateSpaceLayer, times


class FeedAlone(Feed):
    """An MLP, or experts, in the place of a mixer."""

    def __init__(self, config: DecoderConfig, own: Alone, dtype: Any, rngs: nnx.Rngs):
        super().__init__(config, own.sparse, dtype, rngs)

    def mix(self, x: Array, seen: Seen) -> tuple[Array, None]:
        """What is added ``[..., T, width]``; nothing is kept."""
        return self.mlp(x), None


def make_mixer(config: DecoderConfig, mixer: Mixer, dtype: Any, rngs: nnx.Rngs) -> nnx.Module:
    """The module of one layer's mixer."""
    if isinstance(mixer, Heads):
        return SelfAttention(config.of(mixer), dtype, rngs, reads=mixer.reads is not None)
    return _MODULES[type(mixer)](config, mixer, dtype, rngs)


_MODULES: dict[type, Callable[..., nnx.Module]] = {
    Convolution: GatedConvolution,
    Delta: DeltaNet,
    StateSpace: StateSpaceLayer,
    Alone: FeedAlone,
}


class MixedLayers:
    """The mixers of all layers, over what new tokens see.

    Args:
        config: the switches.
        stacks: name of a mixer -> the stack of its layers.
    """

    def __init__(self, config: DecoderConfig, stacks: dict[str, nnx.Module]):
        self.config = config
        self.parts = {name: nnx.split(stack) for name, stack in stacks.items()}
        of_layer = [tuple(name for name, own in config.mixers if i in own.layers) for i in range(config.layers)]
        self.kinds = list(dict.fromkeys(of_layer))
        self.lenders = {own.reads for _, own in config.mixers if isinstance(own, Heads) and own.reads}
        places = {}
        for name, own in config.mixers:
            # (Of another layer: the last one before it, which it may read.)
            has = np.isin(np.arange(config.layers), own.layers)
            places[name] = np.maximum(has.cumsum() - 1, 0).astype(np.int32)
        self.constants: dict[str, Any] = {
            "kind": jnp.asarray([self.kinds.index(names) for names in of_layer], jnp.int32),
            "places": {name: jnp.asarray(place) for name, place in places.items()},
        }

    def nothing(self, tokens: tuple[int, ...], dtype: Any) -> dict[str, Pages]:
        """Pages of one layer of each mixer that keeps any, for tokens ``[..., T]``."""

        def empty(kept: Any) -> Array:
            return jnp.zeros((*tokens[:-1], kept.heads, tokens[-1], kept.size), kept.dtype(dtype))

        return {name: jax.tree.map(empty, kept) for name, kept in self.config.kept.items()}

    def lent(self, tokens: tuple[int, ...], dtype: Any) -> dict[str, Pages]:
        """What later layers read of earlier ones, before there is any."""
        return {name: pages for name, pages in self.nothing(tokens, dtype).items() if name in self.lenders}

    def __call__(
        self, x: Array, constants: dict[str, Any], lent: dict[str, Pages], seen: Callable[[str, Array], Seen]
    ) -> tuple[Array, dict[str, Pages], dict[str, Pages]]:
        """What a layer takes from other tokens, what is kept, and what later layers read.

        Args:
            x: the layer's input, ``[..., T, width]``.
            constants: the layer's part of ``self.constants``.
            lent: what earlier layers keep that later ones read.
            seen: what a mixer sees, of its name and the layer's place in its stack.
        """

        def of_kind(names: tuple[str, ...]) -> Callable[[Array, dict[str, Pages]], Any]:
            def run(x: Array, lent: dict[str, Pages]) -> Any:
                kept, added = self.nothing(x.shape[:-1], x.dtype), []
                for name in names:
                    (graph, params), place = self.parts[name], constants["places"][name]
                    own = jax.tree.map(lambda p, at=place: jax.lax.dynamic_index_in_dim(p, at, keepdims=False), params)
                    mixer = dict(self.config.mixers)[name]
                    lender = mixer.reads if isinstance(mixer, Heads) else None
                    here = seen(name, place) if lender is None else seen(lender, constants["places"][lender])
                    if lender is not None:
                        here = here._replace(lent=lent[lender])
                    read, given = getattr(mixer, "factors", (1.0, 1.0))
                    found, pages = nnx.merge(graph, own).mix(times(x, read), here)
                    added.append(times(found, given))
                    if pages is not None:
                        kept[name] = pages
                        lent = {**lent, name: pages} if name in lent else lent
                return sum(added[1:], added[0]) if added else jnp.zeros_like(x), kept, lent

            return run

        if len(self.kinds) == 1:
            return of_kind(self.kinds[0])(x, lent)
        return jax.lax.switch(constants["kind"], [of_kind(names) for names in self.kinds], x, lent)

    def of_layers(self, kept: dict[str, Pages]) -> dict[str, Pages]:
        """What each mixer's layers keep, of what is there for all layers."""

        def own(layers: tuple[int, ...], pages: Pages) -> Pages:
            everywhere = layers == tuple(range(self.config.layers))
            return pages if everywhere else jax.tree.map(lambda x: x[np.asarray(layers)], pages)

        return {name: own(mixer.layers, kept[name]) for name, mixer in self.config.mixers if name in kept}

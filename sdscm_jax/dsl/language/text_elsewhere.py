"""A free text that somebody else writes and reads, in place of the language model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .mechanism import Mechanism


class Writer(NamedTuple):
    """Who writes and reads instead of the language model.

    Attributes:
        write: takes a text, the key of its noise and a shape of draws; gives tokens ``[*shape, T]``. Noise that is at
            hand may be ``Beside`` a known text's.
        read: takes a text and tokens ``[..., T]``; gives the log-probability of each.
    """

    write: Callable[[Any, Array, tuple[int, ...]], Array]
    read: Callable[[Any, Array], Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Beside:
    """Noise that is relative to a known text of the same unit: what was observed, or the factual one.

    It is made where it is asked for: who writes elsewhere has no laws of tokens at hand.

    Attributes:
        text: the site where its text is known.
        tokens: of that text, int32 ``[..., T]``.
        key: of the noise's posterior.
        kept: below an intervention, the share of it that stays, a scalar; None: all of it.
        own, anew: the keys of the site and of what takes the place of the rest.
    """

    text: Mechanism
    tokens: Array
    key: Array
    kept: Any = None
    own: Any = None
    anew: Any = None

    def redrawn(self, key: Array, own: Array, done: Array) -> Beside:
        """The same below interventions (where ``done``): what is not kept is drawn anew, by the key."""
        return replace(self, kept=jnp.where(done, self.text.coupling.kept, 1.0), own=own, anew=key)

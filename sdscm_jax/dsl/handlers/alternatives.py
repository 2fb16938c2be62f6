"""What a site is set to in several worlds at once, of which one is traced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from ..language.fit import Slot
from ..language.phrase import Phrase
from .intervened import Changed, Fixed
from .intervention import Constant, Earlier, Intervention, Number, intervention_of


@dataclass(frozen=True)
class Alternatives(Intervention):
    """What a site is set to in several worlds: which of them is traced, so that worlds vectorise.

    Attributes:
        which: int scalar; 0: the natural value, 1: ``constant``, ``2 + j``: ``changes[j]``.
        constant: the number of this world, where ``which`` is 1.
        changes: interventions that are no constants.
    """

    of_natural = True
    which: Array
    constant: Array
    changes: tuple[Any, ...]

    @property
    def several(self) -> list[Intervention]:
        """All but the natural value."""
        return [Constant(self.constant), *map(intervention_of, self.changes)]

    def bound(self, earlier: Earlier) -> Intervention:
        """Each of them is."""
        return replace(self, changes=tuple(intervention_of(change).bound(earlier) for change in self.changes))

    def label(self) -> str:
        """Of each."""
        return " or ".join(one.label() for one in self.several)

    def check(self, slot: Slot, units: int | None, deterministic: bool, looped: bool) -> Number:
        """They were checked where they were put together."""
        return None

    def apply(self, fn: dist.Distribution, slot: Slot, base: dist.Distribution) -> Changed:
        """All of them beside each other, of which one is taken."""

        def change(value: Array, key: Any) -> Array:
            values = [value]
            for other in self.several:
                found = other.at(slot.options).apply(fn, slot, base)
                if isinstance(found, Fixed):
                    values.append(found.v)
                elif isinstance(found, Changed):
                    values.append(found.change(value, key))
                else:
                    values.append(jnp.broadcast_to(found.sample(key), slot.shape))
            # (A plate around do widens what is drawn, not what was fitted here.)
            return jnp.stack(jnp.broadcast_arrays(*values))[self.which]

        return Beside(base, change, fn, slot.name, slot.dtype)

    def value(self, natural: Any, phrase: Phrase | None, slot: Slot) -> Array:
        """The same of values."""
        values = [one.at(slot.options).value(natural, phrase, slot) for one in self.several]
        return jnp.stack([jnp.asarray(natural), *values])[self.which]


class Beside(Changed):
    """A site in several worlds, which of them is traced; its law is no single one."""

    has_enumerate_support = False

"""The noise of a unit: streams by name, and how worlds share them (couplings)."""

from ..former import names_of

__getattr__ = names_of(__name__, "sdscm_jax.dsl.noise.streams")

"""Handlers and messages that run a program for one unit in another way."""

from ..former import names_of

__getattr__ = names_of(__name__, "sdscm_jax.handlers")

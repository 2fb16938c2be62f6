"""Causal effects, from simulations whose potential outcomes are known."""

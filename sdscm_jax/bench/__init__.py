"""Families of causal models, and benchmarks made from them."""

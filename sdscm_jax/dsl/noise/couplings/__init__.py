"""Couplings: how worlds share the noise of a choice. One class a file; ``registry`` finds them."""

"""Settings of every test and doctest."""

import jax

# Nearly all of a test's time is XLA's; what the tests compute is small. (Nothing here is a timing.)
jax.config.update("jax_disable_most_optimizations", True)

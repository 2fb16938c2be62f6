"""Neural networks that estimate effects: Flax NNX modules, trained by one jitted loop; see ``estimator``."""

"""Language models in Flax NNX, with their tokenizers."""

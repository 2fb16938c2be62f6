"""Language models in Flax NNX, with their tokenizers."""

import os

# Transformers is used for configurations and tokenizers only; without this it tells every user, at
# import, that models are not available because PyTorch is missing.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

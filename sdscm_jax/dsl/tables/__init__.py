"""Programs as tables of scores, which need no language model."""

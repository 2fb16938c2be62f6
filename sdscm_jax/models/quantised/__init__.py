"""Checkpoints whose weights other libraries have quantised, read as the numbers that they stand for."""

"""Tests of the decoder, its checkpoints and its tokens."""

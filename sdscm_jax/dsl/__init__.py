"""The language: model functions whose sites are phrases that a language model fills in."""

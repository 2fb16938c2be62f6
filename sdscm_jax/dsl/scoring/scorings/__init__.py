"""Scorings: what the score of an option is. One class a file; ``registry`` finds them."""

"""Generated nonsense at every public door."""

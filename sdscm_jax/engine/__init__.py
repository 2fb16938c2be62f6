"""Running programs for many units."""

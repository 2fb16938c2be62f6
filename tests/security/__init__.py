"""What came with data runs nothing, hangs nothing, and is told in one line."""

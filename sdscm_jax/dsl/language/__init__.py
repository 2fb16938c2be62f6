"""What a program says: sites, choices, free text, phrases."""

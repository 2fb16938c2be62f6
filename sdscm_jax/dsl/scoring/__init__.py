"""From text to scores: templates, trees of options, encoded contexts, scorings."""

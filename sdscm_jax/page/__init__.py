"""Self-contained HTML pages: their style, figures and numbers."""

"""The report of an audit, for people who do not program: an HTML page, and the same as Markdown."""

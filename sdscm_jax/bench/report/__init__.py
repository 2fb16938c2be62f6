"""The benchmark's report: one HTML page that needs nothing but itself; see ``page``."""

"""The command line: ``sdscm``."""

from .app import app

__all__ = ["app"]

"""The command line: ``sdscm``."""

from .main import app

__all__ = ["app"]

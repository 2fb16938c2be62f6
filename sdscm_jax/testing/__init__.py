"""Checks for your own programs, sites and language models, and a language model to check programs with.

``Laws`` is a class of tests for pytest; every law is a function too. What fails raises ``AssertionError`` and names
site, unit, world and values. ``docs/testing.md`` shows them.
"""

from .abduction_laws import check_abduction
from .distributions import check_interventional
from .execution import check_execution, check_independence
from .laws import Laws
from .lm import check_lm
from .mock import mock_lm
from .option_laws import check_options
from .site_laws import check_site
from .world_laws import check_consistency, check_effectiveness, check_stability, check_unreached

__all__ = [
    "Laws",
    "check_abduction",
    "check_consistency",
    "check_effectiveness",
    "check_execution",
    "check_independence",
    "check_interventional",
    "check_lm",
    "check_options",
    "check_site",
    "check_stability",
    "check_unreached",
    "mock_lm",
]

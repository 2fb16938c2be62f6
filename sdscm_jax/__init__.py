"""Causal models whose structure is a Python function and whose mechanisms are a language model's.

The public names are listed in ``__init__.pyi``; each is loaded when it is first used.
"""

from .door import __all__ as __all__
from .door import __dir__ as __dir__
from .door import __getattr__ as __getattr__

__version__ = "0.1.0"

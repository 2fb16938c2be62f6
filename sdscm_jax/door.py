"""The names of the package, each loaded when it is first used (PEP 562).

They stand in ``__init__.pyi`` and nowhere else: type checkers and editors read them there, and so does this file.
"""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_PACKAGE = __name__.rpartition(".")[0]


def _places() -> dict[str, tuple[str, bool]]:
    """Name -> the module that it is in, or is itself."""
    stub = Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8")
    places = {}
    for node in ast.parse(stub).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = f"{_PACKAGE}.{node.module or alias.name}"
                places[alias.asname or alias.name] = module, node.module is None
    return places


_PLACES = _places()
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    """A public name of the package, or the error of one that is none."""
    if name not in _PLACES:
        # (Python adds the nearest of what __dir__ lists.)
        raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}", name=name, obj=sys.modules[_PACKAGE])
    place, is_module = _PLACES[name]
    module = import_module(place)
    value = module if is_module else getattr(module, name)
    # From here on it is found without asking.
    setattr(sys.modules[_PACKAGE], name, value)
    return value


def __dir__() -> list[str]:
    """What a user is offered: no rooms of the house that happen to be loaded."""
    return sorted([*__all__, "__version__"])

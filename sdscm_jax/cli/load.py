"""Python objects that a command line names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from ..errors import SDSCMError


def load_object(spec: str, what: str) -> Any:
    """The object that ``module:name`` or ``path.py:name`` says.

    Args:
        spec: its name.
        what: it is, for messages.

    Raises:
        SDSCMError: it cannot be imported.
    """
    module_name, _, name = spec.partition(":")
    if not name:
        raise SDSCMError(f"{what} is written module:name, got {spec!r}")
    try:
        if module_name.endswith(".py"):
            path = Path(module_name).resolve()
            sys.path.insert(0, str(path.parent))
            module_name = path.stem
        else:
            sys.path.insert(0, "")
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise SDSCMError(f"{spec!r} cannot be imported: {error}") from error

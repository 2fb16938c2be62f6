"""Python objects that a command line names."""

from __future__ import annotations

import hashlib
import importlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import SDSCMError


def load_object(spec: str, what: str) -> Any:
    """The object that ``module:name`` or ``path.py:name`` says; its module is run for that.

    A path is that file and no other, whatever modules are called like it. Its neighbours can be imported by it, as can
    those of the working directory by a module, but none hides the standard library or what is installed.

    Args:
        spec: its name.
        what: it is, for messages.

    Raises:
        SDSCMError: there is no such file, module or name, or a module that it imports is missing.
    """
    place, _, name = spec.rpartition(":")
    if not name or not place:
        raise SDSCMError(f"{what} is written module:name or path.py:name, got {spec!r}")
    try:
        module = _of_file(Path(place)) if place.endswith(".py") else _of_name(place)
    except ImportError as error:
        raise SDSCMError(f"{spec!r} cannot be imported: {error}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise SDSCMError(f"{spec!r} cannot be imported: {_told(module)} has no {name!r}")
        found = getattr(found, part)
    return found


def _of_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise SDSCMError(f"there is no file {path}")
    # A name that nothing else has: what is called json.py is not the standard library's json.
    name = f"sdscm_file_{hashlib.sha256(bytes(path)).hexdigest()[:16]}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    _also_from(path.parent)
    # Where its classes and functions are looked for by name, as pickle and dataclasses do.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _of_name(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ImportError(f"{name!r} is no module")
    import_from_here()
    return importlib.import_module(name)


def import_from_here() -> None:
    """Modules of the working directory can be imported, after all others."""
    _also_from(Path.cwd())


def _also_from(folder: Path) -> None:
    """Import from a folder, too, after all other places."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _told(module: ModuleType) -> str:
    """A module as messages name it: by its file, since it may be another one than was meant."""
    return getattr(module, "__file__", None) or f"the module {module.__name__!r}"

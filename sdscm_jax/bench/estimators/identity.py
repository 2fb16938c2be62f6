"""What an estimator is now: everything of it that its estimates depend on, by content.

Covered are the parameters of a new estimator; the source files of the modules that define it, its classes' bases and
the functions among its parameters, and of all modules that these import (anywhere in their text, in turn), as long as
they are no part of an installed distribution; and versions: of Python, of this package, of the distributions that these
modules import and of what those require. Not covered are files that the code reads, environment variables, and
modules whose names it computes.

Code that no file holds (a notebook's cell, a prompt, a lambda typed there), and modules that were edited after they
were imported, have no identity: their estimates are not kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from .modules import Found, distribution_of, find_module, imported_names, requirements
from .parameters import Unknown, digest_of_parameters

_OWN = "sdscm-jax"
_PACKAGE = __name__.partition(".")[0]


class Unkept(Exception):
    """Why what an estimator is cannot be known."""


def identity_of(estimator: Any, point: str) -> dict[str, Any]:
    """What an estimator is, as JSON values.

    Args:
        estimator: new.
        point: ``module:name`` of what made it.

    Raises:
        Unkept: it cannot be known.
    """
    try:
        parameters, functions = digest_of_parameters(estimator)
    except Unknown as error:
        raise Unkept(str(error)) from error
    starts = {point.partition(":")[0], *functions}
    starts |= {base.__module__ for base in type(estimator).__mro__ if base is not object}
    _refuse_code_without_file(type(estimator))
    local, packages = _closure(starts, point.partition(".")[0].partition(":")[0])
    sources: dict[str, Any] = {}
    for name, found in sorted(local.items()):
        _refuse_stale(name, found)
        sources.setdefault(name.partition(".")[0], []).append((name, found.digest))
    return {
        "parameters": parameters,
        "source": {top: hashlib.sha256(json.dumps(files).encode()).hexdigest() for top, files in sources.items()},
        "versions": _versions(packages),
    }


def look_at(module: str) -> None:
    """Note the files of a module that is about to be imported: from now on it is known whether they change."""
    with suppress(Unkept):
        for name, found in _closure({module}, module.partition(".")[0])[0].items():
            _known(name, found)


def _closure(starts: set[str], own: str) -> tuple[dict[str, Found], set[str]]:
    """Modules that are in no distribution, and the first names of those that are (or are nowhere).

    Imports are followed in the former, and in the package ``own``, which the estimator is in.
    """
    local: dict[str, Found] = {}
    packages: set[str] = set()
    pending, seen = sorted(starts), set[str]()
    while pending:
        name = pending.pop()
        parts = name.split(".")
        # A package's own file runs before that of a module in it.
        for whole in (".".join(parts[:n]) for n in range(1, len(parts) + 1)):
            if whole in seen:
                continue
            seen.add(whole)
            found = find_module(whole)
            if found is None:
                if whole == parts[0] or whole in starts:
                    packages.add(parts[0])
                if whole in starts:
                    raise Unkept(f"no file holds the source of module {whole!r}")
                break
            if found.kind == "python":
                break
            if found.kind == "installed":
                packages.add(parts[0])
            elif found.kind == "unreadable":
                raise Unkept(f"{found.path} cannot be read, where module {whole!r} is")
            elif found.digest:
                local[whole] = found
            if whole != name and parts[0] == _PACKAGE:
                # Our own packages only list names, of modules that most estimators do not use.
                continue
            if found.kind == "local" or parts[0] == own:
                pending.extend(imported_names(found.path, whole, found.package) if found.path else ())
            else:
                break
    return local, packages


def _refuse_code_without_file(made_by: type) -> None:
    """Methods that were typed somewhere, or put in from there."""
    for base in made_by.__mro__:
        for value in vars(base).values():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            code = getattr(function, "__code__", None)
            if code is None or code.co_filename.startswith("<frozen"):
                continue
            # Methods that dataclasses and the like write have no file, and are what the class's source says.
            generated = code.co_filename == "<string>" and find_module(base.__module__) is not None
            if not generated and not os.path.isfile(code.co_filename):
                raise Unkept(f"no file holds the source of {base.__qualname__}.{function.__name__}")


# Module -> what it was when it was first looked at, and the SHA-256 of its file then.
_seen: dict[str, tuple[ModuleType | None, str]] = {}


def _known(name: str, found: Found) -> bool:
    """Is what runs under this name what its file says now?"""
    module, seen = sys.modules.get(name), _seen.get(name)
    if module is None:
        _seen[name] = None, found.digest
        return True
    if seen is None or (seen[0] is not None and seen[0] is not module):
        if not _older_than_process(found.path):
            return False
        _seen[name] = module, found.digest
        return True
    if seen[0] is None:
        _seen[name] = module, seen[1]
    return seen[1] == found.digest


def _refuse_stale(name: str, found: Found) -> None:
    if not _known(name, found):
        raise Unkept(f"{found.path} may have been edited after it was imported; a new process would know")


def _older_than_process(path: Path | None) -> bool:
    if path is None:
        return True
    stat = path.stat()
    # A file keeps its mtime where it is copied over another, but not its ctime.
    return max(stat.st_mtime, stat.st_ctime) < _started() - 1


@lru_cache(maxsize=1)
def _started() -> float:
    """When this process began, as far as the system tells; otherwise before everything."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        since_boot = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        return time.time() - since_boot + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return float("-inf")


def _versions(packages: set[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    # The key that an estimator gets is JAX's, whatever it does with it.
    pending = [_OWN, "jax"]
    for package in packages:
        distributions = distribution_of(package)
        pending.extend(distributions)
        if not distributions:
            found[package] = "absent" if find_module(package) is None else "unknown"
    followed = set[str]()
    while pending:
        name = pending.pop()
        if name in followed:
            continue
        followed.add(name)
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
        # What this package requires is there for much else; estimators' imports are followed instead.
        pending.extend(requirements(name) if name != _OWN else ())
    return dict(sorted(found.items()))

"""Python modules as files: where they are, what they import, and whose they are. Nothing is imported to find out."""

from __future__ import annotations

import ast
import hashlib
import re
import site
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Found:
    """A module.

    Attributes:
        kind: ``"python"`` (of Python itself), ``"installed"``, ``"local"``, or ``"unreadable"`` (in an archive, say).
        path: its file; None: it has none (built in, or a namespace).
        digest: SHA-256 of the file, of local modules; empty for others.
        package: can modules be in it?
    """

    kind: str
    path: Path | None
    digest: str
    package: bool


def find_module(name: str) -> Found | None:
    """The module of this name, None where there is no such file.

    >>> find_module("json").kind, find_module("numpy").kind, find_module("no_such_module")
    ('python', 'installed', None)
    """
    spec = _spec(name)
    if spec is None:
        return None
    package = spec.submodule_search_locations is not None
    if spec.origin in ("built-in", "frozen"):
        return Found("python", None, "", package)
    if not spec.has_location or spec.origin is None:
        return Found("local", None, "", True) if package else None
    path = Path(spec.origin)
    try:
        kind = _kind(path.resolve())
        return Found(kind, path, hashlib.sha256(path.read_bytes()).hexdigest() if kind == "local" else "", package)
    except OSError:
        return Found("unreadable", path, "", package)


def _spec(name: str) -> ModuleSpec | None:
    loaded = sys.modules.get(name)
    if loaded is not None:
        spec = getattr(loaded, "__spec__", None)
        file = getattr(loaded, "__file__", None)
        if spec is None and file is not None:
            # A script that is run.
            spec = ModuleSpec(name, None, origin=file)
            spec.has_location = True
        return spec
    parent, _, _ = name.rpartition(".")
    path: Any = None
    if parent:
        above = _spec(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        path = list(above.submodule_search_locations)
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and (spec := find(name, path)) is not None:
            return spec
    return None


def _kind(path: Path) -> str:
    if any(folder in path.parents for folder in _installed()):
        return "installed"
    return "python" if any(folder in path.parents for folder in _python()) else "local"


@lru_cache(maxsize=1)
def _installed() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(p).resolve() for p in (paths["purelib"], paths["platlib"], site.getusersitepackages())}) + tuple(
        Path(p).resolve() for p in site.getsitepackages()
    )


@lru_cache(maxsize=1)
def _python() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(paths[name]).resolve() for name in ("stdlib", "platstdlib")})


def imported_names(path: Path, name: str, package: bool) -> tuple[str, ...]:
    """Names of all modules that the text of a module may import, wherever it does so.

    Args:
        path: of the file; one that is no Python source imports nothing that can be seen.
        name: of the module.
        package: is it a package?
    """
    if path.suffix != ".py":
        return ()
    stat = path.stat()
    return _imported_names(path, name, package, (stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=4096)
def _imported_names(path: Path, name: str, package: bool, _: tuple[int, int]) -> tuple[str, ...]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ()
    return tuple(dict.fromkeys(found for node in ast.walk(tree) for found in _names_in(node, name, package)))


def _names_in(node: ast.AST, name: str, package: bool) -> Iterator[str]:
    match node:
        case ast.Import(names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module, names, level):
            above = name.split(".")
            above = above[: len(above) - (level or 0) + package] if level else []
            source = ".".join([*above, *([module] if module else [])])
            if source:
                yield source
                # Each may be a module or something in it.
                yield from (f"{source}.{alias.name}" for alias in names if alias.name != "*")
        case ast.Call(ast.Name(called) | ast.Attribute(_, called), [ast.Constant(str(module)), *_]):
            if called in ("__import__", "import_module"):
                yield module


def distribution_of(package: str) -> tuple[str, ...]:
    """The installed distributions that a package of this name is of."""
    return tuple(dict.fromkeys(_distributions().get(package, ())))


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def requirements(distribution: str) -> tuple[str, ...]:
    """Names of the distributions that one requires, extras apart.

    >>> "numpy" in requirements("scipy")
    True
    """
    try:
        listed = requires(distribution) or []
    except PackageNotFoundError:
        return ()
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in listed if "extra ==" not in line.partition(";")[2])
    return tuple(_normal(m[0]) for m in found if m)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

"""Compiled programs outlive a command: the next one that runs the same does not wait for them."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

# Bytes that are kept; what has not been used for longest makes room.
MOST = 1 << 30


def cache_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What to set for JAX, which reads it when it is imported; nothing where the user has said anything of it.

    The directory is the user's alone: what is in it is run. It is of one kind of processor, since home directories may
    be shared by machines, and what one of them has compiled another may not be able to run.

    Args:
        environment: variables, such as ``os.environ``.

    >>> cache_settings({"JAX_ENABLE_COMPILATION_CACHE": "false"}), cache_settings({"JAX_COMPILATION_CACHE_DIR": "/x"})
    ({}, {})
    >>> sorted(cache_settings({"XDG_CACHE_HOME": "/home/me/.cache"}))[0]
    'JAX_COMPILATION_CACHE_DIR'
    """
    if "JAX_COMPILATION_CACHE_DIR" in environment or "JAX_ENABLE_COMPILATION_CACHE" in environment:
        return {}
    home = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return {
        "JAX_COMPILATION_CACHE_DIR": str(Path(home) / "sdscm-jax" / f"compiled-{_processor()}"),
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(MOST),
        # Programs are many and small.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def keep_compiled() -> None:
    """Keep what this process and those that it starts compile."""
    settings = cache_settings(os.environ)
    if not settings:
        return
    directory = Path(settings["JAX_COMPILATION_CACHE_DIR"])
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        # A home that cannot be written to costs time, and nothing else.
        return
    if os.access(directory, os.W_OK):
        os.environ.update({name: value for name, value in settings.items() if name not in os.environ})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        told = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        told = ""
    kind = f"{platform.system()} {platform.machine()} {platform.processor()} {' '.join(sorted(told.split()))}"
    return hashlib.sha256(kind.encode()).hexdigest()[:12]

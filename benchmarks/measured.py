"""What several benchmarks measure and write alike."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent


def provenance() -> dict[str, Any]:
    """Which command made the figures, where, and with what."""
    import sdscm_jax as sd

    packages = ("jax", "jaxlib", "flax", "numpyro", "numpy")
    script = Path(sys.argv[0]).resolve()
    shown = str(script.relative_to(ROOT)) if script.is_relative_to(ROOT) else script.name
    return {
        "command": shlex.join(["python", shown, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {"sdscm-jax": sd.__version__, **{package: version(package) for package in packages}},
    }


@contextmanager
def recorded_tokens() -> Iterator[list[int]]:
    """Positions that every call of the language model has, per unit, noted while JAX traces it.

    Under ``vmap`` a traced array has the shape that one unit sees. Padding counts: it is computed.
    """
    from sdscm_jax.models.language_model import LanguageModel

    lengths: list[int] = []
    encode = LanguageModel.encode

    def recording(self: LanguageModel, tokens: Any, *rest: Any) -> Any:
        lengths.append(tokens.shape[-1])
        return encode(self, tokens, *rest)

    with mock.patch.object(LanguageModel, "encode", recording):
        yield lengths

"""Programs that take longer to compile than to run."""

from __future__ import annotations

from typing import Any

import jax


def quick_options() -> dict[str, Any] | None:
    """Options of a compilation without optimisations, on a processor; None, the usual ones, on an accelerator."""
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None

"""What ``import sdscm_jax`` loads: libraries that some calls need are loaded by these."""

from __future__ import annotations

import subprocess
import sys

LATER = ("transformers", "torch", "pandas", "networkx", "matplotlib", "scipy.stats", "scipy.optimize", "huggingface_hub")


def test_libraries_are_loaded_where_they_are_used() -> None:
    code = f"import sys, sdscm_jax; print([name for name in {LATER!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "[]"

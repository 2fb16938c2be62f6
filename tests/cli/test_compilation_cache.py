"""What a command has compiled, the next one need not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdscm_jax.cli.compilation_cache import MOST, cache_settings


def test_what_the_user_has_set_stays() -> None:
    assert cache_settings({"JAX_COMPILATION_CACHE_DIR": "/x", "HOME": "/h"}) == {}
    assert cache_settings({"JAX_ENABLE_COMPILATION_CACHE": "0"}) == {}
    assert cache_settings({"XDG_CACHE_HOME": "/c"})["JAX_COMPILATION_CACHE_MAX_SIZE"] == str(MOST)


def test_a_home_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = command(tmp_path / "file", "models")
    assert ran.returncode == 0, ran.stderr


def command(cache: Path, *args: str) -> subprocess.CompletedProcess[str]:
    left = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return subprocess.run(
        [sys.executable, "-m", "sdscm_jax", *args],
        env={**left, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.getcwd()},
        cwd=cache if cache.is_dir() else None, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_second_run_compiles_nothing(tmp_path: Path) -> None:
    """And gives the same bytes."""
    kept: list[set[str]] = []
    for name in ("a", "b"):
        few = ("--datasets", "1", "--units", "4", "--jobs", "1")
        ran = command(tmp_path, "generate", "collider", *few, "--out", name)
        assert ran.returncode == 0, ran.stderr
        kept.append({path.name for path in tmp_path.glob("sdscm-jax/*/*") if path.name.endswith("-cache")})
    assert len(kept[0]) > 3
    assert kept[1] == kept[0]
    data = [next(tmp_path.glob(f"{name}/**/*.parquet")).read_bytes() for name in ("a", "b")]
    assert data[0] == data[1]
    directory = next(tmp_path.glob("sdscm-jax/compiled-*"))
    assert directory.stat().st_mode & 0o077 == 0

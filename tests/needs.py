"""What some tests need beside the package. Each skips where it is absent, with a reason that says what turns it on."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("SDSCM_SHARED", ROOT / ".." / "shared")).resolve()
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# What ``pytest.importorskip`` says by itself.
_UNEXPLAINED = re.compile(r"could not import '([\w.]+)'.*")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium or Chrome is absent: put one on the PATH")


def shared_path(*parts: str) -> Path:
    """A path in the shared data."""
    path = SHARED.joinpath(*parts)
    if not SHARED.is_dir():
        pytest.skip(f"no shared data in {SHARED}: set SDSCM_SHARED to where they are")
    if not path.exists():
        pytest.skip(f"{path} is absent: set SDSCM_SHARED to where the whole shared data are")
    return path


def shared_models() -> list[str]:
    """The names of the language models among the shared data: parameters of tests, which one without them skips."""
    found = sorted(path.parent.name for path in SHARED.glob("lms/*/model.safetensors"))
    return found or ["stories260K"]


def skip_without_disks() -> NoReturn:
    """Skip a test that needs a disk of a given size."""
    pytest.skip("no disk of a given size can be made: run as root on Linux, where mount -t tmpfs makes one")


def absent(module: str) -> str:
    """Why a test without an optional module is skipped."""
    return (
        f"{module} is absent: "
        f"pip install '.[{'oracle' if module in ('torch', 'catenets', 'stochtree', 'xllamacpp') else 'test'}]'"
    )


def needs(module: str) -> ModuleType:
    """An optional module, which an extra of the package installs."""
    return pytest.importorskip(module, reason=absent(module), exc_type=ImportError)


def what_did_not_run(skipped: Iterable[str], deselected: dict[str, int], markers: Iterable[str]) -> list[str]:
    """Lines for the end of a run: reasons of skips, and markers that were not selected, with their numbers of tests.

    Args:
        skipped: the reason of each skip.
        deselected: how many tests with a marker were not selected.
        markers: ``name: what it marks; the command that runs it`` of each, as pytest's settings have them.
    """
    reasons = [_UNEXPLAINED.sub(lambda found: absent(found[1]), reason.removeprefix("Skipped: ")) for reason in skipped]
    counts = sorted(((reasons.count(reason), reason) for reason in set(reasons)), key=lambda pair: (-pair[0], pair[1]))
    lines = [f"{count:5} skipped: {reason}" for count, reason in counts]
    for marker in markers:
        name, _, what = marker.partition(":")
        if deselected.get(name):
            lines.append(f"{deselected[name]:5} not selected, {name}: {what.strip()}")
    return lines

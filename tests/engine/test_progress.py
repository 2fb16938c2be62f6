"""Where a bar is shown without being asked for."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from sdscm_jax.engine import progress


class Bar:
    """In place of Rich's: what it was told."""

    told: list[float]

    def __init__(self, **_: object):
        self.told = Bar.told = []

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def add_task(self, what: str, total: int) -> int:
        return 0

    def update(self, task: int, completed: float) -> None:
        self.told.append(completed)


@pytest.mark.parametrize(
    ("terminal", "notebook", "widgets", "asked", "shown"),
    [
        (True, False, False, None, True),
        (False, False, True, None, False),
        (False, True, True, None, True),
        (False, True, False, None, False),
        (True, True, True, False, False),
        (False, False, False, True, True),
    ],
)
def test_a_bar_is_shown_where_it_is_seen(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, notebook: bool, widgets: bool, asked: bool | None, shown: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: notebook)
    monkeypatch.setattr(progress, "find_spec", lambda name: object() if widgets else None)
    monkeypatch.setattr(progress, "Progress", Bar)
    Bar.told = []
    with progress.progress_bar("units", 3, asked) as done:
        done(3)
    assert Bar.told == ([3] if shown else [])

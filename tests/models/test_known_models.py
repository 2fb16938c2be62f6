"""The list of models says what the loader does, and the page and the command say what the list does."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING
from typer.testing import CliRunner

import sdscm_jax as sd
from sdscm_jax.cli import app
from sdscm_jax.models.families import FAMILIES, find_family
from sdscm_jax.models.known_models import known_models, rows

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_every_family_is_in_it_once() -> None:
    types = [known.model_type for known in known_models()]
    assert len({*types}) == len(types)
    assert {known.model_type for known in known_models() if known.refused is None} == {*FAMILIES}
    assert all(known.models for known in known_models())


def test_what_is_refused_is_a_model_of_transformers_and_refused() -> None:
    for known in known_models():
        assert known.model_type in CONFIG_MAPPING
        if known.refused is not None:
            with pytest.raises(sd.LoadError, match=known.model_type):
                find_family(known.model_type)


def test_the_page_has_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for row in rows():
        assert f"| {' | '.join(f'`{row[0]}`' if i == 0 else cell for i, cell in enumerate(row))} |" in text


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 0, result.output
    assert all(known.model_type in result.output for known in known_models())

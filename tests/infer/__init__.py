"""Inference with NumPyro, against answers that were found without it."""

from __future__ import annotations

import pytest

from sdscm_jax.models.language_model import LanguageModel


def count_encodes(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows by one whenever a language model is asked (or traced by JAX being asked)."""
    calls: list[None] = []
    encode = LanguageModel.encode

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(None)
        return encode(*args, **kwargs)

    monkeypatch.setattr(LanguageModel, "encode", counted)
    return calls

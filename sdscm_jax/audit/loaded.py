"""Which language models are audited, and how they are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import checks
from ..errors import AuditError
from ..models.language_model import LanguageModel, load_lm
from .spec import AuditSpec


def loaded_lms(spec: AuditSpec, lms: Any) -> dict[str, tuple[str, LanguageModel]]:
    """The language models that an audit is of: name -> source and language model.

    Args:
        spec: its own are taken where none are given.
        lms: see ``audit``.

    Raises:
        AuditError: one is none, or there is none.
        LoadError: one cannot be loaded.
    """
    if lms is None:
        lms = list(spec.lms) or [None]
    if isinstance(lms, str | Path | LanguageModel):
        lms = [lms]
    named = (
        lms.items() if isinstance(lms, Mapping) else [(_name(lm), lm) for lm in checks.items(lms, "lms", AuditError)]
    )
    found: dict[str, tuple[str, LanguageModel]] = {}
    for name, lm in named:
        checks.text(name, "the name of a language model", AuditError)
        if not (lm is None or isinstance(lm, str | Path | LanguageModel)):
            raise AuditError(f"a language model is loaded, a directory or a hub id, got {checks.told(lm)}")
        again, own = 1, name
        while own in found:
            again += 1
            own = f"{name} ({again})"
        if isinstance(lm, LanguageModel):
            found[own] = "in memory", lm
            continue
        source = "embedded" if lm is None or lm == "embedded" else str(lm)
        found[own] = source, load_lm(None if source == "embedded" else lm)
    if not found:
        raise AuditError(f"audit {spec.name!r}: no language model is given")
    return found


def _name(lm: Any) -> str:
    if isinstance(lm, LanguageModel):
        return "language model"
    return "embedded" if lm is None else Path(str(lm)).name

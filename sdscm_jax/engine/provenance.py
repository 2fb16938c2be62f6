"""Where the numbers of a run come from: what is written into its files, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from ..dsl.handlers.external_scores import language_models
from ..models.language_model import LanguageModel
from ..page.markdown_text import code_span, plain_markdown
from .manifest import PACKAGES
from .run import Run

# Parameters of more bytes are not read, at every first run of theirs, for a fingerprint that nobody asked for.
MOST_BYTES = 1 << 26


def provenance_of(run: Run, labels: Sequence[str]) -> dict[str, Any]:
    """What a run is, as JSON values; see ``Simulation``."""
    lms = language_models(run.args)
    prints = [_fingerprint(lm) for lm in lms]
    return {
        "program": _name(run.model),
        "language_models": [_told(lm, digest) for lm, digest in zip(lms, prints, strict=True)],
        "fingerprints": prints,
        "key": np.asarray(jax.random.key_data(run.key)).tolist(),
        "units": run.units,
        "draws": run.draws,
        "worlds": list(labels),
        "evidence": list(run.observed),
        "versions": {package: version(package) for package in PACKAGES},
    }


def card(title: str, provenance: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """What data are and where they come from, as Markdown.

    Args:
        title: one line.
        provenance: see ``provenance_of``.
        files: name -> what is in it.
    """
    worlds = ", ".join(code_span(label, cell=True) for label in provenance["worlds"])
    lms = zip(provenance["language_models"], provenance["fingerprints"], strict=True)
    facts = {
        "program": code_span(provenance["program"], cell=True),
        **{f"language model {i}": f"{plain_markdown(lm)}; SHA-256 {digest}" for i, (lm, digest) in enumerate(lms, 1)},
        "units": f"{provenance['units']:,}, {provenance['draws']} row(s) of each",
        "key": code_span(json.dumps(provenance["key"]), cell=True),
        "worlds": f"the factual one; {worlds}" if worlds else "the factual one",
        "made by": ", ".join(f"{name} {number}" for name, number in provenance["versions"].items()),
    }
    rows = "\n".join(f"| {name} | {fact} |" for name, fact in facts.items())
    listed = "\n".join(f"- {code_span(name)}: {plain_markdown(what)}" for name, what in files.items())
    return (
        f"# {plain_markdown(title)}\n\nDrawn from a sequence-driven structural causal model (arXiv 2411.08019): each "
        "variable is chosen among its options by a language model. Nothing here is about a real person.\n\n"
        f"| | |\n| --- | --- |\n{rows}\n\n{listed}\n"
    )


def _fingerprint(lm: LanguageModel) -> str | None:
    size = sum(x.nbytes for x in jax.tree.leaves(lm.params))
    return lm.fingerprint() if size <= MOST_BYTES or "_fingerprint" in vars(lm) else None


def _told(lm: LanguageModel, digest: str | None) -> str:
    ending = "" if digest is None else f", {digest[:12]}"
    return f"{lm.config.family}, {lm.parameter_count:,} parameters{ending}"


def _name(model: Any) -> str:
    """How a program is called: a function by module and name, another callable by what it is."""
    if isinstance(model, partial):
        return _name(model.func)
    name = getattr(model, "__qualname__", None)
    if name is not None:
        return f"{getattr(model, '__module__', '')}:{name}"
    inner = getattr(model, "fn", None)
    told = f"{type(model).__module__}:{type(model).__qualname__}"
    return f"{told} of {_name(inner)}" if callable(inner) else told

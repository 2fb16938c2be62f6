"""The sentences of an audit, verbatim."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .spec import AuditSpec
from .wordings import Wording

COLUMNS = ["proxy", "wording", "option_wording", "site", "before", "prefix", "suffix", "options"]


def asked_table(spec: AuditSpec, wordings: Sequence[Wording]) -> pd.DataFrame:
    """Every sentence that a language model is asked to complete; see ``AuditResult.asked``.

    The attribute's sentence is among them, although it is told and not asked. What stands before a sentence is
    shown for the first option of everything.
    """
    rows = []
    for w in wordings:
        family = spec.family(w.proxy, w.phrases, w.options)
        first: dict[str, str] = {}
        for variable, number in zip(family.variables, w.templates, strict=True):
            template = variable.templates[number]
            rows.append({
                "proxy": w.proxy.name, "wording": w.wording, "option_wording": w.option_wording,
                "site": variable.name, "before": " ".join(first[parent] for parent in variable.parents),
                "prefix": template.prefix, "suffix": template.suffix, "options": tuple(variable.options),
            })  # fmt: skip
            first[variable.name] = template.fill(variable.options[0])
    return pd.DataFrame(rows, columns=COLUMNS)
